//! Copies of one image among others: they are one observation, however often they are counted.

use crate::numeric::unit;
use std::collections::{BTreeMap, HashMap};

/// Unit embeddings nearer than this share of the usual squared distance within their class are of one image: the same file
/// under other names, or stored again with little loss. The nearest of different pictures of one product were 100 times as
/// far; a JPEG of quality 95 is two to four times as far, and counts as another picture.
const NEAR: f32 = 5e-4;
/// The squared distance up to which embeddings differ by rounding alone.
const SAME: f32 = 1e-12;
/// Distances to so many images are compared before embeddings are.
const PIVOTS: usize = 4;

/// An image that shows what another one does. Both are indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOf {
    pub image: usize,
    /// The first such image. It is no copy itself.
    pub of: usize,
}

/// The copies among `embeddings` `[D]` of images of these `classes`, in order: each of an image of its own class.
///
/// ```
/// use constancy_core::classify::{CopyOf, copies};
///
/// let embeddings = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]].map(Vec::from);
/// assert_eq!(copies(&embeddings, &[0; 5]), [CopyOf { image: 3, of: 1 }]);
/// ```
#[must_use]
pub fn copies(embeddings: &[Vec<f32>], classes: &[usize]) -> Vec<CopyOf> {
    let units: Vec<Vec<f32>> = embeddings.iter().map(|e| unit(e)).collect();
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, class) in classes.iter().enumerate() {
        members.entry(*class).or_default().push(i);
    }
    let mut all: Vec<CopyOf> = members
        .into_values()
        .flat_map(|class| near(&units, &class))
        .collect();
    all.sort_by_key(|copy| copy.image);
    all
}

/// The first two images of different classes whose embeddings are the same.
#[must_use]
pub fn contradiction(embeddings: &[Vec<f32>], classes: &[usize]) -> Option<(usize, usize)> {
    let mut first: HashMap<Vec<u32>, usize> = HashMap::new();
    (0..embeddings.len()).find_map(|i| {
        let bits = embeddings[i].iter().map(|v| v.to_bits()).collect();
        let other = *first.entry(bits).or_insert(i);
        (classes[other] != classes[i]).then_some((other, i))
    })
}

/// The images of a class that are near to an earlier one.
fn near(units: &[Vec<f32>], class: &[usize]) -> Vec<CopyOf> {
    let limit = (NEAR * usual(units, class)).max(SAME);
    let reach = limit.sqrt();
    let pivots: Vec<&Vec<f32>> = class.iter().take(PIVOTS).map(|&i| &units[i]).collect();
    let places: Vec<Vec<f32>> = class
        .iter()
        .map(|&i| {
            pivots
                .iter()
                .map(|p| squared(&units[i], p).sqrt())
                .collect()
        })
        .collect();
    // By the triangle inequality, images near to each other are as far from a pivot.
    let possible = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| (x - y).abs() <= reach);
    let mut found = Vec::new();
    let mut originals: Vec<usize> = Vec::new();
    for at in 0..class.len() {
        let original = originals.iter().find(|&&other| {
            possible(&places[at], &places[other])
                && squared(&units[class[at]], &units[class[other]]) <= limit
        });
        match original {
            Some(&other) => found.push(CopyOf {
                image: class[at],
                of: class[other],
            }),
            None => originals.push(at),
        }
    }
    found
}

/// A squared distance between different images of a class: the lower quartile, of four pairs for each image. Two are of
/// neighbours in the list, which are of one class even where nobody said so.
fn usual(units: &[Vec<f32>], class: &[usize]) -> f32 {
    let n = class.len();
    let away = [1, 2, n.div_ceil(3), n.div_ceil(2)];
    let pairs = away.into_iter().flat_map(|away| {
        let other = move |i: usize| (i, (i + away) % n);
        (0..n).map(other).filter(|(i, j)| i != j)
    });
    let mut distances: Vec<f32> = pairs
        .map(|(i, j)| squared(&units[class[i]], &units[class[j]]))
        .collect();
    distances.sort_by(f32::total_cmp);
    distances.get(distances.len() / 4).copied().unwrap_or(0.0)
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Rng;

    fn images(n: usize, rng: &mut Rng) -> Vec<Vec<f32>> {
        let value = |rng: &mut Rng| rng.between(-1.0, 1.0);
        (0..n)
            .map(|_| (0..32).map(|_| 3.0 + value(rng)).collect())
            .collect()
    }

    #[test]
    fn stored_again_is_a_copy_and_alike_is_not() {
        let mut rng = Rng::new(4);
        let mut all = images(300, &mut rng);
        let again: Vec<f32> = all[7].iter().map(|v| 2.0 * v + 1e-3).collect();
        let alike: Vec<f32> = all[8].iter().map(|v| v + rng.between(-0.2, 0.2)).collect();
        all.extend([again, alike, all[7].clone(), all[9].clone()]);
        let mut classes = vec![0; 303];
        classes.push(1);
        assert_eq!(
            copies(&all, &classes),
            [CopyOf { image: 300, of: 7 }, CopyOf { image: 302, of: 7 },]
        );
        assert_eq!(contradiction(&all, &classes), Some((9, 303)));
        assert_eq!(contradiction(&all, &[0; 304]), None);
        // Two kinds that nobody told apart are no copies.
        let mut far = images(20, &mut rng);
        for (i, image) in far.iter_mut().enumerate() {
            let kind = if i < 10 { [300.0, 0.0] } else { [0.0, 300.0] };
            image[..2].copy_from_slice(&kind);
        }
        assert_eq!(copies(&far, &[0; 20]), []);
        // Whatever their distances are.
        let same = vec![all[0].clone(); 5];
        assert_eq!(copies(&same, &[0; 5]).len(), 4);
        assert_eq!(copies(&all[..2], &[0, 0]), []);
        assert_eq!(copies(&[], &[]), []);
    }
}
