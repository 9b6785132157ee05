//! Looking at the scene: when frames have settled, whether the scene has moved, whether a change is seen.

use super::super::picture::visible;
use super::stop::Stop;
use crate::capture::{CaptureError, Next, Source};
use crate::cli::CliError;
use crate::config::CameraSettings;
use constancy_core::frame::Frame;
use constancy_core::preprocess::RgbImage;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(100);
/// Cells that a picture is averaged over. Noise averages out in them, and a part that moves changes several.
const CELLS: (usize, usize) = (24, 18);
/// Frames that a camera may have taken, or begun, before a control acted: as many as it has buffers, and a few in the
/// sensor and its processor.
const IN_FLIGHT: u32 = 8;
/// Frames in a row that must look alike.
const ALIKE: u32 = 3;
/// Frames that are looked at before the picture is given up, however long they take.
const PATIENCE: u32 = 40;
/// Frames from which the noise of a scene that stands still is learnt.
const LEARNT_FROM: u32 = 12;
/// A mean difference between successive frames, in levels of 255, that is calm whatever the noise is.
const CALM: f32 = 0.4;
/// With more than this a scene does not stand still.
const RESTLESS: f32 = 5.0;
/// A change of a cell, in levels of 255, that is none yet, whatever its noise is.
const LEAST_CHANGE: f32 = 4.0;
/// The share of cells that may change in a scene that stands still.
const STRAY_CELLS: f32 = 0.01;

/// Means of red, green and blue over the cells of a picture, `0..=255`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look(Vec<f32>);

impl Look {
    pub(super) fn of(picture: &RgbImage) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        Self(picture.cell_means(CELLS.0.min(width), CELLS.1.min(height)))
    }

    /// Mean difference over all cells.
    fn distance(&self, other: &Self) -> f32 {
        let apart = self.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs());
        apart.sum::<f32>() / self.0.len().max(1) as f32
    }

    /// Mean over all cells.
    pub(super) fn brightness(&self) -> f32 {
        self.0.iter().sum::<f32>() / self.0.len().max(1) as f32
    }
}

/// How much a scene that stands still differs from frame to frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calm {
    /// Mean difference between successive frames.
    successive: f32,
    /// Largest difference of each cell.
    spread: Vec<f32>,
}

impl Calm {
    /// From several frames of a still scene; `None` if there are too few, or it does not stand still.
    pub(super) fn learn(looks: &[Look]) -> Option<Self> {
        let mut steps: Vec<f32> = looks.windows(2).map(|w| w[0].distance(&w[1])).collect();
        steps.sort_by(f32::total_cmp);
        let successive = *steps.get(steps.len() / 2)?;
        let width = looks.first()?.0.len();
        let spread = |cell: usize| {
            let values = looks.iter().map(|look| look.0[cell]);
            let (least, most) = values.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
            most - least
        };
        (successive <= RESTLESS).then(|| Self {
            successive,
            spread: (0..width).map(spread).collect(),
        })
    }

    /// Whether two successive frames look alike.
    fn are_alike(&self, a: &Look, b: &Look) -> bool {
        a.distance(b) <= (2.0 * self.successive).max(CALM)
    }

    /// Whether more has changed than noise and stray cells.
    pub(super) fn differ(&self, a: &Look, b: &Look) -> bool {
        let cells = a.0.iter().zip(&b.0).zip(&self.spread);
        let changed =
            cells.filter(|((a, b), spread)| (*a - *b).abs() > LEAST_CHANGE + 2.0 * **spread);
        changed.count() as f32 > STRAY_CELLS * self.spread.len() as f32
    }
}

/// A picture, and how it looks.
pub(super) struct Seen {
    pub(super) picture: RgbImage,
    pub(super) look: Look,
}

/// Takes frames from a source, until the user stops it.
pub(super) struct Viewer<'a> {
    settings: &'a CameraSettings,
    source: Box<dyn Source>,
    stop: &'a Stop,
    /// How long frames may take to settle.
    settle: Duration,
}

impl<'a> Viewer<'a> {
    pub(super) fn new(
        settings: &'a CameraSettings,
        source: Box<dyn Source>,
        stop: &'a Stop,
        settle: Duration,
    ) -> Self {
        Self {
            settings,
            source,
            stop,
            settle,
        }
    }

    pub(super) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// The camera's name.
    pub(super) fn camera(&self) -> &'a str {
        &self.settings.name
    }

    /// The next frame. A source that ends, or is silent for too long, is an error.
    fn frame(&mut self) -> Result<Frame, CliError> {
        let seconds = self.settings.stall_s;
        let since = Instant::now();
        loop {
            self.stop.check()?;
            match self.source.next(TICK)? {
                Next::Frame(frame) => return Ok(frame),
                Next::End => {
                    return Err(CliError::refused(
                        &self.settings.name,
                        "its frames have ended",
                    ));
                }
                Next::Damaged | Next::Nothing if since.elapsed().as_secs_f64() > seconds => {
                    let stalled = CaptureError::Stalled { seconds };
                    return Err(stalled.with_what_came(self.source.came_instead()).into());
                }
                Next::Damaged | Next::Nothing => {}
            }
        }
    }

    fn seen(&mut self) -> Result<Seen, CliError> {
        let picture = visible(&self.frame()?, &self.settings.view)?;
        let look = Look::of(&picture);
        Ok(Seen { picture, look })
    }

    /// Passes over the frames that may be from before a change.
    fn pass_over(&mut self) -> Result<(), CliError> {
        // A rendered frame is made when it is asked for.
        let frames = if self.source.is_live() { IN_FLIGHT } else { 1 };
        (0..frames).try_for_each(|_| self.frame().map(drop))
    }

    /// How the scene differs from frame to frame while nothing is moved, and how it looks; `None` if it does not stand
    /// still.
    pub(super) fn learn(&mut self) -> Result<Option<(Calm, Look)>, CliError> {
        self.pass_over()?;
        let looks: Result<Vec<Look>, CliError> =
            (0..LEARNT_FROM).map(|_| Ok(self.seen()?.look)).collect();
        let looks = looks?;
        Ok(Calm::learn(&looks).zip(looks.into_iter().next_back()))
    }

    /// The first picture after frames have settled; `None` if they do not.
    pub(super) fn settled(&mut self, calm: &Calm) -> Result<Option<Seen>, CliError> {
        let since = Instant::now();
        self.pass_over()?;
        let (mut last, mut alike, mut frames) = (self.seen()?, 1, 1);
        while alike < ALIKE {
            let next = self.seen()?;
            frames += 1;
            alike = if calm.are_alike(&last.look, &next.look) {
                alike + 1
            } else {
                1
            };
            last = next;
            if frames > PATIENCE && since.elapsed() > self.settle {
                return Ok(None);
            }
        }
        Ok(Some(last))
    }

    /// Waits until another scene stands still than `before`; `None` if none comes within `limit`.
    pub(super) fn another(
        &mut self,
        before: &Look,
        calm: &Calm,
        limit: Duration,
    ) -> Result<Option<Seen>, CliError> {
        let since = Instant::now();
        while since.elapsed() < limit {
            let seen = self.seen()?;
            if calm.differ(before, &seen.look)
                && let Some(settled) = self.settled(calm)?
                && calm.differ(before, &settled.look)
            {
                return Ok(Some(settled));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::workshop::{Controls, Environment, Scene, render};

    fn look(scene: &Scene) -> Look {
        let data = render(scene, 160, 120);
        Look::of(&RgbImage {
            data,
            width: 160,
            height: 120,
        })
    }

    fn scene() -> Scene {
        Scene::from_seed(8, Environment::named("noon").expect("noon"))
    }

    fn calm() -> Calm {
        let looks: Vec<Look> = (0..12).map(|moment| look(&scene().at(moment))).collect();
        Calm::learn(&looks).expect("it stands still")
    }

    #[test]
    fn noise_is_calm_and_a_change_of_light_is_not() {
        let (calm, first) = (calm(), look(&scene()));
        for moment in 20..40 {
            let later = look(&scene().at(moment));
            assert!(calm.are_alike(&first, &later) && !calm.differ(&first, &later));
        }
        for (exposure, gain, white_balance) in
            [(0.8, 1.0, None), (1.0, 1.5, None), (1.0, 1.0, Some(4000.0))]
        {
            let controls = Controls {
                exposure,
                gain,
                white_balance,
            };
            let changed = look(&scene().through(controls));
            assert!(calm.differ(&first, &changed) && !calm.are_alike(&first, &changed));
        }
    }

    #[test]
    fn a_part_that_is_nudged_has_moved() {
        let (calm, first) = (calm(), look(&scene()));
        let mut nudged = scene();
        nudged.variant.pose.shift[0] += 0.05;
        assert!(calm.differ(&first, &look(&nudged)));
        let other = Scene::from_seed(9, Environment::named("noon").expect("noon"));
        assert!(calm.differ(&first, &look(&other)));
    }

    #[test]
    fn a_scene_that_changes_all_the_time_does_not_stand_still() {
        let noon = Environment::named("noon").expect("noon");
        let looks: Vec<Look> = (0..12).map(|i| look(&Scene::from_seed(i, noon))).collect();
        assert_eq!(Calm::learn(&looks), None);
        assert_eq!(Calm::learn(&looks[..1]), None);
    }

    #[test]
    fn tiny_and_empty_pictures_have_a_look() {
        for (width, height) in [(0, 0), (1, 1), (5, 30)] {
            let data = vec![7; (width * height * 3) as usize];
            let look = Look::of(&RgbImage {
                data,
                width,
                height,
            });
            assert!((look.brightness() - if width == 0 { 0.0 } else { 7.0 }).abs() < 1e-3);
        }
    }
}
