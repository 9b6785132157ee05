//! The compression loss without the file: 8×8 cosine transform, quantisation and back, chroma at half resolution
//! (ITU-T T.81, tables K.1 and K.2).

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "coefficients and colours are a few thousand at most"
)]

/// Table K.1, luma, in row order.
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Table K.2, chroma, in row order.
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// A channel, padded to whole blocks.
struct Plane {
    values: Vec<f32>,
    width: usize,
}

/// Applies to RGB8 `pixels` the loss of saving and loading them as a JPEG of `quality` `1..=100`, on libjpeg's scale. 100
/// leaves them unchanged.
///
/// ```
/// use constancy_core::jpeg::round_trip;
///
/// let pixels: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * 37 % 251) as u8).collect();
/// let mut saved = pixels.clone();
/// round_trip(&mut saved, 16, 16, 100);
/// assert_eq!(saved, pixels);
/// round_trip(&mut saved, 16, 16, 30);
/// assert_ne!(saved, pixels);
/// ```
pub fn round_trip(pixels: &mut [u8], width: usize, height: usize, quality: u8) {
    if quality >= 100 {
        return;
    }
    let mut planes = split(pixels, width, height);
    let transform = cosines();
    for (i, plane) in planes.iter_mut().enumerate() {
        let steps = steps(if i == 0 { &LUMA } else { &CHROMA }, quality);
        for_each_block(plane, |block| quantise(block, &steps, &transform));
    }
    join(&planes, pixels, width);
}

/// Quantisation steps at `quality`, scaled like libjpeg's.
fn steps(table: &[u8; 64], quality: u8) -> [f32; 64] {
    let quality = u32::from(quality.clamp(1, 100));
    let scale = if quality < 50 {
        5000 / quality
    } else {
        200 - 2 * quality
    };
    table.map(|t| ((u32::from(t) * scale + 50) / 100).clamp(1, 255) as f32)
}

/// Y, Cb and Cr centred on zero, Cb and Cr at half resolution. Edges repeat up to whole blocks.
fn split(pixels: &[u8], width: usize, height: usize) -> [Plane; 3] {
    let (wide, high) = (width.div_ceil(16) * 16, height.div_ceil(16) * 16);
    let plane = |by: usize| Plane {
        values: vec![0.0; wide * high / (by * by)],
        width: wide / by,
    };
    let mut planes = [plane(1), plane(2), plane(2)];
    for y in 0..high {
        let row = &pixels[y.min(height - 1) * width * 3..][..width * 3];
        let luma = &mut planes[0].values[y * wide..][..wide];
        for (x, l) in luma.iter_mut().enumerate() {
            let [r, g, b] = rgb_at(row, x.min(width - 1));
            *l = 0.299 * r + 0.587 * g + 0.114 * b - 128.0;
        }
        for x in 0..wide {
            let [r, g, b] = rgb_at(row, x.min(width - 1));
            let i = (y / 2) * (wide / 2) + x / 2;
            // The mean of four pixels.
            planes[1].values[i] += 0.25 * (-0.168_736 * r - 0.331_264 * g + 0.5 * b);
            planes[2].values[i] += 0.25 * (0.5 * r - 0.418_688 * g - 0.081_312 * b);
        }
    }
    planes
}

fn rgb_at(row: &[u8], x: usize) -> [f32; 3] {
    [
        f32::from(row[x * 3]),
        f32::from(row[x * 3 + 1]),
        f32::from(row[x * 3 + 2]),
    ]
}

/// Converts the planes back to RGB8.
fn join(planes: &[Plane; 3], pixels: &mut [u8], width: usize) {
    let [luma, blue, red] = planes;
    for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let l = luma.values[y * luma.width + x] + 128.0;
            let i = (y / 2) * blue.width + x / 2;
            let (cb, cr) = (blue.values[i], red.values[i]);
            let rgb = [
                l + 1.402 * cr,
                l - 0.344_136 * cb - 0.714_136 * cr,
                l + 1.772 * cb,
            ];
            for (value, c) in pixel.iter_mut().zip(rgb) {
                *value = (c.clamp(0.0, 255.0) + 0.5) as u8;
            }
        }
    }
}

fn for_each_block(plane: &mut Plane, mut change: impl FnMut(&mut [[f32; 8]; 8])) {
    let width = plane.width;
    for band in plane.values.chunks_exact_mut(width * 8) {
        for left in (0..width).step_by(8) {
            let mut block = [[0.0; 8]; 8];
            for (row, line) in block.iter_mut().zip(band.chunks_exact(width)) {
                row.copy_from_slice(&line[left..left + 8]);
            }
            change(&mut block);
            for (row, line) in block.iter().zip(band.chunks_exact_mut(width)) {
                line[left..left + 8].copy_from_slice(row);
            }
        }
    }
}

/// Transforms a block, rounds its coefficients to multiples of `steps`, and transforms it back.
fn quantise(block: &mut [[f32; 8]; 8], steps: &[f32; 64], cosines: &[[f32; 8]; 8]) {
    let transposed: [[f32; 8]; 8] = std::array::from_fn(|i| std::array::from_fn(|j| cosines[j][i]));
    let mut coefficients = product(&product(cosines, block), &transposed);
    for (coefficient, step) in coefficients.as_flattened_mut().iter_mut().zip(steps) {
        let level = *coefficient / step;
        let half = if level < 0.0 { -0.5 } else { 0.5 };
        *coefficient = ((level + half) as i32) as f32 * step;
    }
    *block = product(&product(&transposed, &coefficients), cosines);
}

fn product(a: &[[f32; 8]; 8], b: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = [[0.0; 8]; 8];
    for (out, a) in out.iter_mut().zip(a) {
        for (factor, b) in a.iter().zip(b) {
            for (o, value) in out.iter_mut().zip(b) {
                *o += factor * value;
            }
        }
    }
    out
}

/// The orthonormal cosine transform of 8 values, one frequency per row.
fn cosines() -> [[f32; 8]; 8] {
    /// cos(i π / 16).
    const COS: [f32; 9] = [
        1.0,
        0.980_785_3,
        0.923_879_5,
        0.831_469_6,
        std::f32::consts::FRAC_1_SQRT_2,
        0.555_570_2,
        0.382_683_43,
        0.195_090_32,
        0.0,
    ];
    let cos = |i: usize| match i % 32 {
        i @ 0..=8 => COS[i],
        i @ 9..=16 => -COS[16 - i],
        i @ 17..=24 => -COS[i - 16],
        i => COS[32 - i],
    };
    std::array::from_fn(|u| {
        let scale = if u == 0 { 0.353_553_4 } else { 0.5 };
        std::array::from_fn(|x| scale * cos((2 * x + 1) * u))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_orthonormal() {
        let c = cosines();
        for (i, a) in c.iter().enumerate() {
            for (j, b) in c.iter().enumerate() {
                let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                assert!(
                    (dot - f32::from(u8::from(i == j))).abs() < 1e-5,
                    "{i} {j}: {dot}"
                );
            }
        }
    }

    #[test]
    fn lower_quality_changes_more() {
        let image: Vec<u8> = (0..24 * 17 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let change = |quality| {
            let mut copy = image.clone();
            round_trip(&mut copy, 24, 17, quality);
            copy.iter()
                .zip(&image)
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum::<u64>()
        };
        assert_eq!(change(100), 0);
        assert!(change(10) > change(90) && change(90) > 0);
    }
}
