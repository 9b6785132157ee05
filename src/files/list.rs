//! A list of images: a text file with one path per line, relative to the list.

use super::passed_over::PassedOver;
use super::{check, read};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Limit of a list: a million long paths fit.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// The images that the list at `path` names and that are there.
pub(super) fn images_listed(path: &Path) -> std::io::Result<(Vec<PathBuf>, PassedOver)> {
    let list = as_utf_8(read(path, MAX_LIST_BYTES)?);
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut images, mut passed_over) = (Vec::new(), PassedOver::default());
    for line in list.split(|&b| b == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() {
            continue;
        }
        // A path is bytes; it need not be UTF-8.
        let image = folder.join(OsStr::from_bytes(line));
        match check(&image, false) {
            Ok(()) => images.push(image),
            Err(why) => passed_over.problem(&image, &why),
        }
    }
    Ok((images, passed_over))
}

/// The text without its byte order mark; UTF-16, as PowerShell writes it, becomes UTF-8.
fn as_utf_8(bytes: Vec<u8>) -> Vec<u8> {
    let wide = |from: fn([u8; 2]) -> u16| {
        let units = bytes[2..]
            .chunks_exact(2)
            .map(|pair| from([pair[0], pair[1]]));
        let text: String = char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        text.into_bytes()
    };
    match &bytes[..] {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] => text.to_vec(),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_line_ends_blank_lines_and_foreign_bytes_are_read() {
        let folder = tempfile::tempdir().expect("folder");
        let place = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
        let (plain, foreign) = (place(b"a b.jpg"), place(b"gr\xfcn.jpg"));
        for image in [&plain, &foreign] {
            std::fs::write(image, "").expect("image");
        }
        let list = folder.path().join("list");
        let listed = |bytes: &[u8]| -> (Vec<PathBuf>, String) {
            std::fs::write(&list, bytes).expect("list");
            let (images, passed_over) = images_listed(&list).expect("images");
            (images, passed_over.reason())
        };
        let (paths, reason) = listed(b"\xef\xbb\xbfa b.jpg\r\n\r\n  gr\xfcn.jpg\ngone.jpg");
        assert_eq!(paths, [plain.clone(), foreign]);
        assert!(reason.contains("gone.jpg: No such file"), "{reason}");
        let wide: Vec<u8> = "\u{feff}a b.jpg\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(listed(&wide).0, [plain]);
    }
}
