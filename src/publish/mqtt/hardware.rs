//! What tells this machine from a copy of its SD card in another one.

use sha2::{Digest, Sha256};
use std::fs::read_to_string;
use std::path::Path;

/// A digest of the board's serial number, or of the address of its first network interface; empty if it has neither. The
/// machine id would not do: a cloned card carries it along. Neither would the DMI's product UUID: only root may read it.
pub(super) fn fingerprint() -> String {
    identity(Path::new("/")).map_or_else(String::new, |identity| {
        short_hash(&format!("constancy hardware {identity}"), 8)
    })
}

/// What a device's id derives from when none is kept: the machine id, which a cloned card has too, and the hardware.
pub(super) fn default_id(fingerprint: &str) -> String {
    let machine = read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{} {fingerprint}", machine.trim())
}

/// `bytes` bytes of the text's SHA-256, in hex.
pub(super) fn short_hash(text: &str, bytes: usize) -> String {
    constancy_engine::hex(&Sha256::digest(text)[..bytes])
}

fn identity(root: &Path) -> Option<String> {
    serial_number(root).or_else(|| network_address(root))
}

/// The board's serial number, as boot loaders of ARM boards give it to the kernel.
fn serial_number(root: &Path) -> Option<String> {
    let text = read_to_string(root.join("proc/device-tree/serial-number")).ok()?;
    let serial = text.trim_matches(['\0', '\n', ' ']);
    // Boards without one may have a row of zeros.
    let has_one = serial.chars().any(|c| c != '0');
    has_one.then(|| serial.to_owned())
}

/// The address of the first interface that is a device of its own. One that can be unplugged (USB) comes after those
/// that cannot. Random and assigned addresses do not count.
fn network_address(root: &Path) -> Option<String> {
    let interfaces = std::fs::read_dir(root.join("sys/class/net")).ok()?;
    let candidates = interfaces.flatten().filter_map(|interface| {
        let path = interface.path();
        let permanent = read_to_string(path.join("addr_assign_type")).ok()?;
        let address = read_to_string(path.join("address")).ok()?;
        let bus = std::fs::canonicalize(path.join("device/subsystem")).ok()?;
        let address = address.trim().to_owned();
        let real = permanent.trim() == "0" && address.chars().any(|c| !matches!(c, '0' | ':'));
        real.then(|| (bus.ends_with("usb"), interface.file_name(), address))
    });
    candidates.min().map(|(_, _, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Makes an interface as sysfs shows it.
    fn interface(root: &Path, name: &str, bus: &str, address: &str, assigned: &str) {
        let folder = root.join("sys/class/net").join(name);
        let bus = root.join("sys/bus").join(bus);
        fs::create_dir_all(folder.join("device")).expect("folder");
        fs::create_dir_all(&bus).expect("folder");
        std::os::unix::fs::symlink(&bus, folder.join("device/subsystem")).expect("link");
        fs::write(folder.join("address"), format!("{address}\n")).expect("file");
        fs::write(folder.join("addr_assign_type"), format!("{assigned}\n")).expect("file");
    }

    #[test]
    fn the_boards_serial_number_counts_before_the_first_fixed_interface() {
        let root = tempfile::tempdir().expect("folder");
        let root = root.path();
        assert_eq!(identity(root), None);
        fs::create_dir_all(root.join("sys/class/net/lo")).expect("folder");
        interface(root, "docker0", "virtual", "02:42:00:00:00:01", "3");
        interface(root, "a-stick", "usb", "00:11:22:33:44:55", "0");
        assert_eq!(identity(root).as_deref(), Some("00:11:22:33:44:55"));
        interface(root, "eth0", "pci", "aa:bb:cc:dd:ee:ff", "0");
        assert_eq!(identity(root).as_deref(), Some("aa:bb:cc:dd:ee:ff"));
        let tree = root.join("proc/device-tree");
        fs::create_dir_all(&tree).expect("folder");
        fs::write(tree.join("serial-number"), "0000000000000000\0").expect("file");
        assert_eq!(identity(root).as_deref(), Some("aa:bb:cc:dd:ee:ff"));
        fs::write(tree.join("serial-number"), "10000000c0ffee00\0").expect("file");
        assert_eq!(identity(root).as_deref(), Some("10000000c0ffee00"));
    }
}
