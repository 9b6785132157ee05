//! Frame and scan headers (T.81, B.2.2 and B.2.3), parsed into checked values.

use super::error::JpegError;

/// Components of an image: Y Cb Cr, R G B, grey or C M Y K.
const MAX_COMPONENTS: usize = 4;

/// One colour channel and its sampling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks per unit of an interleaved scan, `1..=4` each.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Number of its quantisation table.
    pub(super) quantisation: u8,
}

/// A frame header of a kind that is decoded.
#[derive(Debug, Clone)]
pub(super) struct FrameHeader {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
}

/// A component's part in a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanComponent {
    /// Index into the frame's components.
    pub(super) index: usize,
    pub(super) dc_table: usize,
    pub(super) ac_table: usize,
}

/// A scan header.
#[derive(Debug, Clone)]
pub(super) struct ScanHeader {
    pub(super) components: Vec<ScanComponent>,
    /// The coefficients of this scan, in zigzag order, `0..=63`.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Whether the scan refines what earlier ones began.
    pub(super) refines: bool,
    /// Bits that are still missing after this scan.
    pub(super) low_bit: u8,
}

/// Whether `marker` begins a frame header of any kind.
pub(super) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

impl FrameHeader {
    pub(super) fn parse(marker: u8, body: &[u8]) -> Result<Self, JpegError> {
        let progressive = match marker {
            0xc0 | 0xc1 => false,
            0xc2 => true,
            0xc3 => return Err(JpegError::Kind("lossless JPEG")),
            0xc9..=0xcb => return Err(JpegError::Kind("arithmetic-coded JPEG")),
            _ => return Err(JpegError::Kind("hierarchical JPEG")),
        };
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = body else {
            return Err(JpegError::Corrupt("its frame header is cut short"));
        };
        if precision != 8 {
            return Err(JpegError::Kind("12-bit JPEG"));
        }
        let components: Vec<Component> = rest
            .chunks_exact(3)
            .take(usize::from(count))
            .map(|c| Component {
                id: c[0],
                across: usize::from(c[1] >> 4),
                down: usize::from(c[1] & 15),
                quantisation: c[2],
            })
            .collect();
        let factors = components.iter().flat_map(|c| [c.across, c.down]);
        let count = usize::from(count);
        if components.len() != count
            || !(1..=MAX_COMPONENTS).contains(&count)
            || !factors.clone().all(|f| (1..=4).contains(&f))
        {
            return Err(JpegError::Corrupt("its frame header has impossible values"));
        }
        Ok(Self {
            progressive,
            width: usize::from(u16::from_be_bytes([w1, w0])),
            height: usize::from(u16::from_be_bytes([h1, h0])),
            components,
        })
    }

    /// The largest sampling factors, across and down.
    pub(super) fn sampling(&self) -> (usize, usize) {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max();
        (
            most(|c| c.across).unwrap_or(1),
            most(|c| c.down).unwrap_or(1),
        )
    }

    /// Units of an interleaved scan, across and down.
    pub(super) fn units(&self) -> (usize, usize) {
        let (across, down) = self.sampling();
        (
            self.width.div_ceil(8 * across),
            self.height.div_ceil(8 * down),
        )
    }

    /// Blocks of a component in memory, whole units, across and down.
    pub(super) fn padded_blocks(&self, index: usize) -> (usize, usize) {
        let (across, down) = self.units();
        let component = &self.components[index];
        (across * component.across, down * component.down)
    }

    /// Blocks of a component in a scan of its own, across and down.
    pub(super) fn own_blocks(&self, index: usize) -> (usize, usize) {
        let (width, height) = self.samples(index);
        (
            usize::from(width).div_ceil(8),
            usize::from(height).div_ceil(8),
        )
    }

    /// Width and height of a component, samples (T.81, A.1.1).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the picture's, which are 16-bit"
    )]
    pub(super) fn samples(&self, index: usize) -> (u16, u16) {
        let (across, down) = self.sampling();
        let component = &self.components[index];
        (
            (self.width * component.across).div_ceil(across) as u16,
            (self.height * component.down).div_ceil(down) as u16,
        )
    }
}

impl ScanHeader {
    pub(super) fn parse(body: &[u8], frame: &FrameHeader) -> Result<Self, JpegError> {
        let impossible = JpegError::Corrupt("a scan header has impossible values");
        let Some((&count, rest)) = body.split_first() else {
            return Err(impossible);
        };
        let count = usize::from(count);
        let (Some(selectors), Some(&[first, last, bits])) =
            (rest.get(..2 * count), rest.get(2 * count..2 * count + 3))
        else {
            return Err(impossible);
        };
        let mut components: Vec<ScanComponent> = Vec::with_capacity(MAX_COMPONENTS);
        for selector in selectors.chunks_exact(2) {
            let taken = |index: usize| components.iter().any(|c| c.index == index);
            let index = (0..frame.components.len())
                .find(|&i| frame.components[i].id == selector[0] && !taken(i));
            components.push(ScanComponent {
                index: index.ok_or(JpegError::Corrupt("a scan names an unknown component"))?,
                dc_table: usize::from(selector[1] >> 4),
                ac_table: usize::from(selector[1] & 15),
            });
        }
        if components.is_empty() || first > 63 || last > 63 || last < first {
            return Err(impossible);
        }
        Ok(Self {
            components,
            first: usize::from(first),
            last: usize::from(last),
            refines: bits >> 4 != 0,
            low_bit: bits & 15,
        })
    }
}
