//! What runs on a GPU, and is lost, with a thread in the place of the process that computes there.

use super::client::{Client, Outcome, shared_memory};
use super::error::GpuError;
use super::protocol::{Layout, MOST, Order, Reply, Request, numbers, receive, send};
use super::{Device, GpuDevice, GpuTower, LEAST_COSINE, Tower, take, unless_auto};
use crate::{Encoder, EngineOptions, ModelError};
use constancy_kernels::Pool;
use half::f16;
use memmap2::MmapMut;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const LAYOUT: Layout = Layout {
    image: 6,
    width: 2,
    halves: true,
};

/// A worker: what it embeds in, how often, and what it does then.
#[derive(Clone, Copy)]
struct Worker {
    layout: Layout,
    runs: usize,
    end: fn(&UnixStream),
    /// Is added to the first value of every embedding.
    error: f32,
}

impl Worker {
    fn new(runs: usize, end: fn(&UnixStream)) -> Self {
        Self {
            layout: LAYOUT,
            runs,
            end,
            error: 0.0,
        }
    }

    fn start(self) -> Result<Client, GpuError> {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let memory = shared_memory(self.layout.bytes()).expect("memory");
        let file = memory.try_clone().expect("memory");
        std::thread::spawn(move || self.serve(&theirs, &file));
        Client::connect(ours, &memory, &order(self.layout.halves), self.layout, None)
    }

    /// Embeds an image as its sum, its first value, and zeros.
    fn serve(self, socket: &UnixStream, memory: &File) {
        // SAFETY: the other side is this test, and it takes turns.
        let mut memory = unsafe { MmapMut::map_mut(memory) }.expect("memory");
        let Request::Start(order) = receive(socket).expect("a request") else {
            panic!("the first is to start")
        };
        assert_eq!(order.halves, self.layout.halves);
        send(socket, &Reply::Started).expect("an answer");
        for run in 0.. {
            let Ok(Request::Embed { batch }) = receive(socket) else {
                return;
            };
            if run == self.runs {
                return (self.end)(socket);
            }
            let (images, embeddings) = memory.split_at_mut(self.layout.embeddings_at());
            let images: Vec<f32> = if self.layout.halves {
                numbers::<f16>(images).iter().map(|v| v.to_f32()).collect()
            } else {
                numbers::<f32>(images).to_vec()
            };
            let images = images.chunks(self.layout.image).take(batch);
            for (image, out) in images.zip(numbers::<f32>(embeddings).chunks_mut(self.layout.width))
            {
                out.fill(0.0);
                out[..2].copy_from_slice(&[image.iter().sum::<f32>() + self.error, image[0]]);
            }
            send(socket, &Reply::Done).expect("an answer");
        }
    }
}

fn order(halves: bool) -> Order {
    Order {
        manifest: "tower.toml".into(),
        halves,
        plain: false,
    }
}

/// A tower for a tower of such images and embeddings, on a GPU that is lost after as many runs.
pub(crate) fn gpu_tower(image: usize, width: usize, runs: usize) -> GpuTower {
    let layout = Layout {
        image,
        width,
        halves: false,
    };
    let connect = move || {
        Worker {
            layout,
            ..Worker::new(runs, |_| ())
        }
        .start()
    };
    GpuTower::take("test".into(), Box::new(connect)).expect("a tower")
}

fn embed(tower: &GpuTower, count: usize) -> Option<Vec<f32>> {
    tower.embed(&images(count), count, &Pool::new(2).expect("threads"))
}

fn images(count: usize) -> Vec<f32> {
    (0..count * LAYOUT.image).map(|i| i as f32).collect()
}

fn tower(expected: &[f32]) -> Tower {
    let runtime = Arc::new(
        EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        }
        .runtime()
        .expect("threads"),
    );
    Tower {
        order: order(true),
        runtime,
        trial: images(1),
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
fn images_go_over_in_as_many_parts_as_they_need() {
    let tower = GpuTower::take(
        "test".into(),
        Box::new(|| Worker::new(usize::MAX, |_| ()).start()),
    )
    .expect("a tower");
    for count in [1, MOST, MOST + 3] {
        let expected: Vec<f32> = images(count)
            .chunks(LAYOUT.image)
            .flat_map(|i| [i.iter().sum(), i[0]])
            .collect();
        assert_eq!(embed(&tower, count), Some(expected), "{count}");
    }
    assert_eq!(tower.refused(), None);
}

#[test]
fn a_gpu_that_is_lost_is_away_and_comes_back() {
    let ends: [fn(&UnixStream); 2] = [
        |_| (),
        |socket| {
            let error = GpuError::OutOfMemory {
                reason: "a test".into(),
            };
            send(socket, &Reply::Failed(error)).expect("an answer");
        },
    ];
    for (end, said) in ends
        .into_iter()
        .zip(["closed its socket", "memory does not suffice"])
    {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let connect = move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Worker::new(1, end).start(),
            1 => Err(GpuError::NoDevice),
            _ => Worker::new(usize::MAX, |_| ()).start(),
        };
        let tower =
            GpuTower::with_wait("test".into(), Box::new(connect), Duration::ZERO).expect("a tower");
        assert!(embed(&tower, 1).is_some() && tower.refused().is_none());
        assert_eq!(embed(&tower, 1), None, "the CPU has to do it");
        let refused = tower.refused();
        assert!(
            matches!(&refused, Some((1, e)) if e.to_string().contains(said)),
            "{refused:?}"
        );
        let limit = Instant::now() + Duration::from_secs(30);
        while embed(&tower, 1).is_none() {
            assert!(
                Instant::now() < limit,
                "it comes back: {:?}",
                tower.refused()
            );
            std::thread::yield_now();
        }
        assert_eq!(
            starts.load(Ordering::SeqCst),
            3,
            "once more after a try that failed"
        );
        assert!(
            tower.refused().is_some(),
            "what the CPU has done is not forgotten"
        );
    }
}

#[test]
fn an_embedding_that_is_no_number_is_the_cpus_to_make_and_loses_nothing() {
    let connect = || {
        Worker::new(0, |socket| {
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
        GpuTower::with_wait("test".into(), Box::new(counting), Duration::ZERO).expect("a tower");
    assert_eq!(embed(&tower, 1), None);
    let refused = tower.refused();
    assert!(
        matches!(&refused, Some((1, GpuError::Failed { reason })) if reason.contains("not a number")),
        "{refused:?}"
    );
    assert_eq!(starts.load(Ordering::SeqCst), 1, "the GPU is still there");
}

/// In halves it is wrong, in f32 right.
fn wrong_in_halves(_: u32, halves: bool, _: &Tower) -> Result<Client, GpuError> {
    let error = if halves { 40.0 } else { 0.0 };
    Worker {
        error,
        layout: Layout { halves, ..LAYOUT },
        ..Worker::new(usize::MAX, |_| ())
    }
    .start()
}

fn right(_: u32, halves: bool, _: &Tower) -> Result<Client, GpuError> {
    Worker {
        layout: Layout { halves, ..LAYOUT },
        ..Worker::new(usize::MAX, |_| ())
    }
    .start()
}

#[test]
fn a_gpu_is_taken_in_halves_or_else_in_f32_if_its_own_test_agrees_with_the_cpu() {
    let expected = [15.0, 0.0];
    assert_eq!(
        take(&gpu(), tower(&expected), right)
            .expect("a tower")
            .name(),
        "Test (fp16)"
    );
    let error = take(&gpu(), tower(&[0.0, 1.0]), right)
        .map(|s| s.name().to_owned())
        .expect_err("it is wrong");
    assert!(
        matches!(error, GpuError::Disagrees { cosine, least } if cosine < least && least == LEAST_COSINE)
    );
    let by_f32 = Tower {
        trial: vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ..tower(&[1.0, 1.0])
    };
    assert_eq!(
        take(&gpu(), by_f32, wrong_in_halves)
            .expect("a tower")
            .name(),
        "Test (fp32)"
    );
}

#[test]
fn a_gpu_that_disagrees_is_an_error_unless_the_device_is_auto() {
    let disagrees = || take(&gpu(), tower(&[0.0, 1.0]), right).map(|tower| tower.name().to_owned());
    assert_eq!(unless_auto(Device::Auto, disagrees()), Ok(None));
    let error = unless_auto(Device::Cuda(0), disagrees()).expect_err("it was asked for");
    assert!(
        error.to_string().contains("is not the CPU's (cosine 0.0"),
        "{error}"
    );
    assert!(
        error.to_string().contains("engine.device = \"cpu\""),
        "{error}"
    );
}

#[test]
fn what_the_cpu_makes_in_the_place_of_a_gpu_is_its_own_and_not_passed_off_as_the_gpus() {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/encoder/vision-fp32.toml");
    let load = || {
        Encoder::load(
            &manifest,
            &EngineOptions {
                threads: Some(1),
                ..EngineOptions::default()
            },
        )
    };
    let (cpu, gpu) = (
        load().expect("tower"),
        load().expect("tower").on_a_gpu_for(1),
    );
    let image = cpu.manifest().noise(1, 3);
    let of_cpu = cpu.embed(&image).expect("an embedding");
    let of_gpu = gpu.embed(&image).expect("an embedding");
    assert_eq!(of_gpu[1..3], [image[0], 0.0]);
    assert!(gpu.gpu_held().is_ok() && gpu.stood_in() == 0);
    assert_eq!(
        gpu.embed(&image).expect("an embedding"),
        of_cpu,
        "it goes on"
    );
    assert_eq!(gpu.stood_in(), 1);
    let error = gpu.gpu_held().expect_err("it did not hold");
    assert!(
        matches!(
            &error,
            ModelError::Gpu {
                source: GpuError::Lost { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("vision-fp32") && cpu.gpu_held().is_ok(),
        "{error}"
    );
}

/// A client of a process that does nothing, whose part was played until it had started: then its socket was closed.
fn deserted(process: Child) -> Client {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let memory = shared_memory(LAYOUT.bytes()).expect("memory");
    let served = std::thread::spawn(move || {
        let _: Request = receive(&theirs).expect("a request");
        send(&theirs, &Reply::Started).expect("an answer");
    });
    let client =
        Client::connect(ours, &memory, &order(true), LAYOUT, Some(process)).expect("a client");
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

/// A process that hangs in the driver closes its socket, and does not end for all that.
#[test]
fn a_process_that_does_not_end_holds_nothing_up() {
    let process = sleeper().spawn().expect("a process");
    let pid = process.id();
    let mut client = deserted(process);
    let start = Instant::now();
    let error = client
        .embed(&images(1), 1, &Pool::new(1).expect("threads"))
        .map(|o| matches!(o, Outcome::NotFinite));
    assert!(
        error
            .expect_err("it is gone")
            .to_string()
            .contains("closed its socket")
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    drop(client);
    assert!(!exists(pid), "what can be ended is");
}

/// As one that hangs in the driver: its end is kept from its parent as long as another process traces it.
#[test]
fn a_process_that_was_killed_and_does_not_end_holds_nothing_up_and_is_seen_to_later() {
    let mut process = sleeper();
    let let_all = || {
        // SAFETY: one system call, which touches no memory. It fails where all may trace it anyway.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        Ok(())
    };
    // SAFETY: as above.
    unsafe { process.pre_exec(let_all) };
    let process = process.spawn().expect("a process");
    let pid = process.id();
    let traced = i32::try_from(pid).expect("a process's number");
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
            println!("SKIPPED: this machine lets no process trace another: {e}");
            drop(deserted(process));
            return;
        }
        spawned => spawned.expect("a process that traces"),
    };
    let client = deserted(process);
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
        assert!(Instant::now() < limit, "nobody saw to its end");
        std::thread::yield_now();
    }
}
