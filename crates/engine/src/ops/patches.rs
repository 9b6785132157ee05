//! The patches of images as rows of a product.

use crate::spec::Patches;

/// Writes row `r` of the patches of `images` `[B, C, H, W]`: `[C · size · size]`.
pub(super) fn cut_patch(patches: &Patches, images: &[f32], r: usize, row: &mut [f32]) {
    let (size, count) = (patches.size, patches.rows * patches.columns);
    let (width, height) = (patches.columns * size, patches.rows * size);
    let (image, patch) = (r / count, r % count);
    let (top, left) = (
        patch / patches.columns * size,
        patch % patches.columns * size,
    );
    for (i, line) in row.chunks_exact_mut(size).enumerate() {
        let (channel, y) = (i / size, i % size);
        let from = ((image * patches.channels + channel) * height + top + y) * width + left;
        line.copy_from_slice(&images[from..from + size]);
    }
}
