//! The header of a yuv4mpeg stream: size, subsampling, depth and range (yuv4mpeg(5) of mjpegtools, and the names that
//! ffmpeg adds).

use super::super::printable::printable;
use constancy_core::frame::{ColorEncoding, PixelFormat};

/// What decoding takes.
const MAX_SIDE_PX: u32 = 16_384;
/// A frame on its way from the child: 8K at 4:2:0 has 48 MiB. The source, the slot and the decoder hold one each.
const MAX_FRAME_BYTES: u64 = 64 << 20;
/// Characters of a refused header that a message quotes.
const QUOTED_CHARS: usize = 120;

/// How the planes of a frame are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) subsampling: Subsampling,
    /// 8 to 16; above 8, samples are 16-bit little-endian.
    pub(super) depth_bits: u32,
    /// A fourth plane, of luma's size, follows.
    pub(super) has_alpha: bool,
}

/// The size of the chroma planes. The variants of 4:2:0 differ in where a chroma sample lies, by half a pixel; preprocessing
/// shrinks the picture by more than that and treats them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subsampling {
    Mono,
    C420,
    C411,
    C422,
    C444,
}

impl Subsampling {
    /// The samples of one chroma plane: width and height.
    pub(super) fn chroma(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Mono => (0, 0),
            Self::C420 => (width.div_ceil(2), height.div_ceil(2)),
            Self::C411 => (width.div_ceil(4), height),
            Self::C422 => (width.div_ceil(2), height),
            Self::C444 => (width, height),
        }
    }

    /// The format that the frame gets.
    pub(super) fn pixel_format(self) -> PixelFormat {
        match self {
            Self::Mono => PixelFormat::Grey,
            Self::C420 => PixelFormat::I420,
            Self::C411 | Self::C422 => PixelFormat::I422,
            Self::C444 => PixelFormat::I444,
        }
    }
}

/// A stream's header. Interlaced frames hold both fields, line by line, and are read as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) color: ColorEncoding,
}

impl Header {
    /// Reads a header line, `YUV4MPEG2 W… H… …` without its end. The error quotes it and names the way out.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(line);
        let refused = |why: String| {
            let quoted: String = printable(&text).chars().take(QUOTED_CHARS).collect();
            format!("its header `{quoted}` {why}")
        };
        let side = |letter| {
            let value = parameter(&text, letter).and_then(|v| v.parse::<u32>().ok());
            value.filter(|&v| v > 0).ok_or_else(|| {
                refused(format!(
                    "names no {} (`{letter}…`); ffmpeg writes it with `-f yuv4mpegpipe`",
                    if letter == "W" { "width" } else { "height" }
                ))
            })
        };
        let (width, height) = (side("W")?, side("H")?);
        let name = parameter(&text, "C").or_else(|| parameter(&text, "XYSCSS="));
        let Some(layout) = layout(&name.unwrap_or("420").to_ascii_lowercase()) else {
            return Err(refused(
                "has a colour format that is not read; send 4:2:0 with 8 bits: ffmpeg `-pix_fmt yuv420p`"
                    .into(),
            ));
        };
        let header = Self {
            width,
            height,
            layout,
            color: ColorEncoding {
                full_range: parameter(&text, "XCOLORRANGE=") == Some("FULL"),
                bt709: false,
            },
        };
        if width > MAX_SIDE_PX || height > MAX_SIDE_PX || header.frame_bytes() > MAX_FRAME_BYTES {
            return Err(refused(format!(
                "announces frames of {width}×{height} pixels and {} MB; at most {MAX_SIDE_PX} pixels a side and {} MB \
                 are read: scale them in the program, ffmpeg `-vf scale=1280:-2`",
                header.frame_bytes() / 1_000_000,
                MAX_FRAME_BYTES / 1_000_000
            )));
        }
        Ok(header)
    }

    /// The bytes of a frame on the wire.
    pub(super) fn frame_bytes(&self) -> u64 {
        let (w, h) = (u64::from(self.width), u64::from(self.height));
        // In `u64`: a header may announce 2³² pixels a side.
        let chroma = match self.layout.subsampling {
            Subsampling::Mono => 0,
            Subsampling::C420 => w.div_ceil(2) * h.div_ceil(2),
            Subsampling::C411 => w.div_ceil(4) * h,
            Subsampling::C422 => w.div_ceil(2) * h,
            Subsampling::C444 => w * h,
        };
        let luma = (w * h).saturating_mul(if self.layout.has_alpha { 2 } else { 1 });
        let samples = luma.saturating_add(chroma.saturating_mul(2));
        samples.saturating_mul(if self.layout.depth_bits > 8 { 2 } else { 1 })
    }
}

/// The value of the parameter with this name.
fn parameter<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let mut parameters = header.split(' ').skip(1);
    parameters.find_map(|p| p.strip_prefix(name))
}

/// The layout with this name, in lower case: `420jpeg`, `422p10`, `444alpha`, `mono12` and the like.
fn layout(name: &str) -> Option<Layout> {
    let eight_bits = |subsampling, has_alpha| {
        Some(Layout {
            subsampling,
            depth_bits: 8,
            has_alpha,
        })
    };
    match name {
        "mono" => return eight_bits(Subsampling::Mono, false),
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => return eight_bits(Subsampling::C420, false),
        "411" => return eight_bits(Subsampling::C411, false),
        "422" => return eight_bits(Subsampling::C422, false),
        "444" => return eight_bits(Subsampling::C444, false),
        "444alpha" => return eight_bits(Subsampling::C444, true),
        _ => {}
    }
    let (subsampling, depth) = if let Some(depth) = name.strip_prefix("mono") {
        (Subsampling::Mono, depth)
    } else {
        let (sampling, depth) = name.split_once('p')?;
        let subsampling = match sampling {
            "420" => Subsampling::C420,
            "422" => Subsampling::C422,
            "444" => Subsampling::C444,
            _ => return None,
        };
        (subsampling, depth)
    };
    let depth_bits = depth.parse().ok().filter(|bits| (9..=16).contains(bits))?;
    Some(Layout {
        subsampling,
        depth_bits,
        has_alpha: false,
    })
}
