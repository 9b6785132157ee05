//! What a stream carries.

use super::super::support::{Broker, Daemon, Setup, Subscriber, jpeg, wait_for};
use super::{camera, setup, stream};

/// Each stream on a source of this format, and what its fault must say.
const UNREADABLE: [(&str, &str, &[&str]); 14] = [
    (
        "h264.bin",
        "mjpeg",
        &["2.0 kB came", "H.264", "-c:v mjpeg -f mjpeg"],
    ),
    ("h264.bin", "y4m", &["H.264", "-f yuv4mpegpipe"]),
    ("h265.bin", "mjpeg", &["H.265", "-c:v mjpeg"]),
    ("mpegts.bin", "mjpeg", &["3.8 kB came", "MPEG-TS"]),
    ("avi-h264.bin", "mjpeg", &["AVI"]),
    ("matroska.bin", "mjpeg", &["Matroska or WebM"]),
    ("mp4.bin", "y4m", &["MP4"]),
    ("png.bin", "mjpeg", &["408 bytes came", "PNG images"]),
    (
        "login.html",
        "mjpeg",
        &["a web page, `IP Camera - Login`", "password"],
    ),
    (
        "refused.http",
        "mjpeg",
        &["`HTTP/1.1 401 Unauthorized`", "address"],
    ),
    (
        "message.txt",
        "mjpeg",
        &["text, `ERROR: no signal on rtsp://***@10.0.0.9/live`"],
    ),
    (
        "raw-yuyv.bin",
        "mjpeg",
        &["uncompressed video", "--codec mjpeg"],
    ),
    ("mono.y4m", "mjpeg", &["yuv4mpeg", "set `format = \"y4m\"`"]),
    (
        "picture.jpg",
        "y4m",
        &["JPEG images", "set `format = \"mjpeg\"`"],
    ),
];

#[test]
fn a_silent_stream_says_what_came_instead() {
    let cameras = UNREADABLE.iter().enumerate().map(|(i, (file, format, _))| {
        let path = if *file == "picture.jpg" {
            file.into()
        } else {
            stream(file)
        };
        let script = format!("cat {}; exec sleep 60", path.display());
        camera(&format!("c{i}"), format, 1.0, &script)
    });
    let silent = camera(
        "silent",
        "mjpeg",
        1.0,
        "echo rtsp://a:geheim@b: no route >&2; exec sleep 60",
    );
    let setup = Setup::new(&(cameras.collect::<String>() + &silent));
    std::fs::write(setup.path("picture.jpg"), jpeg(64, 48, 1)).expect("image");
    let daemon = setup.start();
    for (i, (file, _, words)) in UNREADABLE.iter().enumerate() {
        let fault = format!("camera c{i}: no frame for 1.0 s: ");
        daemon.wait_log(&fault);
        let log = daemon.log();
        let line = log.lines().find(|l| l.contains(&fault)).expect("the fault");
        for word in *words {
            assert!(line.contains(word), "{file}: no `{word}` in {line}");
        }
    }
    daemon.wait_log("no frame for 1.0 s: nothing came; the program says: rtsp://***@b: no route");
    assert!(!daemon.log().contains("geheim"), "{}", daemon.log());
    assert_eq!(daemon.events().len(), 0);
}

#[test]
fn a_stream_without_frames_is_one_fault_however_much_comes() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let script = format!(
        "echo >> tries; while sleep 0.01; do cat {}; done",
        stream("h264.bin").display()
    );
    let setup = Setup::new(&format!(
        "{}[mqtt]\nbroker = \"{}\"\n",
        camera("gate", "mjpeg", 0.3, &script),
        broker.url()
    ));
    let daemon = setup.start();
    let state = subscriber.wait_message("gate/state", |m| !m.json()["fault"].is_null());
    let fault = state.json()["fault"].to_string();
    assert!(fault.contains("H.264"), "{fault}");
    let tries = || std::fs::read(daemon.setup.path("tries")).map_or(0, |t| t.len());
    wait_for("four tries", || (tries() >= 4).then_some(()));
    let log = daemon.log();
    assert_eq!(log.matches("no frame for").count(), 1, "{log}");
}

#[test]
fn a_program_that_ends_without_a_frame_says_what_it_sent() {
    let setup = setup(
        "mjpeg",
        5.0,
        &format!("cat {}; exit 22", stream("login.html").display()),
    );
    let daemon = setup.start();
    daemon.wait_log(
        "ended (exit status: 22); without a frame, 184 bytes came, which look like a web page",
    );
    assert_eq!(
        daemon.log().matches("trying again").count(),
        1,
        "{}",
        daemon.log()
    );
}

/// The streams that are read, with the number of their frames.
const READABLE: [(&str, usize); 10] = [
    ("banner.y4m", 2),
    ("restart.y4m", 3),
    ("interlaced.y4m", 2),
    ("420mpeg2.y4m", 2),
    ("411.y4m", 2),
    ("422.y4m", 2),
    ("444.y4m", 2),
    ("444alpha.y4m", 2),
    ("mono.y4m", 2),
    ("420p10.y4m", 2),
];

#[test]
fn yuv4mpeg_is_read_in_every_layout() {
    // A frame that comes before its predecessor was looked at replaces it: the last frame always gets through.
    let cameras = READABLE.iter().enumerate().map(|(i, (file, _))| {
        let script = format!("cat {}; exec sleep 60", stream(file).display());
        camera(&format!("c{i}"), "y4m", 30.0, &script)
    });
    let daemon = Setup::new(&cameras.collect::<String>()).start();
    for (i, (file, frames)) in READABLE.iter().enumerate() {
        let name = format!("c{i}");
        wait_for(
            &format!("the frames of {file}; log:\n{}", daemon.log()),
            || {
                let events = daemon.events();
                let own: Vec<_> = events
                    .iter()
                    .filter(|e| e["camera"] == name.as_str())
                    .collect();
                let dropped = own.last()?["dropped_frames"].as_u64()?;
                (own.len() + dropped as usize >= *frames).then_some(())
            },
        );
    }
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
}

#[test]
fn a_huge_yuv4mpeg_frame_is_refused_before_memory_is_taken() {
    let script = "printf 'YUV4MPEG2 W32768 H32000 F1:1 C420\\nFRAME\\n'; exec cat /dev/zero";
    let daemon = setup("y4m", 5.0, script).start();
    daemon.wait_log("its header `YUV4MPEG2 W32768 H32000 F1:1 C420` announces frames of 32768×32000 pixels and 1572 MB");
    assert!(
        daemon.log().contains("-vf scale=1280:-2"),
        "{}",
        daemon.log()
    );
    assert!(peak_mib(&daemon) < 200, "{} MiB", peak_mib(&daemon));
}

#[test]
fn an_image_without_an_end_takes_bounded_memory() {
    let script = "touch started; until [ -e go ]; do sleep 0.02; done; \
                  cat start; head -c 60000000 /dev/zero; touch taken; exec sleep 60";
    let setup = setup("mjpeg", 3600.0, script);
    let image = jpeg(640, 480, 1);
    std::fs::write(setup.path("start"), &image[..image.len() - 2]).expect("image");
    let daemon = setup.start();
    let wait = |file: &str| {
        let path = daemon.setup.path(file);
        wait_for(file, || path.exists().then_some(()));
    };
    wait("started");
    let before = peak_mib(&daemon);
    std::fs::write(daemon.setup.path("go"), "").expect("file");
    wait("taken");
    let growth = peak_mib(&daemon) - before;
    // 16 for the image.
    assert!(growth < 24, "{growth} MiB");
}

/// The most memory that the daemon had in use.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(daemon.proc("status")).expect("status");
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    peak.trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .expect("kB")
        / 1024
}

#[test]
fn refused_yuv4mpeg_names_the_pixel_format() {
    let daemon = setup(
        "y4m",
        5.0,
        "printf 'YUV4MPEG2 W16 H16 F1:1 C410\\nFRAME\\n'; exec sleep 60",
    )
    .start();
    daemon
        .wait_log("its header `YUV4MPEG2 W16 H16 F1:1 C410` has a colour format that is not read");
    assert!(
        daemon.log().contains("-pix_fmt yuv420p"),
        "{}",
        daemon.log()
    );
}
