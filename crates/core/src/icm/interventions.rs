//! The data a map is fitted to and chosen by: images of the source environments and what
//! interventions made of them, without labels.

use super::embeddings::Embeddings;
use super::linalg::transposed_product;
use super::moments::Moments;
use super::projection::Projection;
use super::spectrum::Spectrum;
use nalgebra::DMatrix;
use thiserror::Error;

/// Why images, labels and interventions do not belong together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    #[error("there are {found} {what} for {images} images")]
    Count {
        what: &'static str,
        found: usize,
        images: usize,
    },
    #[error("{what}: {index} is not among the {count} that have names")]
    Index {
        what: &'static str,
        index: usize,
        count: usize,
    },
    #[error("family `{family}` changes image {image}, but there are only {images} images")]
    Image {
        family: String,
        image: usize,
        images: usize,
    },
    #[error(
        "family `{family}` has embeddings of width {found}, but the images have {width}; embed all with one model"
    )]
    Width {
        family: String,
        found: usize,
        width: usize,
    },
    #[error("family `{0}` is given twice")]
    Duplicate(String),
    #[error("there is no environment `{0}`")]
    NoEnvironment(String),
    #[error("there are no images under `{0}`")]
    NoFamily(String),
}

/// The encoder's hash in moments that are never written to a file: all come from one encoder, so no
/// name is needed.
pub(super) const UNNAMED_ENCODER: &str = "";

/// The images that one family of interventions changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedImages {
    /// The family's name.
    pub name: String,
    /// The index of each changed image's original. An image may have no changed version, one, or
    /// several.
    pub of: Vec<usize>,
    /// Embeddings of the changed images, as many as `of`.
    pub changed: Embeddings,
}

impl ChangedImages {
    /// The changed versions of the images that have a new index in `place`.
    fn pick(&self, place: &[Option<usize>]) -> Self {
        let kept: Vec<usize> = (0..self.of.len())
            .filter(|&i| place[self.of[i]].is_some())
            .collect();
        Self {
            name: self.name.clone(),
            of: kept.iter().filter_map(|&i| place[self.of[i]]).collect(),
            changed: self.changed.pick(&kept),
        }
    }
}

/// Pairs whose originals are not images of the set, such as captions and their edits. They belong
/// to every subset of the images.
#[derive(Debug, Clone, PartialEq)]
struct Pairs {
    name: String,
    originals: Embeddings,
    /// As many as `originals`.
    changed: Embeddings,
}

/// Images and their versions under interventions, without labels.
#[derive(Debug, Clone)]
pub struct Interventions {
    originals: Embeddings,
    families: Vec<ChangedImages>,
    pairs: Option<Pairs>,
}

impl Interventions {
    /// Checks that families have distinct names, the width of the originals, and valid indices.
    pub fn new(originals: Embeddings, families: Vec<ChangedImages>) -> Result<Self, SourceError> {
        let (images, width) = (originals.len(), originals.width());
        for (i, family) in families.iter().enumerate() {
            let name = || family.name.clone();
            if families[..i].iter().any(|f| f.name == family.name) {
                return Err(SourceError::Duplicate(name()));
            }
            if family.changed.width() != width {
                return Err(SourceError::Width {
                    family: name(),
                    found: family.changed.width(),
                    width,
                });
            }
            if family.of.len() != family.changed.len() {
                let found = family.of.len();
                return Err(SourceError::Count {
                    what: "originals",
                    found,
                    images: family.changed.len(),
                });
            }
            if let Some(&image) = family.of.iter().find(|&&of| of >= images) {
                return Err(SourceError::Image {
                    family: name(),
                    image,
                    images,
                });
            }
        }
        Ok(Self {
            originals,
            families,
            pairs: None,
        })
    }

    /// Adds a family of pairs that are not of these images, such as captions and their edits. Maps
    /// are fitted to it but not scored by it: it is never left out.
    pub fn with_pairs(
        self,
        name: &str,
        originals: Embeddings,
        changed: Embeddings,
    ) -> Result<Self, SourceError> {
        let width = self.originals.width();
        if self.families.iter().any(|f| f.name == name) {
            return Err(SourceError::Duplicate(name.into()));
        }
        if let Some(found) = [&originals, &changed]
            .map(Embeddings::width)
            .into_iter()
            .find(|&w| w != width)
        {
            return Err(SourceError::Width {
                family: name.into(),
                found,
                width,
            });
        }
        if originals.len() != changed.len() {
            return Err(SourceError::Count {
                what: "originals",
                found: originals.len(),
                images: changed.len(),
            });
        }
        Ok(Self {
            pairs: Some(Pairs {
                name: name.into(),
                originals,
                changed,
            }),
            ..self
        })
    }

    /// The embeddings of the images as they are.
    #[must_use]
    pub fn originals(&self) -> &Embeddings {
        &self.originals
    }

    #[must_use]
    pub fn families(&self) -> &[ChangedImages] {
        &self.families
    }

    /// The families' names, in order.
    pub(super) fn family_names(&self) -> Vec<&str> {
        self.families.iter().map(|f| f.name.as_str()).collect()
    }

    /// The number of pairs in all families.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs_of(|_| true)
    }

    /// The number of pairs in the families that `wanted` accepts.
    pub(super) fn pairs_of(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let of_images = self.families.iter().filter(|family| wanted(&family.name));
        let others = self.pairs.iter().filter(|pairs| wanted(&pairs.name));
        let counts = of_images.map(|family| family.of.len());
        let counts = counts.chain(others.map(|pairs| pairs.originals.len()));
        counts.sum::<usize>() as u64
    }

    /// The images at `indices`, in that order, with their changed versions.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        let place = self.places(indices);
        Self {
            originals: self.originals.pick(indices),
            families: self
                .families
                .iter()
                .map(|family| family.pick(&place))
                .collect(),
            pairs: self.pairs.clone(),
        }
    }

    /// One family's versions of the images at `indices`; `None` if there is no such family.
    pub(super) fn pick_family(&self, name: &str, indices: &[usize]) -> Option<ChangedImages> {
        let family = self.families.iter().find(|family| family.name == name)?;
        Some(family.pick(&self.places(indices)))
    }

    /// Each image's position in `indices`.
    fn places(&self, indices: &[usize]) -> Vec<Option<usize>> {
        let mut place = vec![None; self.originals.len()];
        for (new, &old) in indices.iter().enumerate() {
            place[old] = Some(new);
        }
        place
    }

    /// The images under a projection, without the pairs that are not of these images.
    #[must_use]
    pub fn projected(&self, projection: &Projection) -> Self {
        let mapped = |e: &Embeddings| e.mapped(projection.rank(), |z| projection.apply(z));
        let family = |f: &ChangedImages| ChangedImages {
            name: f.name.clone(),
            of: f.of.clone(),
            changed: mapped(&f.changed),
        };
        Self {
            originals: mapped(&self.originals),
            families: self.families.iter().map(family).collect(),
            pairs: None,
        }
    }

    /// The same images in as few coordinates as they span, if these are fewer than the width;
    /// `None` otherwise. Lengths, angles, the maps fitted to them and the choice among these stay
    /// the same, in a fraction of the time.
    pub(super) fn compact(&self) -> Option<Self> {
        let pairs = self.pairs.iter().flat_map(|p| [&p.originals, &p.changed]);
        let parts: Vec<&Embeddings> = [&self.originals]
            .into_iter()
            .chain(self.families.iter().map(|f| &f.changed))
            .chain(pairs)
            .collect();
        let coordinates = span_coordinates(&parts)?;
        let mut from = 0;
        let mut next = |part: &Embeddings| {
            from += part.len();
            let columns = coordinates.columns(from - part.len(), part.len());
            Embeddings::from_unit_columns(columns.into_owned())
        };
        Some(Self {
            originals: next(&self.originals),
            families: self
                .families
                .iter()
                .map(|f| ChangedImages {
                    name: f.name.clone(),
                    of: f.of.clone(),
                    changed: next(&f.changed),
                })
                .collect(),
            pairs: self.pairs.as_ref().map(|p| Pairs {
                name: p.name.clone(),
                originals: next(&p.originals),
                changed: next(&p.changed),
            }),
        })
    }

    /// The images without one family.
    pub(super) fn without_family(mut self, name: &str) -> Self {
        self.families.retain(|family| family.name != name);
        self
    }

    /// The images without the pairs that belong to every subset.
    pub(super) fn without_pairs(self) -> Self {
        Self {
            pairs: None,
            ..self
        }
    }

    /// The moments of all images and pairs.
    #[must_use]
    pub fn moments(&self, encoder_sha256: &str) -> Moments {
        let mut moments = self.moments_of_pairs(encoder_sha256);
        moments.add_units(self.originals.columns());
        for family in self.families.iter().filter(|family| !family.of.is_empty()) {
            let differences =
                self.originals.columns().select_columns(&family.of) - family.changed.columns();
            moments.add_differences(&family.name, &differences);
        }
        moments
    }

    /// The moments of the pairs that are not of these images.
    pub(super) fn moments_of_pairs(&self, encoder_sha256: &str) -> Moments {
        let mut moments = Moments::new(encoder_sha256, self.originals.width());
        if let Some(pairs) = &self.pairs {
            moments.add_differences(
                &pairs.name,
                &(pairs.originals.columns() - pairs.changed.columns()),
            );
        }
        moments
    }
}

/// The coordinates `[n, n]` of all n columns in the space they span; `None` if n is not below the
/// width.
fn span_coordinates(parts: &[&Embeddings]) -> Option<DMatrix<f64>> {
    let width = parts.first()?.width();
    let count = parts.iter().map(|part| part.len()).sum::<usize>();
    if count >= width {
        return None;
    }
    let values = parts
        .iter()
        .flat_map(|part| part.columns().iter().copied())
        .collect();
    let columns = DMatrix::from_vec(width, count, values);
    // With X = U S Vᵀ, the coordinates in U are S Vᵀ, and XᵀX = V S² Vᵀ.
    let spectrum = Spectrum::of(&transposed_product(&columns, &columns))?;
    let roots = spectrum.values.map(|value: f64| value.max(0.0).sqrt());
    Some(DMatrix::from_diagonal(&roots) * spectrum.vectors.transpose())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::icm) fn embeddings(values: &[f32]) -> Embeddings {
        let rows: Vec<Vec<f32>> = values.iter().map(|&v| vec![v, 1.0]).collect();
        Embeddings::new(2, &rows, |i| i.to_string()).unwrap()
    }

    pub(in crate::icm) fn family(of: &[usize], values: &[f32]) -> ChangedImages {
        ChangedImages {
            name: "blur".into(),
            of: of.to_vec(),
            changed: embeddings(values),
        }
    }

    #[test]
    fn changed_images_follow_their_originals() {
        let images = Interventions::new(
            embeddings(&[0.0, 1.0, 2.0]),
            vec![family(&[2, 0, 2], &[5.0, 6.0, 7.0])],
        )
        .unwrap();
        let picked = images.pick(&[2, 1]);
        assert_eq!(picked.originals(), &embeddings(&[2.0, 1.0]));
        assert_eq!(picked.families(), [family(&[0, 0], &[5.0, 7.0])]);
        assert_eq!(picked.moments("aa").families()["blur"], 2);
    }

    #[test]
    fn pairs_of_other_things_belong_to_every_subset() {
        let images =
            Interventions::new(embeddings(&[0.0, 1.0]), vec![family(&[0, 1], &[5.0, 6.0])])
                .unwrap();
        let refused = images
            .clone()
            .with_pairs("blur", embeddings(&[1.0]), embeddings(&[2.0]))
            .unwrap_err();
        assert_eq!(refused, SourceError::Duplicate("blur".into()));
        let refused = images
            .clone()
            .with_pairs("captions", embeddings(&[1.0]), embeddings(&[2.0, 3.0]))
            .unwrap_err();
        assert_eq!(refused.to_string(), "there are 1 originals for 2 images");
        let images = images
            .with_pairs("captions", embeddings(&[1.0]), embeddings(&[2.0]))
            .unwrap();
        let counts = |images: &Interventions| {
            images
                .moments("aa")
                .families()
                .into_values()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (counts(&images), counts(&images.pick(&[1]))),
            (vec![2, 1], vec![1, 1])
        );
    }

    #[test]
    fn mismatched_families_are_refused() {
        let refused = |families| {
            Interventions::new(embeddings(&[0.0, 1.0]), families)
                .unwrap_err()
                .to_string()
        };
        assert!(
            refused(vec![family(&[0, 2], &[5.0, 6.0])])
                .contains("`blur` changes image 2, but there are only 2 images")
        );
        assert!(refused(vec![family(&[0], &[5.0, 6.0])]).contains("1 originals for 2 images"));
        assert!(
            refused(vec![family(&[], &[]), family(&[], &[])]).contains("`blur` is given twice")
        );
    }
}
