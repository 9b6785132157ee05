//! The protocol between the daemon and the worker process that runs the GPU: JSON messages, each
//! preceded by its length, on a socket.
//!
//! Images and embeddings do not go through the socket but through shared memory, which has room for
//! [`MAX_BATCH`] images in the tower's number format, followed by as many embeddings in f32.

use super::error::GpuError;
use half::f16;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Write};
use std::path::PathBuf;

/// The largest number of images of one request.
pub(crate) const MAX_BATCH: usize = 64;
/// A longer message must be damaged.
const MAX_MESSAGE_BYTES: u32 = 1 << 20;

/// A request to the worker. The first one is `Start`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    Start(WorkerConfig),
    Embed { batch: usize },
    Profile { batch: usize },
}

/// Which tower a worker runs, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerConfig {
    pub(crate) manifest: PathBuf,
    /// In fp16 rather than f32.
    pub(crate) half_precision: bool,
    /// On tract's operators alone, without fused ones.
    pub(crate) plain: bool,
}

/// The worker's answer to a request.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started,
    Done,
    /// An embedding holds an infinite value or NaN, for example because it overflows fp16.
    NotFinite,
    /// Kind, number of calls and total nanoseconds of the operators.
    Profile(Vec<(String, usize, u64)>),
    Failed(GpuError),
}

/// Writes a message.
pub(crate) fn send<T: Serialize>(mut to: impl Write, message: &T) -> std::io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(json);
    to.write_all(&bytes)
}

/// Reads a message; `UnexpectedEof` if the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    let mut json = vec![0; length as usize];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Layout of the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLayout {
    /// Number of values of one image.
    pub(crate) image: usize,
    /// Number of values of one embedding.
    pub(crate) width: usize,
    /// Whether images are fp16 rather than f32.
    pub(crate) half_precision: bool,
}

impl MemoryLayout {
    pub(crate) fn image_bytes(self) -> usize {
        self.image
            * if self.half_precision {
                size_of::<f16>()
            } else {
                size_of::<f32>()
            }
    }

    /// Offset of the embeddings, bytes.
    pub(crate) fn embeddings_at(self) -> usize {
        MAX_BATCH * self.image_bytes()
    }

    /// Size of the whole memory.
    pub(crate) fn bytes(self) -> usize {
        self.embeddings_at() + MAX_BATCH * self.width * size_of::<f32>()
    }
}

/// A number type for which every bit pattern is valid.
pub(crate) trait Number: Copy {}
impl Number for f32 {}
impl Number for f16 {}

/// Memory that begins at a page, or at an aligned offset from it, as numbers.
pub(crate) fn as_numbers<T: Number>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: the trait promises that every bit pattern is valid.
    let (_, numbers, _) = unsafe { bytes.align_to_mut::<T>() };
    numbers
}
