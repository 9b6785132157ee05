//! Describes a scene in words.

use super::causes::{Part, Variant};
use super::environment::{Environment, WIDE};
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
    let light = light_in_words(variant);
    if invariant.part == Part::Nothing {
        return format!("a photo of an empty {surface} under {light}");
    }
    if Part::OTHERS.contains(&invariant.part) {
        let thing = invariant.part.name();
        return format!(
            "a photo of {} {thing} on {} {surface} under {light}",
            article(thing),
            article(surface)
        );
    }
    format!(
        "a photo of {} {condition} {} on {} {surface} under {light}",
        article(condition),
        invariant.part,
        article(surface)
    )
}

/// The light in words, after "under": the environment's own name for it, or, in [`WIDE`], what was drawn, as in "dim warm
/// light".
///
/// ```
/// use constancy_core::workshop::{Environment, Scene, WIDE, light_in_words};
///
/// let noon = Environment::named("noon").expect("a named environment");
/// assert_eq!(light_in_words(&Scene::from_seed(7, noon).variant), "bright daylight");
/// assert!(light_in_words(&Scene::from_seed(7, &WIDE).variant).ends_with("light"));
/// ```
#[must_use]
pub fn light_in_words(variant: &Variant) -> String {
    match Environment::named(variant.environment) {
        Some(e) if e.name != WIDE.name => e.light_name.to_owned(),
        _ => drawn_light(variant),
    }
}

/// Brightness, softness, colour and haze, as far as they can be seen.
fn drawn_light(variant: &Variant) -> String {
    let (light, sensor) = (&variant.light, &variant.sensor);
    let brightness = light.level * sensor.exposure;
    let [red, green, blue] = light.tint;
    let words = [
        (brightness < 0.6, "dim"),
        (brightness > 1.35, "bright"),
        (light.shadow > 0.5 && light.shadow_softness < 0.02, "hard"),
        (light.shadow < 0.3 && light.directed < 0.4, "soft"),
        (light.haze > 0.02, "hazy"),
        (light.kelvin < 4000.0 && blue < 0.95, "warm"),
        (light.kelvin > 7000.0 && red < 0.95, "cool"),
        (green > 1.2 * red.max(blue), "greenish"),
        (green < 0.83 * red.min(blue), "pinkish"),
    ];
    let seen: Vec<&str> = words
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| *word)
        .collect();
    if seen.is_empty() {
        return "plain light".to_owned();
    }
    format!("{} light", seen.join(" "))
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

    #[test]
    fn the_caption_of_what_is_no_part_names_it() {
        let scene = Scene::from_seed(1, &ENVIRONMENTS[0]);
        let text = caption(&scene.showing(Part::Hand));
        assert!(text.starts_with("a photo of a hand on a "), "{text}");
        let text = caption(&scene.showing(Part::Nothing));
        assert!(text.starts_with("a photo of an empty "), "{text}");
        assert_eq!(scene.showing(Part::Hand).invariant.class(), "hand");
    }

    #[test]
    fn drawn_light_is_described_by_what_can_be_seen() {
        let mut variant = Scene::from_seed(1, &crate::workshop::WIDE).variant;
        variant.light = crate::workshop::Light {
            level: 0.5,
            kelvin: 3000.0,
            tint: [1.0, 0.9, 0.8],
            shadow: 0.6,
            shadow_softness: 0.01,
            directed: 0.6,
            haze: 0.0,
            ..variant.light
        };
        variant.sensor.exposure = 1.0;
        assert_eq!(light_in_words(&variant), "dim hard warm light");
        variant.light.tint = [0.7, 1.0, 0.7];
        assert_eq!(light_in_words(&variant), "dim hard warm greenish light");
    }
}
