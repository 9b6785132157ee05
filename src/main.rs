//! Parses the arguments, starts logging, prints an error once, returns the exit code.

use clap::Parser;
use constancy::cli::{self, Cli};
use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // --help and --version also arrive here; clap knows which stream to print to.
            let _ = e.print();
            return if e.use_stderr() {
                cli::exit::USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    cli::start_logging(&cli);
    match catch_unwind(|| cli::run(&cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            cli::report(&e);
            e.exit_code().into()
        }
        // The panic hook has reported it.
        Err(_) => cli::exit::INTERNAL.into(),
    }
}
