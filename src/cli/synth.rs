//! `constancy synth`: renders images of the workshop, with a caption and the truth for each.

use super::CliError;
use super::output::{line, write_file};
use clap::{Args, ValueEnum};
use constancy_core::numeric::Rng;
use constancy_core::workshop::{ENVIRONMENTS, Environment, Scene, caption, render};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// The folder to write: images, and captions.jsonl with a line for each
    #[arg(short, long, required_unless_present = "bench")]
    out: Option<PathBuf>,
    /// How many images
    #[arg(short = 'n', long, default_value_t = 100)]
    count: u64,
    /// Which scenes: the same seed gives the same images
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..1 << 21))]
    seed: u64,
    /// Environments in turn, separated by commas; or `seen` (those that the shipped model learnt from), `unseen`, `all`
    #[arg(short, long, default_value = "seen", value_parser = environments)]
    environments: Environments,
    /// Width and height, pixels
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = size)]
    size: (u32, u32),
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Png)]
    format: Format,
    /// Images 2i and 2i + 1 show the same specimen, with everything else different
    #[arg(long)]
    pairs: bool,
    /// Pairs that differ in light and camera only
    #[arg(long, conflicts_with = "pairs")]
    relit: bool,
    /// Write nothing; measure the speed and print a checksum
    #[arg(long)]
    bench: bool,
}

/// What `--format` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One PNG file for each image
    Png,
    /// The same in folders ENVIRONMENT/CLASS, as `fit` and `eval` take them
    Folders,
    /// One frames.bin with 8-bit RGB, image after image
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
    let of = |name: &str| {
        let names = || ENVIRONMENTS.map(|e| e.name).join(", ");
        Environment::named(name.trim())
            .ok_or_else(|| format!("there is no environment `{name}`; there are {}", names()))
    };
    Ok(Environments(match list {
        "seen" => chosen(true),
        "unseen" => chosen(false),
        "all" => ENVIRONMENTS.iter().collect(),
        names => names.split(',').map(of).collect::<Result<_, _>>()?,
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
    light: &'a str,
    /// With the environment, by which the scene can be drawn again where it is not one of a pair.
    seed: u64,
}

impl SynthArgs {
    /// The scene of image `i`, its environment and seed: every image can be drawn alone.
    fn scene(&self, i: u64) -> (Scene, &'static Environment, u64) {
        let all = &self.environments.0;
        let number = |i: u64| (self.seed << 32) + i;
        if !(self.pairs || self.relit) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a remainder of a small length"
            )]
            let environment = all[(i % all.len() as u64) as usize];
            return (
                Scene::numbered(number(i), environment),
                environment,
                number(i),
            );
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
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    fs::create_dir_all(out).map_err(failed(out))?;
    let captions_path = out.join("captions.jsonl");
    let mut captions =
        BufWriter::new(File::create(&captions_path).map_err(failed(&captions_path))?);
    let frames_path = out.join("frames.bin");
    let mut frames = match args.format {
        Format::Raw => Some(BufWriter::new(
            File::create(&frames_path).map_err(failed(&frames_path))?,
        )),
        Format::Png | Format::Folders => None,
    };
    for i in 0..args.count {
        let (scene, environment, seed) = args.scene(i);
        let pixels = render(&scene, args.size.0, args.size.1);
        let file = if let Some(frames) = &mut frames {
            frames.write_all(&pixels).map_err(failed(&frames_path))?;
            "frames.bin".to_owned()
        } else if args.format == Format::Folders {
            png(
                out,
                format!(
                    "{}/{}/{i:06}.png",
                    environment.name,
                    scene.invariant.class()
                ),
                &pixels,
                args.size,
            )?
        } else {
            png(out, format!("{i:06}.png"), &pixels, args.size)?
        };
        let text = serde_json::to_string(&Line {
            file: &file,
            caption: caption(&scene),
            part: scene.invariant.part.name(),
            condition: scene.invariant.condition.name(),
            surface: scene.variant.surface.name(),
            environment: environment.name,
            light: environment.light_name,
            seed,
        })?;
        writeln!(captions, "{text}").map_err(failed(&captions_path))?;
    }
    captions.flush().map_err(failed(&captions_path))?;
    frames
        .map_or(Ok(()), |mut f| f.flush())
        .map_err(failed(&frames_path))?;
    line(&format!("{}: {} images", out.display(), args.count))
}

/// Writes an image, and the folder that it lies in.
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
