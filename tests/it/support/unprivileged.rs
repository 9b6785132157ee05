//! The program as a user whom permissions hold back: root may read everything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Sets the permissions of a file or folder.
pub fn set_mode(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("mode");
}

/// The program, copied to `folder` and started there; by nobody if the test runs as root.
pub fn unprivileged(folder: &Path) -> Command {
    set_mode(folder, 0o755);
    let program = folder.join("constancy");
    std::fs::copy(env!("CARGO_BIN_EXE_constancy"), &program).expect("program");
    // SAFETY: takes nothing, returns a number.
    let mut command = if unsafe { libc::geteuid() } == 0 {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ]);
        command.arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.current_dir(folder).env_remove("RUST_LOG");
    command
}
