//! What the daemon and the process that runs the GPU say to each other: JSON, its length before it, on a socket.
//!
//! Images and embeddings do not go through the socket; they lie in memory that both have mapped: room for
//! [`MOST`] images in the tower's numbers, and behind it for as many embeddings, f32.

use super::error::GpuError;
use half::f16;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Write};
use std::path::PathBuf;

/// Images that go over at a time.
pub(in super::super) const MOST: usize = 64;
/// Longer messages are damaged.
const LONGEST: u32 = 1 << 20;

/// What the worker is asked. The first request is `Start`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) enum Request {
    Start(Order),
    Embed { batch: usize },
    Profile { batch: usize },
}

/// The tower that a worker runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Order {
    pub(in super::super) manifest: PathBuf,
    /// In halves rather than f32.
    pub(in super::super) halves: bool,
    /// Without operators of ours.
    pub(in super::super) plain: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) enum Reply {
    Started,
    Done,
    /// An embedding that is not a number: too large for halves, perhaps.
    NotFinite,
    /// Kind, calls and nanoseconds of the operators.
    Profile(Vec<(String, usize, u64)>),
    Failed(GpuError),
}

pub(in super::super) fn send<T: Serialize>(mut to: impl Write, message: &T) -> std::io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(json);
    to.write_all(&bytes)
}

/// `UnexpectedEof` where the other side is gone.
pub(in super::super) fn receive<T: DeserializeOwned>(mut from: impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    let mut json = vec![0; length as usize];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// What lies in the memory that both sides map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Layout {
    /// Values of one image and of one embedding.
    pub(in super::super) image: usize,
    pub(in super::super) width: usize,
    /// Whether images are halves.
    pub(in super::super) halves: bool,
}

impl Layout {
    pub(in super::super) fn image_bytes(self) -> usize {
        self.image
            * if self.halves {
                size_of::<f16>()
            } else {
                size_of::<f32>()
            }
    }

    /// Where embeddings begin.
    pub(in super::super) fn embeddings_at(self) -> usize {
        MOST * self.image_bytes()
    }

    pub(in super::super) fn bytes(self) -> usize {
        self.embeddings_at() + MOST * self.width * size_of::<f32>()
    }
}

/// Numbers of which every pattern of bits is one.
pub(in super::super) trait Number: Copy {}
impl Number for f32 {}
impl Number for f16 {}

/// The numbers that lie in mapped memory, which begins at a page.
pub(in super::super) fn numbers<T: Number>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: by the trait's promise every pattern of bits is a number.
    let (_, numbers, _) = unsafe { bytes.align_to_mut::<T>() };
    numbers
}
