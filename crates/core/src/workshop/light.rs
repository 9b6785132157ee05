//! Lighting: from reflectances to the light on the sensor and to its grey levels.
//!
//! Reflectances and grey levels are encoded with a gamma of 2. That needs only squares and square roots; the library
//! functions for other powers differ between processors.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths are shares of the image, grey levels are clamped"
)]

use super::causes::{Light, Sensor, Variant};
use super::draw::polar;

/// Where the part covers the surface and where it casts its shadow.
pub(super) struct Cover<'a> {
    /// The part's layer: premultiplied RGBA, one per pixel.
    pub(super) layer: &'a [u8],
    /// Shadow, `0..=255`, one per pixel.
    pub(super) shadow: &'a [u8],
}

/// Composes the part over the surface in RGB8 `pixels` and lights both.
pub(super) fn illuminate(
    pixels: &mut [u8],
    cover: &Cover<'_>,
    width: usize,
    height: usize,
    variant: &Variant,
) {
    let (light, sensor) = (&variant.light, &variant.sensor);
    let linear: [f32; 256] = std::array::from_fn(|i| (i * i) as f32 / 65_025.0);
    let gain = gain(light, sensor);
    let to_light = polar([0.0, 0.0], 1.0, light.direction);
    let unit = width.min(height) as f32 / 2.0;
    let (cx, cy) = (width as f32 / 2.0, height as f32 / 2.0);
    let corner = (cx * cx + cy * cy) / (unit * unit);
    let rows = pixels
        .chunks_exact_mut(width * 3)
        .zip(cover.layer.chunks_exact(width * 4));
    for (y, ((row, layer), shadow)) in rows.zip(cover.shadow.chunks_exact(width)).enumerate() {
        let ny = (y as f32 - cy) / unit;
        for (x, (pixel, (part, shadow))) in row
            .chunks_exact_mut(3)
            .zip(layer.chunks_exact(4).zip(shadow))
            .enumerate()
        {
            let nx = (x as f32 - cx) / unit;
            let r2 = nx * nx + ny * ny;
            let side = 1.0 + 0.55 * light.directed * (nx * to_light[0] + ny * to_light[1]);
            let pool = 1.0 / (1.0 + 1.8 * light.pool * r2);
            let vignette = 1.0 - sensor.vignette * r2 / corner;
            let hidden = f32::from(part[3]) / 255.0;
            let shaded = 1.0 - light.shadow * f32::from(*shadow) / 255.0 * (1.0 - hidden);
            let facing = 1.0 - hidden * (1.0 - light.front);
            let field = side.max(0.05) * pool * vignette * shaded * facing;
            let open = 255 - u32::from(part[3]);
            let lit: [f32; 3] = std::array::from_fn(|c| {
                let albedo = u32::from(part[c]) + (u32::from(pixel[c]) * open + 127) / 255;
                linear[albedo.min(255) as usize] * gain[c] * field + light.haze * gain[c]
            });
            store(pixel, lit, sensor.monochrome);
        }
    }
}

fn store(pixel: &mut [u8], lit: [f32; 3], monochrome: bool) {
    let lit = if monochrome {
        [0.4 * lit[0] + 0.4 * lit[1] + 0.2 * lit[2]; 3]
    } else {
        lit
    };
    for (value, l) in pixel.iter_mut().zip(lit) {
        *value = (l.clamp(0.0, 1.0).sqrt() * 255.0 + 0.5) as u8;
    }
}

/// The gain of light, colour temperature and camera on red, green and blue.
fn gain(light: &Light, sensor: &Sensor) -> [f32; 3] {
    let white = kelvin_rgb(light.kelvin);
    // Slightly over 1, so that mid grey surfaces appear a little brighter than mid grey.
    let level = 1.25 * light.level * sensor.exposure;
    std::array::from_fn(|c| level * balanced(white, sensor)[c] * light.tint[c])
}

/// The light's colour as the sensor shows it. A fixed white point leaves green as it is.
fn balanced(white: [f32; 3], sensor: &Sensor) -> [f32; 3] {
    let Some(kelvin) = sensor.white_point else {
        return white.map(|w| w + (1.0 - w) * sensor.white_balance);
    };
    let point = kelvin_rgb(kelvin);
    std::array::from_fn(|c| white[c] * point[1] / point[c])
}

/// Colour of a black body relative to daylight at 6500 K, scaled so that the brightest channel is 1 (after M. Charity's
/// table).
fn kelvin_rgb(kelvin: f32) -> [f32; 3] {
    const TABLE: [(f32, [f32; 3]); 8] = [
        (2000.0, [1.0, 0.26, 0.01]),
        (2700.0, [1.0, 0.40, 0.10]),
        (3500.0, [1.0, 0.55, 0.26]),
        (4500.0, [1.0, 0.71, 0.50]),
        (5500.0, [1.0, 0.86, 0.77]),
        (6500.0, [1.0, 0.98, 0.99]),
        (8000.0, [0.73, 0.82, 1.0]),
        (12000.0, [0.52, 0.66, 1.0]),
    ];
    let after = TABLE
        .iter()
        .position(|(k, _)| *k >= kelvin)
        .unwrap_or(TABLE.len() - 1)
        .max(1);
    let ((k0, a), (k1, b)) = (TABLE[after - 1], TABLE[after]);
    let share = ((kelvin - k0) / (k1 - k0)).clamp(0.0, 1.0);
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

/// The shadow of a layer's opaque pixels, `0..=255` per pixel.
pub(super) fn cast_shadow(layer: &[u8], width: usize, height: usize, light: &Light) -> Vec<u8> {
    let short = width.min(height) as f32;
    let [x, y] = polar([0.0, 0.0], 1.0, light.direction);
    let length = short * (0.012 + 0.03 * light.directed);
    let (dx, dy) = ((-x * length) as isize, (-y * length) as isize);
    let mut shadow = vec![0; width * height];
    for (row, out) in shadow.chunks_exact_mut(width).enumerate() {
        let Some(from) = row.checked_add_signed(-dy).filter(|&r| r < height) else {
            continue;
        };
        let alphas = &layer[from * width * 4..(from + 1) * width * 4];
        let (to, skip) = (dx.max(0) as usize, (-dx).max(0) as usize);
        for (o, a) in out
            .iter_mut()
            .skip(to)
            .zip(alphas.chunks_exact(4).skip(skip))
        {
            *o = a[3];
        }
    }
    let radius = (short * light.shadow_softness) as usize;
    let mut other = vec![0; width * height];
    for _ in 0..2 {
        blur_rows_transposed(&shadow, &mut other, width, radius);
        blur_rows_transposed(&other, &mut shadow, height, radius);
    }
    shadow
}

/// Box blur of rows of `width` pixels; rows are written as columns.
fn blur_rows_transposed(from: &[u8], to: &mut [u8], width: usize, radius: usize) {
    let height = from.len() / width;
    let window = (2 * radius + 1) as u32;
    for (y, row) in from.chunks_exact(width).enumerate() {
        let mut sum: u32 = row.iter().take(radius).map(|&v| u32::from(v)).sum();
        for x in 0..width {
            sum += row.get(x + radius).map_or(0, |&v| u32::from(v));
            to[x * height + y] = (sum / window) as u8;
            sum -= x.checked_sub(radius).map_or(0, |left| u32::from(row[left]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_at_the_white_point_is_neutral_and_other_light_is_not() {
        let environment = crate::workshop::Environment::named("noon");
        let scene = environment.map(|noon| crate::workshop::Scene::from_seed(1, noon));
        let mut variant = scene.expect("noon").variant;
        let mut shown = |kelvin, white_point| {
            (variant.light.kelvin, variant.light.tint) = (kelvin, [1.0; 3]);
            variant.sensor.white_point = Some(white_point);
            gain(&variant.light, &variant.sensor)
        };
        for kelvin in [2700.0, 4000.0, 6500.0, 9000.0] {
            let [r, g, b] = shown(kelvin, kelvin);
            assert!(
                (r - g).abs() < 1e-3 && (b - g).abs() < 1e-3,
                "{kelvin}: {r} {g} {b}"
            );
        }
        let ([warm, _, cold], [blue, _, red]) = (shown(5000.0, 8000.0), shown(5000.0, 3000.0));
        assert!(warm > cold && red > blue, "{warm} {cold}, {blue} {red}");
    }

    #[test]
    fn warm_light_is_red_and_cold_light_is_blue() {
        let (warm, cold) = (kelvin_rgb(2500.0), kelvin_rgb(10_000.0));
        assert!(warm[0] > warm[2] && cold[2] > cold[0]);
        for (beyond, end) in [(100.0, 2000.0), (90_000.0, 12_000.0)] {
            assert_eq!(
                kelvin_rgb(beyond).map(f32::to_bits),
                kelvin_rgb(end).map(f32::to_bits)
            );
        }
    }
}
