//! TLS for the connection to the broker: the CAs to trust, this device's own certificate, and what to do about failures.

use crate::config::MqttSettings;
use crate::files::{self, MAX_TEXT_BYTES};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("`mqtt.{key}` {path}: cannot read a {what} in PEM form: {reason}")]
    Pem {
        key: &'static str,
        path: PathBuf,
        what: &'static str,
        reason: String,
    },
    #[error("the system has no CA certificates; install `ca-certificates` or set `mqtt.ca_file`")]
    NoSystemRoots,
    #[error(
        "`mqtt.client_cert_file` and `mqtt.client_key_file` cannot be used: {0}; the key must be the one that the certificate was made for"
    )]
    Client(rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// TLS 1.2 or 1.3, with host names verified.
pub(super) fn client_config(mqtt: &MqttSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &mqtt.ca_file {
        Some(path) => roots_from(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let config = match (&mqtt.client_cert_file, &mqtt.client_key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("client_cert_file", cert)?;
            let key = private_key(key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Client)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots
            .add(certificate)
            .map_err(|e| pem("ca_file", path, "certificate", &e))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        Err(TlsError::NoSystemRoots)
    } else {
        Ok(roots)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |e: &dyn std::fmt::Display| pem("client_key_file", path, "private key", e);
    let text = files::read(path, MAX_TEXT_BYTES).map_err(|e| wrong(&e))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| wrong(&with_mend(&text, &e)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |e: &dyn std::fmt::Display| pem(key, path, "certificate", e);
    let text = files::read(path, MAX_TEXT_BYTES).map_err(|e| read(&e))?;
    let found = CertificateDer::pem_slice_iter(&text);
    let certificates = found
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| read(&with_mend(&text, &e)))?;
    if certificates.is_empty() {
        Err(read(&with_mend(&text, &"the file contains none")))
    } else {
        Ok(certificates)
    }
}

/// Why `file` is not read, with what to do about it if that is known.
fn with_mend(file: &[u8], reason: &dyn std::fmt::Display) -> String {
    let has = |text: &str| file.windows(text.len()).any(|w| w == text.as_bytes());
    let mend = if has("ENCRYPTED") {
        "it is encrypted, and nobody can enter a passphrase: decrypt it with `openssl pkey -in FILE -out FILE.plain`"
    } else if has("-----BEGIN CERTIFICATE-----") {
        "it is a certificate: name the file with its private key"
    } else if has("PRIVATE KEY-----") {
        "it is a private key: name the file with its certificate"
    } else if file.starts_with(&[0x30, 0x82]) {
        "it is DER: convert it with `openssl x509 -inform der` or, a key, `openssl pkey -inform der`"
    } else {
        return reason.to_string();
    };
    format!("{reason}; {mend}")
}

fn pem(
    key: &'static str,
    path: &Path,
    what: &'static str,
    reason: &dyn std::fmt::Display,
) -> TlsError {
    TlsError::Pem {
        key,
        path: path.into(),
        what,
        reason: reason.to_string(),
    }
}

/// The first bytes of a TLS connection to `host`, to see whether they are answered.
pub(super) fn client_hello(host: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}

/// What to do about a TLS failure, if one is among the causes of `error`.
pub(super) fn hint(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = || {
            error
                .downcast_ref::<std::io::Error>()?
                .get_ref()?
                .downcast_ref::<rustls::Error>()
        };
        if let Some(found) = error.downcast_ref::<rustls::Error>().or_else(wrapped) {
            return hint_about(found);
        }
        next = error.source();
    }
    None
}

fn hint_about(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(certificate) => hint_about_certificate(certificate),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => {
            Some("the broker does not take this device's certificate; see `mqtt.client_cert_file`")
        }
        rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        )
        | rustls::Error::PeerIncompatible(_) => Some(
            "the broker must allow TLS 1.2 or 1.3 with ECDHE, and a certificate of ECDSA or of RSA with 2048 bits or more",
        ),
        _ => None,
    }
}

fn hint_about_certificate(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::UnknownIssuer => {
            Some("`mqtt.ca_file` must name the authority that signed it")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("renew the broker's certificate, or set this device's clock, which may be wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("this device's clock is probably behind; set it")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("`mqtt.broker` must name the host as the certificate does")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Some(
            "the broker's certificate is one for clients: give the broker one for servers (extendedKeyUsage serverAuth)",
        ),
        CertificateError::BadSignature => Some(
            "`mqtt.ca_file` names another authority of the same name: take the one that signed the broker's certificate",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Some(
            "make the broker's certificate anew, with ECDSA or with RSA of 2048 bits or more, and SHA-256",
        ),
        // The names that webpki gives to its own errors.
        CertificateError::Other(other) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => Some(
                "the broker's certificate is an authority's own, as `openssl req -x509` makes it, and signs itself: let that authority sign another one for the broker (CA:FALSE), and name the authority in `mqtt.ca_file`",
            ),
            "UnsupportedCertVersion" => Some(
                "the broker's certificate has no extensions (X.509 version 1): sign it anew with a subjectAltName that names the host (`openssl x509 -req -extfile`)",
            ),
            _ => None,
        },
        _ => None,
    }
}
