//! The file of [`Moments`]: safetensors, every sum in f64.

use super::moments::{Moments, MomentsError};
use super::sums::{Sums, triangle_len};
use crate::tensor_file::{self, TensorFile, Values, to_json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

const FORMAT: &str = "constancy-moments";
/// How far Σ‖z‖² may differ from the number of unit vectors z, per vector.
const TRACE_TOLERANCE: f64 = 1e-6;
/// The largest ‖δ‖² that two unit vectors can have.
const LONGEST_DIFFERENCE: f64 = 4.0;

/// A family as the file's metadata lists it.
#[derive(Serialize, Deserialize)]
struct FamilyEntry {
    name: String,
    pairs: u64,
}

impl Moments {
    /// Reads what [`Self::to_bytes`] wrote, and checks that the sums can be sums of unit embeddings
    /// and their differences.
    pub fn parse(bytes: &[u8]) -> Result<Self, MomentsError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let (shape, first) = file.f64("image_sum", 1)?;
        let width = shape[0];
        let second = file.f64_vector("image_outer", triangle_len(width))?;
        let families = parse_families(&file, width)?;
        let images = Sums::from_parts(file.json("images")?, &first, &second);
        let off = (images.trace() - images.count as f64).abs();
        if off > TRACE_TOLERANCE * images.count as f64 {
            let reason = format!(
                "the squared lengths of {} unit embeddings are off by {off:.3}",
                images.count
            );
            return Err(MomentsError::Damaged(reason));
        }
        Ok(Self {
            encoder_sha256: file.text("encoder_sha256")?.to_ascii_lowercase(),
            width,
            images,
            families,
        })
    }

    /// The bytes of a moments file. Its tensors are f64: `image_sum` `[D]`; `image_outer`
    /// `[D(D+1)/2]`, the upper triangle of Σz zᵀ row by row; and, if there are families, one row
    /// for each in the order of the metadata `families`: `pair_sum` `[F, D]` and `pair_outer` `[F,
    /// D(D+1)/2]`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MomentsError> {
        let entries: Vec<FamilyEntry> = self
            .families
            .iter()
            .map(|(name, sums)| FamilyEntry {
                name: name.clone(),
                pairs: sums.count,
            })
            .collect();
        let metadata = HashMap::from([
            ("encoder_sha256".to_owned(), self.encoder_sha256.clone()),
            ("width".to_owned(), self.width.to_string()),
            ("images".to_owned(), self.images.count.to_string()),
            ("families".to_owned(), to_json("families", &entries)?),
        ]);
        let (count, triangle) = (entries.len(), triangle_len(self.width));
        let image_sum = Values::F64(self.images.first.as_slice());
        let image_outer = self.images.triangle();
        let pair_sum: Vec<f64> = self
            .families
            .values()
            .flat_map(|sums| sums.first.as_slice().to_vec())
            .collect();
        let pair_outer: Vec<f64> = self.families.values().flat_map(Sums::triangle).collect();
        let mut tensors = vec![
            ("image_sum", vec![self.width], image_sum),
            ("image_outer", vec![triangle], Values::F64(&image_outer)),
        ];
        if count > 0 {
            let (sum, outer) = (Values::F64(&pair_sum), Values::F64(&pair_outer));
            tensors.push(("pair_sum", vec![count, self.width], sum));
            tensors.push(("pair_outer", vec![count, triangle], outer));
        }
        Ok(tensor_file::to_bytes(FORMAT, 1, &tensors, metadata)?)
    }
}

fn parse_families(
    file: &TensorFile<'_>,
    width: usize,
) -> Result<BTreeMap<String, Sums>, MomentsError> {
    let entries: Vec<FamilyEntry> = file.json("families")?;
    let mut families = BTreeMap::new();
    if entries.is_empty() {
        return Ok(families);
    }
    let triangle = triangle_len(width);
    let first = file.f64_matrix("pair_sum", entries.len(), width)?;
    let second = file.f64_matrix("pair_outer", entries.len(), triangle)?;
    for ((entry, first), second) in entries
        .into_iter()
        .zip(first.chunks(width))
        .zip(second.chunks(triangle))
    {
        let sums = Sums::from_parts(entry.pairs, first, second);
        let longest = LONGEST_DIFFERENCE * sums.count as f64 * (1.0 + TRACE_TOLERANCE);
        if sums.count == 0 || sums.trace() > longest || sums.lower.diagonal().min() < 0.0 {
            return Err(MomentsError::Damaged(format!(
                "family `{}` is not a sum of differences of unit embeddings",
                entry.name
            )));
        }
        if families.insert(entry.name.clone(), sums).is_some() {
            return Err(MomentsError::Damaged(format!(
                "family `{}` is listed twice",
                entry.name
            )));
        }
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::moments::tests::{SHA, assert_same, moments_of};

    #[test]
    fn a_file_keeps_every_digit() {
        let moments = moments_of(0..70, 7);
        let read = Moments::parse(&moments.to_bytes().unwrap()).unwrap();
        assert_same(&moments, &read, 0.0);
        assert_eq!((read.encoder_sha256(), read.width()), (SHA, 7));
    }

    #[test]
    fn moments_without_families_have_a_file_too() {
        let mut moments = Moments::new(SHA, 2);
        moments.add_image("a", &[3.0, 4.0]).unwrap();
        let read = Moments::parse(&moments.to_bytes().unwrap()).unwrap();
        assert!((read.second()[(0, 1)] - 0.48).abs() < 1e-12);
        assert!(read.families().is_empty());
    }

    #[test]
    fn a_damaged_file_is_noticed() {
        let mut moments = moments_of(0..9, 4);
        moments.images.count = 8;
        let error = Moments::parse(&moments.to_bytes().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("8 unit embeddings") && error.contains("make it again"),
            "{error}"
        );
        let mut moments = moments_of(0..9, 4);
        for sums in moments.families.values_mut() {
            sums.flush();
            sums.lower *= 1e3;
        }
        let error = Moments::parse(&moments.to_bytes().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a sum of differences"), "{error}");
    }
}
