//! Random choices among images.

use crate::icm::folders::Item;
use crate::numeric::Rng;

/// At most `most` images of each class in each environment, drawn by `seed`, in their order. Images
/// of one class and environment must be adjacent, as [`Domains`](crate::icm::Domains) lists them.
#[must_use]
pub fn sample(items: &[Item], most: usize, seed: u64) -> Vec<&Item> {
    let mut rng = Rng::new(seed);
    let mut kept = Vec::new();
    for group in items.chunk_by(|a, b| (a.environment, a.class) == (b.environment, b.class)) {
        let (mut drawn, _) = draw(group.len(), most, &mut rng);
        drawn.sort_unstable();
        kept.extend(drawn.into_iter().map(|i| &group[i]));
    }
    kept
}

/// At most `most` of the indices below `count`, each selection as likely as the others; and the
/// remaining indices.
pub(super) fn draw(count: usize, most: usize, rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let mut order = rng.permutation(count);
    let rest = order.split_off(most.min(count));
    (order, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_no_more_of_each_class_and_environment_and_keeps_the_order() {
        let item = |environment, class, i: usize| Item {
            path: format!("{environment}/{class}/{i}").into(),
            environment,
            class,
        };
        let items: Vec<Item> = (0..4)
            .flat_map(|group| (0..5 - group).map(move |i| item(group / 2, group % 2, i)))
            .collect();
        let kept = sample(&items, 3, 7);
        let counts: Vec<usize> = kept
            .chunk_by(|a, b| a.path.parent() == b.path.parent())
            .map(<[_]>::len)
            .collect();
        assert_eq!(counts, [3, 3, 3, 2]);
        assert!(kept.is_sorted_by_key(|item| &item.path));
        assert_eq!(
            sample(&items, 3, 7),
            kept,
            "the same seed gives the same images"
        );
        assert!((8..40).any(|seed| sample(&items, 3, seed) != kept));
        assert_eq!(sample(&items, 9, 7).len(), items.len());
    }
}
