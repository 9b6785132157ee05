//! Renders a scene: surface, part, damage, light, lens, sensor and compression, in this order.

use super::background;
use super::causes::{Condition, Variant};
use super::damage::{fracture, mark, surrounding_square};
use super::draw::{Canvas, Point};
use super::light::{Cover, cast_shadow, illuminate};
use super::parts;
use super::scene::Scene;
use super::sensor;
use crate::jpeg;
use crate::numeric::Rng;
use tiny_skia::{Pixmap, PixmapPaint, Transform};

/// Renders `scene` as RGB8, `width * height * 3` bytes; empty if a side is zero. The same scene at the same size gives the
/// same bytes on every machine.
///
/// ```
/// use constancy_core::workshop::{ENVIRONMENTS, Scene, render};
///
/// let scene = Scene::from_seed(1, &ENVIRONMENTS[0]);
/// assert_eq!(render(&scene, 32, 24).len(), 32 * 24 * 3);
/// assert!(render(&scene, 0, 24).is_empty());
/// ```
#[must_use]
pub fn render(scene: &Scene, width: u32, height: u32) -> Vec<u8> {
    let Some(layer) = part_layer(scene, width, height) else {
        return Vec::new();
    };
    let variant = &scene.variant;
    let (width, height) = (width as usize, height as usize);
    let mut pixels = vec![0; width * height * 3];
    background::paint(variant.surface, variant.grain, &mut pixels, width, height);
    let shadow = cast_shadow(layer.data(), width, height, &variant.light);
    let cover = Cover {
        layer: layer.data(),
        shadow: &shadow,
    };
    illuminate(&mut pixels, &cover, width, height, variant);
    sensor::blur(&mut pixels, width, height, &variant.sensor);
    sensor::noise(&mut pixels, &variant.sensor, noise_seed(variant));
    if variant.sensor.monochrome {
        sensor::grey(&mut pixels);
    }
    jpeg::round_trip(&mut pixels, width, height, variant.sensor.jpeg_quality);
    pixels
}

/// The seed of this moment's noise. A first moment's is the grain.
fn noise_seed(variant: &Variant) -> u64 {
    match variant.moment {
        0 => variant.grain,
        moment => Rng::new(variant.grain ^ moment.rotate_left(32)).next_u64(),
    }
}

/// The part with its damage, on a transparent background.
fn part_layer(scene: &Scene, width: u32, height: u32) -> Option<Pixmap> {
    let invariant = &scene.invariant;
    if invariant.condition != Condition::Broken {
        return Some(drawn(scene, width, height, None)?.pixmap);
    }
    // A stream of its own, so that changes to the drawing code do not move the fracture.
    let mut rng = Rng::new(invariant.specimen ^ 0x0B50_CE17);
    let broken = fracture(invariant.part, &mut rng);
    let mut canvas = drawn(scene, width, height, Some(broken.remainder))?;
    canvas.erase(&[&broken.piece]);
    let mut layer = canvas.pixmap;
    if let Some(moved) = broken.moved {
        let mut piece = drawn(scene, width, height, Some(moved))?;
        piece.erase(&[&surrounding_square(), &broken.piece]);
        layer.draw_pixmap(
            0,
            0,
            piece.pixmap.as_ref(),
            &PixmapPaint::default(),
            Transform::identity(),
            None,
        );
    }
    Some(layer)
}

/// A canvas with the whole part, shifted and rotated by `displaced`, if any.
fn drawn(
    scene: &Scene,
    width: u32,
    height: u32,
    displaced: Option<(Point, f32)>,
) -> Option<Canvas> {
    let (invariant, variant) = (&scene.invariant, &scene.variant);
    let metal = invariant.finish.colour();
    let mut canvas = Canvas::new(width, height, &variant.pose, variant.light.direction, metal)?;
    if let Some((shift, turns)) = displaced {
        canvas.displace(shift, turns);
    }
    let mut rng = Rng::new(invariant.specimen);
    parts::draw(invariant.part, &mut canvas, &mut rng);
    mark(invariant.part, invariant.condition, &mut canvas, &mut rng);
    Some(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::{ENVIRONMENTS, Environment, Part};

    fn noon() -> &'static Environment {
        &ENVIRONMENTS[0]
    }

    #[test]
    fn same_scene_same_bytes() {
        let scene = Scene::sample(&mut Rng::new(5), noon());
        assert_eq!(render(&scene, 96, 64), render(&scene, 96, 64));
        let other = Scene::sample(&mut Rng::new(6), noon());
        assert_ne!(render(&scene, 96, 64), render(&other, 96, 64));
    }

    #[test]
    fn every_part_is_drawn_in_every_condition() {
        for part in Part::ALL {
            let areas = Condition::ALL.map(|condition| {
                let scene = Scene::of(part, condition, &mut Rng::new(9), noon());
                let layer = part_layer(&scene, 120, 90).map_or(Vec::new(), |l| l.data().to_vec());
                let area = layer.chunks_exact(4).filter(|p| p[3] > 127).count();
                assert!(area > 500, "{part} {condition}: {area}");
                layer
            });
            for (i, layer) in areas.iter().enumerate() {
                assert!(
                    areas[..i].iter().all(|a| a != layer),
                    "{part}: two conditions look alike"
                );
            }
        }
    }

    #[test]
    fn others_are_drawn_and_nothing_is_not() {
        let layers = Part::OTHERS.map(|thing| {
            let scene = Scene::from_seed(4, noon()).showing(thing);
            part_layer(&scene, 120, 90).map_or(Vec::new(), |l| l.data().to_vec())
        });
        for (i, layer) in layers.iter().enumerate() {
            let area = layer.chunks_exact(4).filter(|p| p[3] > 127).count();
            assert_eq!(area > 500, Part::OTHERS[i] != Part::Nothing, "{area}");
            assert!(layers[..i].iter().all(|other| other != layer));
        }
    }

    #[test]
    fn environments_differ_in_light() {
        let mean = |name: &str| {
            let environment = Environment::named(name).unwrap_or(noon());
            let scene = Scene::of(Part::Gear, Condition::Intact, &mut Rng::new(2), environment);
            let pixels = render(&scene, 64, 64);
            pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels.len() as f64
        };
        assert!(mean("noon") > 2.0 * mean("low-light"));
    }

    #[test]
    fn any_size_renders() {
        let scene = Scene::sample(&mut Rng::new(1), noon());
        for (width, height) in [(0, 5), (1, 1), (7, 3), (33, 50)] {
            let expected = width * height * 3;
            assert_eq!(
                u32::try_from(render(&scene, width, height).len()),
                Ok(expected)
            );
        }
    }
}
