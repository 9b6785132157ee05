//! `constancy synth`: renders images of a workshop, each with a caption and its ground truth.

use super::CliError;
use super::output::{Target, check_targets, line, write_file};
use crate::files::CAPTIONS;
use clap::{Args, ValueEnum};
use constancy_core::numeric::Rng;
use constancy_core::workshop::{
    Controls, ENVIRONMENTS, Environment, Part, Scene, caption, light_in_words, render,
};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// Folder to write images and captions.jsonl to
    #[arg(short, long, required_unless_present = "bench")]
    out: Option<PathBuf>,
    /// Number of images
    #[arg(short = 'n', long, default_value_t = 100)]
    count: u64,
    /// Random seed; the same seed gives the same images
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..1 << 21))]
    seed: u64,
    /// Comma-separated environments to cycle through; or `seen` (like daylight), `unseen`, `all`; `wide` is the range of
    /// light that the shipped model was trained in
    #[arg(short, long, default_value = "seen", value_parser = environments)]
    environments: Environments,
    /// What lies in front of the camera: `parts`, `others` (what is no part), or a comma-separated list of
    /// others to choose from
    #[arg(long, value_name = "THINGS", default_value = "parts", value_parser = things)]
    show: Things,
    /// Width and height in pixels
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = size)]
    size: (u32, u32),
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Png)]
    format: Format,
    /// Render pairs: images 2i and 2i + 1 show the same specimen, and everything else differs
    #[arg(long)]
    pairs: bool,
    /// Render pairs that differ only in light and camera
    #[arg(long, conflicts_with = "pairs")]
    relit: bool,
    #[command(flatten)]
    controls: ControlArgs,
    /// Write nothing; print the speed and a checksum
    #[arg(long)]
    bench: bool,
}

/// The sensor's controls, relative to what each environment's camera does by itself.
#[derive(Debug, Args)]
struct ControlArgs {
    /// Factor of the exposure, 0.05 to 20
    #[arg(long, value_name = "FACTOR", value_parser = |text: &str| within(text, Controls::EXPOSURES))]
    exposure: Option<f32>,
    /// Factor of the sensor's gain, which raises noise with the signal, 1 to 16
    #[arg(long, value_name = "FACTOR", value_parser = |text: &str| within(text, Controls::GAINS))]
    gain: Option<f32>,
    /// White balance in kelvin, 2500 to 10000, instead of automatic
    #[arg(long, value_name = "KELVIN", value_parser = |text: &str| within(text, Controls::WHITE_BALANCES))]
    white_balance: Option<f32>,
}

fn within(text: &str, (least, most): (f32, f32)) -> Result<f32, String> {
    let value: Option<f32> = text.parse().ok();
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("expected {least} to {most}"))
}

impl ControlArgs {
    fn controls(&self) -> Controls {
        Controls {
            exposure: self.exposure.unwrap_or(1.0),
            gain: self.gain.unwrap_or(1.0),
            white_balance: self.white_balance,
        }
    }
}

/// The values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One PNG file per image
    Png,
    /// PNG files in folders ENVIRONMENT/CLASS, as `fit` and `eval` read them
    Folders,
    /// All images in one frames.bin, as 8-bit RGB
    Raw,
}

#[derive(Debug, Clone)]
struct Environments(Vec<&'static Environment>);

fn environments(list: &str) -> Result<Environments, String> {
    let chosen = |daylight_like: bool| {
        ENVIRONMENTS
            .iter()
            .filter(|e| e.daylight_like == daylight_like)
            .collect()
    };
    let named = |name: &str| {
        let names = || ENVIRONMENTS.map(|e| e.name).join(", ");
        Environment::named(name.trim())
            .ok_or_else(|| format!("there is no environment `{name}`; choose from {}", names()))
    };
    Ok(Environments(match list {
        "seen" => chosen(true),
        "unseen" => chosen(false),
        "all" => ENVIRONMENTS.iter().collect(),
        names => names.split(',').map(named).collect::<Result<_, _>>()?,
    }))
}

/// What `--show` chooses from; empty for the parts.
#[derive(Debug, Clone)]
struct Things(Vec<Part>);

fn things(list: &str) -> Result<Things, String> {
    let named = |name: &str| {
        let names = || Part::OTHERS.map(Part::name).join(", ");
        let part = Part::OTHERS.into_iter().find(|p| p.name() == name.trim());
        part.ok_or_else(|| {
            format!(
                "cannot show `{name}`; choose `parts`, `others`, or from {}",
                names()
            )
        })
    };
    Ok(Things(match list {
        "parts" => Vec::new(),
        "others" => Part::OTHERS.to_vec(),
        names => names.split(',').map(named).collect::<Result<_, _>>()?,
    }))
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let fits = |side: u32| (16..=4096).contains(&side);
    sides
        .filter(|&(w, h)| fits(w) && fits(h))
        .ok_or_else(|| "expected WIDTHxHEIGHT, 16 to 4096 each".into())
}

/// A line of captions.jsonl.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    caption: String,
    part: &'a str,
    condition: &'a str,
    surface: &'a str,
    environment: &'a str,
    light: String,
    /// Together with the environment, reproduces the scene, except for the second of a pair.
    seed: u64,
}

impl<'a> Line<'a> {
    fn new(file: &'a str, scene: &Scene, environment: &Environment, seed: u64) -> Self {
        Self {
            file,
            caption: caption(scene),
            part: scene.invariant.part.name(),
            condition: scene.invariant.condition.name(),
            surface: scene.variant.surface.name(),
            environment: environment.name,
            light: light_in_words(&scene.variant),
            seed,
        }
    }
}

impl SynthArgs {
    /// `scene` with the `i`th thing that `--show` names, if it names any.
    fn shown(&self, scene: Scene, i: u64) -> Scene {
        let things = &self.show.0;
        // Cycles like the environments, but slower, so that each thing is seen in each of them.
        let turn = i / self.environments.0.len() as u64;
        match usize::try_from(turn % things.len().max(1) as u64) {
            Ok(at) if at < things.len() => scene.showing(things[at]),
            _ => scene,
        }
    }

    /// Scene, environment and seed of image `i`, independently of all other images, through the sensor's controls.
    fn scene(&self, i: u64) -> (Scene, &'static Environment, u64) {
        let (scene, environment, seed) = self.drawn(i);
        (scene.through(self.controls.controls()), environment, seed)
    }

    fn drawn(&self, i: u64) -> (Scene, &'static Environment, u64) {
        let all = &self.environments.0;
        let number = |i: u64| (self.seed << 32) + i;
        if !(self.pairs || self.relit) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a remainder of a small length"
            )]
            let environment = all[(i % all.len() as u64) as usize];
            let scene = Scene::from_seed(number(i), environment);
            return (self.shown(scene, i), environment, number(i));
        }
        let first = i & !1;
        let mut rng = Rng::new(number(first));
        let [here, there] = [(); 2].map(|()| all[rng.count(0, all.len() - 1)]);
        let one = Scene::sample(&mut rng, here);
        match (i == first, self.relit) {
            (true, _) => (one, here, number(first)),
            (false, true) => (one.relit(&mut rng, there), there, number(first)),
            (false, false) => (one.pair(&mut rng, there), there, number(first)),
        }
    }
}

pub(super) fn run(args: &SynthArgs) -> Result<(), CliError> {
    match &args.out {
        Some(out) if !args.bench => write(args, out),
        _ => bench(args),
    }
}

fn write(args: &SynthArgs, out: &Path) -> Result<(), CliError> {
    check_targets([Target::Folder(out)])?;
    let mut captions = OutputFile::create(out.join(CAPTIONS))?;
    let mut frames = match args.format {
        Format::Raw => Some(OutputFile::create(out.join("frames.bin"))?),
        Format::Png | Format::Folders => None,
    };
    for i in 0..args.count {
        let (scene, environment, seed) = args.scene(i);
        let pixels = render(&scene, args.size.0, args.size.1);
        let file = match (&mut frames, args.format) {
            (Some(frames), _) => {
                frames.write(&pixels)?;
                "frames.bin".to_owned()
            }
            (None, Format::Folders) => {
                let class = scene.invariant.class();
                let name = format!("{}/{class}/{i:06}.png", environment.name);
                png(out, name, &pixels, args.size)?
            }
            (None, _) => png(out, format!("{i:06}.png"), &pixels, args.size)?,
        };
        let mut text = serde_json::to_string(&Line::new(&file, &scene, environment, seed))?;
        text.push('\n');
        captions.write(text.as_bytes())?;
    }
    captions.finish()?;
    frames.map_or(Ok(()), OutputFile::finish)?;
    line(&format!("{}: {} images", out.display(), args.count))
}

/// A buffered file whose errors name it.
struct OutputFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl OutputFile {
    fn create(path: PathBuf) -> Result<Self, CliError> {
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(CliError::Write { path, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file
            .write_all(bytes)
            .map_err(|source| CliError::Write {
                path: self.path.clone(),
                source,
            })
    }

    fn finish(mut self) -> Result<(), CliError> {
        self.file.flush().map_err(|source| CliError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Writes an image, and creates its folder.
fn png(
    out: &Path,
    name: String,
    pixels: &[u8],
    (width, height): (u32, u32),
) -> Result<String, CliError> {
    let path = out.join(&name);
    let folder = path.parent().unwrap_or(out);
    fs::create_dir_all(folder).map_err(|source| CliError::Write {
        path: folder.into(),
        source,
    })?;
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| CliError::Write {
            path: path.clone(),
            source: std::io::Error::other(e),
        })?;
    write_file(&path, &bytes)?;
    Ok(name)
}

fn bench(args: &SynthArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let (width, height) = args.size;
    let mut checksum = 0_u64;
    for i in 0..args.count {
        let pixels = render(&args.scene(i).0, width, height);
        let sum = pixels.iter().map(|&v| u64::from(v)).sum();
        checksum = checksum.wrapping_mul(31).wrapping_add(sum);
    }
    let rate = args.count as f64 / start.elapsed().as_secs_f64();
    line(&format!(
        "{rate:.1} frames/s at {width}x{height}, checksum {checksum:016x}"
    ))
}
