//! A decoded image.

/// 12 megapixels. Smaller buffers are kept, since cameras of different sizes take turns.
const LARGE_BYTES: usize = 36 << 20;

/// An image of packed 8-bit `R G B`, rows without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RgbImage {
    pub width: u32,
    pub height: u32,
    /// `[height, width, 3]`.
    pub data: Vec<u8>,
}

impl RgbImage {
    /// Changes the size; the pixels are arbitrary afterwards.
    pub(super) fn reshape(&mut self, width: u32, height: u32) {
        let bytes = width as usize * height as usize * 3;
        // One huge picture does not hold its memory for ever.
        if self.data.capacity() > LARGE_BYTES && bytes < self.data.capacity() / 4 {
            self.data = Vec::new();
        }
        (self.width, self.height) = (width, height);
        self.data.resize(bytes, 0);
    }
}
