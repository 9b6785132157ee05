//! The bank's answers to held-out images, as they are and under interventions.

use crate::cli::CliError;
use crate::cli::bank_images::{Source, made_from};
use crate::cli::class_folders::truths;
use crate::files::{Layout, labelled_images};
use constancy_core::classify::calibrate::Truth;
use constancy_core::classify::{ClassBank, Classifier, Outcome, Reason};
use constancy_core::icm::Domains;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// What [`Target`](constancy_core::classify::Target) takes: its confidence is 0 if the image is unfamiliar.
    pub outcome: Outcome,
    /// The confidence that an event would state, or the score if the bank has none.
    pub stated: f32,
    /// Index of the intervention's family; `None` for the image as it is.
    pub family: Option<usize>,
    pub environment: usize,
}

impl Answer {
    pub(super) fn right(&self) -> bool {
        self.outcome.right()
    }

    /// Whether the image shows a class of the bank.
    pub(super) fn of_bank(&self) -> bool {
        self.outcome.truth.is_some()
    }
}

/// All answers, and what they are about.
pub(super) struct HeldOut {
    pub answers: Vec<Answer>,
    pub families: Vec<String>,
    pub environments: Vec<String>,
    /// Names of folders that are no class of the bank.
    pub unknown: Vec<String>,
    /// Whether the bank was made from these images.
    pub own: bool,
    pub unreadable: usize,
    /// Images, with the unreadable ones.
    pub total: usize,
}

impl HeldOut {
    /// Embeds the images in `folder` and answers them.
    pub(super) fn gather(
        source: &Source<'_>,
        bank: &ClassBank,
        classifier: &Classifier,
        folder: &Path,
    ) -> Result<Self, CliError> {
        if !folder.is_dir() {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no such folder");
            let path = folder.into();
            return Err(CliError::Read { path, source });
        }
        let domains = Domains::arrange_few(folder, &labelled_images(folder, Layout::Any)?)?;
        let or = "give held-out images of these classes";
        let classes = truths(&bank.labels, &domains, folder, or)?;
        let paths: Vec<PathBuf> = domains.items.iter().map(|i| i.path.clone()).collect();
        let of_items: Vec<usize> = domains.items.iter().map(|i| i.class).collect();
        let embedded = source.embed(&paths, &of_items)?;
        let items: Vec<_> = embedded.kept.iter().map(|&i| &domains.items[i]).collect();
        let truths: Vec<Truth> = items.iter().map(|item| classes[item.class]).collect();
        let unreadable = embedded.stats.unreadable;
        if !truths.iter().any(|t| matches!(t, Truth::Class(_))) {
            let (failed, total) = (unreadable, paths.len());
            return Err(CliError::SomeFailed { failed, total });
        }
        let places = bank.labels.iter().map(String::as_str).zip(0..);
        let answering = Answering {
            classifier,
            places: places.collect(),
        };
        let interventions = &embedded.interventions;
        let answer = |image: usize, family, row: &[f32]| Answer {
            environment: items[image].environment,
            ..answering.answer(image, truths[image], family, row)
        };
        let originals = interventions.originals().rows().enumerate();
        let mut answers: Vec<Answer> = originals.map(|(i, row)| answer(i, None, &row)).collect();
        for (number, family) in interventions.families().iter().enumerate() {
            let changed = family.of.iter().zip(family.changed.rows());
            answers.extend(changed.map(|(&of, row)| answer(of, Some(number), &row)));
        }
        let families = interventions.families().iter();
        let unknown = domains.classes.iter().zip(&classes);
        let unknown = unknown.filter(|(_, truth)| **truth == Truth::Other);
        Ok(Self {
            families: families.map(|f| f.name.clone()).collect(),
            unknown: unknown.map(|(name, _)| name.clone()).collect(),
            environments: domains.environments,
            own: made_from(bank, &truths, interventions),
            answers,
            unreadable,
            total: paths.len(),
        })
    }

    /// The answers to images of the bank's classes, as they are.
    pub(super) fn as_they_are(&self) -> Vec<Answer> {
        self.those(|a| a.family.is_none() && a.of_bank())
    }

    /// The answers to images of the bank's classes under interventions.
    pub(super) fn changed(&self) -> Vec<Answer> {
        self.those(|a| a.family.is_some() && a.of_bank())
    }

    pub(super) fn those(&self, wanted: impl Fn(&Answer) -> bool) -> Vec<Answer> {
        self.answers.iter().filter(|a| wanted(a)).copied().collect()
    }
}

/// A classifier, and the index of each of its labels.
struct Answering<'a> {
    classifier: &'a Classifier,
    places: HashMap<&'a str, u32>,
}

impl Answering<'_> {
    fn answer(&self, image: usize, truth: Truth, family: Option<usize>, row: &[f32]) -> Answer {
        let decision = self.classifier.classify(row);
        let best = &decision.top[0];
        let stated = decision.confidence.unwrap_or(best.score);
        let unfamiliar = decision.reason == Some(Reason::Unfamiliar);
        let truth = match truth {
            Truth::Class(class) => Some(index(class)),
            Truth::Other | Truth::Unlabelled => None,
        };
        Answer {
            outcome: Outcome {
                confidence: if unfamiliar { 0.0 } else { stated },
                image: index(image),
                answer: self.places.get(best.class.as_str()).copied().unwrap_or(0),
                truth,
                changed: family.is_some(),
            },
            stated,
            family,
            environment: 0,
        }
    }
}

/// Images and classes are far fewer than 2^32.
fn index(i: usize) -> u32 {
    u32::try_from(i).unwrap_or(u32::MAX)
}
