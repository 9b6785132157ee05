//! Frames and commands of one camera, with the small tower of the fixtures.

use super::*;
use crate::publish::{Command, StdoutPrinter};
use constancy_core::frame::{PixelFormat, Timestamp};
use std::path::Path;

/// A pipeline with the camera `belt`, whose events go to stdout.
fn pipeline() -> Pipeline {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder");
    let text = "device = \"bench\"\n[model]\nmanifest = \"vision-fp32.toml\"\n[classes]\nlabels = [\"a gear\"]\n\
                [[camera]]\nname = \"belt\"\n[camera.v4l]\ndevice = \"/dev/null\"\n";
    let settings = Settings::parse(text, &fixtures.join("constancy.toml")).expect("settings");
    let recognizer = Recognizer::load(&settings).expect("model");
    Pipeline::new(
        &settings,
        recognizer,
        Sink::Stdout(StdoutPrinter::default()),
    )
}

/// A frame that cannot be decoded, after three dropped and two damaged ones.
fn damaged_frame() -> CameraFrame {
    let captured_at = Timestamp {
        monotonic_ns: 1,
        unix_ns: 1,
        clock_synced: true,
    };
    CameraFrame {
        camera: 0,
        frame: Frame::compressed(PixelFormat::Jpeg, b"no JPEG".into(), captured_at),
        dropped: 3,
        damaged: 2,
    }
}

fn counts(pipeline: &Pipeline) -> (u64, u64) {
    let camera = &pipeline.cameras[0];
    (camera.dropped, camera.damaged)
}

#[test]
fn lost_frames_are_counted_while_a_camera_is_off() {
    let mut pipeline = pipeline();
    let mut process = |on: bool| {
        let command = Command::Enabled(on);
        pipeline.run_command(0, command, &[]).expect("switched");
        pipeline.process(&[damaged_frame()]).expect("processed");
        counts(&pipeline)
    };
    assert_eq!(process(true), (3, 3), "it could not be decoded");
    assert_eq!(process(false), (6, 5), "it was not decoded at all");
    assert_eq!(process(true), (9, 8));
}

#[test]
fn a_frame_with_an_internal_error_is_skipped_and_counted_as_damaged() {
    let mut pipeline = pipeline();
    pipeline.skip(
        &damaged_frame(),
        &FrameError::Internal("no embedding".into()),
    );
    assert_eq!(counts(&pipeline), (0, 1));
    assert_eq!(pipeline.cameras[0].next_seq, 0, "it is no event");
}

#[test]
fn a_picture_of_a_camera_that_a_reload_removes_is_answered() {
    let mut pipeline = pipeline();
    pipeline
        .run_command(0, Command::Snapshot, &[])
        .expect("requested");
    assert!(pipeline.cameras[0].picture_deadline.is_some());
    pipeline.cancel_commands(&[]);
    assert_eq!(pipeline.cameras[0].picture_deadline, None);
}

#[test]
fn batches_fit_into_their_time() {
    let batch = |ms| batch_that_fits(Duration::from_millis(ms));
    assert_eq!([batch(0), batch(50), batch(100), batch(900)], [8, 6, 3, 1]);
}
