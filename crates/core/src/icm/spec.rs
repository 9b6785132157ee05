//! Which map to fit: its parameters, and the text form that configurations and command lines use.

use super::whitening::Strengths;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The weight of the variance that interventions cause against that of images: λ = λ'·tr C / tr Δ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// λ', above 0.
    Times(f64),
    /// The limit λ' → ∞: Δ alone decides which directions are removed.
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
    /// Changes nothing.
    Identity,
    /// Removes the `removed` most variant directions. It keeps the eigenvectors of C − λΔ with the
    /// D − `removed` largest eigenvalues.
    Hard { lambda: Lambda, removed: usize },
    /// Shrinks each direction according to how variant it is: (I + `strength`·Δ̃)^(−1/2), where
    /// Δ̃ = D·Δ / tr Δ has eigenvalues with mean 1.
    Soft { strength: f64 },
    /// Shrinks the directions that interventions move, and those in which images of one class
    /// differ: (I + a·Δ̃ + b·S̃)^(−1/2), see [`Whitening`](super::Whitening). Needs classes.
    Whitened(Strengths),
}

/// A map to fit.
///
/// ```
/// use constancy_core::icm::{Lambda, MapKind, MapSpec};
///
/// assert_eq!("remove:20".parse(), Ok(MapSpec::without(20)));
/// assert_eq!("soft:1".parse(), Ok(MapSpec::soft(1.0)));
/// assert_eq!("soft:1,within:3".parse(), Ok(MapSpec::whitened(1.0, 3.0)));
/// let penalised: MapSpec = "lambda:10,remove:50".parse()?;
/// let (lambda, removed) = (Lambda::Times(10.0), 50);
/// assert_eq!(penalised.kind, MapKind::Hard { lambda, removed });
///
/// let error = "remove:0".parse::<MapSpec>().unwrap_err();
/// assert!(error.to_string().contains("`remove:0`"));
/// # Ok::<(), constancy_core::icm::UnknownMap>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapSpec {
    pub kind: MapKind,
    /// Whether the mean of the images is subtracted first.
    pub centred: bool,
}

impl MapSpec {
    /// The map that changes nothing.
    pub const IDENTITY: Self = Self {
        kind: MapKind::Identity,
        centred: false,
    };

    /// Removal of the `removed` most variant directions in the limit λ' → ∞, not centred.
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

    /// The soft map of this strength, not centred.
    #[must_use]
    pub fn soft(strength: f64) -> Self {
        Self {
            kind: MapKind::Soft { strength },
            centred: false,
        }
    }

    /// The whitening of these strengths: `interventions` of what these move, and `within_class` of
    /// what differs within classes. Not centred.
    #[must_use]
    pub fn whitened(interventions: f64, within_class: f64) -> Self {
        Self {
            kind: MapKind::Whitened(Strengths {
                interventions,
                within_class,
            }),
            centred: false,
        }
    }

    /// The same map with `centred` set.
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
            MapKind::Whitened(Strengths {
                interventions,
                within_class,
            }) => write!(
                f,
                "whitened, interventions {interventions}, within classes {within_class}"
            )?,
        }
        if self.centred {
            f.write_str(", centred")
        } else {
            Ok(())
        }
    }
}

/// A text that names no map.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no map `{text}`; write identity, remove:20, lambda:10,remove:50, soft:1, within:3 or soft:1,within:3, with numbers above 0"
)]
pub struct UnknownMap {
    pub text: String,
}

impl FromStr for MapSpec {
    type Err = UnknownMap;

    /// Parses `identity`, `remove:DIRECTIONS`, `lambda:TIMES,remove:DIRECTIONS`, `soft:STRENGTH` or
    /// `[soft:STRENGTH,]within:STRENGTH`. The result is not centred.
    fn from_str(text: &str) -> Result<Self, UnknownMap> {
        fn key_value(part: &str) -> (&str, &str) {
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
        let parts: Vec<(&str, &str)> = text.split(',').map(str::trim).map(key_value).collect();
        let spec =
            match parts[..] {
                [("identity", "")] => Some(Self::IDENTITY),
                [("remove", count)] => directions(count).map(Self::without),
                [("soft", strength)] => above_zero(strength).map(Self::soft),
                [("within", strength)] => above_zero(strength).map(|b| Self::whitened(0.0, b)),
                [("soft", a), ("within", b)] => above_zero(a)
                    .zip(above_zero(b))
                    .map(|(a, b)| Self::whitened(a, b)),
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
    fn map_specs_are_parsed_from_text() {
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
            ("within: 0.3", MapSpec::whitened(0.0, 0.3)),
            ("soft:1, within:10", MapSpec::whitened(1.0, 10.0)),
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
            "within",
            "soft:0,within:3",
            "within:3,soft:1",
        ] {
            let error = MapSpec::from_str(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("remove:20"),
                "{error}"
            );
        }
    }
}
