//! Names of files as people and programs read them. Linux allows every byte but `/` and NUL in a name.

use serde::{Serialize as _, Serializer};
use std::path::Path;

/// Serialises a path as text; what is not UTF-8 in it becomes U+FFFD. For `serialize_with`.
pub(crate) fn lossy<P: AsRef<Path>, S: Serializer>(
    path: &P,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_ref().to_string_lossy().serialize(serializer)
}
