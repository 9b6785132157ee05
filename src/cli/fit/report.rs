//! The report of a fit: as text, as JSON, and in the metadata of the projection file.

use crate::cli::CliError;
use crate::cli::output::line;
use crate::embedding_cache::{EmbedStats, InterventionPlan};
use crate::files::lossy;
use constancy_core::icm::{Domains, FitWarning, Map, MapSpec, Moments, Removed, Selection};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The report; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    #[serde(serialize_with = "lossy")]
    output: &'a Path,
    width: usize,
    images: u64,
    unreadable: usize,
    /// Names of the folders, if they are laid out by environment and class.
    environments: &'a [String],
    classes: &'a [String],
    embeddings: Option<Embeddings>,
    /// Number of pairs of each family of interventions.
    pairs: BTreeMap<String, u64>,
    draws: Option<Draws>,
    merged: Vec<String>,
    selection: Option<&'a Selection>,
    map: MapSpec,
    /// Directions that are left; all of them if the map is soft.
    rank: usize,
    removed: Removed,
    pub warnings: Vec<String>,
    pub seconds: Seconds,
}

/// Where the embeddings came from, and the time they took.
#[derive(Debug, Clone, Copy, Serialize)]
struct Embeddings {
    known: usize,
    computed: usize,
    seconds: f64,
    /// The encoder's share of the threads' time.
    encoder_share: f64,
    /// Mean number of busy threads.
    busy: f64,
}

/// The arguments that determine the interventions.
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

/// How the projection was fitted, for its metadata.
#[derive(Debug, Serialize)]
pub(super) struct FitRecord<'a> {
    criterion: Option<String>,
    environments: &'a [String],
    images: u64,
    interventions: &'a BTreeMap<String, u64>,
    draws: Option<Draws>,
    merged: &'a [String],
    /// The criterion's score of the identity, and of the map.
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

    /// Adds the images, and the cost of their embeddings.
    pub(super) fn add_images(
        &mut self,
        domains: Option<&'a Domains>,
        stats: &EmbedStats,
        plan: &InterventionPlan,
    ) {
        if let Some(domains) = domains {
            (self.environments, self.classes) = (&domains.environments, &domains.classes);
        }
        self.unreadable = stats.unreadable;
        self.draws = Some(Draws {
            each: plan.draws,
            seed: plan.seed,
        });
        let threads = (stats.embedding + stats.intervening + stats.reading).as_secs_f64();
        let seconds = stats.took.as_secs_f64();
        self.embeddings = Some(Embeddings {
            known: stats.cached,
            computed: stats.computed,
            seconds,
            encoder_share: if threads > 0.0 {
                stats.embedding.as_secs_f64() / threads
            } else {
                0.0
            },
            busy: threads / seconds.max(f64::MIN_POSITIVE),
        });
    }

    /// Adds the moments files that were merged.
    pub(super) fn add_merged(&mut self, files: &[PathBuf]) {
        self.merged = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
    }

    /// Adds the map, what it removes, and how it was chosen.
    pub(super) fn add_map(
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

    pub(super) fn record(&self) -> FitRecord<'_> {
        let selection = self.selection;
        FitRecord {
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
        line(&format!("images       {}", self.images_text()))?;
        if let Some(e) = &self.embeddings {
            line(&format!("embeddings   {}", e.text()))?;
        }
        line(&format!("pairs        {}", pairs_text(&self.pairs)))?;
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

    fn images_text(&self) -> String {
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
}

impl Embeddings {
    fn text(&self) -> String {
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

/// Families grouped by their number of pairs, the largest first: `40 each of blur, haze; 8 each of captions`.
fn pairs_text(pairs: &BTreeMap<String, u64>) -> String {
    let mut by_count: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (family, &count) in pairs {
        by_count.entry(count).or_default().push(family);
    }
    let groups = by_count.iter().rev();
    groups
        .map(|(count, families)| format!("{count} each of {}", families.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Prints every candidate; an asterisk marks the chosen one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_per_family_whatever_the_count() {
        let text = |pairs: &[(&str, u64)]| {
            let pairs = pairs
                .iter()
                .map(|(family, count)| ((*family).to_owned(), *count));
            pairs_text(&pairs.collect())
        };
        assert_eq!(text(&[("blur", 21), ("haze", 21)]), "21 each of blur, haze");
        assert_eq!(
            text(&[("blur", 1), ("captions", 101), ("haze", 1)]),
            "101 each of captions; 1 each of blur, haze"
        );
        assert_eq!(text(&[("blur", 400)]), "400 each of blur");
    }
}
