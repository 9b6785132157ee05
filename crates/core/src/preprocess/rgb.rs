//! A decoded image.

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
        (self.width, self.height) = (width, height);
        self.data.resize(width as usize * height as usize * 3, 0);
    }
}
