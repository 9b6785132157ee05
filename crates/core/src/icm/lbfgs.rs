//! The minimum of a smooth convex function: L-BFGS (Nocedal and Wright, *Numerical Optimization*, 2nd ed., algorithm
//! 7.5) with a line search that halves until the decrease suffices (Armijo).

use nalgebra::DVector;
use std::collections::VecDeque;

/// Steps that the curvature is remembered from.
const HISTORY: usize = 10;
/// The share of the linear decrease that a step must bring (Nocedal and Wright, section 3.1).
const ARMIJO: f64 = 1e-4;
/// Halvings before a step counts as lost in rounding.
const HALVINGS: usize = 30;
/// By how much of itself rounding may raise a value at a step that is right: close to the minimum the value no longer
/// falls in any digit, while the gradient still does.
const ROUNDING: f64 = 1e-14;
/// Steps with neither a smaller gradient nor a smaller value after which rounding has won.
const STALLED: usize = 30;

/// Where the search ended.
#[derive(Debug)]
pub(super) struct Minimum {
    pub at: DVector<f64>,
    /// Largest entry of the gradient there.
    pub gradient: f64,
}

/// When a search is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enough {
    /// No entry of the gradient exceeds it.
    pub gradient: f64,
    /// The next step promises to lower the value by no more than this share of what it has come down by from `origin`.
    pub decrease: f64,
    pub origin: f64,
}

/// Searches from `start` until that is `enough`, or rounding hides any progress, or `steps` are done. `f` gives value and gradient, `newton` about its second derivative's inverse times a vector: where
/// curvatures differ by decades, knowing them saves most of the way.
pub(super) fn minimise(
    start: DVector<f64>,
    newton: impl Fn(&DVector<f64>) -> DVector<f64>,
    enough: Enough,
    steps: usize,
    mut f: impl FnMut(&DVector<f64>) -> (f64, DVector<f64>),
) -> Minimum {
    let mut history = History {
        steps: VecDeque::new(),
        newton,
    };
    let mut at = start;
    let (mut value, mut gradient) = f(&at);
    let (mut best, mut since) = (
        Minimum {
            at: at.clone(),
            gradient: gradient.amax(),
        },
        0,
    );
    for _ in 0..steps {
        if best.gradient <= enough.gradient || since > STALLED {
            break;
        }
        let direction = history.direction(&gradient);
        let slope = direction.dot(&gradient);
        // A Newton step lowers the value by half of this.
        if -slope / 2.0 <= enough.decrease * (enough.origin - value) {
            break;
        }
        let mut length = 1.0;
        let mut found = None;
        for _ in 0..HALVINGS {
            let next = &at + &direction * length;
            let (next_value, next_gradient) = f(&next);
            if next_value <= value + ARMIJO * length * slope + ROUNDING * value.abs() {
                found = Some((next, next_value, next_gradient));
                break;
            }
            length /= 2.0;
        }
        let Some((next, next_value, next_gradient)) = found else {
            break;
        };
        history.remember(&next - &at, &next_gradient - &gradient);
        since = if next_value < value - ROUNDING * value.abs() {
            0
        } else {
            since + 1
        };
        (at, value, gradient) = (next, next_value, next_gradient);
        if gradient.amax() < best.gradient {
            (best, since) = (
                Minimum {
                    at: at.clone(),
                    gradient: gradient.amax(),
                },
                0,
            );
        }
    }
    best
}

/// The last steps s and changes of gradient y.
struct History<N> {
    steps: VecDeque<(DVector<f64>, DVector<f64>)>,
    newton: N,
}

impl<N: Fn(&DVector<f64>) -> DVector<f64>> History<N> {
    fn remember(&mut self, step: DVector<f64>, change: DVector<f64>) {
        // A curvature that is not positive is rounding.
        if step.dot(&change) > f64::EPSILON * change.norm_squared() {
            self.steps.push_back((step, change));
            if self.steps.len() > HISTORY {
                self.steps.pop_front();
            }
        }
    }

    /// −H·gradient, by the two loops.
    fn direction(&self, gradient: &DVector<f64>) -> DVector<f64> {
        let mut q = -gradient;
        let mut alphas = Vec::with_capacity(self.steps.len());
        for (step, change) in self.steps.iter().rev() {
            let alpha = step.dot(&q) / step.dot(change);
            q.axpy(-alpha, change, 1.0);
            alphas.push(alpha);
        }
        q = (self.newton)(&q);
        if let Some((step, change)) = self.steps.back() {
            q *= step.dot(change) / (self.newton)(change).dot(change);
        }
        for ((step, change), alpha) in self.steps.iter().zip(alphas.into_iter().rev()) {
            let beta = change.dot(&q) / step.dot(change);
            q.axpy(alpha - beta, step, 1.0);
        }
        q
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_bowl_is_searched_to_its_bottom() {
        let bowl = |x: &DVector<f64>| {
            let scale = DVector::from_fn(x.len(), |i, _| 10f64.powf(i as f64 - 3.0));
            let off = x.add_scalar(-1.0);
            (
                0.5 * off.component_mul(&off).dot(&scale),
                off.component_mul(&scale),
            )
        };
        let enough = Enough {
            gradient: 1e-10,
            decrease: 0.0,
            origin: 0.0,
        };
        // Whatever the guess of its curvature.
        for inverse in [
            DVector::repeat(7, 1.0),
            DVector::from_fn(7, |i, _| 10f64.powf(i as f64 - 2.0)),
        ] {
            let minimum = minimise(
                DVector::zeros(7),
                |v| v.component_mul(&inverse),
                enough,
                1000,
                bowl,
            );
            assert!(minimum.gradient <= 1e-10, "{minimum:?}");
            assert!((minimum.at.add_scalar(-1.0)).amax() < 1e-6, "{minimum:?}");
        }
    }
}
