//! `constancy generate`: writes man pages and shell completions, for packages.

use super::CliError;
use super::output::{Target, check_targets};
use clap::{Args, Command, ValueEnum as _};
use clap_complete::Shell;
use std::fs::create_dir_all;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// Folder to write to: man pages into man1/, completions into completions/
    folder: PathBuf,
}

pub(super) fn run(args: &GenerateArgs, mut command: Command) -> Result<(), CliError> {
    check_targets([Target::Folder(&args.folder)])?;
    let write = |source| CliError::Write {
        path: args.folder.clone(),
        source,
    };
    let (pages, completions) = (args.folder.join("man1"), args.folder.join("completions"));
    create_dir_all(&pages)
        .and_then(|()| create_dir_all(&completions))
        .map_err(write)?;
    clap_mangen::generate_to(command.clone(), &pages).map_err(write)?;
    for &shell in Shell::value_variants() {
        clap_complete::generate_to(shell, &mut command, "constancy", &completions)
            .map_err(write)?;
    }
    Ok(())
}
