//! What a fit found, in words, as JSON, and in the projection's own file.

use super::super::CliError;
use super::super::output::line;
use crate::embedding_cache::{Tally, Wanted};
use constancy_core::icm::{Domains, FitWarning, Map, MapSpec, Moments, Removed, Selection};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything that is told of a fit; `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    output: &'a Path,
    width: usize,
    images: u64,
    unreadable: usize,
    /// By name, where folders told them.
    environments: &'a [String],
    classes: &'a [String],
    embeddings: Option<Embeddings>,
    /// Of each family of interventions.
    pairs: BTreeMap<String, u64>,
    draws: Option<Draws>,
    merged: Vec<String>,
    selection: Option<&'a Selection>,
    map: MapSpec,
    /// Directions that are left; all where the map is soft.
    rank: usize,
    removed: Removed,
    pub warnings: Vec<String>,
    pub seconds: Seconds,
}

/// How the embeddings were had.
#[derive(Debug, Clone, Copy, Serialize)]
struct Embeddings {
    known: usize,
    computed: usize,
    seconds: f64,
    /// The encoder's share of the threads' time.
    encoder_share: f64,
    /// Threads that were at work, in the mean.
    busy: f64,
}

/// What decided which interventions there were.
#[derive(Debug, Clone, Copy, Serialize)]
struct Draws {
    each: u32,
    seed: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Seconds {
    pub choosing: f64,
    pub fitting: f64,
    pub total: f64,
}

/// What the projection's file says of how it was fitted.
#[derive(Debug, Serialize)]
pub(super) struct Fitted<'a> {
    criterion: Option<String>,
    environments: &'a [String],
    images: u64,
    interventions: &'a BTreeMap<String, u64>,
    draws: Option<Draws>,
    merged: &'a [String],
    /// Of the criterion, for the identity and for the map.
    score_before: Option<f64>,
    score_after: Option<f64>,
    gain: Option<f64>,
    gain_error: Option<f64>,
    removed: Removed,
    identity: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(output: &'a Path, moments: &Moments) -> Self {
        Self {
            output,
            width: moments.width(),
            images: moments.images(),
            unreadable: 0,
            environments: &[],
            classes: &[],
            embeddings: None,
            pairs: moments.families(),
            draws: None,
            merged: Vec::new(),
            selection: None,
            map: MapSpec::IDENTITY,
            rank: moments.width(),
            removed: Removed {
                interventions: 0.0,
                images: 0.0,
            },
            warnings: Vec::new(),
            seconds: Seconds::default(),
        }
    }

    /// Where the images came from.
    pub(super) fn gathered(
        &mut self,
        domains: Option<&'a Domains>,
        tally: &Tally,
        wanted: &Wanted,
    ) {
        if let Some(domains) = domains {
            (self.environments, self.classes) = (&domains.environments, &domains.classes);
        }
        self.unreadable = tally.unreadable;
        self.draws = Some(Draws {
            each: wanted.draws,
            seed: wanted.seed,
        });
        let threads = (tally.embedding + tally.intervening + tally.reading).as_secs_f64();
        let seconds = tally.took.as_secs_f64();
        self.embeddings = Some(Embeddings {
            known: tally.known,
            computed: tally.computed,
            seconds,
            encoder_share: if threads > 0.0 {
                tally.embedding.as_secs_f64() / threads
            } else {
                0.0
            },
            busy: threads / seconds.max(f64::MIN_POSITIVE),
        });
    }

    /// Which files of moments were merged.
    pub(super) fn merged(&mut self, files: &[PathBuf]) {
        self.merged = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
    }

    /// What came of it.
    pub(super) fn fitted(
        &mut self,
        map: &Map,
        removed: Removed,
        selection: Option<&'a Selection>,
        warning: Option<FitWarning>,
    ) {
        (self.map, self.rank, self.removed, self.selection) =
            (*map.spec(), map.columns().ncols(), removed, selection);
        self.warnings.extend(
            selection
                .iter()
                .flat_map(|s| &s.warnings)
                .map(|w| format!("while choosing: {w}")),
        );
        self.warnings.extend(warning.map(|w| w.to_string()));
    }

    pub(super) fn provenance(&self) -> Fitted<'_> {
        let selection = self.selection;
        Fitted {
            criterion: selection.map(|s| s.criterion.to_string()),
            environments: self.environments,
            images: self.images,
            interventions: &self.pairs,
            draws: self.draws,
            merged: &self.merged,
            score_before: selection.map(|s| s.identity.score),
            score_after: selection.map(|s| s.chosen.score),
            gain: selection.map(|s| s.chosen.gain),
            gain_error: selection.map(|s| s.chosen.gain_error),
            removed: self.removed,
            identity: self.map.kind == MapSpec::IDENTITY.kind,
        }
    }

    pub(super) fn print(&self) -> Result<(), CliError> {
        line(&format!("images       {}", self.images_in_words()))?;
        if let Some(e) = &self.embeddings {
            line(&format!("embeddings   {}", e.in_words()))?;
        }
        line(&format!("pairs        {}", self.pairs_in_words()))?;
        if let Some(selection) = self.selection {
            print_trials(selection)?;
            line(&format!("chosen       {selection}"))?;
        } else {
            line(&format!("map          {}, as asked for", self.map))?;
        }
        let percent = |share: f64| share * 100.0;
        line(&format!(
            "it removes   {:.1} % of what interventions changed, and {:.1} % of what images differ by",
            percent(self.removed.interventions),
            percent(self.removed.images)
        ))?;
        let Seconds {
            choosing,
            fitting,
            total,
        } = self.seconds;
        line(&format!(
            "time         {total:.1} s, of which {choosing:.1} s for the choice and {fitting:.1} s for the fit at width {}",
            self.width
        ))?;
        line(&format!("written      {}", self.output.display()))
    }

    fn images_in_words(&self) -> String {
        let mut words = self.images.to_string();
        if !self.environments.is_empty() {
            words += &format!(
                " of {} environments and {} classes",
                self.environments.len(),
                self.classes.len()
            );
        }
        if self.unreadable > 0 {
            words += &format!("; {} could not be read", self.unreadable);
        }
        if !self.merged.is_empty() {
            words += &format!(", merged from {}", self.merged.join(", "));
        }
        words
    }

    /// Families by their number of pairs.
    fn pairs_in_words(&self) -> String {
        let mut by_count: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (family, &count) in &self.pairs {
            by_count.entry(count).or_default().push(family);
        }
        let words = by_count
            .iter()
            .rev()
            .map(|(count, families)| format!("{count} each of {}", families.join(", ")));
        words
            .collect::<Vec<_>>()
            .join("; ")
            .replace("1 each of", "1 of")
    }
}

impl Embeddings {
    fn in_words(&self) -> String {
        let Self {
            known,
            computed,
            seconds,
            encoder_share,
            busy,
        } = self;
        let mut words = format!("{known} from the cache, {computed} computed, in {seconds:.1} s");
        if *computed > 0 {
            words += &format!(
                "; {busy:.1} cores busy, {:.0} % of their time in the encoder",
                encoder_share * 100.0
            );
        }
        words
    }
}

/// Each map that was tried; the chosen one is marked.
fn print_trials(selection: &Selection) -> Result<(), CliError> {
    line(&format!("tried by {}:", selection.criterion))?;
    line(&format!(
        "  {:<48} {:>8} {:>14} {:>16}",
        "map", "removed", "score, %", "gain, points"
    ))?;
    for trial in &selection.trials {
        let mark = if trial.map == selection.chosen.map {
            '*'
        } else {
            ' '
        };
        line(&format!(
            "{mark} {:<48} {:>8.1} {:>14} {:>16}",
            trial.map.to_string(),
            trial.removed,
            format!("{:.1} ± {:.1}", trial.score * 100.0, trial.error * 100.0),
            format!(
                "{:+.1} ± {:.1}",
                trial.gain * 100.0,
                trial.gain_error * 100.0
            )
        ))?;
    }
    Ok(())
}
