//! The command line: one file for each subcommand, and one that maps errors to exit codes.

mod bank_images;
mod bench;
mod calibrate;
mod camera;
mod captions;
mod check;
mod class_folders;
mod classes;
mod classify;
mod configured;
mod demo;
mod embed;
mod error;
mod eval;
pub mod exit;
mod fit;
mod generate;
mod image_embeddings;
mod logging;
mod model;
mod model_args;
mod output;
mod pairs;
mod reports;
mod synth;

use crate::capture::run_guard;
use crate::daemon;
use crate::recognizer::vetting;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

pub use error::CliError;
pub use logging::report;

/// Recognise what cameras see, in changing light, and publish it over MQTT
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log more to stderr (-v for debug, -vv for trace); RUST_LOG overrides this
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until it is stopped or its recordings end
    Run(ConfigArg),
    /// Show the daemon at work on a rendered workshop with changing light, next to raw CLIP
    Demo(demo::DemoArgs),
    /// Check the configuration, model, cameras and broker, and report what would fail
    Check(check::CheckArgs),
    /// Classify images
    Classify(classify::ClassifyArgs),
    /// Print or save the embeddings of images
    Embed(embed::EmbedArgs),
    /// Create a class bank from labels or from example images, or judge one by held-out images
    Classes(classes::ClassesArgs),
    /// Learn from images how far a class bank's answers can be trusted
    Calibrate(calibrate::CalibrateArgs),
    /// Measure what projections gain on held-out environments, classes and interventions
    Eval(eval::EvalArgs),
    /// Fit an invariant projection to images under changes of light, weather and camera
    Fit(fit::FitArgs),
    /// Render images of a workshop, with captions, for training and tests
    Synth(synth::SynthArgs),
    /// Quantise and compare models
    Model(model::ModelCommandArgs),
    /// Measure how fast this machine runs a model, operator by operator
    Bench(bench::BenchArgs),
    /// Run a tower on the GPU for the parent process
    #[cfg(feature = "gpu")]
    #[command(hide = true)]
    GpuWorker,
    /// Load a model for the parent process, which waits for a report
    #[command(hide = true)]
    VetModel,
    /// Run a program of `camera.pipe` for the parent process, and end it with that
    #[command(hide = true)]
    PipeGuard {
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// List cameras with their formats and controls, save a frame, intervene on the sensor, or show a reference picture
    Camera(camera::CameraArgs),
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// Configuration file
    #[arg(short, long, default_value = configured::SERVICE_CONFIG)]
    config: PathBuf,
}

/// Runs the subcommand.
pub fn run(cli: &Cli) -> Result<(), CliError> {
    vetting::enable();
    match &cli.command {
        Command::Run(args) => Ok(daemon::run(&args.config)?),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Classes(args) => classes::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Camera(args) => camera::run(args),
        Command::PipeGuard { command } => run_guard(command).map_err(|source| CliError::Start {
            program: "the program of `camera.pipe`".into(),
            source,
            hint: "the process that guards it failed",
        }),
        Command::Model(args) => model::run(args),
        Command::Generate(args) => generate::run(args, Cli::command()),
        Command::VetModel => Ok(vetting::serve(exit::recognizer)?),
        #[cfg(feature = "gpu")]
        Command::GpuWorker => Ok(constancy_engine::serve_gpu()?),
    }
}

/// Starts logging to stderr.
pub fn start_logging(cli: &Cli) {
    // Its log is the parent's.
    if matches!(cli.command, Command::VetModel) {
        return;
    }
    logging::start(cli.verbose, matches!(cli.command, Command::Run(_)));
}
