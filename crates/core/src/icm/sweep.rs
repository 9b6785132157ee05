//! Many maps in few words, to see how accuracy depends on λ', on the rank or on the strength.

use super::spec::{Lambda, MapKind, MapSpec};
use std::str::FromStr;
use thiserror::Error;

/// What `lambda`, `remove` and `soft` stand for without values.
const LAMBDAS: [f64; 4] = [0.1, 1.0, 10.0, 100.0];
const REMOVED: [usize; 6] = [5, 10, 20, 50, 100, 200];
const STRENGTHS: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
/// What `rank` stands for without values, in shares of the width.
const RANKS: [(usize, usize); 6] = [(1, 8), (1, 4), (1, 2), (3, 4), (9, 10), (24, 25)];

/// The maps of every combination of values.
///
/// ```
/// use constancy_core::icm::{MapSpec, Sweep};
///
/// let soft: Sweep = "soft:1/10".parse()?;
/// assert_eq!(soft.maps(512)?, [MapSpec::soft(1.0), MapSpec::soft(10.0)]);
/// // The paper's λ and rank: the rank is what is left of the width.
/// let paper: Sweep = "icm:lambda:1/10,rank:256/448".parse()?;
/// let names: Vec<String> = paper.maps(512)?.iter().map(ToString::to_string).collect();
/// assert_eq!(names[1], "λ' = 1, without the 64 most variant directions");
/// assert_eq!(names.len(), 4);
/// // Without values, each stands for some usual ones.
/// assert_eq!("icm:lambda,rank".parse::<Sweep>()?.maps(512)?.len(), 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    text: String,
    maps: Maps,
}

#[derive(Debug, Clone, PartialEq)]
enum Maps {
    Identity,
    Soft(Vec<f64>),
    /// Strengths of interventions, and within classes.
    Whitened(Vec<f64>, Vec<f64>),
    Hard(Vec<Lambda>, Directions),
}

/// How many directions are removed.
#[derive(Debug, Clone, PartialEq)]
enum Directions {
    /// `None` for [`REMOVED`].
    Removed(Option<Vec<usize>>),
    /// The width less as many; `None` for [`RANKS`].
    Left(Option<Vec<usize>>),
}

/// Why a text names no maps.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SweepError {
    #[error(
        "there are no maps `{text}`; write soft:0.1/1/10, soft:1/3,within:1/10, remove:10/50, icm:lambda:1/10,rank:256/448 or icm:lambda,rank, with numbers above 0"
    )]
    Unknown { text: String },
    #[error(
        "`{text}`: of {width} directions, {directions} cannot be {what}; choose from 1 to {most}",
        most = width.saturating_sub(1)
    )]
    Directions {
        text: String,
        directions: usize,
        what: &'static str,
        width: usize,
    },
}

impl FromStr for Sweep {
    type Err = SweepError;

    /// Parses `identity`, `soft[:STRENGTHS]`, `[soft[:STRENGTHS],]within[:STRENGTHS]`, and `[icm:][lambda[:TIMES],]remove[:DIRECTIONS]` or the same with `rank`
    /// instead of `remove`. Values are separated by `/`; λ' may be `inf`.
    fn from_str(text: &str) -> Result<Self, SweepError> {
        let hard = text.trim().strip_prefix("icm:");
        let parts: Vec<(&str, Option<&str>)> = hard
            .unwrap_or(text)
            .split(',')
            .map(|part| match part.split_once(':') {
                Some((key, values)) => (key.trim(), Some(values)),
                None => (part.trim(), None),
            })
            .collect();
        let hard_maps = |(lambdas, directions)| Maps::Hard(lambdas, directions);
        let maps = match parts[..] {
            [("identity", None)] if hard.is_none() => Some(Maps::Identity),
            [("soft", values)] if hard.is_none() => {
                numbers(values, &STRENGTHS, above_zero).map(Maps::Soft)
            }
            [("within", values)] if hard.is_none() => numbers(values, &STRENGTHS, above_zero)
                .map(|within| Maps::Whitened(vec![0.0], within)),
            [("soft", soft), ("within", within)] if hard.is_none() => {
                numbers(soft, &STRENGTHS, above_zero)
                    .zip(numbers(within, &STRENGTHS, above_zero))
                    .map(|(soft, within)| Maps::Whitened(soft, within))
            }
            [number] => {
                directions(number).map(|directions| hard_maps((vec![Lambda::Infinite], directions)))
            }
            [("lambda", values), number] => numbers(values, &LAMBDAS.map(Lambda::Times), lambda)
                .zip(directions(number))
                .map(hard_maps),
            _ => None,
        };
        let text = text.to_owned();
        match maps {
            Some(maps) => Ok(Self { text, maps }),
            None => Err(SweepError::Unknown { text }),
        }
    }
}

impl Sweep {
    /// The maps for embeddings of `width` values. Numbers of directions that were named must be below it; those that a
    /// key stands for are left out if they are not.
    pub fn maps(&self, width: usize) -> Result<Vec<MapSpec>, SweepError> {
        Ok(match &self.maps {
            Maps::Identity => vec![MapSpec::IDENTITY],
            Maps::Soft(strengths) => strengths.iter().map(|&s| MapSpec::soft(s)).collect(),
            Maps::Whitened(soft, within) => {
                let pairs = soft
                    .iter()
                    .flat_map(|&a| within.iter().map(move |&b| (a, b)));
                pairs.map(|(a, b)| MapSpec::whitened(a, b)).collect()
            }
            Maps::Hard(lambdas, directions) => {
                let removed = self.removed(directions, width)?;
                let pairs = lambdas
                    .iter()
                    .flat_map(|&lambda| removed.iter().map(move |&removed| (lambda, removed)));
                pairs
                    .map(|(lambda, removed)| MapSpec {
                        kind: MapKind::Hard { lambda, removed },
                        centred: false,
                    })
                    .collect()
            }
        })
    }

    fn removed(&self, directions: &Directions, width: usize) -> Result<Vec<usize>, SweepError> {
        let check = |&directions: &usize, what| {
            if (1..width).contains(&directions) {
                return Ok(directions);
            }
            Err(SweepError::Directions {
                text: self.text.clone(),
                directions,
                what,
                width,
            })
        };
        match directions {
            Directions::Removed(Some(counts)) => {
                counts.iter().map(|n| check(n, "removed")).collect()
            }
            Directions::Removed(None) => Ok(REMOVED.into_iter().filter(|&n| n < width).collect()),
            Directions::Left(Some(ranks)) => ranks
                .iter()
                .map(|rank| check(rank, "left").map(|rank| width - rank))
                .collect(),
            Directions::Left(None) => {
                let left = RANKS.map(|(numerator, of)| width * numerator / of);
                Ok(left
                    .into_iter()
                    .filter(|&n| n > 0)
                    .map(|n| width - n)
                    .collect())
            }
        }
    }
}

/// The values of a list, or `usual` without a list; `None` if one cannot be read.
fn numbers<T: Copy>(
    values: Option<&str>,
    usual: &[T],
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    match values {
        None => Some(usual.to_vec()),
        Some(values) => values.split('/').map(|value| parse(value.trim())).collect(),
    }
}

fn directions((key, values): (&str, Option<&str>)) -> Option<Directions> {
    let above_zero = |value: &str| value.parse().ok().filter(|&count: &usize| count > 0);
    let counts = match values {
        Some(values) => Some(numbers(Some(values), &[], above_zero)?),
        None => None,
    };
    match key {
        "remove" => Some(Directions::Removed(counts)),
        "rank" => Some(Directions::Left(counts)),
        _ => None,
    }
}

fn above_zero(value: &str) -> Option<f64> {
    let number: f64 = value.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

fn lambda(value: &str) -> Option<Lambda> {
    match value {
        "inf" => Some(Lambda::Infinite),
        number => above_zero(number).map(Lambda::Times),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, width: usize) -> Vec<String> {
        let maps = text.parse::<Sweep>().unwrap().maps(width).unwrap();
        maps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_map_that_a_fit_takes_is_a_sweep_of_one() {
        for text in [
            "identity",
            "remove:20",
            "soft: 0.3",
            "lambda:10, remove:50",
            "within:3",
            "soft:1, within:3",
        ] {
            let spec: MapSpec = text.parse().unwrap();
            assert_eq!(text.parse::<Sweep>().unwrap().maps(128), Ok(vec![spec]));
        }
    }

    #[test]
    fn lists_are_combined_and_ranks_count_what_is_left() {
        assert_eq!(
            names("lambda:1/inf,rank:6/7", 8),
            [
                "λ' = 1, without the 2 most variant directions",
                "λ' = 1, without the 1 most variant directions",
                "without the 2 most variant directions",
                "without the 1 most variant directions",
            ]
        );
        assert_eq!(names("icm:remove", 48).len(), 3, "5, 10 and 20 of 48");
        assert_eq!(names("soft", 48).len(), STRENGTHS.len());
        assert_eq!(
            names("soft:1/3,within:10", 48),
            [
                "whitened, interventions 1, within classes 10",
                "whitened, interventions 3, within classes 10",
            ]
        );
        assert_eq!(
            names("icm:rank", 512)[5],
            "without the 21 most variant directions"
        );
    }

    #[test]
    fn what_is_no_map_is_refused_with_examples() {
        for text in [
            "",
            "icm:",
            "icm:soft:1",
            "icm:within:1",
            "within:0",
            "icm:lambda",
            "soft:",
            "remove:0",
            "remove:1/x",
            "remove:5,lambda:1",
            "identity:1",
        ] {
            let error = text.parse::<Sweep>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("icm:lambda,rank"),
                "{error}"
            );
        }
        for (text, words) in [
            ("remove:48", "48 cannot be removed"),
            ("rank:99", "99 cannot be left"),
        ] {
            let error = text
                .parse::<Sweep>()
                .unwrap()
                .maps(48)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(words) && error.contains("1 to 47"),
                "{error}"
            );
        }
    }
}
