//! The contents of the Debian package.

use super::support::{constancy, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_subcommand_has_a_manual_page_and_every_shell_has_completions() {
    let folder = tempfile::tempdir().expect("folder");
    let output = constancy()
        .arg("generate")
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    let help = constancy().arg("--help").output().expect("it runs").stdout;
    let help = String::from_utf8_lossy(&help).into_owned();
    let listed = help
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty());
    // A longer description continues on lines that are indented further.
    let names = listed.filter_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' ')));
    let commands: Vec<&str> = names.filter_map(|l| l.split_whitespace().next()).collect();
    assert!(
        commands.contains(&"run") && commands.contains(&"bench"),
        "{commands:?}"
    );
    for command in commands.into_iter().filter(|c| *c != "help") {
        assert!(
            read(&format!("man1/constancy-{command}.1")).contains(".SH SYNOPSIS"),
            "{command}"
        );
    }
    for (name, says) in [
        ("constancy.bash", "--config"),
        ("_constancy", "#compdef constancy"),
        ("constancy.fish", "-a "),
    ] {
        assert!(
            read(&format!("completions/{name}")).contains(says),
            "{name}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let output = constancy()
        .args(["generate", "/dev/null/pages"])
        .output()
        .expect("it runs");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(73), "{text}");
    assert!(text.contains("/dev/null/pages cannot be written"), "{text}");
}

/// With the repository's models in place of the installed ones.
#[test]
fn the_packaged_configuration_is_valid() {
    let folder = tempfile::tempdir().expect("folder");
    let text =
        std::fs::read_to_string(root().join("packaging/constancy.toml")).expect("configuration");
    let models = root().join("models").display().to_string();
    let config = folder.path().join("constancy.toml");
    std::fs::write(
        &config,
        text.replace("/usr/share/constancy/models", &models),
    )
    .expect("configuration");
    let output = constancy()
        .arg("check")
        .arg("--config")
        .arg(&config)
        .output()
        .expect("it runs");
    let report = stdout(&output);
    assert!(output.status.success(), "{report}{}", stderr(&output));
}

/// The package's description in Cargo.toml.
fn package() -> toml::Value {
    let manifest: toml::Value = toml::from_str(include_str!("../../Cargo.toml")).expect("TOML");
    manifest["package"]["metadata"]["deb"].clone()
}

/// They install the same files, so installing one must remove the others.
#[test]
fn each_package_replaces_the_others() {
    let deb = package();
    let variants = deb["variants"].as_table().expect("variants").iter();
    let variants = variants.map(|(name, fields)| (format!("constancy-{name}"), fields));
    let packages: Vec<_> = [("constancy".to_owned(), &deb)]
        .into_iter()
        .chain(variants)
        .collect();
    assert_eq!(packages.len(), 3);
    for (name, fields) in &packages {
        let others: Vec<_> = packages
            .iter()
            .map(|(other, _)| other.as_str())
            .filter(|other| other != name)
            .collect();
        for relation in ["conflicts", "replaces"] {
            assert_eq!(
                fields[relation].as_str(),
                Some(&*others.join(", ")),
                "{name} {relation}"
            );
        }
    }
}

#[test]
fn every_file_of_the_package_exists() {
    let deb = package();
    let assets = deb["assets"].as_array().expect("assets");
    let source = |asset: &toml::Value| PathBuf::from(asset[0].as_str().expect("source"));
    let variants = deb["variants"].as_table().expect("variants").values();
    let more = variants.flat_map(|v| v["merge-assets"]["append"].as_array().expect("assets"));
    for path in assets
        .iter()
        .chain(more)
        .map(source)
        .filter(|p| !p.starts_with("packaging/built"))
    {
        let (folder, name) = (
            root().join(path.parent().expect("folder")),
            path.file_name().expect("name"),
        );
        let suffix = name.to_string_lossy().replacen('*', "", 1);
        let found = std::fs::read_dir(&folder).expect("folder").flatten();
        let found = found
            .filter(|e| e.file_name().to_string_lossy().ends_with(&suffix))
            .count();
        assert!(found > 0, "{}", path.display());
    }
    let conffile = deb["conf-files"][0].as_str().expect("conffile");
    assert_eq!(conffile, "/etc/constancy/constancy.toml");
}

#[test]
fn the_scripts_are_valid_shell() {
    for script in [
        "cross/target.sh",
        "cross/build.sh",
        "packaging/deb.sh",
        "packaging/scripts/postrm",
        "tools/setup-board.sh",
    ] {
        let good = Command::new("sh")
            .arg("-n")
            .arg(root().join(script))
            .status()
            .expect("sh")
            .success();
        assert!(good, "{script}");
    }
}

/// Runs the package's script with a temporary folder in place of the system's paths.
#[test]
fn purging_removes_state_and_cache_unless_another_of_the_packages_is_installed() {
    for (action, other, kept) in [
        ("remove", false, true),
        ("purge", true, true),
        ("purge", false, false),
    ] {
        let system = tempfile::tempdir().expect("folder");
        let at = |path: &str| system.path().join(path);
        let folders = ["var/lib", "var/cache"].map(|f| [f, "/private/constancy"].concat());
        for folder in folders.iter().map(|f| at(f)).chain([at("usr/bin")]) {
            std::fs::create_dir_all(folder).expect("folder");
        }
        for link in ["var/lib/constancy", "var/cache/constancy"] {
            std::os::unix::fs::symlink("private/constancy", at(link)).expect("link");
        }
        if other {
            std::fs::write(at("usr/bin/constancy"), "").expect("program");
        }
        let script = include_str!("../../packaging/scripts/postrm");
        let [var, usr] = ["var/", "usr/"].map(|f| at(f).display().to_string());
        let script = script
            .replace("/var/", &format!("{var}/"))
            .replace("/usr/", &format!("{usr}/"));
        let done = Command::new("sh")
            .args(["-c", &script, "postrm", action])
            .status()
            .expect("sh");
        assert!(done.success());
        let left = [
            "var/lib/private",
            "var/lib",
            "var/cache/private",
            "var/cache",
        ]
        .map(|f| at(f).join("constancy").symlink_metadata().is_ok());
        assert_eq!(left, [kept; 4], "{action}, another installed: {other}");
    }
}
