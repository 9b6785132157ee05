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
    pairs: Vec<Pairs>,
    /// Whether maps are fitted to the families, which otherwise only judge them.
    fits_families: bool,
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
            pairs: Vec::new(),
            fits_families: true,
        })
    }

    /// Adds a family of pairs that are not of these images, such as captions and their edits, or
    /// pictures of a camera's own interventions. Maps are fitted to it but not scored by it: it is
    /// never left out.
    pub fn with_pairs(
        mut self,
        name: &str,
        originals: Embeddings,
        changed: Embeddings,
    ) -> Result<Self, SourceError> {
        let width = self.originals.width();
        let names = self.pairs.iter().map(|pairs| pairs.name.as_str());
        if self
            .family_names()
            .into_iter()
            .chain(names)
            .any(|n| n == name)
        {
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
        self.pairs.push(Pairs {
            name: name.into(),
            originals,
            changed,
        });
        Ok(self)
    }

    /// Fits maps to the pairs that are not of these images, and to nothing else: the families of
    /// interventions only judge the maps.
    #[must_use]
    pub fn fitted_to_pairs_alone(self) -> Self {
        Self {
            fits_families: false,
            ..self
        }
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

    /// The number of pairs that maps are fitted to.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs_of(|_| true)
    }

    /// The number of pairs in the families that `wanted` accepts.
    pub(super) fn pairs_of(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let of_images = self.fitted_families().filter(|family| wanted(&family.name));
        let others = self.pairs.iter().filter(|pairs| wanted(&pairs.name));
        let counts = of_images.map(|family| family.of.len());
        let counts = counts.chain(others.map(|pairs| pairs.originals.len()));
        counts.sum::<usize>() as u64
    }

    /// The families that maps are fitted to.
    fn fitted_families(&self) -> impl Iterator<Item = &ChangedImages> {
        self.families.iter().filter(|_| self.fits_families)
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
            fits_families: self.fits_families,
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
            pairs: Vec::new(),
            fits_families: self.fits_families,
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
            pairs: self
                .pairs
                .iter()
                .map(|p| Pairs {
                    name: p.name.clone(),
                    originals: next(&p.originals),
                    changed: next(&p.changed),
                })
                .collect(),
            fits_families: self.fits_families,
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
            pairs: Vec::new(),
            ..self
        }
    }

    /// The moments of all images and pairs.
    #[must_use]
    pub fn moments(&self, encoder_sha256: &str) -> Moments {
        let mut moments = self.moments_of_pairs(encoder_sha256);
        moments.add_units(self.originals.columns());
        for family in self.fitted_families().filter(|f| !f.of.is_empty()) {
            let differences =
                self.originals.columns().select_columns(&family.of) - family.changed.columns();
            moments.add_differences(&family.name, &differences);
        }
        moments
    }

    /// The moments of the pairs that are not of these images.
    pub(super) fn moments_of_pairs(&self, encoder_sha256: &str) -> Moments {
        let mut moments = Moments::new(encoder_sha256, self.originals.width());
        for pairs in &self.pairs {
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
pub(super) mod tests;
