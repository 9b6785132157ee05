//! Which map is to be fitted, in numbers and in words.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How much more the variance that interventions cause weighs than the variance of images: λ = λ'·tr C / tr Δ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// λ', above 0.
    Times(f64),
    /// The limit λ' → ∞: Δ alone decides which directions go.
    Infinite,
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}"),
            Self::Infinite => f.write_str("inf"),
        }
    }
}

/// What a map does to the directions of an embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MapKind {
    /// Leaves everything as it is.
    Identity,
    /// Removes the `removed` most variant directions and keeps the others: the eigenvectors of the D − `removed`
    /// largest eigenvalues of C − λΔ.
    Hard { lambda: Lambda, removed: usize },
    /// Shrinks every direction the more, the more variant it is: (I + `strength`·Δ̃)^(−1/2), with Δ̃ = D·Δ / tr Δ,
    /// whose eigenvalues have mean 1.
    Soft { strength: f64 },
}

/// A map to be fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapSpec {
    pub kind: MapKind,
    /// Whether the images' mean is taken off before.
    pub centred: bool,
}

impl MapSpec {
    /// The map that changes nothing.
    pub const IDENTITY: Self = Self {
        kind: MapKind::Identity,
        centred: false,
    };

    /// Removal of the `removed` most variant directions, not centred.
    #[must_use]
    pub fn without(removed: usize) -> Self {
        Self {
            kind: MapKind::Hard {
                lambda: Lambda::Infinite,
                removed,
            },
            centred: false,
        }
    }

    /// The soft map, not centred.
    #[must_use]
    pub fn soft(strength: f64) -> Self {
        Self {
            kind: MapKind::Soft { strength },
            centred: false,
        }
    }

    /// With the images' mean taken off, or not.
    #[must_use]
    pub fn centred(self, centred: bool) -> Self {
        Self { centred, ..self }
    }
}

impl fmt::Display for MapSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            MapKind::Identity => f.write_str("identity")?,
            MapKind::Hard {
                lambda: Lambda::Infinite,
                removed,
            } => {
                write!(f, "without the {removed} most variant directions")?;
            }
            MapKind::Hard { lambda, removed } => {
                write!(
                    f,
                    "λ' = {lambda}, without the {removed} most variant directions"
                )?;
            }
            MapKind::Soft { strength } => write!(f, "soft, strength {strength}")?,
        }
        if self.centred {
            f.write_str(", centred")
        } else {
            Ok(())
        }
    }
}

/// What is wrong with a map that was asked for by words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no map `{text}`; write identity, remove:20, lambda:10,remove:50 or soft:1, with numbers above 0"
)]
pub struct UnknownMap {
    pub text: String,
}

impl FromStr for MapSpec {
    type Err = UnknownMap;

    /// `identity`, `remove:DIRECTIONS`, `lambda:TIMES,remove:DIRECTIONS` or `soft:STRENGTH`; not centred.
    fn from_str(text: &str) -> Result<Self, UnknownMap> {
        fn part(part: &str) -> (&str, &str) {
            part.split_once(':')
                .map_or((part, ""), |(key, value)| (key.trim(), value.trim()))
        }
        let above_zero = |value: &str| {
            value
                .parse()
                .ok()
                .filter(|v: &f64| v.is_finite() && *v > 0.0)
        };
        let directions = |value: &str| value.parse().ok().filter(|&count: &usize| count > 0);
        let parts: Vec<(&str, &str)> = text.split(',').map(str::trim).map(part).collect();
        let spec =
            match parts[..] {
                [("identity", "")] => Some(Self::IDENTITY),
                [("remove", count)] => directions(count).map(Self::without),
                [("soft", strength)] => above_zero(strength).map(Self::soft),
                [("lambda", times), ("remove", count)] => above_zero(times)
                    .zip(directions(count))
                    .map(|(times, removed)| {
                        let lambda = Lambda::Times(times);
                        Self {
                            kind: MapKind::Hard { lambda, removed },
                            centred: false,
                        }
                    }),
                _ => None,
            };
        spec.ok_or_else(|| UnknownMap { text: text.into() })
    }
}

impl Serialize for MapSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_asked_for_by_words() {
        let penalised = MapSpec {
            kind: MapKind::Hard {
                lambda: Lambda::Times(10.0),
                removed: 50,
            },
            centred: false,
        };
        for (text, spec) in [
            ("identity", MapSpec::IDENTITY),
            ("remove:20", MapSpec::without(20)),
            ("soft: 0.3", MapSpec::soft(0.3)),
            ("lambda:10, remove:50", penalised),
        ] {
            assert_eq!(text.parse(), Ok(spec));
        }
        for text in [
            "",
            "soft",
            "soft:",
            "soft:0",
            "soft:nan",
            "remove:0",
            "remove:-1",
            "remove:20,lambda:10",
            "lambda:10",
        ] {
            let error = MapSpec::from_str(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("remove:20"),
                "{error}"
            );
        }
    }
}
