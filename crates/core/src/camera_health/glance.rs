//! What is measured of one picture, at 160 × 120 pixels: its statistics, its structure and where it shows detail.
//!
//! Logarithms of luma take the light away: light multiplies what a surface reflects, and a gamma leaves that a product.

#![expect(
    clippy::cast_possible_truncation,
    reason = "levels and counts are far below 2^24"
)]

use super::statistics::ImageStatistics;
use crate::preprocess::RgbImage;

/// The size at which pictures are measured.
const WIDTH: usize = 160;
const HEIGHT: usize = 120;
/// Structure is compared in cells of 4 × 4 pixels.
const CELL: usize = 4;
const COLUMNS: usize = WIDTH / CELL;
const ROWS: usize = HEIGHT / CELL;
/// A cell is compared with the square of cells around it, this many in each direction.
const AROUND: usize = 2;
pub(super) const CELL_COLUMNS: usize = COLUMNS - 2 * AROUND;
/// The number of cells whose structure is known: those that have all neighbours.
pub(super) const CELLS: usize = CELL_COLUMNS * (ROWS - 2 * AROUND);
/// Detail is measured in tiles of 8 × 8 pixels.
const TILE: usize = 8;
pub(super) const TILE_COLUMNS: usize = WIDTH / TILE;
pub(super) const TILES: usize = TILE_COLUMNS * (HEIGHT / TILE);
/// Fine detail lies between neighbours, coarse detail between pixels this far apart.
const COARSE: usize = 4;
/// Luma is counted in quarters of a level.
const LUMA_STEPS: usize = 1021;
/// Levels added before the logarithm, so that it ends somewhere in the dark.
const DARK: f32 = 4.0;
/// A pixel with a channel from here on has lost what that channel had to say.
const CLIPPED: u8 = 254;
/// A pixel is white if all channels are.
const WHITE: u8 = 250;
/// The relative difference to its surroundings from which a cell counts as lighter or darker.
const VISIBLE: f32 = 0.01;
/// A tile in which more pixels than this are clipped or hidden shows no detail that could be judged.
const MOST_CLIPPED: f32 = 0.2;
/// A tile with less luma than this is too dark to be judged.
const LEAST_LUMA: f32 = 8.0;
/// Squared relative difference below which a tile shows nothing.
pub(super) const LEAST_DETAIL: f32 = 1e-5;
/// In a frame that shows detail, the median tile has at least as much of it as noise adds.
const ABOVE_NOISE: f32 = 3.0;
/// No tile counts as more than this many times the usual detail.
const MOST_DETAIL: f32 = 3.0;

/// The measures of one picture.
#[derive(Debug, Clone)]
pub struct Glance {
    pub statistics: ImageStatistics,
    /// The share of pixels that are white.
    pub(super) white: f32,
    /// The standard deviation of red, green and blue over the cells, in levels of 255.
    pub(super) spread: [f32; 3],
    /// The mean square of how much lighter or darker cells are than their surroundings, without noise.
    pub(super) structure: f32,
    /// How much lighter (1) or darker (-1) each of the [`CELLS`] is than its surroundings; 0 where nothing is seen.
    pub(super) signs: Vec<f32>,
    /// The fine detail of each of the [`TILES`] relative to the frame's median; NaN where it cannot be judged. Empty if
    /// the frame shows too little detail.
    pub(super) profile: Vec<f32>,
}

impl Glance {
    /// Measures a picture. Pixels of the colour `hidden` are left out: a view's mask has painted them.
    #[must_use]
    pub fn at(image: &RgbImage, hidden: Option<[u8; 3]>) -> Self {
        let small = Small::of(image, hidden);
        let tiles: Vec<Tile> = (0..TILES).map(|t| small.tile(t)).collect();
        let judged = || tiles.iter().filter(|t| t.judged);
        let sum = |of: fn(&Tile) -> f32| judged().map(of).sum::<f32>();
        let (fine, coarse, noise) = (sum(|t| t.fine), sum(|t| t.coarse), sum(|t| t.noise));
        let relief = Relief::of(&small.cells, small.noise());
        let count = judged().count().max(1) as f32;
        let sharpness =
            (coarse > noise.max(LEAST_DETAIL * count)).then(|| (fine / coarse).max(0.0).sqrt());
        let visible = small.cells.iter().map(|c| c.pixels).sum::<u32>().max(1) as f32;
        let total = |of: fn(&Sums) -> f32| small.cells.iter().map(of).sum::<f32>();
        let means = [0, 1, 2].map(|c| {
            small
                .cells
                .iter()
                .map(|s| s.channels[c] as f32)
                .sum::<f32>()
                / visible
                / 4.0
        });
        let light = means.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let statistics = ImageStatistics {
            brightness: total(|s| s.luma as f32) / visible / 16.0 / 255.0,
            clipped: total(|s| s.clipped as f32) / visible / 4.0,
            colour: if light > 1e-3 {
                means.map(|m| m / light)
            } else {
                [1.0 / 3.0; 3]
            },
            sharpness,
            noise: small.noise(),
        };
        Self {
            statistics,
            white: total(|s| s.white as f32) / visible / 4.0,
            spread: small.spread(),
            structure: relief.structure(),
            signs: relief.signs(),
            profile: profile(&tiles),
        }
    }
}

/// The fine detail of tiles relative to their median; empty if most show none.
fn profile(tiles: &[Tile]) -> Vec<f32> {
    let mut known: Vec<f32> = tiles.iter().filter(|t| t.judged).map(|t| t.bends).collect();
    known.sort_by(f32::total_cmp);
    let median = known.get(known.len() / 2).copied().unwrap_or(0.0);
    let noise = tiles
        .iter()
        .filter(|t| t.judged)
        .map(|t| t.noise)
        .sum::<f32>()
        / known.len().max(1) as f32;
    if known.len() < TILES / 4 || median < LEAST_DETAIL.max(ABOVE_NOISE * noise) {
        return Vec::new();
    }
    let relative = |t: &Tile| {
        if t.judged {
            (t.bends / median).clamp(0.0, MOST_DETAIL)
        } else {
            f32::NAN
        }
    };
    tiles.iter().map(relative).collect()
}

/// What the pixels of a cell add up to; four samples make a pixel.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Visible pixels.
    pixels: u32,
    /// Levels, summed over samples.
    channels: [u32; 3],
    /// Quarters of levels, summed over samples.
    luma: u32,
    /// Samples.
    clipped: u32,
    white: u32,
    /// Quarters of levels: twice the diagonal difference within each pixel.
    diagonal: u32,
}

/// A picture reduced to [`WIDTH`] × [`HEIGHT`] pixels, each the mean of 2 × 2 neighbouring samples.
struct Small {
    /// The logarithm of each pixel's luma; NaN where hidden.
    log: Vec<f32>,
    cells: Vec<Sums>,
    /// How often each diagonal difference occurs.
    diagonals: Vec<u32>,
}

impl Small {
    fn of(image: &RgbImage, hidden: Option<[u8; 3]>) -> Self {
        let logs: Vec<f32> = (0..LUMA_STEPS)
            .map(|step| ((step as f32 / 4.0 + DARK) / 255.0).ln())
            .collect();
        let mut small = Self {
            log: vec![f32::NAN; WIDTH * HEIGHT],
            cells: vec![Sums::default(); COLUMNS * ROWS],
            diagonals: vec![0; 2 * LUMA_STEPS],
        };
        let (width, height) = (image.width as usize, image.height as usize);
        if width == 0 || height == 0 || image.data.len() < width * height * 3 {
            return small;
        }
        let columns: Vec<(usize, usize)> = (0..WIDTH).map(|x| samples(x, WIDTH, width)).collect();
        for y in 0..HEIGHT {
            let (upper, lower) = samples(y, HEIGHT, height);
            let row = |y: usize| {
                image.data[y * width * 3..(y + 1) * width * 3]
                    .as_chunks::<3>()
                    .0
            };
            let (upper, lower) = (row(upper), row(lower));
            for (x, &(left, right)) in columns.iter().enumerate() {
                let samples = [upper[left], upper[right], lower[left], lower[right]];
                if hidden.is_some_and(|colour| samples == [colour; 4]) {
                    continue;
                }
                let luma = samples.map(luma);
                let sum: u32 = luma.iter().sum();
                small.log[y * WIDTH + x] = logs[sum as usize / 4];
                let diagonal = (luma[0] + luma[3]).abs_diff(luma[1] + luma[2]);
                small.diagonals[diagonal as usize] += 1;
                small.cells[y / CELL * COLUMNS + x / CELL].add(&samples, sum, diagonal);
            }
        }
        small
    }

    /// The standard deviation of noise in levels of 255, from diagonal differences, in which edges count little (Donoho
    /// and Johnstone 1994, *Ideal spatial adaptation by wavelet shrinkage*).
    fn noise(&self) -> f32 {
        let half = self.diagonals.iter().sum::<u32>() / 2;
        let mut below = 0;
        let median = self.diagonals.iter().position(|&n| {
            below += n;
            below > half
        });
        // Twice the difference, in quarters of levels.
        median.unwrap_or(0) as f32 / 8.0 / 0.6745
    }

    /// The standard deviations of the channels over the cells.
    fn spread(&self) -> [f32; 3] {
        let seen: Vec<&Sums> = self.cells.iter().filter(|c| c.pixels > 0).collect();
        let count = seen.len().max(1) as f32;
        [0, 1, 2].map(|c| {
            let level = |s: &&Sums| s.channels[c] as f32 / (4 * s.pixels) as f32;
            let mean = seen.iter().map(level).sum::<f32>() / count;
            let square = |s: &&Sums| (level(s) - mean) * (level(s) - mean);
            (seen.iter().map(square).sum::<f32>() / count).sqrt()
        })
    }

    fn tile(&self, index: usize) -> Tile {
        let (left, top) = (index % TILE_COLUMNS * TILE, index / TILE_COLUMNS * TILE);
        let mut sums = Sums::default();
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            sums.merge(&self.cells[(top / CELL + dy) * COLUMNS + left / CELL + dx]);
        }
        let pixels = sums.pixels as f32;
        let luma = sums.luma as f32 / 16.0 / pixels.max(1.0);
        let clipped = sums.clipped as f32 / 4.0 / pixels.max(1.0);
        let whole = sums.pixels as usize == TILE * TILE;
        // The mean of a normal variable's absolute value is √(2/π) of its deviation; four samples make a pixel.
        let sample = sums.diagonal as f32 / 8.0 / pixels.max(1.0) * 1.2533;
        let relative = sample / 2.0 / (luma + DARK);
        let noise = 2.0 * relative * relative;
        Tile {
            fine: self.differences(left, top, 1) - noise,
            coarse: self.differences(left, top, COARSE) - noise,
            bends: self.bends(left, top) - 3.0 * noise,
            noise,
            judged: whole && clipped <= MOST_CLIPPED && luma >= LEAST_LUMA,
        }
    }

    /// The mean squared difference between pixels of a tile that are `apart`, to the right and down.
    fn differences(&self, left: usize, top: usize, apart: usize) -> f32 {
        let row = |y: usize| &self.log[(top + y) * WIDTH + left..][..TILE];
        let squares =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let across: f32 = (0..TILE).map(|y| squares(&row(y)[apart..], row(y))).sum();
        let down: f32 = (apart..TILE).map(|y| squares(row(y), row(y - apart))).sum();
        (across + down) / (2 * TILE * (TILE - apart)) as f32
    }

    /// The mean squared second difference of neighbouring pixels of a tile, to the right and down.
    fn bends(&self, left: usize, top: usize) -> f32 {
        let row = |y: usize| &self.log[(top + y) * WIDTH + left..][..TILE];
        let squares = |a: &[f32], b: &[f32], c: &[f32]| {
            let bends = a.iter().zip(b).zip(c).map(|((a, b), c)| a + c - 2.0 * b);
            bends.map(|d| d * d).sum::<f32>()
        };
        let across: f32 = (0..TILE)
            .map(|y| squares(row(y), &row(y)[1..], &row(y)[2..]))
            .sum();
        let down: f32 = (2..TILE)
            .map(|y| squares(row(y - 2), row(y - 1), row(y)))
            .sum();
        (across + down) / (2 * TILE * (TILE - 2)) as f32
    }
}

/// The detail of a tile.
struct Tile {
    /// Mean squared relative differences of pixels, less those of noise.
    fine: f32,
    coarse: f32,
    /// Mean squared second differences, which slopes do not have.
    bends: f32,
    /// What noise adds to a squared difference; it adds three times as much to a second one.
    noise: f32,
    /// Neither hidden nor clipped nor too dark.
    judged: bool,
}

/// How much lighter or darker each cell is than its surroundings.
struct Relief {
    /// Differences of logarithms, `[CELLS]`; NaN where a mask is near.
    heights: Vec<f32>,
    /// The standard deviation of noise in each.
    noise: Vec<f32>,
}

impl Relief {
    /// `noise` is that of a sample, in levels.
    fn of(cells: &[Sums], noise: f32) -> Self {
        let whole = (CELL * CELL) as u32;
        let level = |s: &Sums| {
            if s.pixels == whole {
                s.luma as f32 / (16 * whole) as f32 + DARK
            } else {
                f32::NAN
            }
        };
        let levels: Vec<f32> = cells.iter().map(level).collect();
        let logs: Vec<f32> = levels.iter().map(|l| l.ln()).collect();
        let side = 2 * AROUND + 1;
        let mut relief = Self {
            heights: Vec::with_capacity(CELLS),
            noise: Vec::with_capacity(CELLS),
        };
        for y in AROUND..ROWS - AROUND {
            for x in AROUND..COLUMNS - AROUND {
                let mut around = 0.0;
                for row in logs.chunks_exact(COLUMNS).skip(y - AROUND).take(side) {
                    around += row[x - AROUND..=x + AROUND].iter().sum::<f32>();
                }
                let at = y * COLUMNS + x;
                relief
                    .heights
                    .push(logs[at] - around / (side * side) as f32);
                // A cell is the mean of 64 samples.
                relief.noise.push(noise / 8.0 / levels[at]);
            }
        }
        relief
    }

    fn structure(&self) -> f32 {
        let pairs = self.heights.iter().zip(&self.noise);
        let squares = pairs.map(|(h, n)| h * h - n * n).filter(|s| !s.is_nan());
        let (sum, count) = squares.fold((0.0, 0.0), |(sum, count), s| (sum + s, count + 1.0));
        sum / f32::max(count, 1.0)
    }

    fn signs(&self) -> Vec<f32> {
        let sign = |(h, n): (&f32, &f32)| {
            let sign = h / (h.abs() + VISIBLE + 2.0 * n);
            if sign.is_nan() { 0.0 } else { sign }
        };
        self.heights.iter().zip(&self.noise).map(sign).collect()
    }
}

impl Sums {
    fn add(&mut self, samples: &[[u8; 3]; 4], luma: u32, diagonal: u32) {
        self.pixels += 1;
        self.luma += luma;
        self.diagonal += diagonal;
        for sample in samples {
            for (sum, &level) in self.channels.iter_mut().zip(sample) {
                *sum += u32::from(level);
            }
            self.clipped += u32::from(sample.iter().any(|&l| l >= CLIPPED));
            self.white += u32::from(sample.iter().all(|&l| l >= WHITE));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.pixels += other.pixels;
        self.luma += other.luma;
        self.diagonal += other.diagonal;
        self.clipped += other.clipped;
        self.white += other.white;
    }
}

/// The two neighbouring samples, of `of`, that stand for the pixel `at` of `pixels`.
fn samples(at: usize, pixels: usize, of: usize) -> (usize, usize) {
    let (first, end) = (at * of / pixels, (at + 1) * of / pixels);
    let middle = (first + end.max(first + 1) - 1) / 2;
    (middle, (middle + 1).min(of - 1))
}

/// Luma in quarters of a level (ITU-R BT.601).
fn luma(rgb: [u8; 3]) -> u32 {
    (77 * u32::from(rgb[0]) + 150 * u32::from(rgb[1]) + 29 * u32::from(rgb[2])) >> 6
}
