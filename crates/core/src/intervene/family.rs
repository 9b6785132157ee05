//! The families of interventions, their names, and what their strengths mean.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use thiserror::Error;

/// A kind of intervention.
///
/// In every family, strength 0 leaves the image unchanged, and 1 is the harshest. Each family says
/// what lies between. The seed decides every "either … or". Lengths are shares of the image's
/// shorter side, so that small and large images change equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Brightness, contrast and saturation by factors within 1 ± 0.8 · strength, hue within ± 0.2 ·
    /// strength turns, in an order that the seed chooses (torchvision's `ColorJitter`; strength 1
    /// is that of Chen et al., *A simple framework for contrastive learning of visual
    /// representations*, ICML 2020).
    ColourJitter,
    /// Keeps the luma only; the same at any strength above 0.
    GreyScale,
    /// Standard deviation 2.2 % · strength: 5 pixels of 224 at strength 1.
    GaussianBlur,
    /// The negative; the same at any strength above 0.
    Inversion,
    /// Keeps 8 − 6 · strength bits, rounded.
    Posterise,
    /// Inverts values of 256 − 192 · strength and above.
    Solarise,
    /// Equalises the histograms; the same at any strength above 0.
    Equalise,
    /// Either 4 · strength stops less light, or 2 · strength stops more, with clipped highlights.
    Exposure,
    /// Exponent either 2^(1.2 · strength) or its inverse.
    Gamma,
    /// Either towards 2500 K or towards 15,000 K, in even steps of reciprocal temperature; green
    /// within ± 15 % · strength.
    WhiteBalance,
    /// 6 · strength stops of gain (36 dB at 1), which shows the noise of few photons.
    GainNoise,
    /// A path of 10 % · strength, in a direction that the seed chooses.
    MotionBlur,
    /// A disc of radius 3 % · strength.
    Defocus,
    /// Quality 75 − 70 · strength, rounded.
    Jpeg,
    /// The corners lose 90 % · strength of their light; the axis is off centre by up to a tenth.
    Vignetting,
    /// 1 to 12 bands of depth 0.9 · strength.
    Banding,
    /// The farthest part of the scene transmits 1 − 0.8 · strength of its light; the air is grey,
    /// bluish or brownish.
    Haze,
    /// 30 · strength drops on the lens, rounded up.
    WaterDrops,
    /// One channel at any strength above 0; the lamp's falloff is 2.5 · strength, its centre off
    /// the image's by up to a tenth.
    Infrared,
    /// 7 · strength stops less light, half of them compensated by gain: dark and noisy.
    LowLight,
}

/// A name that is no family's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no intervention `{name}`; there are {}, and the sets paper, camera and all", listed(&Family::ALL))]
pub struct UnknownFamily {
    pub name: String,
}

fn listed(families: &[Family]) -> String {
    families
        .iter()
        .map(|f| f.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl Family {
    /// Every family: the paper's, then those of cameras.
    pub const ALL: [Self; 20] = [
        Self::ColourJitter,
        Self::GreyScale,
        Self::GaussianBlur,
        Self::Inversion,
        Self::Posterise,
        Self::Solarise,
        Self::Equalise,
        Self::Exposure,
        Self::Gamma,
        Self::WhiteBalance,
        Self::GainNoise,
        Self::MotionBlur,
        Self::Defocus,
        Self::Jpeg,
        Self::Vignetting,
        Self::Banding,
        Self::Haze,
        Self::WaterDrops,
        Self::Infrared,
        Self::LowLight,
    ];

    /// The paper's seven, as torchvision defines them.
    pub const PAPER: &'static [Self] = Self::ALL.split_at(7).0;

    /// The changes that light, weather, lens, sensor and electronics cause in cameras.
    pub const CAMERA: &'static [Self] = Self::ALL.split_at(7).1;

    /// The name in configurations, reports and projection files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ColourJitter => "colour-jitter",
            Self::GreyScale => "grey-scale",
            Self::GaussianBlur => "gaussian-blur",
            Self::Inversion => "inversion",
            Self::Posterise => "posterise",
            Self::Solarise => "solarise",
            Self::Equalise => "equalise",
            Self::Exposure => "exposure",
            Self::Gamma => "gamma",
            Self::WhiteBalance => "white-balance",
            Self::GainNoise => "gain-noise",
            Self::MotionBlur => "motion-blur",
            Self::Defocus => "defocus",
            Self::Jpeg => "jpeg",
            Self::Vignetting => "vignetting",
            Self::Banding => "banding",
            Self::Haze => "haze",
            Self::WaterDrops => "water-drops",
            Self::Infrared => "infrared",
            Self::LowLight => "low-light",
        }
    }

    /// Whether the family has the same effect at any strength above 0.
    #[must_use]
    pub fn is_switch(self) -> bool {
        matches!(self, Self::GreyScale | Self::Inversion | Self::Equalise)
    }

    /// The range that [`Draw`](super::Draw) draws strengths from, uniformly: from strong enough to
    /// move an embedding to the harshest.
    #[must_use]
    pub fn strengths(self) -> RangeInclusive<f32> {
        match self {
            _ if self.is_switch() => 1.0..=1.0,
            // Banding shows from four bits down, JPEG blocks from quality 40 down.
            Self::Posterise => 0.6..=1.0,
            Self::ColourJitter | Self::Jpeg => 0.5..=1.0,
            _ => 0.3..=1.0,
        }
    }

    /// Parses a list such as `paper, jpeg, low-light`: names of families and of the sets `paper`,
    /// `camera` and `all`. Each family occurs once, in the order of first mention.
    ///
    /// ```
    /// use constancy_core::intervene::Family;
    ///
    /// let families = Family::parse_list("jpeg, haze, jpeg")?;
    /// assert_eq!(families, [Family::Jpeg, Family::Haze]);
    /// assert_eq!(Family::parse_list("paper")?, Family::PAPER);
    /// assert!(Family::parse_list("fog").is_err());
    /// # Ok::<(), constancy_core::intervene::UnknownFamily>(())
    /// ```
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UnknownFamily> {
        let mut families = Vec::new();
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let named = match name {
                "paper" => Self::PAPER,
                "camera" => Self::CAMERA,
                "all" => &Self::ALL,
                _ => &[name.parse()?],
            };
            for &family in named {
                if !families.contains(&family) {
                    families.push(family);
                }
            }
        }
        Ok(families)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(name: &str) -> Result<Self, UnknownFamily> {
        Self::ALL
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| UnknownFamily { name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_parsing_and_serde() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
            let json = serde_json::to_string(&family).expect("a name");
            assert_eq!(json, format!("\"{family}\""));
            assert_eq!(
                serde_json::from_str::<Family>(&json).expect("a name"),
                family
            );
        }
    }

    #[test]
    fn sets_are_disjoint_and_complete() {
        assert_eq!((Family::PAPER.len(), Family::CAMERA.len()), (7, 13));
        assert_eq!([Family::PAPER, Family::CAMERA].concat(), Family::ALL);
        let unique: std::collections::BTreeSet<Family> = Family::ALL.into();
        assert_eq!(unique.len(), Family::ALL.len());
    }

    #[test]
    fn lists_name_families_and_sets() {
        assert_eq!(
            Family::parse_list("jpeg, grey-scale,jpeg"),
            Ok(vec![Family::Jpeg, Family::GreyScale])
        );
        assert_eq!(
            Family::parse_list("paper,camera"),
            Family::parse_list("all")
        );
        assert_eq!(Family::parse_list(""), Ok(vec![]));
        let message = Family::parse_list("paper, fog")
            .expect_err("no such family")
            .to_string();
        assert!(
            message.contains("`fog`") && message.contains("haze") && message.contains("camera"),
            "{message}"
        );
    }

    #[test]
    fn strengths_are_within_bounds() {
        for family in Family::ALL {
            let range = family.strengths();
            assert!(
                *range.start() > 0.0 && range.start() <= range.end() && *range.end() <= 1.0,
                "{family}"
            );
        }
    }
}
