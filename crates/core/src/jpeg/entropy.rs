//! Whether scans hold as much data as the picture needs (T.81, F.2 and G.2): reads every code, keeps no picture.

use super::error::JpegError;
use super::header::{FrameHeader, ScanComponent, ScanHeader};
use super::huffman::{Huffman, STANDARD, Tables};
use super::markers::{DHT, DRI};
use memchr::memchr;

/// A run of blocks that have ended.
type EndedBlocks = u32;

/// Reads the scans of a picture and remembers what of it is known.
pub(super) struct Entropy<'f> {
    frame: &'f FrameHeader,
    tables: Tables,
    /// Units between restart markers; 0 for none.
    restart: usize,
    /// For each component and coefficient, the bits that are missing; `None` before the first scan with it.
    missing: Vec<[Option<u8>; 64]>,
    /// For each component of a progressive picture, one bit per coefficient and block: whether it is not zero.
    nonzero: Vec<Vec<u64>>,
}

impl<'f> Entropy<'f> {
    pub(super) fn new(frame: &'f FrameHeader) -> Result<Self, JpegError> {
        let mut tables = Tables::default();
        tables.read(STANDARD)?;
        let blocks = |index| {
            let (across, down) = frame.padded_blocks(index);
            if frame.progressive { across * down } else { 0 }
        };
        let components = 0..frame.components.len();
        Ok(Self {
            frame,
            tables,
            restart: 0,
            missing: vec![[None; 64]; frame.components.len()],
            nonzero: components.map(|i| vec![0; blocks(i)]).collect(),
        })
    }

    /// Takes a segment that lies before a scan.
    pub(super) fn segment(&mut self, marker: u8, body: &[u8]) -> Result<(), JpegError> {
        match (marker, body) {
            (DHT, _) => self.tables.read(body)?,
            (DRI, &[high, low]) => self.restart = usize::from(u16::from_be_bytes([high, low])),
            _ => {}
        }
        Ok(())
    }

    /// Whether all scans together hold the whole picture.
    pub(super) fn is_whole(&self) -> bool {
        self.missing.as_flattened().iter().all(|m| *m == Some(0))
    }

    /// Reads a scan. Fails if its data ends before the picture does.
    pub(super) fn scan(&mut self, header: &ScanHeader, data: &[u8]) -> Result<(), JpegError> {
        let interleaved = header.components.len() > 1;
        let (across, down) = if interleaved {
            self.frame.units()
        } else {
            self.frame.own_blocks(header.components[0].index)
        };
        let mut bits = Bits::new(data);
        let mut ended: EndedBlocks = 0;
        for unit in 0..across * down {
            if self.restart > 0 && unit > 0 && unit % self.restart == 0 {
                bits.restart().ok_or(JpegError::CutShort)?;
                ended = 0;
            }
            let (x, y) = (unit % across, unit / across);
            for part in &header.components {
                let component = &self.frame.components[part.index];
                let (wide, high) = if interleaved {
                    (component.across, component.down)
                } else {
                    (1, 1)
                };
                for block in 0..wide * high {
                    let place = (x * wide + block % wide, y * high + block / wide);
                    self.block(header, *part, place, &mut bits, &mut ended)
                        .ok_or(JpegError::CutShort)?;
                }
            }
            if bits.overdrawn() {
                return Err(JpegError::CutShort);
            }
        }
        for part in &header.components {
            self.missing[part.index][header.first..=header.last].fill(Some(header.low_bit));
        }
        Ok(())
    }

    fn block(
        &mut self,
        header: &ScanHeader,
        part: ScanComponent,
        (x, y): (usize, usize),
        bits: &mut Bits<'_>,
        ended: &mut EndedBlocks,
    ) -> Option<()> {
        let dc = || self.tables.dc.get(part.dc_table)?.as_ref();
        let ac = || self.tables.ac.get(part.ac_table)?.as_ref();
        if !self.frame.progressive {
            bits.value(dc()?)?;
            return bits.coefficients(ac()?, 1..=63);
        }
        if header.first == 0 {
            if header.refines {
                bits.take(1);
                return Some(());
            }
            return bits.value(dc()?).map(|_| ());
        }
        let (across, _) = self.frame.padded_blocks(part.index);
        let nonzero = self.nonzero[part.index].get_mut(y * across + x)?;
        let table = self.tables.ac.get(part.ac_table)?.as_ref()?;
        if header.refines {
            refine(header, table, nonzero, bits, ended)
        } else {
            begin(header, table, nonzero, bits, ended)
        }
    }
}

/// The first scan of a block's coefficients.
fn begin(
    header: &ScanHeader,
    table: &Huffman,
    nonzero: &mut u64,
    bits: &mut Bits<'_>,
    ended: &mut EndedBlocks,
) -> Option<()> {
    if *ended > 0 {
        *ended -= 1;
        return Some(());
    }
    let mut at = header.first;
    while at <= header.last {
        let symbol = bits.symbol(table)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        match (size, run) {
            (0, 15) => at += 16,
            (0, _) => {
                *ended = (1 << run) + bits.take(run) - 1;
                return Some(());
            }
            _ => {
                at += run as usize;
                bits.take(size);
                *nonzero |= if at < 64 { 1 << at } else { 0 };
                at += 1;
            }
        }
    }
    Some(())
}

/// A later scan: one more bit of each coefficient that is not zero, and coefficients that become so.
fn refine(
    header: &ScanHeader,
    table: &Huffman,
    nonzero: &mut u64,
    bits: &mut Bits<'_>,
    ended: &mut EndedBlocks,
) -> Option<()> {
    let mut at = header.first;
    while *ended == 0 && at <= header.last {
        let symbol = bits.symbol(table)?;
        let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
        if size == 0 && zeros < 15 {
            *ended = (1 << zeros) + bits.take(zeros);
            break;
        }
        if size != 0 {
            bits.take(1);
        }
        while at <= header.last {
            if *nonzero >> at & 1 == 1 {
                bits.take(1);
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if size != 0 && at <= header.last {
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    if *ended > 0 {
        *ended -= 1;
        if at <= header.last {
            let rest = (*nonzero >> at) & (u64::MAX >> (63 - (header.last - at)));
            bits.take_many(rest.count_ones());
        }
    }
    Some(())
}

/// The bits of a scan, up to its end or to a restart marker. Behind them come zeros, which are counted.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    filled: u32,
    /// How many of the buffer's last bits are not in the data.
    invented: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            buffer: 0,
            filled: 0,
            invented: 0,
        }
    }

    fn fill(&mut self) {
        while self.filled <= 56 {
            let byte = self.byte();
            self.invented += if byte.is_some() { 0 } else { 8 };
            self.buffer |= u64::from(byte.unwrap_or(0)) << (56 - self.filled);
            self.filled += 8;
        }
    }

    /// The next byte of the data, without stuffing and fill.
    fn byte(&mut self) -> Option<u8> {
        loop {
            let byte = *self.data.get(self.at)?;
            if byte != 0xff {
                self.at += 1;
                return Some(byte);
            }
            match self.data.get(self.at + 1)? {
                0x00 => {
                    self.at += 2;
                    return Some(0xff);
                }
                0xff => self.at += 1,
                _ => return None,
            }
        }
    }

    /// Whether more bits were taken than there are.
    fn overdrawn(&self) -> bool {
        self.filled < self.invented
    }

    /// Takes up to 16 bits.
    fn take(&mut self, count: u32) -> u32 {
        if self.filled < count {
            self.fill();
        }
        let value = (self.buffer >> 32) as u32;
        self.skip(count);
        value.checked_shr(32 - count).unwrap_or(0)
    }

    fn take_many(&mut self, mut count: u32) {
        while count > 0 {
            let step = count.min(16);
            self.take(step);
            count -= step;
        }
    }

    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.filled -= count;
    }

    fn symbol(&mut self, table: &Huffman) -> Option<u8> {
        if self.filled < 16 {
            self.fill();
        }
        let (length, symbol) = table.decode((self.buffer >> 48) as u32)?;
        self.skip(length);
        (!self.overdrawn()).then_some(symbol)
    }

    /// A DC difference: its size, then its bits.
    fn value(&mut self, table: &Huffman) -> Option<u32> {
        let size = self.symbol(table)?;
        (size <= 15).then(|| self.take(u32::from(size)))
    }

    /// The AC coefficients of a sequential block.
    fn coefficients(
        &mut self,
        table: &Huffman,
        range: std::ops::RangeInclusive<usize>,
    ) -> Option<()> {
        let mut at = *range.start();
        while at <= *range.end() {
            let symbol = self.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && run != 15 {
                break;
            }
            self.take(size);
            at += run + 1;
        }
        Some(())
    }

    /// Goes on behind the next restart marker, over bytes that nothing needed; `None` if there is none.
    fn restart(&mut self) -> Option<()> {
        loop {
            self.at += memchr(0xff, self.data.get(self.at..)?)?;
            let marker = *self.data.get(self.at + 1)?;
            self.at += if marker == 0xff { 1 } else { 2 };
            if matches!(marker, 0xd0..=0xd7) {
                *self = Self {
                    at: self.at,
                    ..Self::new(self.data)
                };
                return Some(());
            }
        }
    }
}
