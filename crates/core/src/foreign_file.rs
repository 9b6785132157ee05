//! Recognises, from its first bytes, a file that is not what it was named for: what a download, a clone or a mix-up leaves
//! in a model's place.

use std::borrow::Cow;

/// The bytes that [`foreign`] looks at.
pub const HEAD_BYTES: usize = 512;

/// What a file is wanted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An ONNX model.
    Onnx,
    /// The external data of an ONNX model, which may begin with any bytes.
    OnnxData,
    /// A file of tensors: a projection, a class bank, moments.
    Tensors,
    /// A `tokenizer.json`.
    Tokenizer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    LfsPointer,
    /// A page or an answer of a server, by the name of its format.
    Page(&'static str),
    /// An archive or a compressed file, and what unpacks it.
    Packed(&'static str, &'static str),
    Onnx,
    Safetensors,
    Json,
    /// Weights of another framework.
    Weights(&'static str),
}

/// What a file that begins with `head` is instead of what is `wanted`, and how to get the right one; `None` if that cannot
/// be told, or it may be right. `head` has the first [`HEAD_BYTES`], or the whole file.
#[must_use]
pub fn foreign(head: &[u8], wanted: Wanted) -> Option<String> {
    let kind = kind(head)?;
    let may_be_right = match wanted {
        Wanted::Onnx => kind == Kind::Onnx,
        Wanted::OnnxData => !matches!(kind, Kind::Empty | Kind::LfsPointer | Kind::Page("HTML")),
        Wanted::Tensors => kind == Kind::Safetensors,
        Wanted::Tokenizer => kind == Kind::Json,
    };
    (!may_be_right).then(|| describe(kind, head, wanted))
}

fn kind(head: &[u8]) -> Option<Kind> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let begins = |magic: &[u8]| head.starts_with(magic);
    let tag = |tag: &[u8]| {
        text.get(..tag.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(tag))
    };
    Some(match head {
        [] => Kind::Empty,
        _ if begins(b"version https://git-lfs") || begins(b"version https://hawser") => {
            Kind::LfsPointer
        }
        _ if tag(b"<!doctype html") || tag(b"<html") || tag(b"<head") => Kind::Page("HTML"),
        _ if tag(b"<?xml") => Kind::Page("XML"),
        _ if begins(b"\x1f\x8b") => Kind::Packed("gzip", "gunzip"),
        _ if begins(b"\xfd7zXZ\0") => Kind::Packed("xz", "unxz"),
        _ if begins(b"BZh") => Kind::Packed("bzip2", "bunzip2"),
        _ if begins(b"\x28\xb5\x2f\xfd") => Kind::Packed("zstd", "unzstd"),
        _ if begins(b"7z\xbc\xaf\x27\x1c") => Kind::Packed("7z", "7z x"),
        _ if begins(b"PK\x03\x04") && names(head, b"/data.pkl") => Kind::Weights("PyTorch"),
        _ if begins(b"PK\x03\x04") => Kind::Packed("zip", "unzip"),
        _ if head.get(257..262) == Some(b"ustar") => Kind::Packed("tar", "tar -xf"),
        // A pickle of protocol 2 or later.
        [0x80, 2..=5, ..] => Kind::Weights("PyTorch"),
        _ if begins(b"\x89HDF\r\n\x1a\n") => Kind::Weights("Keras (HDF5)"),
        _ if begins(b"GGUF") => Kind::Weights("GGUF"),
        _ if head.get(4..8) == Some(b"TFL3") => Kind::Weights("TensorFlow Lite"),
        _ if is_safetensors(head) => Kind::Safetensors,
        // The fields `ir_version` and either `producer_name` or `graph` of onnx.proto's ModelProto.
        [0x08, 1..=30, 0x12 | 0x3a, ..] => Kind::Onnx,
        _ if text.starts_with(b"{") || text.starts_with(b"[") => Kind::Json,
        _ => return None,
    })
}

/// The length of a JSON header in eight bytes, and its beginning.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((length, header)) = head.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) < 1 << 32 && header.trim_ascii_start().starts_with(b"{\"")
}

/// Whether `name` is in an archive's first bytes.
fn names(head: &[u8], name: &[u8]) -> bool {
    head.windows(name.len()).any(|w| w == name)
}

fn describe(kind: Kind, head: &[u8], wanted: Wanted) -> String {
    let again = "copy or download it again";
    match kind {
        Kind::Empty => format!("it is empty: {again}"),
        Kind::LfsPointer => {
            let size = lfs_size(head).map_or(Cow::Borrowed(""), |size| {
                format!(", which has {size} bytes").into()
            });
            format!(
                "it is a pointer of Git LFS, not the file itself{size}: run `git lfs pull` in its repository, or download the file itself"
            )
        }
        Kind::Page(format) => format!(
            "it is {format}, such as a login page or an error in place of a download: download it again, with the address of the file itself and the rights to read it"
        ),
        Kind::Packed(format, command) => {
            format!("it is packed ({format}): unpack it (`{command}`), and name the file in it")
        }
        Kind::Json => format!("it is JSON: {}", way_to(wanted)),
        Kind::Onnx => format!("it is an ONNX model: {}", way_to(wanted)),
        Kind::Safetensors if wanted == Wanted::Onnx => {
            "it is a safetensors file, which holds weights and no graph: export the model to ONNX"
                .into()
        }
        Kind::Safetensors => format!("it is a safetensors file: {}", way_to(wanted)),
        Kind::Weights(framework) if wanted == Wanted::Onnx => {
            format!("it is a model of {framework}: export it to ONNX")
        }
        Kind::Weights(framework) => format!("it is a model of {framework}: {}", way_to(wanted)),
    }
}

/// How to get what is wanted.
fn way_to(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Onnx | Wanted::OnnxData => "name the model's .onnx file",
        Wanted::Tensors => {
            "`constancy fit` makes projections and moments, `constancy classes` makes class banks"
        }
        Wanted::Tokenizer => {
            "name the model's `tokenizer.json`, in the format of Hugging Face's tokenizers"
        }
    }
}

/// The size of the file that a pointer of Git LFS stands for.
fn lfs_size(pointer: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(pointer).ok()?;
    let size = text.lines().find_map(|line| line.strip_prefix("size "))?;
    size.parse::<u64>().is_ok().then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Wanted; 4] = [
        Wanted::Onnx,
        Wanted::OnnxData,
        Wanted::Tensors,
        Wanted::Tokenizer,
    ];

    #[test]
    fn what_is_no_model_at_all_is_named_whatever_is_wanted() {
        let pointer =
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 605157884\n";
        for (head, expected) in [
            (&b""[..], "it is empty"),
            (
                pointer,
                "not the file itself, which has 605157884 bytes: run `git lfs pull`",
            ),
            (
                b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>",
                "it is HTML, such as a login page",
            ),
        ] {
            for wanted in ALL {
                let said = foreign(head, wanted).expect("it is recognised");
                assert!(said.contains(expected), "{wanted:?}: {said}");
            }
        }
    }

    #[test]
    fn each_kind_is_named_with_the_way_to_the_right_one() {
        let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}";
        let mut tar = vec![b'a'; HEAD_BYTES];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, wanted, expected) in [
            (
                &b"\x1f\x8b\x08\0"[..],
                Wanted::Onnx,
                "packed (gzip): unpack it (`gunzip`)",
            ),
            (
                b"PK\x03\x04....model.onnx",
                Wanted::Onnx,
                "packed (zip): unpack it (`unzip`)",
            ),
            (tar.as_slice(), Wanted::Tokenizer, "packed (tar)"),
            (
                b"PK\x03\x04....archive/data.pkl",
                Wanted::Onnx,
                "a model of PyTorch: export it to ONNX",
            ),
            (
                b"\x80\x02\x8a\x0al",
                Wanted::Tensors,
                "a model of PyTorch: `constancy fit` makes",
            ),
            (
                b"\x89HDF\r\n\x1a\n",
                Wanted::Onnx,
                "a model of Keras (HDF5): export it to ONNX",
            ),
            (
                safetensors,
                Wanted::Onnx,
                "weights and no graph: export the model to ONNX",
            ),
            (
                safetensors,
                Wanted::Tokenizer,
                "name the model's `tokenizer.json`",
            ),
            (
                b"\x08\x08\x12\x07pytorch",
                Wanted::Tensors,
                "it is an ONNX model: `constancy fit` makes",
            ),
            (
                b"{\"error\":\"401\"}",
                Wanted::Onnx,
                "it is JSON: name the model's .onnx file",
            ),
            (
                b"<?xml version='1.0'?><Error>",
                Wanted::Onnx,
                "it is XML, such as",
            ),
        ] {
            let said = foreign(head, wanted).expect("it is recognised");
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn what_may_be_right_passes() {
        let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}";
        for (head, wanted) in [
            (&b"\x08\x08\x12\x07pytorch"[..], Wanted::Onnx),
            (b"anything", Wanted::Onnx),
            (safetensors, Wanted::Tensors),
            (b" {\n\"version\": \"1.0\"", Wanted::Tokenizer),
            (b"\x1f\x8b\x08\0", Wanted::OnnxData),
            (b"\x80\x02\x8a\x0a", Wanted::OnnxData),
            (b"{}", Wanted::OnnxData),
        ] {
            assert_eq!(foreign(head, wanted), None, "{wanted:?}");
        }
    }
}
