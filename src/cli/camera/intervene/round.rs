//! One scene: each control is moved and moved back, and what was seen before, meanwhile and after decides on the pair.

use super::moved::Moved;
use super::plan::Plan;
use super::store::Store;
use super::view::{Calm, Seen, Viewer};
use crate::capture::Setting;
use crate::cli::CliError;
use crate::cli::output::line;
use crate::cli::pairs::{Level, PREFIX, Pair};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What came of the interventions.
#[derive(Debug, Default)]
pub(super) struct Tally {
    stored: BTreeMap<String, usize>,
    /// Pairs during which the scene moved.
    moved: usize,
    /// Changes after which the picture did not settle.
    unsettled: usize,
    /// Changes that the picture does not show.
    unseen: BTreeMap<String, usize>,
}

impl Tally {
    /// The number of pairs that are stored.
    pub(super) fn pairs(&self) -> usize {
        self.stored.values().sum()
    }

    pub(super) fn print(&self) -> Result<(), CliError> {
        let list = |counts: &BTreeMap<String, usize>| {
            let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
            counts.collect::<Vec<_>>().join(", ")
        };
        line(&format!(
            "pairs        {}: {}",
            self.pairs(),
            list(&self.stored)
        ))?;
        if self.moved > 0 {
            line(&format!(
                "dropped      {}: the scene moved meanwhile",
                self.moved
            ))?;
        }
        if self.unsettled > 0 {
            line(&format!(
                "dropped      {}: the picture did not settle (--settle)",
                self.unsettled
            ))?;
        }
        if !self.unseen.is_empty() {
            line(&format!(
                "not seen     {}: the picture stays the same",
                list(&self.unseen)
            ))?;
        }
        Ok(())
    }
}

/// Something to move, from where it stands to somewhere else.
enum Step<'a> {
    Control {
        family: &'static str,
        control: &'a Setting,
        to: i64,
    },
    Light {
        usual: &'a str,
        to: &'a str,
    },
}

impl Step<'_> {
    /// Moves there, or back. Returns the level that was reached.
    fn go(&self, moved: &mut Moved, there: bool) -> Result<Level, CliError> {
        Ok(match self {
            Self::Control { control, to, .. } => {
                Level::Number(moved.set(control, if there { *to } else { control.value })?)
            }
            Self::Light { usual, to } => {
                let level = if there { to } else { usual };
                moved.light(level)?;
                Level::Named((*level).to_owned())
            }
        })
    }

    fn family(&self) -> String {
        match self {
            Self::Control { family, .. } => format!("{PREFIX}{family}"),
            Self::Light { .. } => format!("{PREFIX}light"),
        }
    }

    fn control(&self) -> String {
        match self {
            Self::Control { control, .. } => control.name.clone(),
            Self::Light { .. } => "light".into(),
        }
    }

    fn from(&self) -> Level {
        match self {
            Self::Control { control, .. } => Level::Number(control.value),
            Self::Light { usual, .. } => Level::Named((*usual).to_owned()),
        }
    }
}

/// The interventions on one scene.
pub(super) struct Round<'a> {
    pub(super) camera: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) calm: &'a Calm,
}

impl Round<'_> {
    /// Does every step once, beginning with the scene as `reference` shows it; returns the scene as it is at the end.
    pub(super) fn run(
        &self,
        mut reference: Seen,
        (moved, viewer, store): (&mut Moved, &mut Viewer<'_>, &mut Store),
        tally: &mut Tally,
    ) -> Result<Seen, CliError> {
        // Its file, once a pair needs it.
        let mut file: Option<PathBuf> = None;
        for step in self.steps() {
            let to = step.go(moved, true)?;
            let changed = viewer.settled(self.calm)?;
            step.go(moved, false)?;
            let Some(after) = viewer.settled(self.calm)? else {
                tally.unsettled += 1;
                continue;
            };
            let has_moved = self.calm.differ(&reference.look, &after.look);
            match changed {
                _ if has_moved => tally.moved += 1,
                None => tally.unsettled += 1,
                Some(changed) if !self.calm.differ(&reference.look, &changed.look) => {
                    *tally.unseen.entry(step.family()).or_default() += 1;
                }
                Some(changed) => {
                    let of = match file.take() {
                        Some(file) => file,
                        None => store.image(&reference, "reference")?,
                    };
                    let changed = store.image(&changed, &step.family())?;
                    store.add(&self.pair(&step, of.clone(), changed, to))?;
                    *tally.stored.entry(step.family()).or_default() += 1;
                    file = Some(of);
                }
            }
            if has_moved {
                (reference, file) = (after, None);
            }
        }
        Ok(reference)
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let of_controls = self.plan.moves.iter().flat_map(|m| {
            m.values.iter().map(|&to| Step::Control {
                family: m.effect.name(),
                control: &m.control,
                to,
            })
        });
        let of_light = self
            .plan
            .light
            .iter()
            .flat_map(|(usual, others)| others.iter().map(|to| Step::Light { usual, to }));
        of_controls.chain(of_light).collect()
    }

    fn pair(&self, step: &Step<'_>, reference: PathBuf, changed: PathBuf, to: Level) -> Pair {
        Pair {
            reference,
            changed,
            family: step.family(),
            control: step.control(),
            from: step.from(),
            to,
            camera: self.camera.to_owned(),
        }
    }
}
