//! Counts what a stream brought since its last frame, and says what it is instead of a frame.

use super::sniff::{Content, HEAD_BYTES, Kind, look};
use crate::config::PipeFormat;
use std::fmt;

/// What came since the last frame.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    bytes: u64,
    /// The first of them.
    head: Vec<u8>,
}

impl Arrived {
    pub(super) fn add(&mut self, block: &[u8]) {
        self.bytes += block.len() as u64;
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(&block[..room.min(block.len())]);
    }

    /// Begins anew behind a frame; `pending` came after it.
    pub(super) fn restart(&mut self, pending: &[u8]) {
        self.bytes = 0;
        self.head.clear();
        self.add(pending);
    }

    /// What a source that expects `wanted` is told about it.
    pub(super) fn instead(&self, wanted: PipeFormat) -> Instead {
        Instead {
            amount: (self.bytes > 0).then_some(self.bytes),
            text: if self.bytes == 0 {
                "nothing came".into()
            } else {
                explanation(&look(&self.head), wanted)
            },
            last_line: String::new(),
        }
    }

    /// The same for a stream that has ended: one of the right format ends amid a frame.
    pub(super) fn foreign(&self, wanted: PipeFormat) -> Option<Instead> {
        let own = match wanted {
            PipeFormat::Mjpeg => Kind::Jpeg,
            PipeFormat::Y4m => Kind::Yuv4mpeg,
        };
        let is_foreign = self.bytes > 0 && look(&self.head).kind != own;
        is_foreign.then(|| self.instead(wanted))
    }
}

/// What came instead of a frame, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instead {
    /// Bytes, if any came.
    amount: Option<u64>,
    text: String,
    /// What the program said last.
    last_line: String,
}

impl Instead {
    /// What came, where bytes do not count.
    pub(super) fn of(text: &str) -> Self {
        Self {
            amount: None,
            text: text.into(),
            last_line: String::new(),
        }
    }

    /// Adds what a program said to a stream that brought nothing.
    pub(super) fn with_last_line(mut self, line: &str) -> Self {
        if self.amount.is_none() {
            line.clone_into(&mut self.last_line);
        }
        self
    }

    /// What came, whatever the amount, which is another one each time.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            Some(bytes @ ..1000) => write!(f, "{bytes} bytes came, ")?,
            Some(bytes) => write!(f, "{} came, ", rounded(bytes))?,
            None => {}
        }
        f.write_str(&self.text)?;
        if !self.last_line.is_empty() {
            write!(f, "; the program says: {}", self.last_line)?;
        }
        Ok(())
    }
}

/// The amount with one decimal: `3.1 MB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn rounded(bytes: u64) -> String {
    let kilobytes = bytes as f64 / 1e3;
    if kilobytes < 999.5 {
        format!("{kilobytes:.1} kB")
    } else {
        format!("{:.1} MB", kilobytes / 1e3)
    }
}

fn explanation(content: &Content, wanted: PipeFormat) -> String {
    let way_out = match (content.kind, wanted) {
        (Kind::Jpeg, PipeFormat::Mjpeg) => {
            return "JPEG data in which no image ends: the stream is damaged, or slower than `stall_s`".into();
        }
        (Kind::Yuv4mpeg, PipeFormat::Y4m) => {
            return "yuv4mpeg in which no frame ends: the stream is slower than `stall_s`".into();
        }
        (Kind::Jpeg, PipeFormat::Y4m) => "set `format = \"mjpeg\"` in `[camera.pipe]`",
        (Kind::Yuv4mpeg, PipeFormat::Mjpeg) => "set `format = \"y4m\"` in `[camera.pipe]`",
        (Kind::OtherVideo, PipeFormat::Mjpeg) => {
            "let the program send JPEG images: ffmpeg `-c:v mjpeg -f mjpeg`, rpicam-vid `--codec mjpeg`, GStreamer \
             `jpegenc`"
        }
        (Kind::OtherVideo, PipeFormat::Y4m) => {
            "let the program send yuv4mpeg: ffmpeg `-pix_fmt yuv420p -f yuv4mpegpipe`, GStreamer `y4menc`"
        }
        (Kind::Web, _) => "check the address of the camera's stream, and its user and password",
        (Kind::Text, _) => "let the program write pictures to stdout, and messages to stderr only",
    };
    format!("which look like {}; {way_out}", content.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], wanted: PipeFormat) -> String {
        let mut arrived = Arrived::default();
        bytes.chunks(1000).for_each(|block| arrived.add(block));
        arrived.instead(wanted).to_string()
    }

    #[test]
    fn the_way_out_fits_what_came_and_what_is_wanted() {
        use PipeFormat::{Mjpeg, Y4m};
        let h264 = [&b"\0\0\0\x01\x67\x42"[..], &vec![0x80; 3_141_586]].concat();
        for (bytes, wanted, amount, way_out) in [
            (&b""[..], Mjpeg, "nothing", "nothing came"),
            (
                &h264,
                Mjpeg,
                "3.1 MB came, which look like H.264",
                "-c:v mjpeg -f mjpeg",
            ),
            (&h264[..4000], Y4m, "4.0 kB came, ", "-f yuv4mpegpipe"),
            (
                b"YUV4MPEG2 W2 H2\n",
                Mjpeg,
                "16 bytes came, ",
                "format = \"y4m\"",
            ),
            (
                b"YUV4MPEG2 W2 H2\n",
                Y4m,
                "16 bytes came, ",
                "no frame ends",
            ),
            (
                b"\xff\xd8\xff\xe0",
                Y4m,
                "4 bytes came, ",
                "format = \"mjpeg\"",
            ),
            (
                b"\xff\xd8\xff\xe0",
                Mjpeg,
                "4 bytes came, ",
                "no image ends",
            ),
            (
                b"<html><title>Login</title>",
                Mjpeg,
                "a web page, `Login`",
                "password",
            ),
            (
                b"no such camera\n",
                Mjpeg,
                "text, `no such camera`",
                "stderr",
            ),
        ] {
            let told = told(bytes, wanted);
            assert!(told.contains(amount) && told.contains(way_out), "{told}");
        }
    }

    #[test]
    fn counting_begins_anew_behind_a_frame() {
        let mut arrived = Arrived::default();
        arrived.add(&[0xff, 0xd8, 0xff, 0xd9]);
        arrived.restart(b"");
        assert_eq!(
            arrived.instead(PipeFormat::Mjpeg).to_string(),
            "nothing came"
        );
        assert_eq!(arrived.foreign(PipeFormat::Mjpeg), None);
        arrived.restart(&[0xff, 0xd8, 0xff, 0xe0]);
        assert_eq!(arrived.foreign(PipeFormat::Mjpeg), None);
        assert!(arrived.foreign(PipeFormat::Y4m).is_some());
        arrived.restart(b"<html>");
        let instead = arrived.instead(PipeFormat::Mjpeg).with_last_line("unused");
        assert!(
            instead
                .to_string()
                .starts_with("6 bytes came, which look like a web page;")
        );
        assert!(!instead.text().contains("6 bytes"));
        arrived.restart(b"");
        let instead = arrived.instead(PipeFormat::Mjpeg).with_last_line("401");
        assert_eq!(instead.to_string(), "nothing came; the program says: 401");
    }
}
