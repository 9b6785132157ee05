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

/// Searches from `start` until no entry of the gradient exceeds `tolerance`, or rounding hides any progress, or
/// `steps` are done. `f` gives value and gradient.
pub(super) fn minimise(
    start: DVector<f64>,
    tolerance: f64,
    steps: usize,
    mut f: impl FnMut(&DVector<f64>) -> (f64, DVector<f64>),
) -> Minimum {
    let mut history = History::default();
    let mut at = start;
    let (mut value, mut gradient) = f(&at);
    let (mut best, mut since) = (Minimum { at: at.clone(), gradient: gradient.amax() }, 0);
    for _ in 0..steps {
        if best.gradient <= tolerance || since > STALLED {
            break;
        }
        let direction = history.direction(&gradient);
        let slope = direction.dot(&gradient);
        // Without a curvature yet, the gradient's length says nothing of how far to go.
        let mut length = if history.steps.is_empty() { gradient.norm().recip().min(1.0) } else { 1.0 };
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
        let Some((next, next_value, next_gradient)) = found else { break };
        history.remember(&next - &at, &next_gradient - &gradient);
        since = if next_value < value - ROUNDING * value.abs() { 0 } else { since + 1 };
        (at, value, gradient) = (next, next_value, next_gradient);
        if gradient.amax() < best.gradient {
            (best, since) = (Minimum { at: at.clone(), gradient: gradient.amax() }, 0);
        }
    }
    best
}

/// The last steps s and changes of gradient y.
#[derive(Default)]
struct History {
    steps: VecDeque<(DVector<f64>, DVector<f64>)>,
}

impl History {
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
        if let Some((step, change)) = self.steps.back() {
            q *= step.dot(change) / change.norm_squared();
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
            (0.5 * off.component_mul(&off).dot(&scale), off.component_mul(&scale))
        };
        let minimum = minimise(DVector::zeros(7), 1e-10, 1000, bowl);
        assert!(minimum.gradient <= 1e-10, "{minimum:?}");
        assert!((minimum.at.add_scalar(-1.0)).amax() < 1e-6, "{minimum:?}");
    }
}
