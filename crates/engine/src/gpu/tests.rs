//! What runs on a GPU, and how it is lost, with a fake worker in place of the process that
//! computes.

use super::client::{Client, Outcome};
use super::device::Device;
use super::driver::GpuDevice;
use super::error::GpuError;
use super::fake_worker::{FakeWorker, LAYOUT, config};
use super::process::shared_memory;
use super::protocol::{MAX_BATCH, MemoryLayout, Reply, Request, receive, send};
use super::start::{MIN_COSINE, TowerSetup, fall_back_if_auto, start_checked};
use super::tower::GpuTower;
use crate::options::EngineOptions;
use constancy_kernels::Pool;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

fn embed(tower: &GpuTower, count: usize) -> Option<Vec<f32>> {
    tower.embed(&images(count), count, &Pool::new(2).expect("threads"))
}

fn images(count: usize) -> Vec<f32> {
    (0..count * LAYOUT.image).map(|i| i as f32).collect()
}

fn setup(expected: &[f32]) -> TowerSetup {
    let runtime = Arc::new(
        EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        }
        .runtime()
        .expect("threads"),
    );
    TowerSetup {
        config: config(true),
        runtime,
        test_image: images(1),
        expected: expected.to_vec(),
    }
}

fn gpu() -> GpuDevice {
    GpuDevice {
        index: 0,
        name: "Test".into(),
        capability: (8, 7),
        memory_bytes: 0,
    }
}

#[test]
fn many_images_are_sent_in_several_requests() {
    let tower = GpuTower::connect(
        "test".into(),
        Box::new(|| FakeWorker::new(usize::MAX, |_| ()).start()),
    )
    .expect("a tower");
    for count in [1, MAX_BATCH, MAX_BATCH + 3] {
        let expected: Vec<f32> = images(count)
            .chunks(LAYOUT.image)
            .flat_map(|i| [i.iter().sum(), i[0]])
            .collect();
        assert_eq!(embed(&tower, count), Some(expected), "{count}");
    }
    assert_eq!(tower.last_fallback(), None);
}

#[test]
fn a_lost_gpu_is_connected_again() {
    let ends: [fn(&UnixStream); 2] = [
        |_| (),
        |socket| {
            let error = GpuError::OutOfMemory {
                reason: "a test".into(),
            };
            send(socket, &Reply::Failed(error)).expect("an answer");
        },
    ];
    for (end, reason) in ends
        .into_iter()
        .zip(["closed its socket", "memory does not suffice"])
    {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let connect = move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => FakeWorker::new(1, end).start(),
            1 => Err(GpuError::NoDevice),
            _ => FakeWorker::new(usize::MAX, |_| ()).start(),
        };
        let tower = GpuTower::with_backoff("test".into(), Box::new(connect), Duration::ZERO)
            .expect("a tower");
        assert!(embed(&tower, 1).is_some() && tower.last_fallback().is_none());
        assert_eq!(embed(&tower, 1), None, "the CPU has to embed");
        let fallback = tower.last_fallback();
        assert!(
            matches!(&fallback, Some((1, e)) if e.to_string().contains(reason)),
            "{fallback:?}"
        );
        let limit = Instant::now() + Duration::from_secs(30);
        while embed(&tower, 1).is_none() {
            assert!(
                Instant::now() < limit,
                "it comes back: {:?}",
                tower.last_fallback()
            );
            std::thread::yield_now();
        }
        assert_eq!(
            starts.load(Ordering::SeqCst),
            3,
            "once more after a failed attempt"
        );
        assert!(tower.last_fallback().is_some(), "fallbacks stay counted");
    }
}

#[test]
fn an_embedding_that_is_not_a_number_is_left_to_the_cpu_without_losing_the_gpu() {
    let connect = || {
        FakeWorker::new(0, |socket| {
            send(socket, &Reply::NotFinite).expect("an answer");
            let _: std::io::Result<Request> = receive(socket);
        })
        .start()
    };
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let counting = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        connect()
    };
    let tower =
        GpuTower::with_backoff("test".into(), Box::new(counting), Duration::ZERO).expect("a tower");
    assert_eq!(embed(&tower, 1), None);
    let fallback = tower.last_fallback();
    assert!(
        matches!(&fallback, Some((1, GpuError::Failed { reason })) if reason.contains("not a number")),
        "{fallback:?}"
    );
    assert_eq!(
        starts.load(Ordering::SeqCst),
        1,
        "the GPU is still connected"
    );
}

/// Starts a worker that is wrong in half precision and right in f32.
fn wrong_in_half_precision(
    _: u32,
    half_precision: bool,
    _: &TowerSetup,
) -> Result<Client, GpuError> {
    let error = if half_precision { 40.0 } else { 0.0 };
    FakeWorker {
        error,
        layout: MemoryLayout {
            half_precision,
            ..LAYOUT
        },
        ..FakeWorker::new(usize::MAX, |_| ())
    }
    .start()
}

/// Starts a worker that is right.
fn right(_: u32, half_precision: bool, _: &TowerSetup) -> Result<Client, GpuError> {
    FakeWorker {
        layout: MemoryLayout {
            half_precision,
            ..LAYOUT
        },
        ..FakeWorker::new(usize::MAX, |_| ())
    }
    .start()
}

#[test]
fn a_gpu_runs_in_half_precision_or_else_in_f32_if_it_agrees_with_the_cpu() {
    let expected = [15.0, 0.0];
    assert_eq!(
        start_checked(&gpu(), setup(&expected), right)
            .expect("a tower")
            .name(),
        "Test (fp16)"
    );
    let error = start_checked(&gpu(), setup(&[0.0, 1.0]), right)
        .map(|s| s.name().to_owned())
        .expect_err("it disagrees");
    assert!(
        matches!(error, GpuError::Disagrees { cosine, least } if cosine < least && least == MIN_COSINE)
    );
    let right_in_f32 = TowerSetup {
        test_image: vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ..setup(&[1.0, 1.0])
    };
    assert_eq!(
        start_checked(&gpu(), right_in_f32, wrong_in_half_precision)
            .expect("a tower")
            .name(),
        "Test (fp32)"
    );
}

#[test]
fn a_gpu_that_disagrees_is_an_error_unless_the_device_is_auto() {
    let disagrees =
        || start_checked(&gpu(), setup(&[0.0, 1.0]), right).map(|tower| tower.name().to_owned());
    assert_eq!(fall_back_if_auto(Device::Auto, disagrees()), Ok(None));
    let error = fall_back_if_auto(Device::Cuda(0), disagrees()).expect_err("it was asked for");
    assert!(
        error.to_string().contains("is not the CPU's (cosine 0.0"),
        "{error}"
    );
    assert!(
        error.to_string().contains("engine.device = \"cpu\""),
        "{error}"
    );
}

/// A client of a process that does nothing. A thread answers the start in its place and then closes
/// the socket.
fn abandoned_client(process: Child) -> Client {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let memory = shared_memory(LAYOUT.bytes()).expect("memory");
    let served = std::thread::spawn(move || {
        let _: Request = receive(&theirs).expect("a request");
        send(&theirs, &Reply::Started).expect("an answer");
    });
    let client =
        Client::connect(ours, &memory, &config(true), LAYOUT, Some(process)).expect("a client");
    served.join().expect("it answered");
    client
}

fn sleeper() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("60").stdin(Stdio::null());
    sleep
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Like a process that hangs in the driver: it closes its socket but does not end.
#[test]
fn a_process_that_does_not_end_blocks_nothing() {
    let process = sleeper().spawn().expect("a process");
    let pid = process.id();
    let mut client = abandoned_client(process);
    let start = Instant::now();
    let error = client
        .embed(&images(1), 1, &Pool::new(1).expect("threads"))
        .map(|o| matches!(o, Outcome::NotFinite));
    assert!(
        error
            .expect_err("its socket is closed")
            .to_string()
            .contains("closed its socket")
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    drop(client);
    assert!(!exists(pid), "it is killed");
}

/// Like a process that hangs in the driver: its parent does not see its end while another process
/// traces it.
#[test]
fn a_killed_process_that_does_not_end_blocks_nothing_and_is_reaped_later() {
    let mut process = sleeper();
    let allow_tracing = || {
        // SAFETY: one system call, which touches no memory. It fails where any process may trace it
        // anyway.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        Ok(())
    };
    // SAFETY: as above.
    unsafe { process.pre_exec(allow_tracing) };
    let process = process.spawn().expect("a process");
    let pid = process.id();
    let traced = i32::try_from(pid).expect("a process id");
    let mut tracer = sleeper();
    let seize = move || {
        // SAFETY: one system call, which touches no memory of this process.
        let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, traced, 0_usize, 0_usize) };
        if done == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: as above.
    let mut tracer = match unsafe { tracer.pre_exec(seize) }.spawn() {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            // Not `println!`, which libtest captures.
            let test = "a_killed_process_that_does_not_end_blocks_nothing_and_is_reaped_later";
            let line = format!("SKIPPED {test}: this machine does not allow ptrace: {e}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            drop(abandoned_client(process));
            return;
        }
        spawned => spawned.expect("a tracing process"),
    };
    let client = abandoned_client(process);
    let (done, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        drop(client);
        done.send(())
    });
    let dropped = dropped.recv_timeout(Duration::from_secs(20));
    let hung = exists(pid);
    tracer.kill().and_then(|()| tracer.wait()).expect("it ends");
    assert!(dropped.is_ok() && hung, "{dropped:?}, it hung: {hung}");
    let limit = Instant::now() + Duration::from_secs(20);
    while exists(pid) {
        assert!(Instant::now() < limit, "it was never reaped");
        std::thread::yield_now();
    }
}
