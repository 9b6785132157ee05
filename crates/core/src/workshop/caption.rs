//! A scene in words.

use super::environment::Environment;
use super::scene::Scene;

/// "a" or "an", as `word` wants it.
#[must_use]
pub fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// "a photo of a cracked gear on a steel bench under warm morning light".
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
    use super::super::{Condition, ENVIRONMENTS, Part};
    use super::*;
    use crate::numeric::Rng;

    #[test]
    fn says_what_is_there() {
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
