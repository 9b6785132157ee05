//! Huffman tables: the standard's own (T.81, K.3 to K.6), and codes to symbols.

#![expect(
    clippy::cast_possible_truncation,
    reason = "codes have at most 16 bits, and stand for at most 256 symbols of 8"
)]

use super::error::JpegError;

/// The DHT segment's content that cameras leave out, as AVI allows: DC and AC tables of luma and chroma.
pub(super) const STANDARD: &[u8] = &standard();

/// Code counts and symbols of the AC tables, behind the tables' class and number.
const AC_LUMA: &[u8; 179] = b"\x10\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d\
\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\x14\x32\x81\x91\xa1\x08\
\x23\x42\xb1\xc1\x15\x52\xd1\xf0\x24\x33\x62\x72\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\
\x29\x2a\x34\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59\
\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83\x84\x85\x86\x87\x88\x89\
\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\
\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2\
\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa";
const AC_CHROMA: &[u8; 179] =
    b"\x11\x00\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77\
\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22\x32\x81\x08\x14\x42\x91\
\xa1\xb1\xc1\x09\x23\x33\x52\xf0\x15\x62\x72\xd1\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\
\x27\x28\x29\x2a\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\
\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x82\x83\x84\x85\x86\x87\
\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\
\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\
\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa";
const DC_LUMA: &[u8; 29] =
    b"\x00\x00\x01\x05\x01\x01\x01\x01\x01\x01\0\0\0\0\0\0\0\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b";
const DC_CHROMA: &[u8; 29] =
    b"\x01\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0\0\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b";

const fn standard() -> [u8; 2 * (29 + 179)] {
    let mut all = [0; 2 * (29 + 179)];
    let mut i = 0;
    while i < 179 {
        if i < 29 {
            all[i] = DC_LUMA[i];
            all[208 + i] = DC_CHROMA[i];
        }
        all[29 + i] = AC_LUMA[i];
        all[237 + i] = AC_CHROMA[i];
        i += 1;
    }
    all
}

/// One table, for decoding.
#[derive(Debug, Clone)]
pub(super) struct Huffman {
    /// By the next 8 bits: length of the code `1..=8` in the high byte, symbol in the low one; 0 for longer codes.
    short: [u16; 256],
    /// By length: the first 16 bits that a code of this length cannot have; 0 if there is none of the length.
    beyond: [u32; 17],
    /// By length: the index of a code's symbol, less the code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// Makes the table from the number of codes of each length and the symbols in order.
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, JpegError> {
        let mut table = Self {
            short: [0; 256],
            beyond: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let first = code;
            code += u32::from(count);
            if code > (1 << length) - 1 && count > 0 {
                return Err(JpegError::Corrupt("a Huffman table has impossible codes"));
            }
            let at = length as usize;
            #[expect(clippy::cast_possible_wrap, reason = "16 bits")]
            let offset = index as i32 - first as i32;
            table.offset[at] = offset;
            if count > 0 {
                table.beyond[at] = code << (16 - length);
            }
            for step in 0..usize::from(count) {
                if length <= 8 {
                    let from = (first as usize + step) << (8 - length);
                    let entry = (at as u16) << 8 | u16::from(symbols[index + step]);
                    table.short[from..from + (1 << (8 - length))].fill(entry);
                }
            }
            index += usize::from(count);
            code <<= 1;
        }
        Ok(table)
    }

    /// Length and symbol of the code that `bits` (16 of them) begin with; `None` if there is no such code.
    pub(super) fn decode(&self, bits: u32) -> Option<(u32, u8)> {
        let entry = self.short[(bits >> 8) as usize & 255];
        if entry != 0 {
            return Some((u32::from(entry >> 8), entry as u8));
        }
        let length = (1..=16).find(|&l| bits < self.beyond[l])?;
        #[expect(clippy::cast_possible_wrap, reason = "16 bits")]
        let index = (bits >> (16 - length)) as i32 + self.offset[length];
        let symbol = *self.symbols.get(usize::try_from(index).ok()?)?;
        Some((length as u32, symbol))
    }
}

/// Class and number of each table in a DHT segment, as they are stored.
pub(super) fn places(mut body: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (&place, rest) = body.split_first()?;
        let symbols: usize = rest.get(..16)?.iter().map(|&c| usize::from(c)).sum();
        body = rest.get(16 + symbols..)?;
        Some(place)
    })
}

/// The tables that are in force, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
}

impl Tables {
    /// Takes the tables of a DHT segment.
    pub(super) fn read(&mut self, mut body: &[u8]) -> Result<(), JpegError> {
        let broken = JpegError::Corrupt("a Huffman table is cut short");
        while let Some((&place, rest)) = body.split_first() {
            let counts = rest.get(..16).ok_or(broken)?;
            let total = counts.iter().map(|&c| usize::from(c)).sum::<usize>();
            let symbols = rest.get(16..16 + total).ok_or(broken)?;
            let class = match place >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(broken),
            };
            let slot = class.get_mut(usize::from(place & 15)).ok_or(broken)?;
            *slot = Some(Huffman::new(counts, symbols)?);
            body = &rest[16 + total..];
        }
        Ok(())
    }
}
