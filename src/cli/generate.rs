//! `constancy generate`: manual pages and completions, for those who make packages.

use super::{Cli, CliError};
use clap::{Args, CommandFactory, ValueEnum as _};
use clap_complete::Shell;
use std::fs::create_dir_all;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// The folder to write: a manual page per subcommand in man1/, a completion per shell in completions/
    folder: PathBuf,
}

pub(super) fn run(args: &GenerateArgs) -> Result<(), CliError> {
    let write = |source| CliError::Write {
        path: args.folder.clone(),
        source,
    };
    let (pages, completions) = (args.folder.join("man1"), args.folder.join("completions"));
    create_dir_all(&pages)
        .and_then(|()| create_dir_all(&completions))
        .map_err(write)?;
    clap_mangen::generate_to(Cli::command(), &pages).map_err(write)?;
    for &shell in Shell::value_variants() {
        clap_complete::generate_to(shell, &mut Cli::command(), "constancy", &completions)
            .map_err(write)?;
    }
    Ok(())
}
