//! The exit code of every error, after sysexits(3). systemd must not restart the daemon on [`CONFIG`].

use super::CliError;
use crate::capture::CaptureError;
use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::daemon::control_journal::JournalError;
use crate::embedding_cache::EmbedError;
use crate::files::ImagesError;
use crate::publish::{BrokerError, PublishError};
use crate::recognizer::{FrameError, RecognizerError, VettingError};
use constancy_core::classify::TextError;
use constancy_core::icm::FoldersError;
use constancy_engine::{ManifestError, ModelError, QuantiseError};
use std::io::ErrorKind;

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// An image, a model, a projection or a class bank is invalid.
pub const DATA: u8 = 65;
/// A named file does not exist.
pub const NO_INPUT: u8 = 66;
/// A camera or the broker cannot be reached.
pub const UNAVAILABLE: u8 = 69;
/// An internal error.
pub const INTERNAL: u8 = 70;
/// A result cannot be written.
pub const CANNOT_CREATE: u8 = 73;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;

impl CliError {
    /// The exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Folders(FoldersError::NoImages { .. }) => NO_INPUT,
            Self::Daemon(e) => daemon(e),
            Self::Config(e) => config(e),
            Self::Recognizer(e) => recognizer(e),
            Self::Frame(FrameError::Decode(_))
            | Self::Image { .. }
            | Self::SomeFailed { .. }
            | Self::Bank(_)
            | Self::Calibration(_)
            | Self::Cache(_)
            | Self::Folders(_)
            | Self::Caption(_)
            | Self::Moments(_)
            | Self::MomentsFile { .. }
            | Self::PairLine { .. }
            | Self::Reference { .. }
            | Self::Refused { .. }
            | Self::Select(_)
            | Self::Fit(_)
            | Self::Embed(EmbedError::Embedding(_) | EmbedError::Source(_)) => DATA,
            Self::Model(e)
            | Self::Frame(FrameError::Model(e))
            | Self::Embed(EmbedError::Model(e)) => model(e),
            Self::Quantise(e) => quantise(e),
            Self::Capture(e) => capture(e),
            Self::Journal(e) => journal(e),
            // As a shell has it.
            Self::Stopped { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Images(e) => images(e),
            Self::Broker(e) => broker(e),
            Self::Read { source, .. } => input(source),
            Self::Write { .. } | Self::Unwritable { .. } => CANNOT_CREATE,
            Self::Start { .. } | Self::Busy { .. } | Self::Light { .. } => UNAVAILABLE,
            Self::Frame(
                FrameError::Internal(_) | FrameError::DecodePanic(_) | FrameError::ModelPanic(_),
            )
            | Self::Embed(EmbedError::Internal(_))
            | Self::Output(_)
            | Self::Json(_)
            | Self::Projection(_)
            | Self::DaemonEnded { .. } => INTERNAL,
            Self::CheckFailed { code, .. } => *code,
        }
    }
}

fn input(error: &std::io::Error) -> u8 {
    if error.kind() == ErrorKind::NotFound {
        NO_INPUT
    } else {
        DATA
    }
}

fn daemon(error: &DaemonError) -> u8 {
    match error {
        DaemonError::Config(e) => config(e),
        DaemonError::Recognizer(e) => recognizer(e),
        DaemonError::Publish(e) => publish(e),
        DaemonError::LoadPanic { .. } => DATA,
        DaemonError::ModelPanics { .. } | DaemonError::System(_) => INTERNAL,
    }
}

fn publish(error: &PublishError) -> u8 {
    match error {
        PublishError::Broker(e) => broker(e),
        PublishError::Stdout(_) => UNAVAILABLE,
        PublishError::Json(_) => INTERNAL,
    }
}

pub(super) fn config(error: &ConfigError) -> u8 {
    match error {
        ConfigError::Read { source, .. } | ConfigError::Missing { source, .. }
            if source.kind() == ErrorKind::NotFound =>
        {
            NO_INPUT
        }
        _ => CONFIG,
    }
}

pub(super) fn recognizer(error: &RecognizerError) -> u8 {
    match error {
        RecognizerError::Model(e) => model(e),
        RecognizerError::Read { source, .. } | RecognizerError::TokenizerFile { source, .. } => {
            input(source)
        }
        RecognizerError::Text(
            TextError::Tokenizer(_) | TextError::Encode(..) | TextError::Zero(_),
        )
        | RecognizerError::Projection { .. }
        | RecognizerError::Bank { .. }
        | RecognizerError::Probe(_)
        | RecognizerError::Token { .. }
        | RecognizerError::Tokenizer { .. }
        | RecognizerError::Vetting(VettingError::Died { .. }) => DATA,
        RecognizerError::Vetting(VettingError::Refused { exit_code, .. }) => *exit_code,
        RecognizerError::Vetting(VettingError::Stopped) => UNAVAILABLE,
        RecognizerError::Text(_)
        | RecognizerError::NotCalibrated { .. }
        | RecognizerError::FewClasses { .. }
        | RecognizerError::NoneLeftOut
        | RecognizerError::MayNotFollow(_)
        | RecognizerError::NoSuchClass { .. } => CONFIG,
    }
}

fn model(error: &ModelError) -> u8 {
    match error {
        ModelError::Read { source, .. }
        | ModelError::Named { source, .. }
        | ModelError::Manifest(ManifestError::Read { source, .. }) => input(source),
        ModelError::Gpu { .. } => UNAVAILABLE,
        _ => DATA,
    }
}

fn quantise(error: &QuantiseError) -> u8 {
    match error {
        QuantiseError::Model(e) => model(e),
        QuantiseError::Write { .. } => CANNOT_CREATE,
        _ => DATA,
    }
}

pub(super) fn capture(error: &CaptureError) -> u8 {
    match error {
        CaptureError::Images(e) => images(e),
        CaptureError::Control { .. } => CONFIG,
        CaptureError::Internal(_) => INTERNAL,
        _ => UNAVAILABLE,
    }
}

fn journal(error: &JournalError) -> u8 {
    match error {
        JournalError::File { .. } => CANNOT_CREATE,
        JournalError::Damaged { .. } | JournalError::OtherSensor { .. } => DATA,
        JournalError::Running { .. } | JournalError::NotRestored { .. } => UNAVAILABLE,
        JournalError::Capture(e) => capture(e),
    }
}

fn images(error: &ImagesError) -> u8 {
    match error {
        ImagesError::Read { source, .. } => input(source),
        ImagesError::Empty { .. } => NO_INPUT,
        ImagesError::Video { .. }
        | ImagesError::NoList { .. }
        | ImagesError::NoneReadable { .. }
        | ImagesError::SameName { .. } => DATA,
    }
}

pub(super) fn broker(error: &BrokerError) -> u8 {
    match error {
        BrokerError::Unavailable { .. } => UNAVAILABLE,
        BrokerError::Password { source, .. } if source.kind() == ErrorKind::NotFound => NO_INPUT,
        _ => CONFIG,
    }
}
