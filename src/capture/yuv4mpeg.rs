//! Reads frames from a yuv4mpeg stream.

use crate::clock;
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat};
use std::io::{BufReader, Read};

/// A stream whose header has been read.
pub(super) struct Reader<R: Read> {
    decoder: y4m::Decoder<BufReader<R>>,
    format: PixelFormat,
    color: ColorEncoding,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `None` if the stream ends before it; an error if the stream cannot be read.
    pub(super) fn open(stream: R) -> Result<Option<Self>, String> {
        let decoder = match y4m::decode(BufReader::with_capacity(1 << 16, stream)) {
            Ok(decoder) => decoder,
            Err(y4m::Error::EOF) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let format = pixel_format(decoder.get_colorspace())?;
        let parameters = String::from_utf8_lossy(decoder.get_raw_params());
        let color = ColorEncoding {
            full_range: parameters.contains("COLORRANGE=FULL"),
            bt709: false,
        };
        Ok(Some(Self {
            decoder,
            format,
            color,
        }))
    }

    /// The next frame. `None` at the end of the stream; an error if the frame cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        let (width, height) = (self.decoder.get_width(), self.decoder.get_height());
        let planes = match self.decoder.read_frame() {
            Ok(planes) => planes,
            Err(y4m::Error::EOF | y4m::Error::IoError(_)) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let data = [
            planes.get_y_plane(),
            planes.get_u_plane(),
            planes.get_v_plane(),
        ];
        let side = |pixels: usize| u32::try_from(pixels).map_err(|e| format!("{pixels}: {e}"));
        Ok(Some(Frame {
            data: data.concat(),
            format: self.format,
            width: side(width)?,
            height: side(height)?,
            stride_bytes: width,
            color: self.color,
            captured_at: clock::now(),
            file: None,
            truth: None,
        }))
    }
}

fn pixel_format(colorspace: y4m::Colorspace) -> Result<PixelFormat, String> {
    Ok(match colorspace {
        y4m::Colorspace::Cmono => PixelFormat::Grey,
        y4m::Colorspace::C420
        | y4m::Colorspace::C420jpeg
        | y4m::Colorspace::C420paldv
        | y4m::Colorspace::C420mpeg2 => PixelFormat::I420,
        y4m::Colorspace::C422 => PixelFormat::I422,
        y4m::Colorspace::C444 => PixelFormat::I444,
        other => return Err(format!("{other:?} has more than 8 bits; use yuv420p")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_read_and_a_cut_one_ends_the_stream() {
        let stream = b"YUV4MPEG2 W2 H2 F1:1 C420jpeg XCOLORRANGE=FULL\nFRAME\n\x01\x02\x03\x04\x05\x06FRAME\n\x01";
        let mut reader = Reader::open(&stream[..])
            .expect("readable")
            .expect("a header");
        let frame = reader.next().expect("readable").expect("a frame");
        assert_eq!(
            (frame.width, frame.height, &frame.data[..]),
            (2, 2, &[1, 2, 3, 4, 5, 6][..])
        );
        assert!(frame.color.full_range);
        assert!(matches!(reader.next(), Ok(None)));
        assert!(
            matches!(Reader::open(&b""[..]), Ok(None)),
            "a child that sends nothing"
        );
        let deep = Reader::open(&b"YUV4MPEG2 W2 H2 F1:1 C420p10\n"[..]).err();
        assert!(deep.is_some_and(|reason| reason.contains("use yuv420p")));
    }
}
