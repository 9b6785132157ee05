//! TLS and credentials, against a broker that requires them.

use super::support::{
    Broker, Setup, Subscriber, constancy, free_port, json_lines, publish_as, stderr, write_images,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::process::Command;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for `name` and its key, both PEM. It has been valid for years and stays so.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        self.issue_for_years(name, purpose, (2020, 4000))
    }

    /// A certificate that is valid from the beginning of one year to that of another.
    fn issue_for_years(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        years: (i32, i32),
    ) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![purpose];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        (
            params
                .signed_by(&key, &self.issuer)
                .expect("certificate")
                .pem(),
            key.serialize_pem(),
        )
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("file");
}

/// A broker and its TLS port. It has a certificate for `host` and requires client certificates; its plain port is for
/// subscribers.
fn tls_broker(authority: &Authority, host: &str) -> (Broker, u16) {
    tls_broker_with(
        authority,
        authority.issue(host, ExtendedKeyUsagePurpose::ServerAuth),
    )
}

fn tls_broker_with(authority: &Authority, (certificate, key): (String, String)) -> (Broker, u16) {
    let tls_port = free_port();
    let lines = format!(
        "allow_anonymous true\nlistener {tls_port} 127.0.0.1\ncafile FOLDER/ca.pem\ncertfile FOLDER/server.pem\nkeyfile FOLDER/server.key\nrequire_certificate true\n"
    );
    let broker = Broker::with_config(free_port(), &lines, |folder| {
        write(folder, "ca.pem", &authority.pem);
        write(folder, "server.pem", &certificate);
        write(folder, "server.key", &key);
    });
    (broker, tls_port)
}

/// A daemon with a certificate of `authority`, which trusts `trusted`.
fn tls_setup(port: u16, authority: &Authority, trusted: &Authority) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[mqtt]\nbroker = \"mqtts://localhost:{port}\"\nca_file = \"ca.pem\"\nclient_cert_file = \"device.pem\"\nclient_key_file = \"device.key\"\n"
    ));
    write_images(&setup.path("images"), 3);
    let (certificate, key) = authority.issue("bench", ExtendedKeyUsagePurpose::ClientAuth);
    let folder = setup.folder.path();
    write(folder, "ca.pem", &trusted.pem);
    write(folder, "device.pem", &certificate);
    write(folder, "device.key", &key);
    setup
}

/// What `constancy check` reports about the broker: whether it is fine, and the detail.
fn broker_finding(setup: &Setup) -> (bool, String) {
    let output = constancy()
        .args(["check", "--json", "--config"])
        .arg(setup.config())
        .output()
        .expect("it runs");
    let findings = json_lines(&output);
    let finding = findings.iter().find(|f| f["check"] == "broker");
    let finding = finding.expect("the broker is checked");
    (
        finding["ok"] == true,
        finding["detail"].as_str().expect("detail").to_owned(),
    )
}

#[test]
fn events_arrive_over_tls_with_a_client_certificate() {
    let authority = Authority::new("the plant");
    let (broker, port) = tls_broker(&authority, "localhost");
    let subscriber = Subscriber::new(&broker);
    let setup = tls_setup(port, &authority, &authority);
    assert_eq!(
        broker_finding(&setup),
        (true, format!("mqtts://localhost:{port}"))
    );
    let _daemon = setup.start();
    subscriber.wait_events(3);
}

#[test]
fn an_address_with_the_wrong_scheme_is_named_with_the_right_one() {
    let authority = Authority::new("the plant");
    let (broker, tls_port) = tls_broker(&authority, "localhost");
    for (url, right, mend) in [
        (
            format!("mqtt://localhost:{tls_port}"),
            format!("mqtts://localhost:{tls_port}"),
            format!(
                "port {tls_port} speaks TLS, and `mqtt.broker` begins with mqtt://: write mqtts://"
            ),
        ),
        (
            format!("mqtts://localhost:{}", broker.port),
            format!("mqtt://localhost:{}", broker.port),
            format!(
                "port {} speaks MQTT without TLS, and `mqtt.broker` begins with mqtts://: write mqtt://",
                broker.port
            ),
        ),
    ] {
        let setup = tls_setup(tls_port, &authority, &authority);
        let files = "ca_file = \"ca.pem\"\nclient_cert_file = \"device.pem\"\nclient_key_file = \"device.key\"\n";
        if url.starts_with("mqtt://") {
            setup.replace(files, "");
        }
        setup.replace(&format!("mqtts://localhost:{tls_port}"), &url);
        setup.replace(
            "path = \"images\"",
            "path = \"images\"\nrate = 5.0\nloop = true",
        );
        let (ok, detail) = broker_finding(&setup);
        assert!(!ok && detail.contains(&mend), "{detail}");
        let daemon = setup.start();
        daemon.wait_log(&mend);
        let setup = daemon.take_setup();
        if url.starts_with("mqtt://") {
            setup.replace("[mqtt]\n", &format!("[mqtt]\n{files}"));
        } else {
            setup.replace(files, "");
        }
        setup.replace(&url, &right);
        assert_eq!(broker_finding(&setup), (true, right));
    }
}

#[test]
fn a_certificate_that_signs_itself_is_refused_with_the_way_to_a_right_one() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let own = params.self_signed(&key).expect("certificate").pem();
    let authority = Authority::new("the plant");
    let (_broker, port) = tls_broker_with(&authority, (own.clone(), key.serialize_pem()));
    let setup = tls_setup(port, &authority, &authority);
    write(setup.folder.path(), "ca.pem", &own);
    let (ok, detail) = broker_finding(&setup);
    assert!(
        !ok && detail.contains("let that authority sign another one for the broker (CA:FALSE)"),
        "{detail}"
    );
}

#[test]
fn an_untrusted_authority_is_refused() {
    let (authority, other) = (Authority::new("the plant"), Authority::new("somebody else"));
    let (_broker, port) = tls_broker(&authority, "localhost");
    let (ok, detail) = broker_finding(&tls_setup(port, &authority, &other));
    assert!(!ok && detail.contains("UnknownIssuer"), "{detail}");
    assert!(
        detail.contains("`mqtt.ca_file` must name the authority that signed it"),
        "{detail}"
    );
}

/// The hint mentions the clock, which may be the wrong one of the two.
#[test]
fn an_expired_or_future_certificate_is_refused() {
    let authority = Authority::new("the plant");
    for (years, what, hint) in [
        (
            (2019, 2020),
            "expired",
            "renew the broker's certificate, or set this device's clock",
        ),
        ((3000, 4000), "not valid yet", "clock is probably behind"),
    ] {
        let certificate =
            authority.issue_for_years("localhost", ExtendedKeyUsagePurpose::ServerAuth, years);
        let (_broker, port) = tls_broker_with(&authority, certificate);
        let (ok, detail) = broker_finding(&tls_setup(port, &authority, &authority));
        assert!(
            !ok && detail.contains(what) && detail.contains(hint),
            "{detail}"
        );
    }
}

#[test]
fn a_refused_client_certificate_is_reported() {
    let (authority, other) = (Authority::new("the plant"), Authority::new("somebody else"));
    let (_broker, port) = tls_broker(&authority, "localhost");
    let expired =
        authority.issue_for_years("bench", ExtendedKeyUsagePurpose::ClientAuth, (2019, 2020));
    for (certificate, key) in [
        expired,
        other.issue("bench", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let setup = tls_setup(port, &authority, &authority);
        write(setup.folder.path(), "device.pem", &certificate);
        write(setup.folder.path(), "device.key", &key);
        let (ok, detail) = broker_finding(&setup);
        assert!(
            !ok && detail.contains("see `mqtt.client_cert_file`"),
            "{detail}"
        );
    }
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new("the plant");
    let (_broker, port) = tls_broker(&authority, "other.example");
    let (ok, detail) = broker_finding(&tls_setup(port, &authority, &authority));
    assert!(!ok && detail.contains("not valid for name"), "{detail}");
    assert!(
        detail.contains("`mqtt.broker` must name the host as the certificate does"),
        "{detail}"
    );
}

#[test]
fn certificate_files_that_cannot_be_read_are_named() {
    let authority = Authority::new("the plant");
    for (file, key) in [
        ("ca.pem", "mqtt.ca_file"),
        ("device.pem", "mqtt.client_cert_file"),
        ("device.key", "mqtt.client_key_file"),
    ] {
        let setup = tls_setup(free_port(), &authority, &authority);
        write(setup.folder.path(), file, "not PEM at all");
        let output = constancy()
            .args(["run", "--config"])
            .arg(setup.config())
            .output()
            .expect("it runs");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(key) && text.contains(file), "{text}");
    }
}

#[test]
fn certificates_and_keys_in_another_form_or_place_come_with_the_mend() {
    let authority = Authority::new("the plant");
    let (certificate, key) = authority.issue("bench", ExtendedKeyUsagePurpose::ClientAuth);
    let (_, other_key) = authority.issue("bench", ExtendedKeyUsagePurpose::ClientAuth);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (file, content, expected) in [
        (
            "device.key",
            &certificate,
            "it is a certificate: name the file with its private key",
        ),
        (
            "device.pem",
            &key,
            "it is a private key: name the file with its certificate",
        ),
        ("device.key", &encrypted, "decrypt it with `openssl pkey"),
        (
            "device.key",
            &other_key,
            "the key must be the one that the certificate was made for",
        ),
    ] {
        let setup = tls_setup(free_port(), &authority, &authority);
        write(setup.folder.path(), file, content);
        let (ok, detail) = broker_finding(&setup);
        assert!(!ok && detail.contains(expected), "{detail}");
    }
    let setup = tls_setup(free_port(), &authority, &authority);
    let der = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82];
    std::fs::write(setup.path("ca.pem"), der).expect("file");
    let (ok, detail) = broker_finding(&setup);
    assert!(!ok && detail.contains("it is DER: convert it"), "{detail}");
}

#[test]
fn a_host_that_nobody_knows_comes_with_the_mend() {
    let setup = password_setup_for("mqtt://no-such-host.invalid", PASSWORD);
    let (ok, detail) = broker_finding(&setup);
    assert!(
        !ok && detail.contains("correct `mqtt.broker`, or see this device's DNS"),
        "{detail}"
    );
}

const PASSWORD: &str = "correct-horse-battery";

fn password_broker() -> Broker {
    broker_with_users(&["station"], "")
}

/// A broker with these users, who share a password.
fn broker_with_users(users: &[&str], lines: &str) -> Broker {
    let lines = format!("allow_anonymous false\npassword_file FOLDER/passwords\n{lines}");
    Broker::with_config(free_port(), &lines, |folder| {
        let file = folder.join("passwords");
        write(folder, "passwords", "");
        for user in users {
            let made = Command::new("mosquitto_passwd")
                .arg("-b")
                .arg(&file)
                .args([user, PASSWORD])
                .output();
            assert!(made.expect("mosquitto_passwd").status.success());
        }
    })
}

/// With `config/mosquitto.acl`.
#[test]
fn a_device_may_use_its_own_topics_only() {
    let acl = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mosquitto.acl");
    let broker = broker_with_users(
        &["bench", "stranger", "dashboard"],
        &format!("acl_file {}\n", acl.display()),
    );
    let dashboard = Subscriber::with_login(&broker, "#", "dashboard", PASSWORD);
    let stranger = Subscriber::with_login(&broker, "#", "stranger", PASSWORD);
    let setup = password_setup(&broker, PASSWORD);
    let text = std::fs::read_to_string(setup.config()).expect("configuration");
    let text = text.replace(
        "username = \"station\"",
        "username = \"bench\"\ncommands = [\"threshold\"]",
    );
    write(
        setup.folder.path(),
        "constancy.toml",
        &format!("{text}[homeassistant]\ndiscovery = true\n"),
    );
    let daemon = setup.start();
    dashboard.wait_message("bench/status", |h| h.text() == "online");
    dashboard.wait_message("homeassistant/device/constancy_bench/config", |_| true);
    dashboard.wait_events(3);
    // The stranger publishes in the device's name, to the device, and in its own name. The last message arrives, so the
    // others did not.
    let publish =
        |topic: &str, payload: &str| publish_as(&broker, "stranger", PASSWORD, topic, payload);
    publish("constancy/bench/status", "forged");
    publish("constancy/bench/belt/set/threshold", "0.9");
    publish("homeassistant/device/constancy_bench/config", "forged");
    publish("constancy/stranger/status", "here");
    dashboard.wait_message("stranger/status", |h| h.text() == "here");
    let forged = dashboard
        .messages()
        .into_iter()
        .find(|h| h.text() == "forged" || h.topic.ends_with("/result"));
    assert_eq!(forged, None);
    // The dashboard may send commands to the device; the stranger has received nothing.
    dashboard.publish("constancy/bench/belt/set/threshold", b"0.9", false);
    dashboard.wait_message("set/threshold/result", |h| h.json()["ok"] == true);
    assert_eq!(stranger.messages(), []);
    drop(daemon);
}

fn password_setup(broker: &Broker, password: &str) -> Setup {
    password_setup_for(&broker.url(), password)
}

fn password_setup_for(url: &str, password: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"{url}\"\nusername = \"station\"\npassword_file = \"secret\"\n"
    ));
    write_images(&setup.path("images"), 3);
    write(setup.folder.path(), "secret", &format!("{password}\n"));
    setup
}

#[test]
fn the_password_comes_from_a_file_and_is_never_logged() {
    let broker = password_broker();
    let daemon = password_setup(&broker, PASSWORD).arg("-vv").start();
    daemon.wait_log("connected");
    daemon.wait_log_times("camera belt", 1);
    assert!(!daemon.log().contains(PASSWORD));
}

#[test]
fn the_password_may_be_a_systemd_credential() {
    let broker = password_broker();
    let setup = password_setup(&broker, "not this one");
    let credentials = setup.path("credentials");
    std::fs::create_dir(&credentials).expect("folder");
    write(&credentials, "secret", PASSWORD);
    let daemon = setup
        .env("CREDENTIALS_DIRECTORY", credentials.to_string_lossy())
        .start();
    daemon.wait_log("connected");
}

#[test]
fn a_refused_password_is_reported() {
    let broker = password_broker();
    let setup = password_setup(&broker, "wrong");
    let (ok, detail) = broker_finding(&setup);
    assert!(
        !ok && detail.contains("refuses user name or password")
            && detail.contains("mqtt.password_file"),
        "{detail}"
    );
    let daemon = setup.start();
    daemon.wait_log("refuses user name or password");
    daemon.wait_log("next attempt in");
}
