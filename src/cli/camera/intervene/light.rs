//! The user's hook for the light: a program that sets it to a level.

use crate::cli::CliError;
use crate::text::one_line;
use clap::Args;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a level takes the place of in the hook's arguments.
const LEVEL: &str = "{}";
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Args)]
pub(super) struct LightArgs {
    /// Program and arguments that set the light, with `{}` for the level; no shell is involved. Give it last
    #[arg(long = "light-command", value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    command: Vec<String>,
    /// Comma-separated levels of the light; the first is the usual one, to which it returns
    #[arg(
        long = "light-levels",
        value_name = "LEVELS",
        value_delimiter = ',',
        default_value = "on,off",
        requires = "command"
    )]
    levels: Vec<String>,
    /// Seconds that the program may take
    #[arg(long = "light-timeout", value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, requires = "command")]
    timeout: f64,
}

/// The light, as a hook sets it.
#[derive(Debug, Clone)]
pub(super) struct Light {
    command: Vec<String>,
    /// The level to return to.
    pub(super) usual: String,
    pub(super) others: Vec<String>,
    limit: Duration,
}

impl LightArgs {
    /// The light, if there is a hook.
    pub(super) fn light(&self) -> Result<Option<Light>, CliError> {
        if self.command.is_empty() {
            return Ok(None);
        }
        if !self.command.iter().skip(1).any(|a| a.contains(LEVEL)) {
            return Err(CliError::Usage(format!(
                "--light-command needs an argument with `{LEVEL}`, which stands for the level: {} {LEVEL}",
                self.command.join(" ")
            )));
        }
        let Some((usual, others)) = self.levels.split_first().filter(|(_, o)| !o.is_empty()) else {
            return Err(CliError::Usage(
                "--light-levels needs two levels or more, the usual one first, such as on,off"
                    .into(),
            ));
        };
        Ok(Some(Light {
            command: self.command.clone(),
            usual: usual.clone(),
            others: others.to_vec(),
            limit: Duration::from_secs_f64(self.timeout),
        }))
    }
}

impl Light {
    /// The program and its arguments for a level.
    pub(super) fn command(&self, level: &str) -> Vec<String> {
        let (program, arguments) = self.command.split_at(1);
        let arguments = arguments.iter().map(|a| a.replace(LEVEL, level));
        program.iter().cloned().chain(arguments).collect()
    }

    /// Sets the light to a level, and waits for the program's end.
    pub(super) fn set(&self, level: &str) -> Result<(), CliError> {
        let command = self.command(level);
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is for this program, which must be able to put the light back.
            .process_group(0)
            .spawn()
            .map_err(|source| CliError::Start {
                program: command[0].clone(),
                source,
                hint: "--light-command names it; is it installed?",
            })?;
        let failed = |reason: String| CliError::Light {
            command: one_line(&command.join(" ")).into_owned(),
            reason,
        };
        let since = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(format!("ended with {status}"))),
                Ok(None) if since.elapsed() < self.limit => std::thread::sleep(TICK),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let seconds = self.limit.as_secs_f64();
                    return Err(failed(format!(
                        "did not end within {seconds} s (--light-timeout)"
                    )));
                }
                Err(e) => return Err(failed(e.to_string())),
            }
        }
    }
}

/// A time on the command line.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|s| (0.1..=86_400.0).contains(s))
        .ok_or_else(|| "expected seconds, 0.1 to 86400".into())
}
