//! Minimisation of a smooth convex function: L-BFGS (Nocedal and Wright, *Numerical Optimization*,
//! 2nd ed., algorithm 7.5) with a backtracking line search (Armijo).

use nalgebra::DVector;
use std::collections::VecDeque;

/// The number of past steps that the curvature estimate uses.
const HISTORY: usize = 10;
/// The share of the linear decrease that a step must bring (Nocedal and Wright, section 3.1).
const ARMIJO: f64 = 1e-4;
/// Halvings after which the line search gives up: the step is lost in rounding.
const MAX_HALVINGS: usize = 30;
/// Relative increase of the value that counts as rounding error: close to the minimum the value no
/// longer falls in any digit, while the gradient still does.
const ROUNDING: f64 = 1e-14;
/// Steps without a smaller gradient or a smaller value after which the search stops.
const MAX_STALLED: usize = 30;

/// Where the search ended.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    pub at: DVector<f64>,
    /// Largest absolute entry of the gradient there.
    pub gradient: f64,
}

/// When to stop a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopCriterion {
    /// Stop when no entry of the gradient exceeds this.
    pub gradient: f64,
    /// Stop when the next step promises to lower the value by no more than this share of the
    /// decrease from `origin` so far.
    pub decrease: f64,
    pub origin: f64,
}

/// A point with the value and gradient of the function there.
struct Point {
    at: DVector<f64>,
    value: f64,
    gradient: DVector<f64>,
}

/// Searches from `start` until `stop` holds, rounding hides any progress, or `max_steps` are done.
///
/// `f` returns value and gradient. `precondition` multiplies a vector by an approximate inverse of
/// the second derivative: it saves most of the steps if curvatures differ by decades.
pub(super) fn minimise(
    start: DVector<f64>,
    precondition: impl Fn(&DVector<f64>) -> DVector<f64>,
    stop: StopCriterion,
    max_steps: usize,
    mut f: impl FnMut(&DVector<f64>) -> (f64, DVector<f64>),
) -> Minimum {
    let mut history = History {
        steps: VecDeque::new(),
        precondition,
    };
    let (value, gradient) = f(&start);
    let mut point = Point {
        at: start,
        value,
        gradient,
    };
    let (mut best, mut stalled) = (point.as_minimum(), 0);
    for _ in 0..max_steps {
        if best.gradient <= stop.gradient || stalled > MAX_STALLED {
            break;
        }
        let direction = history.direction(&point.gradient);
        let slope = direction.dot(&point.gradient);
        // A Newton step lowers the value by half of the slope.
        if -slope / 2.0 <= stop.decrease * (stop.origin - point.value) {
            break;
        }
        let Some(next) = line_search(&point, &direction, slope, &mut f) else {
            break;
        };
        history.remember(&next.at - &point.at, &next.gradient - &point.gradient);
        let falls = next.value < point.value - ROUNDING * point.value.abs();
        stalled = if falls { 0 } else { stalled + 1 };
        point = next;
        if point.gradient.amax() < best.gradient {
            (best, stalled) = (point.as_minimum(), 0);
        }
    }
    best
}

/// Halves the step along `direction` until the value decreases enough; `None` if it never does.
fn line_search(
    from: &Point,
    direction: &DVector<f64>,
    slope: f64,
    f: &mut impl FnMut(&DVector<f64>) -> (f64, DVector<f64>),
) -> Option<Point> {
    let mut length = 1.0;
    for _ in 0..MAX_HALVINGS {
        let at = &from.at + direction * length;
        let (value, gradient) = f(&at);
        if value <= from.value + ARMIJO * length * slope + ROUNDING * from.value.abs() {
            return Some(Point {
                at,
                value,
                gradient,
            });
        }
        length /= 2.0;
    }
    None
}

impl Point {
    fn as_minimum(&self) -> Minimum {
        Minimum {
            at: self.at.clone(),
            gradient: self.gradient.amax(),
        }
    }
}

/// The last steps s and the changes of gradient y along them.
struct History<P> {
    steps: VecDeque<(DVector<f64>, DVector<f64>)>,
    precondition: P,
}

impl<P: Fn(&DVector<f64>) -> DVector<f64>> History<P> {
    fn remember(&mut self, step: DVector<f64>, change: DVector<f64>) {
        // A curvature that is not positive is rounding error.
        if step.dot(&change) > f64::EPSILON * change.norm_squared() {
            self.steps.push_back((step, change));
            if self.steps.len() > HISTORY {
                self.steps.pop_front();
            }
        }
    }

    /// −H·gradient, by the two-loop recursion.
    fn direction(&self, gradient: &DVector<f64>) -> DVector<f64> {
        let mut q = -gradient;
        let mut alphas = Vec::with_capacity(self.steps.len());
        for (step, change) in self.steps.iter().rev() {
            let alpha = step.dot(&q) / step.dot(change);
            q.axpy(-alpha, change, 1.0);
            alphas.push(alpha);
        }
        q = (self.precondition)(&q);
        if let Some((step, change)) = self.steps.back() {
            q *= step.dot(change) / (self.precondition)(change).dot(change);
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
    fn an_ill_conditioned_bowl_is_searched_to_its_bottom() {
        let bowl = |x: &DVector<f64>| {
            let scale = DVector::from_fn(x.len(), |i, _| 10f64.powf(i as f64 - 3.0));
            let off = x.add_scalar(-1.0);
            (
                0.5 * off.component_mul(&off).dot(&scale),
                off.component_mul(&scale),
            )
        };
        let stop = StopCriterion {
            gradient: 1e-10,
            decrease: 0.0,
            origin: 0.0,
        };
        // With any preconditioner.
        for inverse in [
            DVector::repeat(7, 1.0),
            DVector::from_fn(7, |i, _| 10f64.powf(i as f64 - 2.0)),
        ] {
            let minimum = minimise(
                DVector::zeros(7),
                |v| v.component_mul(&inverse),
                stop,
                1000,
                bowl,
            );
            assert!(minimum.gradient <= 1e-10, "{minimum:?}");
            assert!((minimum.at.add_scalar(-1.0)).amax() < 1e-6, "{minimum:?}");
        }
    }
}
