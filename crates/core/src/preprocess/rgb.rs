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

    /// The mean colour of the cells of a grid that divides the image evenly: `[rows, columns, 3]`, `0..=255`. A grid has no
    /// more columns than the image, and no more rows.
    #[must_use]
    pub fn cell_means(&self, columns: usize, rows: usize) -> Vec<f32> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut sums = vec![[0u64; 3]; columns * rows];
        let mut counts = vec![0u64; columns * rows];
        let column: Vec<usize> = (0..width).map(|x| x * columns / width).collect();
        for (y, row) in self.data.chunks_exact((width * 3).max(1)).enumerate() {
            let first = y * rows / height * columns;
            for (pixel, column) in row.as_chunks::<3>().0.iter().zip(&column) {
                counts[first + column] += 1;
                for (sum, &level) in sums[first + column].iter_mut().zip(pixel) {
                    *sum += u64::from(level);
                }
            }
        }
        let mean = |(sums, &count): (&[u64; 3], &u64)| {
            #[expect(clippy::cast_precision_loss, reason = "means are of bytes")]
            let means = sums.map(|sum| sum as f32 / count.max(1) as f32);
            means
        };
        sums.iter().zip(&counts).flat_map(mean).collect()
    }
}
