//! Errors and log lines on stderr. Whatever a message quotes, it cannot look like another message.

use super::error::CliError;
use crate::text::{indented, one_line};
use std::io::{IsTerminal, Write as _};
use std::panic::PanicHookInfo;

/// Prints an error. A closed stdout, as with `| head`, is not reported.
pub fn report(error: &CliError) {
    if let CliError::Output(e) = error
        && e.kind() == std::io::ErrorKind::BrokenPipe
    {
        return;
    }
    let _ = writeln!(
        std::io::stderr(),
        "{}error: {}",
        if under_journal() { "<3>" } else { "" },
        indented(&error.to_string())
    );
}

/// Whether stderr goes to systemd's journal, which reads priorities and adds time stamps itself.
fn under_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal()
}

/// Starts logging to stderr, with priorities if it is the journal. `verbose` is the number of -v; the daemon logs at
/// info without one.
pub(super) fn start(verbose: u8, daemon: bool) {
    // tract and the decoders log details of no interest to users at info and warn.
    let default = match verbose {
        0 if daemon => "warn,constancy=info,tract=error,zune_jpeg=off",
        0 => "error,constancy=warn,zune_jpeg=off",
        1 => "info,constancy=debug,tract=warn",
        _ => "debug,constancy=trace",
    };
    let env = env_logger::Env::default().default_filter_or(default);
    let mut builder = env_logger::Builder::from_env(env);
    // One line per message: a file's name, a label or a child's word must not forge another.
    if under_journal() {
        builder.format(|buffer, record| {
            let priority = match record.level() {
                log::Level::Error => 3,
                log::Level::Warn => 4,
                log::Level::Info => 6,
                log::Level::Debug | log::Level::Trace => 7,
            };
            let message = record.args().to_string();
            writeln!(buffer, "<{priority}>{}", one_line(&message))
        });
    } else {
        builder.format(|buffer, record| {
            let (time, level) = (buffer.timestamp_millis(), record.level());
            let style = buffer.default_level_style(level);
            let message = record.args().to_string();
            writeln!(
                buffer,
                "[{time} {style}{level:<5}{style:#}] {}",
                one_line(&message)
            )
        });
    }
    builder.init();
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic that nobody reports.
fn log_panic(info: &PanicHookInfo<'_>) {
    let level = if constancy_engine::note_panic(info) {
        log::Level::Debug
    } else {
        log::Level::Error
    };
    log::log!(level, "unexpected: {info}");
}
