//! From a camera's frame to the image tower's input, with the model's own preprocessing.
//!
//! A wrong filter or a crop that is off by one pixel lowers the accuracy without an error. So the steps follow CLIP's
//! transform, torchvision's `Resize` and `CenterCrop` on a Pillow image, and tests compare them with golden tensors made
//! by Pillow. Resize and crop are one step that computes only the pixels inside the crop.

mod decode;
mod encode;
mod error;
mod jpeg_picture;
mod limits;
mod picture_file;
mod preprocessor;
mod raw;
mod resize;
mod rgb;
mod transform;
mod view;

pub use decode::{decode, is_complete_jpeg, is_whole_jpeg};
pub use encode::jpeg_within;
pub use error::DecodeError;
pub use limits::TooLarge;
pub use preprocessor::Preprocessor;
pub use resize::{CropBox, crop_box};
pub use rgb::RgbImage;
pub use transform::{Crop, Filter, ResizeMode, Transform};
pub use view::{Area, View, ViewMasker};
