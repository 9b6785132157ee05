//! `constancy model`: makes small model files, and says how alike two models are.

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
    /// Write the small file of an fp32 image tower that boards should load
    Quantise(quantise::QuantiseArgs),
    /// Say how alike two image towers' embeddings are
    Compare(compare::CompareArgs),
}

pub(super) fn run(args: &ModelCommandArgs) -> Result<(), CliError> {
    match &args.command {
        ModelCommand::Quantise(args) => quantise::run(args),
        ModelCommand::Compare(args) => compare::run(args),
    }
}
