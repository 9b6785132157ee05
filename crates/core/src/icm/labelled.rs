//! Images with labels to learn from, and images that nothing is learnt from.
//!
//! A target environment is a [`HeldOut`], which no function of [`super::select`] and [`super::fit`] takes.

use super::embeddings::Embeddings;
use super::fit::Map;
use super::folders::{Domains, Item};
use super::moments::Moments;
use super::predict::{Head, rows_of};
use super::sources::{Interventions, SAME_ENCODER, SourceError};

/// The family of pairs that labels show: two images of one class share what names them, and differ in what should not
/// matter to it, as an image and the same under an intervention do. No intervention shows the grain of one casting beside
/// that of the next.
pub const SAME_CLASS: &str = "same-class";

/// Images with interventions, classes and environments.
#[derive(Debug, Clone)]
pub struct Labelled {
    images: Interventions,
    /// Per image, index into `class_names`.
    classes: Vec<usize>,
    /// Per image, index into `environment_names`.
    environments: Vec<usize>,
    class_names: Vec<String>,
    environment_names: Vec<String>,
    /// Whether [`SAME_CLASS`] is one of its families.
    same_class: bool,
}

impl Labelled {
    /// Checks that the parts belong together.
    pub fn new(
        images: Interventions,
        classes: Vec<usize>,
        environments: Vec<usize>,
        class_names: Vec<String>,
        environment_names: Vec<String>,
    ) -> Result<Self, SourceError> {
        let count = images.originals().len();
        let kinds = [
            ("classes", &classes, &class_names),
            ("environments", &environments, &environment_names),
        ];
        for (what, indices, names) in kinds {
            if indices.len() != count {
                return Err(SourceError::Count {
                    what,
                    found: indices.len(),
                    images: count,
                });
            }
            if let Some(&index) = indices.iter().find(|&&i| i >= names.len()) {
                return Err(SourceError::Index {
                    what,
                    index,
                    count: names.len(),
                });
            }
        }
        Ok(Self {
            images,
            classes,
            environments,
            class_names,
            environment_names,
            same_class: false,
        })
    }

    /// Images of `items`, in their order, which say the class and environment of each.
    pub fn of_items<'a>(
        images: Interventions,
        domains: &Domains,
        items: impl Iterator<Item = &'a Item> + Clone,
    ) -> Result<Self, SourceError> {
        let classes = items.clone().map(|item| item.class).collect();
        let environments = items.map(|item| item.environment).collect();
        Self::new(
            images,
            classes,
            environments,
            domains.classes.clone(),
            domains.environments.clone(),
        )
    }

    #[must_use]
    pub fn images(&self) -> &Interventions {
        &self.images
    }

    /// Per image, index into [`Self::class_names`].
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// Per image, index into [`Self::environment_names`].
    #[must_use]
    pub fn environments(&self) -> &[usize] {
        &self.environments
    }

    #[must_use]
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    #[must_use]
    pub fn environment_names(&self) -> &[String] {
        &self.environment_names
    }

    /// See [`Interventions::compact`].
    pub(super) fn compact(&self) -> Option<Self> {
        let images = self.images.compact()?;
        let (classes, environments) = (self.classes.clone(), self.environments.clone());
        let (class_names, environment_names) =
            (self.class_names.clone(), self.environment_names.clone());
        Some(Self {
            images,
            classes,
            environments,
            class_names,
            environment_names,
            same_class: self.same_class,
        })
    }

    /// With one more family of pairs, [`SAME_CLASS`], where that is wanted. As pairs of other things are, it is fitted to, and never left out;
    /// a choice by identification, which looks at no labels, goes without.
    #[must_use]
    pub fn with_same_class(self, wanted: bool) -> Self {
        Self {
            same_class: wanted,
            ..self
        }
    }

    /// The names of all families.
    pub(super) fn families(&self) -> Vec<&str> {
        let of_images = self
            .images
            .families()
            .iter()
            .map(|family| family.name.as_str());
        of_images
            .chain(self.same_class.then_some(SAME_CLASS))
            .collect()
    }

    /// The moments of all images and pairs.
    #[must_use]
    pub fn moments(&self, encoder_sha256: &str) -> Moments {
        let mut moments = self.images.moments(encoder_sha256);
        if self.same_class {
            add_classmates(&mut moments, self.images.originals(), &self.classes);
        }
        moments
    }

    /// The environments that have images.
    #[must_use]
    pub fn used_environments(&self) -> Vec<usize> {
        let mut environments = self.environments.clone();
        environments.sort_unstable();
        environments.dedup();
        environments
    }

    /// The moments of all that belongs to one environment alone.
    #[must_use]
    pub fn moments_of_environment(&self, environment: usize) -> EnvironmentMoments {
        let of_environment = |&i: &usize| self.environments[i] == environment;
        let images: Vec<usize> = (0..self.environments.len())
            .filter(of_environment)
            .collect();
        let moments = self
            .images
            .pick(&images)
            .without_pairs()
            .moments(SAME_ENCODER);
        EnvironmentMoments {
            environment,
            moments,
        }
    }

    /// Those of each environment that has images.
    #[must_use]
    pub fn moments_by_environment(&self) -> Vec<EnvironmentMoments> {
        self.used_environments()
            .into_iter()
            .map(|environment| self.moments_of_environment(environment))
            .collect()
    }

    /// The moments of what belongs to no environment alone: pairs of other things, and [`SAME_CLASS`] of the images
    /// `of`.
    pub(super) fn moments_of_no_environment(&self, of: &[usize]) -> Moments {
        let mut moments = self.images.moments_of_pairs(SAME_ENCODER);
        if self.same_class {
            let classes: Vec<usize> = of.iter().map(|&i| self.classes[i]).collect();
            add_classmates(&mut moments, &self.images.originals().pick(of), &classes);
        }
        moments
    }

    /// The images at `indices`.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            images: self.images.pick(indices),
            classes: indices.iter().map(|&i| self.classes[i]).collect(),
            environments: indices.iter().map(|&i| self.environments[i]).collect(),
            class_names: self.class_names.clone(),
            environment_names: self.environment_names.clone(),
            same_class: self.same_class,
        }
    }

    /// All environments but one to learn from, and that one to be judged by.
    pub fn leave_out(&self, environment: &str) -> Result<(Self, HeldOut), SourceError> {
        let wanted = self
            .environment_names
            .iter()
            .position(|name| name == environment);
        let left = wanted.ok_or_else(|| SourceError::NoEnvironment(environment.into()))?;
        let (out, rest): (Vec<usize>, Vec<usize>) =
            (0..self.environments.len()).partition(|&i| self.environments[i] == left);
        let held_out = HeldOut {
            embeddings: self.images.originals().pick(&out),
            classes: out.iter().map(|&i| self.classes[i]).collect(),
        };
        Ok((self.pick(&rest), held_out))
    }
}

impl Labelled {
    /// Some images to learn from, without a family of interventions, and `others` under that family to be judged by;
    /// the others as they are, and no family left out, where none is named.
    pub fn leave_out_family(
        &self,
        examples: &[usize],
        others: &[usize],
        family: Option<&str>,
    ) -> Result<(Self, HeldOut), SourceError> {
        let mut sources = self.pick(examples);
        let Some(name) = family else {
            let classes = others.iter().map(|&i| self.classes[i]).collect();
            return Ok((
                sources,
                HeldOut {
                    embeddings: self.images.originals().pick(others),
                    classes,
                },
            ));
        };
        sources.images = sources.images.without_family(name);
        let left_out = self.images.pick_family(name, others);
        let left_out = left_out.ok_or_else(|| SourceError::NoFamily(name.into()))?;
        let classes = left_out
            .of
            .iter()
            .map(|&i| self.classes[others[i]])
            .collect();
        Ok((
            sources,
            HeldOut {
                embeddings: left_out.changed,
                classes,
            },
        ))
    }
}

/// Moments of the images of one environment, and of what interventions made of them.
#[derive(Debug, Clone)]
pub struct EnvironmentMoments {
    pub(super) environment: usize,
    pub(super) moments: Moments,
}

/// Images of an environment, or under interventions, that nothing was learnt from.
#[derive(Debug, Clone)]
pub struct HeldOut {
    embeddings: Embeddings,
    classes: Vec<usize>,
}

impl HeldOut {
    /// Embeddings and the class of each.
    pub fn new(embeddings: Embeddings, classes: Vec<usize>) -> Result<Self, SourceError> {
        if classes.len() == embeddings.len() {
            return Ok(Self {
                embeddings,
                classes,
            });
        }
        Err(SourceError::Count {
            what: "classes",
            found: classes.len(),
            images: embeddings.len(),
        })
    }

    /// Per image, 1 where `head` names its class under `map`, and 0 where not.
    #[must_use]
    pub fn hits(&self, map: &Map, head: &Head) -> Vec<f64> {
        hits(&head.predict(&map.apply(&self.embeddings)), &self.classes)
    }

    pub(super) fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    pub(super) fn classes(&self) -> &[usize] {
        &self.classes
    }
}

/// Adds [`SAME_CLASS`] of images with a class each: z − the mean of its class for every image whose class has others.
/// Σδδᵀ over all pairs of a class is that over these, as often as it has images; families are scaled alike, so that the
/// two are the same where classes are of one size.
fn add_classmates(moments: &mut Moments, originals: &Embeddings, classes: &[usize]) {
    let (names, rows) = rows_of(classes);
    for class in 0..names.len() {
        let of_class: Vec<usize> = (0..rows.len()).filter(|&i| rows[i] == class).collect();
        if of_class.len() > 1 {
            let mut images = originals.columns().select_columns(&of_class);
            let mean = images.column_mean();
            images
                .column_iter_mut()
                .for_each(|mut image| image -= &mean);
            moments.add_differences(SAME_CLASS, &images);
        }
    }
}

/// Per image, 1 where it was named right, and 0 where not.
pub(super) fn hits(named: &[usize], truth: &[usize]) -> Vec<f64> {
    named
        .iter()
        .zip(truth)
        .map(|(named, truth)| if named == truth { 1.0 } else { 0.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::sources::tests::{embeddings, family};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn labels_without_names_are_refused() {
        let images = Interventions::new(embeddings(&[0.0, 1.0]), Vec::new()).unwrap();
        let error = Labelled::new(images, vec![0, 1], vec![0, 0], names(&["a"]), names(&["a"]))
            .unwrap_err();
        assert!(
            error.to_string().contains("classes: 1 is not among the 1"),
            "{error}"
        );
    }

    #[test]
    fn images_of_one_class_are_pairs() {
        let images = Interventions::new(
            embeddings(&[0.0, 1.0, 3.0, 0.5]),
            vec![family(&[0], &[5.0])],
        )
        .unwrap();
        let classes = names(&["dent", "scratch", "none"]);
        let all = Labelled::new(
            images,
            vec![1, 0, 1, 2],
            vec![0; 4],
            classes,
            names(&["line"]),
        )
        .unwrap();
        assert!(
            all.moments("aa").delta(SAME_CLASS).is_none(),
            "labels are looked at where they are to be"
        );
        let all = all.with_same_class(true);
        let moments = all.moments("aa");
        assert_eq!(
            moments.families().into_iter().collect::<Vec<_>>(),
            [("blur".into(), 1), (SAME_CLASS.into(), 2)]
        );
        // Of two images, z − mean is half of δ.
        let columns = all.images().originals().columns();
        let delta = columns.column(0) - columns.column(2);
        let expected = &delta * delta.transpose() / 4.0;
        assert!((moments.delta(SAME_CLASS).unwrap() - expected).amax() < 1e-12);
        assert!(
            all.pick(&[1, 3]).moments("aa").delta(SAME_CLASS).is_none(),
            "each is alone"
        );
    }

    #[test]
    fn an_environment_is_left_out_whole() {
        let images = Interventions::new(
            embeddings(&[0.0, 1.0, 2.0]),
            vec![family(&[0, 1], &[5.0, 6.0])],
        )
        .unwrap();
        let all = Labelled::new(
            images,
            vec![0, 0, 0],
            vec![1, 0, 1],
            names(&["dog"]),
            names(&["art", "photo"]),
        )
        .unwrap();
        let (rest, out) = all.leave_out("photo").unwrap();
        assert_eq!(
            (rest.environments(), rest.images().families()),
            (&[0][..], &[family(&[0], &[6.0])][..])
        );
        assert_eq!(
            (out.embeddings, out.classes),
            (embeddings(&[0.0, 2.0]), vec![0, 0])
        );
        assert_eq!(
            all.leave_out("sketch").unwrap_err(),
            SourceError::NoEnvironment("sketch".into())
        );
    }
}
