//! `[classes]`: the classes to choose from, and when an answer counts.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[classes]`: the classes to choose from. Either `bank` or `labels`, never both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSettings {
    /// A class bank file, made by `constancy classes`.
    pub bank: Option<PathBuf>,
    /// Class names, embedded by the model's text tower when the daemon starts.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Prompt templates for `labels`. With several, their embeddings are averaged.
    #[serde(default = "default_prompts")]
    pub prompts: Vec<String>,
    /// How many classes an event lists, 1 to 100.
    #[serde(default = "default_top_k")]
    pub top_k: usize,
    /// Least confidence for an answer to be `known`, 0 to 1; the least score if the bank is not calibrated.
    pub threshold: Option<f32>,
    /// The same for answers that name one class.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f32>,
    /// The share of known answers that must be right, in place of `threshold`.
    pub target_precision: Option<f64>,
    /// The share of images of classes that the bank does not have that may be known, in place of `threshold`.
    pub max_false_accept: Option<f64>,
    /// What wrong and refused answers cost, by class, in place of `threshold`.
    #[serde(default)]
    pub cost: BTreeMap<String, ClassCost>,
}

/// `[classes.cost.NAME]`: what answers that name this class cost, in any unit.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCost {
    /// A known answer that is wrong.
    pub wrong: f64,
    /// An answer that is not known.
    pub refused: f64,
}

/// What is asked of known answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted<'a> {
    Precision(f64),
    FalseAccept(f64),
    Costs(&'a BTreeMap<String, ClassCost>),
}

impl Wanted<'_> {
    /// The configuration's key.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Precision(_) => "classes.target_precision",
            Self::FalseAccept(_) => "classes.max_false_accept",
            Self::Costs(_) => "classes.cost",
        }
    }
}

impl ClassSettings {
    /// What is asked of known answers, if it is not a threshold.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let costs = (!self.cost.is_empty()).then_some(Wanted::Costs(&self.cost));
        self.target_precision
            .map(Wanted::Precision)
            .or(self.max_false_accept.map(Wanted::FalseAccept))
            .or(costs)
    }

    /// The keys that are set of those that exclude each other.
    pub(super) fn limits_given(&self) -> Vec<&'static str> {
        [
            (self.threshold.is_some(), "threshold"),
            (self.target_precision.is_some(), "target_precision"),
            (self.max_false_accept.is_some(), "max_false_accept"),
            (!self.cost.is_empty(), "cost"),
        ]
        .into_iter()
        .filter_map(|(given, key)| given.then_some(key))
        .collect()
    }
}

fn default_prompts() -> Vec<String> {
    vec![constancy_core::classify::DEFAULT_PROMPT.into()]
}

fn default_top_k() -> usize {
    constancy_core::classify::DEFAULT_TOP_K
}
