//! Images with labels to learn from.
//!
//! A target environment is a [`HeldOut`], which no function that fits or chooses a map accepts.

use super::embeddings::Embeddings;
use super::folders::{Domains, Item};
use super::head::rows_of;
use super::held_out::HeldOut;
use super::interventions::{Interventions, SourceError, UNNAMED_ENCODER};
use super::moments::{Moments, SAME_CLASS};
use super::projection::Projection;

/// Images with interventions, a class and an environment each.
#[derive(Debug, Clone)]
pub struct Labelled {
    images: Interventions,
    /// Index into `class_names` of each image.
    classes: Vec<usize>,
    /// Index into `environment_names` of each image.
    environments: Vec<usize>,
    class_names: Vec<String>,
    environment_names: Vec<String>,
    /// Whether [`SAME_CLASS`] is one of the families.
    same_class: bool,
}

impl Labelled {
    /// Checks that every image has a class and an environment with a name.
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

    /// Labels `images` with the class and environment of `items`, which are in the same order.
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

    /// Takes a model's answers, numbers of `count` classes, as the classes of images of one
    /// environment.
    pub(super) fn with_answers(images: Interventions, answers: Vec<usize>, count: usize) -> Self {
        Self {
            environments: vec![0; answers.len()],
            classes: answers,
            class_names: (0..count).map(|class| class.to_string()).collect(),
            environment_names: vec!["all".into()],
            same_class: false,
            images,
        }
    }

    #[must_use]
    pub fn images(&self) -> &Interventions {
        &self.images
    }

    /// Index into [`Self::class_names`] of each image.
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// Index into [`Self::environment_names`] of each image.
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

    /// The images under a projection; see [`Interventions::projected`].
    #[must_use]
    pub fn projected(&self, projection: &Projection) -> Self {
        let images = self.images.projected(projection);
        self.with_images(images, self.classes.clone(), self.environments.clone())
    }

    /// See [`Interventions::compact`].
    pub(super) fn compact(&self) -> Option<Self> {
        let images = self.images.compact()?;
        Some(self.with_images(images, self.classes.clone(), self.environments.clone()))
    }

    /// The same names and families with other images.
    fn with_images(
        &self,
        images: Interventions,
        classes: Vec<usize>,
        environments: Vec<usize>,
    ) -> Self {
        Self {
            images,
            classes,
            environments,
            class_names: self.class_names.clone(),
            environment_names: self.environment_names.clone(),
            same_class: self.same_class,
        }
    }

    /// Adds the family of pairs [`SAME_CLASS`] if `wanted`. Maps are fitted to it, and it is never
    /// left out. A choice by identification ignores it, because it uses no labels.
    #[must_use]
    pub fn with_same_class(self, wanted: bool) -> Self {
        Self {
            same_class: wanted,
            ..self
        }
    }

    /// Whether [`SAME_CLASS`] is one of the families.
    pub(super) fn has_same_class(&self) -> bool {
        self.same_class
    }

    /// The names of all families, [`SAME_CLASS`] included.
    pub(super) fn families(&self) -> Vec<&str> {
        let mut names = self.images.family_names();
        names.extend(self.same_class.then_some(SAME_CLASS));
        names
    }

    /// The moments of all images and pairs.
    #[must_use]
    pub fn moments(&self, encoder_sha256: &str) -> Moments {
        let mut moments = self.images.moments(encoder_sha256);
        if self.same_class {
            add_same_class(&mut moments, self.images.originals(), &self.classes);
        }
        moments
    }

    /// The environments that have images, in order.
    #[must_use]
    pub fn used_environments(&self) -> Vec<usize> {
        let mut environments = self.environments.clone();
        environments.sort_unstable();
        environments.dedup();
        environments
    }

    /// The moments of one environment: its images and their changed versions, without the pairs
    /// that belong to no single environment.
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
            .moments(UNNAMED_ENCODER);
        EnvironmentMoments {
            environment,
            moments,
        }
    }

    /// [`Self::moments_of_environment`] of each environment that has images.
    #[must_use]
    pub fn moments_by_environment(&self) -> Vec<EnvironmentMoments> {
        self.used_environments()
            .into_iter()
            .map(|environment| self.moments_of_environment(environment))
            .collect()
    }

    /// The moments of the pairs that belong to no single environment: pairs of other things, and
    /// [`SAME_CLASS`] among the images at `indices` if it is `wanted`.
    pub(super) fn shared_moments(&self, indices: &[usize], wanted: bool) -> Moments {
        let mut moments = self.images.moments_of_pairs(UNNAMED_ENCODER);
        if wanted {
            let classes = self.classes_of(indices);
            add_same_class(
                &mut moments,
                &self.images.originals().pick(indices),
                &classes,
            );
        }
        moments
    }

    /// The images at `indices`, in that order.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        let environments = indices.iter().map(|&i| self.environments[i]).collect();
        self.with_images(
            self.images.pick(indices),
            self.classes_of(indices),
            environments,
        )
    }

    fn classes_of(&self, indices: &[usize]) -> Vec<usize> {
        indices.iter().map(|&i| self.classes[i]).collect()
    }

    /// The images of one environment.
    pub(super) fn of_environment(&self, environment: usize) -> Self {
        let own = (0..self.environments.len()).filter(|&i| self.environments[i] == environment);
        self.pick(&own.collect::<Vec<_>>())
    }

    /// Splits off one environment: the others to learn from, and that one as the target.
    pub fn leave_out(&self, environment: &str) -> Result<(Self, HeldOut), SourceError> {
        let wanted = self
            .environment_names
            .iter()
            .position(|name| name == environment);
        let left = wanted.ok_or_else(|| SourceError::NoEnvironment(environment.into()))?;
        let (out, rest): (Vec<usize>, Vec<usize>) =
            (0..self.environments.len()).partition(|&i| self.environments[i] == left);
        Ok((self.pick(&rest), self.hold_out(&out)))
    }

    /// Splits off a family: the images `examples` without that family to learn from, and the images
    /// `others` under it as the target. If `family` is `None`, no family is left out, and the
    /// target is the `others` as they are.
    pub fn leave_out_family(
        &self,
        examples: &[usize],
        others: &[usize],
        family: Option<&str>,
    ) -> Result<(Self, HeldOut), SourceError> {
        let mut sources = self.pick(examples);
        let Some(name) = family else {
            return Ok((sources, self.hold_out(others)));
        };
        sources.images = sources.images.without_family(name);
        let left_out = self.images.pick_family(name, others);
        let left_out = left_out.ok_or_else(|| SourceError::NoFamily(name.into()))?;
        let classes = left_out
            .of
            .iter()
            .map(|&i| self.classes[others[i]])
            .collect();
        Ok((sources, HeldOut::unchecked(left_out.changed, classes)))
    }

    /// The images at `indices` as they are, as a target.
    fn hold_out(&self, indices: &[usize]) -> HeldOut {
        HeldOut::unchecked(
            self.images.originals().pick(indices),
            self.classes_of(indices),
        )
    }
}

/// The moments of one environment: its images and their versions under interventions.
#[derive(Debug, Clone)]
pub struct EnvironmentMoments {
    pub(super) environment: usize,
    pub(super) moments: Moments,
}

/// Adds the family [`SAME_CLASS`]: z minus the mean of its class, for every image whose class has
/// others.
///
/// Σδδᵀ over all pairs of a class is the sum over these differences times the number of its images.
/// Because families are scaled to the same trace, both give the same Δ if all classes have the same
/// size.
fn add_same_class(moments: &mut Moments, originals: &Embeddings, classes: &[usize]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::interventions::tests::{embeddings, family};

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
            "labels are used only if wanted"
        );
        let all = all.with_same_class(true);
        let moments = all.moments("aa");
        assert_eq!(
            moments.families().into_iter().collect::<Vec<_>>(),
            [("blur".into(), 1), (SAME_CLASS.into(), 2)]
        );
        // For two images, z − mean is half of δ.
        let columns = all.images().originals().columns();
        let delta = columns.column(0) - columns.column(2);
        let expected = &delta * delta.transpose() / 4.0;
        assert!((moments.delta(SAME_CLASS).unwrap() - expected).amax() < 1e-12);
        assert!(
            all.pick(&[1, 3]).moments("aa").delta(SAME_CLASS).is_none(),
            "each class has one image"
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
            (out.embeddings(), out.classes()),
            (&embeddings(&[0.0, 2.0]), &[0, 0][..])
        );
        assert_eq!(
            all.leave_out("sketch").unwrap_err(),
            SourceError::NoEnvironment("sketch".into())
        );
    }
}
