//! `constancy model`: quantises models, and compares them.

mod compare;
mod images;
mod quantise;

use super::CliError;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct ModelCommandArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Convert an fp32 image tower to int8 or fp16
    Quantise(quantise::QuantiseArgs),
    /// Compare the embeddings of two image towers
    Compare(compare::CompareArgs),
}

pub(super) fn run(args: &ModelCommandArgs) -> Result<(), CliError> {
    match &args.command {
        ModelCommand::Quantise(args) => quantise::run(args),
        ModelCommand::Compare(args) => compare::run(args),
    }
}
