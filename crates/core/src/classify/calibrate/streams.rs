//! Streams of the bank's images under interventions, answered with an offset that follows them: what it gains, and whether it
//! may run without a person.

use super::answers::{Projected, Shown};
use super::folds::Fold;
use crate::classify::classifier::{Classifier, best};
use crate::classify::condition::{Reference, Running, RunningOffset, Stream, StreamResult};
use crate::numeric::{Rng, unit};
use std::collections::BTreeMap;

/// Windows and shrinkages to choose from.
const CONFIGURATIONS: [(u32, u32); 3] = [(50, 10), (25, 10), (100, 20)];
/// The families that are simulated, spread over all.
const FAMILIES: usize = 6;
/// Multiplications for mapping the frames: some seconds.
const MAPPING: usize = 4_000_000_000;
/// Points that no stream may lose.
const MOST_LOST: f32 = 1.0;
/// In a stream with a rare defect, one frame in so many shows it.
const RARE: usize = 20;

/// One frame to answer, by the fold that was made without its image.
struct Frame {
    class: usize,
    fold: usize,
    /// In invariant space, not scaled.
    mapped: Vec<f32>,
    /// Along the reference's axes.
    coordinates: Vec<f32>,
    /// Whether it is answered right without an offset.
    right: bool,
}

/// Simulates each configuration, and keeps the one that gains most of those that may run alone, or else the least harmful.
pub(super) fn simulate(
    reference: &Reference,
    folds: &[Fold],
    projected: &Projected,
    conditions: &[Vec<&Shown<'_>>],
    rng: &mut Rng,
) -> Running {
    let answering: Vec<Answering<'_>> =
        folds.iter().map(|f| Answering::new(f, reference)).collect();
    let frames = frames(reference, &answering, folds, projected, conditions, rng);
    let candidates = CONFIGURATIONS.map(|(window, shrink)| {
        let streams = streams(reference, &answering, &frames, (window, shrink));
        let worst = streams
            .iter()
            .map(StreamResult::gain)
            .fold(f32::INFINITY, f32::min);
        Running {
            window,
            shrink,
            allowed: !streams.is_empty() && worst >= -MOST_LOST,
            streams,
        }
    });
    let rank = |r: &Running| {
        let gains = || r.streams.iter().map(StreamResult::gain);
        let mean = gains().sum::<f32>() / r.streams.len().max(1) as f32;
        let worst = gains().fold(f32::INFINITY, f32::min);
        (r.allowed, if r.allowed { mean } else { worst })
    };
    let better = |a: Running, b: Running| {
        let (first, second) = (rank(&a), rank(&b));
        if (second.0, second.1) > (first.0, first.1) {
            b
        } else {
            a
        }
    };
    let [first, second, third] = candidates;
    better(better(first, second), third)
}

/// A fold's classifier, and the reference's axes in its invariant space.
struct Answering<'a> {
    classifier: &'a Classifier,
    axes: Vec<Vec<f32>>,
}

impl<'a> Answering<'a> {
    fn new(fold: &'a Fold, reference: &Reference) -> Self {
        let classifier = &fold.classifier;
        let map = |axis: &Vec<f32>| classifier.space().linear(axis, false);
        let axes = reference.axes.iter().map(map).collect();
        Self { classifier, axes }
    }

    /// The class of a frame when so much is subtracted along the axes.
    fn answer(&self, frame: &Frame, offset: &[f32]) -> usize {
        let mut z = frame.mapped.clone();
        for (axis, along) in self.axes.iter().zip(offset) {
            z.iter_mut().zip(axis).for_each(|(z, a)| *z -= along * a);
        }
        best(&self.classifier.scores(&unit(&z)).1)
    }
}

/// The frames of each simulated condition.
fn frames(
    reference: &Reference,
    answering: &[Answering<'_>],
    folds: &[Fold],
    projected: &Projected,
    conditions: &[Vec<&Shown<'_>>],
    rng: &mut Rng,
) -> Vec<Vec<Frame>> {
    let mut folds_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, fold) in folds.iter().enumerate() {
        for &image in &fold.images {
            folds_of.entry(image).or_default().push(number);
        }
    }
    // The fold that was made without the image and its family.
    let fold_of = |shown: &Shown<'_>| {
        let family = shown.condition.checked_sub(1);
        let mut numbers = folds_of.get(&shown.answer.image)?.iter().copied();
        numbers.find(|&n| folds[n].versions.answered(family))
    };
    let changed: Vec<&Vec<&Shown<'_>>> = conditions
        .iter()
        .skip(1)
        .filter(|c| !c.is_empty())
        .collect();
    let simulated = changed.len().min(FAMILIES);
    let spread = (0..simulated).map(|i| changed[i * changed.len() / simulated]);
    let chosen: Vec<&Vec<&Shown<'_>>> = conditions.first().into_iter().chain(spread).collect();
    let (width, rank) = (
        reference.mean.len(),
        answering
            .first()
            .map_or(1, |a| a.classifier.rows()[0].len()),
    );
    let most = (MAPPING / (width * rank).max(1) / chosen.len().max(1)).clamp(100, 1000);
    let frame = |shown: &Shown<'_>| {
        let fold = fold_of(shown)?;
        let seen = &projected.of(shown.answer.image)[shown.answer.version].unit;
        let mut frame = Frame {
            class: shown.class,
            fold,
            mapped: answering[fold].classifier.space().linear(seen, true),
            coordinates: reference.coordinates(seen),
            right: false,
        };
        frame.right = answering[fold].answer(&frame, &[]) == frame.class;
        Some(frame)
    };
    let of = |shown: &&Vec<&Shown<'_>>| {
        let order = rng.permutation(shown.len());
        order
            .iter()
            .take(most)
            .filter_map(|&i| frame(shown[i]))
            .collect()
    };
    chosen.iter().map(of).collect()
}

/// Right answers by class: frames, right without, right with.
type Counts = BTreeMap<usize, [u32; 3]>;

/// The results of each kind of stream; none without interventions.
fn streams(
    reference: &Reference,
    answering: &[Answering<'_>],
    conditions: &[Vec<Frame>],
    (window, shrink): (u32, u32),
) -> Vec<StreamResult> {
    if conditions.len() < 2 {
        return Vec::new();
    }
    let run = |counts: &mut Counts, frames: &[Frame], order: &[usize]| {
        let mut running = RunningOffset::with(reference, window, shrink);
        for &i in order {
            let frame = &frames[i];
            running.push_coordinates(frame.coordinates.clone());
            let right = answering[frame.fold].answer(frame, &running.along()) == frame.class;
            let count = counts.entry(frame.class).or_default();
            for (c, hit) in count.iter_mut().zip([true, frame.right, right]) {
                *c += u32::from(hit);
            }
        }
    };
    let least = 2 * window as usize;
    let (mut mixed, mut after, mut rare) = (Counts::new(), Counts::new(), Counts::new());
    let mut alone = Counts::new();
    for frames in conditions {
        let all: Vec<usize> = (0..frames.len()).collect();
        run(&mut mixed, frames, &cycled(&all, least));
        let blocks = blocks(frames, least / 2);
        run(&mut after, frames, &blocks.concat());
        for block in &blocks {
            run(&mut alone, frames, block);
        }
        run(&mut rare, frames, &with_rare(frames, &blocks));
    }
    let mut results = vec![
        balanced(Stream::Mixed, mixed.values()),
        balanced(Stream::ClassAfterClass, after.values()),
    ];
    let singles = alone
        .values()
        .map(|c| balanced(Stream::OneClass, std::iter::once(c)));
    results.extend(singles.min_by(|a, b| a.gain().total_cmp(&b.gain())));
    results.push(balanced(Stream::RareDefect, rare.values()));
    results
}

/// The mean over classes.
fn balanced<'a>(stream: Stream, counts: impl Iterator<Item = &'a [u32; 3]>) -> StreamResult {
    let (mut without, mut with, mut classes) = (0.0, 0.0, 0.0f32);
    for [frames, before, after] in counts {
        without += *before as f32 / *frames as f32;
        with += *after as f32 / *frames as f32;
        classes += 1.0;
    }
    StreamResult {
        stream,
        without: without / classes.max(1.0),
        with: with / classes.max(1.0),
    }
}

/// The items, again from the beginning until there are at least so many.
fn cycled(items: &[usize], least: usize) -> Vec<usize> {
    let count = items.len().max(least);
    items.iter().copied().cycle().take(count).collect()
}

/// The frames of each class, each for a while.
fn blocks(frames: &[Frame], least: usize) -> Vec<Vec<usize>> {
    let mut of_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, frame) in frames.iter().enumerate() {
        of_class.entry(frame.class).or_default().push(i);
    }
    of_class.values().map(|own| cycled(own, least)).collect()
}

/// The largest class, with a frame of another now and then.
fn with_rare(frames: &[Frame], blocks: &[Vec<usize>]) -> Vec<usize> {
    let Some(usual) = blocks.iter().max_by_key(|b| b.len()) else {
        return Vec::new();
    };
    let class = frames[usual[0]].class;
    let others: Vec<usize> = (0..frames.len())
        .filter(|&i| frames[i].class != class)
        .collect();
    let count = others.len() * RARE;
    let mut rare = others.iter();
    let mut stream = Vec::new();
    for (i, &frame) in usual.iter().cycle().take(count.min(4000)).enumerate() {
        stream.push(if i % RARE == RARE - 1 {
            rare.next().copied().unwrap_or(frame)
        } else {
            frame
        });
    }
    stream
}
