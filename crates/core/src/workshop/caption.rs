//! Describes a scene in words.

use super::environment::Environment;
use super::scene::Scene;

/// The indefinite article for `word`, by its first letter.
///
/// ```
/// use constancy_core::workshop::article;
///
/// assert_eq!(article("intact"), "an");
/// assert_eq!(article("cracked"), "a");
/// ```
#[must_use]
pub fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// The scene's caption, like "a photo of a cracked gear on a steel bench under warm morning light".
///
/// ```
/// use constancy_core::numeric::Rng;
/// use constancy_core::workshop::{Condition, Environment, Part, Scene, caption};
///
/// let morning = Environment::named("morning").expect("a named environment");
/// let scene = Scene::of(Part::Gear, Condition::Cracked, &mut Rng::new(1), morning);
/// let text = caption(&scene);
/// assert!(text.starts_with("a photo of a cracked gear on a"));
/// assert!(text.ends_with("under warm morning light"));
/// ```
#[must_use]
pub fn caption(scene: &Scene) -> String {
    let (invariant, variant) = (&scene.invariant, &scene.variant);
    let condition = invariant.condition.name();
    let surface = variant.surface.name();
    let light = Environment::named(variant.environment).map_or("plain light", |e| e.light_name);
    format!(
        "a photo of {} {condition} {} on {} {surface} under {light}",
        article(condition),
        invariant.part,
        article(surface)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Rng;
    use crate::workshop::{Condition, ENVIRONMENTS, Part};

    #[test]
    fn the_caption_names_part_condition_and_light() {
        let mut rng = Rng::new(1);
        let scene = Scene::of(
            Part::PipeFitting,
            Condition::Intact,
            &mut rng,
            &ENVIRONMENTS[2],
        );
        let text = caption(&scene);
        assert!(
            text.starts_with("a photo of an intact pipe fitting on a "),
            "{text}"
        );
        assert!(text.ends_with(" under warm morning light"), "{text}");
    }
}
