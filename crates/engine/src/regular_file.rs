//! Opens and reads files that somebody named: in a configuration, on the command line, in a list, in a manifest.
//!
//! Only regular files are opened. Opening a named pipe waits for a writer that may never come, a device may be endless
//! or act on being opened, and none of them can be read twice. A file that is read whole has a limit on its size.

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Limit of a text that people write: a configuration, a manifest, labels.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;
/// Limit of a file of tensors, such as a projection, a class bank or moments.
pub const MAX_TENSOR_BYTES: u64 = 1 << 30;

/// Opens the regular file at `path` for reading; whatever else is there is refused, and stays unopened.
pub fn open(path: &Path) -> Result<File> {
    open_if_regular(path).map_err(explain)
}

/// Adds the way out where the system's message has none.
fn explain(error: Error) -> Error {
    if error.kind() != ErrorKind::PermissionDenied {
        return error;
    }
    let message = "permission denied; give the user who runs this the right to read it";
    Error::new(ErrorKind::PermissionDenied, message)
}

fn open_if_regular(path: &Path) -> Result<File> {
    // O_PATH finds the file without opening it.
    let found = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    check_kind(found.metadata()?.file_type())?;
    // Opens what was found, even if something else stands at `path` by now.
    match File::open(format!("/proc/self/fd/{}", found.as_raw_fd())) {
        Err(e) if e.kind() == ErrorKind::NotFound => open_without_proc(path),
        opened => opened,
    }
}

/// Refuses what is no regular file, without opening it; a folder is taken if `or_folder`.
pub fn check(path: &Path, or_folder: bool) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(explain)?.file_type();
    if or_folder && kind.is_dir() {
        return Ok(());
    }
    check_kind(kind)
}

/// Opens the regular file at `path` for reading and writing, and creates it if there is none.
pub fn open_or_create(path: &Path) -> Result<File> {
    match std::fs::metadata(path) {
        Ok(there) => check_kind(there.file_type())?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    check_kind(file.metadata()?.file_type())?;
    Ok(file)
}

/// For a root folder without /proc.
fn open_without_proc(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    check_kind(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads the whole of the regular file at `path`; one of more than `max_bytes` is refused.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = |size: String| {
        let limit = megabytes(max_bytes);
        Error::new(
            ErrorKind::FileTooLarge,
            format!("it has {size}, and at most {limit} are read; is it the right file?"),
        )
    };
    let len = file.metadata()?.len();
    if len > max_bytes {
        return Err(too_large(megabytes(len)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    // Files in /proc and growing files have more than their size says.
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(format!("more than {}", megabytes(max_bytes))));
    }
    Ok(bytes)
}

/// Reads the text in the regular file at `path`: UTF-8, without a byte order mark.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let mut bytes = read(path, max_bytes)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    String::from_utf8(bytes).map_err(|e| {
        let message = if utf_16 {
            "it is UTF-16 text; save it as UTF-8".to_owned()
        } else {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..at].split(|&b| b == b'\n').count();
            format!("line {line} is not UTF-8 text; save the file as UTF-8")
        };
        Error::new(ErrorKind::InvalidData, message)
    })
}

/// An error for what is not a regular file; it says what it is.
pub fn check_kind(kind: FileType) -> Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(Error::new(
            ErrorKind::IsADirectory,
            "it is a folder, not a file",
        ));
    } else if kind.is_fifo() {
        "a pipe, as the shell makes for `<(…)` and `|`"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    };
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("it is {what}, and only a regular file is read; save the content to a file"),
    ))
}

/// A size for people.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{bytes} bytes")
    } else {
        format!("{:.1} MB", bytes as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn refusal(path: &Path) -> String {
        open(path).expect_err("refused").to_string()
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").expect("file");
        std::os::unix::fs::symlink("file", path("link")).expect("link");
        assert_eq!(read(&path("link"), 10).expect("read"), b"text");
        let made = std::process::Command::new("mkfifo")
            .arg(path("fifo"))
            .status();
        assert!(made.expect("mkfifo").success());
        assert!(refusal(&path("fifo")).contains("a pipe"));
        let _socket = UnixListener::bind(path("socket")).expect("socket");
        assert!(refusal(&path("socket")).contains("a socket"));
        std::os::unix::fs::symlink("/dev/zero", path("zero")).expect("link");
        assert!(refusal(&path("zero")).contains("a device"));
        assert!(refusal(folder.path()).contains("a folder"));
        let gone = open(&path("gone")).expect_err("there is none");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        std::os::unix::fs::symlink("loop", path("loop")).expect("link");
        open(&path("loop")).expect_err("a loop");
        for special in ["fifo", "zero"] {
            open_without_proc(&path(special)).expect_err(special);
            open_or_create(&path(special)).expect_err(special);
        }
        open_without_proc(&path("link")).expect("a file");
        for name in ["new", "link"] {
            open_or_create(&path(name)).expect(name);
        }
        assert_eq!(read(&path("link"), 10).expect("read"), b"text");
    }

    #[test]
    fn a_file_above_the_limit_is_refused_also_where_its_size_is_unknown() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        let file = File::create(&path).expect("file");
        file.set_len(10_000_000_000).expect("a sparse file");
        let error = read(&path, MAX_TEXT_BYTES).expect_err("too large");
        assert!(
            error.to_string().contains("10000.0 MB"),
            "its size: {error}"
        );
        file.set_len(5).expect("length");
        assert_eq!(read(&path, 5).expect("read").len(), 5);
        read(&path, 4).expect_err("one byte too many");
        let unknown = read(Path::new("/proc/self/maps"), 10).expect_err("too large");
        assert_eq!(unknown.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn text_is_read_without_its_byte_order_mark() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("text");
        let text = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("file");
            read_text(&path, 100).map_err(|e| e.to_string())
        };
        assert_eq!(text(b"\xef\xbb\xbfa\r\n"), Ok("a\r\n".into()));
        assert!(text(b"a\n\xe9\n").expect_err("Latin-1").contains("line 2"));
        let utf_16 = text(b"\xff\xfea\0").expect_err("UTF-16");
        assert!(utf_16.contains("UTF-16") && utf_16.contains("UTF-8"));
    }
}
