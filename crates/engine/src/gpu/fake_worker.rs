//! A worker for tests: a thread in place of the process that runs a GPU.

use super::client::Client;
use super::error::GpuError;
use super::process::shared_memory;
use super::protocol::{MemoryLayout, Reply, Request, WorkerConfig, as_numbers, receive, send};
use super::tower::GpuTower;
use half::f16;
use memmap2::MmapMut;
use std::fs::File;
use std::os::unix::net::UnixStream;

/// The shared memory of fake workers.
pub(super) const LAYOUT: MemoryLayout = MemoryLayout {
    image: 6,
    width: 2,
    half_precision: true,
};

/// A worker that embeds an image as the image's sum, its first value, and zeros.
#[derive(Clone, Copy)]
pub(super) struct FakeWorker {
    pub(super) layout: MemoryLayout,
    /// How many runs it answers; the next one calls `end` with its socket, and the worker ends.
    pub(super) runs: usize,
    pub(super) end: fn(&UnixStream),
    /// Added to the first value of every embedding.
    pub(super) error: f32,
}

impl FakeWorker {
    pub(super) fn new(runs: usize, end: fn(&UnixStream)) -> Self {
        Self {
            layout: LAYOUT,
            runs,
            end,
            error: 0.0,
        }
    }

    pub(super) fn start(self) -> Result<Client, GpuError> {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let memory = shared_memory(self.layout.bytes()).expect("memory");
        let file = memory.try_clone().expect("memory");
        std::thread::spawn(move || self.serve(&theirs, &file));
        Client::connect(
            ours,
            &memory,
            &config(self.layout.half_precision),
            self.layout,
            None,
        )
    }

    fn serve(self, socket: &UnixStream, memory: &File) {
        // SAFETY: the other side is this test, and the messages make them take turns.
        let mut memory = unsafe { MmapMut::map_mut(memory) }.expect("memory");
        let Request::Start(config) = receive(socket).expect("a request") else {
            panic!("the first request is to start")
        };
        assert_eq!(config.half_precision, self.layout.half_precision);
        send(socket, &Reply::Started).expect("an answer");
        for run in 0.. {
            let Ok(Request::Embed { batch }) = receive(socket) else {
                return;
            };
            if run == self.runs {
                return (self.end)(socket);
            }
            let (images, embeddings) = memory.split_at_mut(self.layout.embeddings_at());
            let images: Vec<f32> = if self.layout.half_precision {
                as_numbers::<f16>(images)
                    .iter()
                    .map(|v| v.to_f32())
                    .collect()
            } else {
                as_numbers::<f32>(images).to_vec()
            };
            let images = images.chunks(self.layout.image).take(batch);
            for (image, out) in
                images.zip(as_numbers::<f32>(embeddings).chunks_mut(self.layout.width))
            {
                out.fill(0.0);
                out[..2].copy_from_slice(&[image.iter().sum::<f32>() + self.error, image[0]]);
            }
            send(socket, &Reply::Done).expect("an answer");
        }
    }
}

pub(super) fn config(half_precision: bool) -> WorkerConfig {
    WorkerConfig {
        manifest: "tower.toml".into(),
        half_precision,
        plain: false,
    }
}

/// A tower on a fake GPU that is lost after `runs` runs; `image` and `width` are the numbers of
/// values of an image and an embedding.
pub(crate) fn gpu_tower(image: usize, width: usize, runs: usize) -> GpuTower {
    let layout = MemoryLayout {
        image,
        width,
        half_precision: false,
    };
    let connect = move || {
        FakeWorker {
            layout,
            ..FakeWorker::new(runs, |_| ())
        }
        .start()
    };
    GpuTower::connect("test".into(), Box::new(connect)).expect("a tower")
}
