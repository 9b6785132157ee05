//! The command line: one file per subcommand, errors to exit codes in one place.

mod bench;
mod camera;
mod check;
mod classes;
mod classify;
mod demo;
mod embed;
mod eval;
pub mod exit;
mod fit;
mod generate;
mod image_embeddings;
mod model;
mod model_args;
mod output;
mod synth;

use crate::capture::CaptureError;
use crate::config::ConfigError;
use crate::daemon::{self, DaemonError};
use crate::embedding_cache::{CacheError, EmbedError};
use crate::publish::BrokerError;
use crate::recognizer::{FrameError, RecognizerError};
use clap::{Args, Parser, Subcommand};
use constancy_core::classify::BankError;
use constancy_core::icm::captions::CaptionError;
use constancy_core::icm::{FitError, FoldersError, MomentsError, ProjectionError, SelectError};
use constancy_core::preprocess::DecodeError;
use constancy_engine::{ModelError, QuantiseError};
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use thiserror::Error;

/// Watches through a camera, recognises what it sees, stays right when the light changes, and publishes over MQTT.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr (-v: debug, -vv: trace); RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until it is stopped or its recordings end
    Run(ConfigArg),
    /// See it work: a rendered workshop whose light changes, a real broker, raw CLIP beside the projected one
    Demo(demo::DemoArgs),
    /// Try everything that a configuration names, and say what would fail and how to mend it
    Check(check::CheckArgs),
    /// Say what images show
    Classify(classify::ClassifyArgs),
    /// Print or save the embeddings of images
    Embed(embed::EmbedArgs),
    /// Make a class bank from labels or from example images
    Classes(classes::ClassesArgs),
    /// Measure what projections gain where nothing was learnt: environments left out, open classes, unseen interventions
    Eval(eval::EvalArgs),
    /// Fit an invariant projection: images, and what light, weather and cameras do to them, to a file
    Fit(fit::FitArgs),
    /// Render images of the workshop, with captions, for training and tests
    Synth(synth::SynthArgs),
    /// Make small model files, and compare models
    Model(model::ModelCommandArgs),
    /// Measure how fast this machine runs a model, and where the time goes
    Bench(bench::BenchArgs),
    /// Run a tower on the GPU for the process that starts this
    #[cfg(feature = "gpu")]
    #[command(hide = true)]
    GpuWorker,
    /// List cameras, their formats and controls; save a frame
    Camera(camera::CameraArgs),
    /// Write manual pages and shell completions, for packages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(short, long, default_value = "/etc/constancy/constancy.toml")]
    config: PathBuf,
}

/// Everything that can go wrong, with one message and one exit code each.
#[derive(Debug, Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bundle(#[from] RecognizerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Quantise(#[from] QuantiseError),
    #[error("{path}: {source}")]
    Image { path: PathBuf, source: DecodeError },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Folders(#[from] FoldersError),
    #[error(transparent)]
    Caption(#[from] CaptionError),
    #[error("moments: {0}")]
    Moments(#[from] MomentsError),
    #[error("moments {path}: {source}")]
    MomentsFile { path: PathBuf, source: MomentsError },
    #[error("no map can be chosen: {0}")]
    Select(#[from] SelectError),
    #[error("no map can be fitted: {0}")]
    Fit(#[from] FitError),
    #[error("the projection cannot be written: {0}")]
    Projection(#[from] ProjectionError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Bank(#[from] BankError),
    #[error("{path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} cannot be written: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{program} cannot be started: {source}; {hint}")]
    Start {
        program: String,
        source: std::io::Error,
        hint: &'static str,
    },
    #[error("the daemon ended before the demonstration did ({status}): {last_words}")]
    DaemonEnded { status: String, last_words: String },
    #[error("stdout: {0}")]
    Output(#[from] std::io::Error),
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{failed} of {total} images could not be read; see above")]
    SomeFailed { failed: usize, total: usize },
    #[error("{failed} of {total} checks failed; see above")]
    CheckFailed {
        failed: usize,
        total: usize,
        code: u8,
    },
}

/// Runs the subcommand.
pub fn run(cli: &Cli) -> Result<(), CliError> {
    match &cli.command {
        Command::Run(args) => Ok(daemon::run(&args.config)?),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Classes(args) => classes::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Camera(args) => camera::run(args),
        Command::Model(args) => model::run(args),
        Command::Generate(args) => generate::run(args),
        #[cfg(feature = "gpu")]
        Command::GpuWorker => Ok(constancy_engine::serve_gpu()?),
    }
}

/// Prints an error, once. A reader that has gone away is no error.
pub fn report(error: &CliError) {
    if let CliError::Output(e) = error
        && e.kind() == std::io::ErrorKind::BrokenPipe
    {
        return;
    }
    let _ = writeln!(
        std::io::stderr(),
        "{}error: {error}",
        if under_journal() { "<3>" } else { "" }
    );
}

/// Whether stderr goes to systemd's journal, which reads priorities and stamps the time itself.
fn under_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal()
}

/// Starts logging to stderr: as the terminal likes it, or with the journal's priorities.
pub fn start_logging(cli: &Cli) {
    // tract and the decoders report their own affairs at info and warn.
    let default = match cli.verbose {
        0 if matches!(cli.command, Command::Run(_)) => {
            "warn,constancy=info,tract=error,zune_jpeg=off"
        }
        0 => "error,constancy=warn,zune_jpeg=off",
        1 => "info,constancy=debug,tract=warn",
        _ => "debug,constancy=trace",
    };
    let env = env_logger::Env::default().default_filter_or(default);
    let mut builder = env_logger::Builder::from_env(env);
    if under_journal() {
        builder.format(|buffer, record| {
            let priority = match record.level() {
                log::Level::Error => 3,
                log::Level::Warn => 4,
                log::Level::Info => 6,
                log::Level::Debug | log::Level::Trace => 7,
            };
            writeln!(buffer, "<{priority}>{}", record.args())
        });
    } else {
        builder.format_target(false).format_timestamp_millis();
    }
    builder.init();
    std::panic::set_hook(Box::new(|info| log::error!("unexpected: {info}")));
}
