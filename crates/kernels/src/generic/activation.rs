//! Activation functions and the exponential behind them.

use crate::vector::Vector;

pub(crate) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// `2^x`, relative error below 2e-7. x is clamped to −100..=100, where reciprocals are still normal numbers.
#[inline(always)]
pub(super) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe {
        let x = x.max(V::splat(-100.0)).min(V::splat(100.0));
        // Adding 1.5 · 2^23 rounds to an integer and leaves it in the lowest bits.
        let magic = V::splat(12_582_912.0);
        let rounded = x.add(magic);
        let f = x.sub(rounded.sub(magic));
        // Minimax (Remez) for 2^f on −½..½, relative error 7.5e-8.
        let p = V::splat(1.327_647_2e-3);
        let p = p.fma(f, V::splat(9.675_541e-3));
        let p = p.fma(f, V::splat(5.550_713e-2));
        let p = p.fma(f, V::splat(0.240_221_2));
        let p = p.fma(f, V::splat(0.693_146_94));
        let p = p.fma(f, V::splat(1.000_000_1));
        p.scale_exp2(rounded)
    }
}

/// `x / (1 + 2^power)`, which is `x · sigmoid(y)` for `power = −log2(e) · y`.
#[inline(always)]
unsafe fn sigmoid_gate<V: Vector>(x: V, power: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { x.mul(exp2(power).add(V::splat(1.0)).reciprocal()) }
}

/// x · sigmoid(1.702 x).
#[inline(always)]
pub(super) unsafe fn quick_gelu<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { sigmoid_gate(x, x.mul(V::splat(-1.702 * LOG2_E))) }
}

/// ½ x (1 + tanh(√(2/π)(x + 0.044715 x³))) = x · sigmoid(2 √(2/π)(x + 0.044715 x³)).
#[inline(always)]
pub(super) unsafe fn gelu_tanh<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe {
        let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
        sigmoid_gate(x, cubic.mul(V::splat(-1.595_769 * LOG2_E)))
    }
}

/// ½ x (1 + erf(x / √2)) with erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
#[inline(always)]
pub(super) unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        let a = x
            .max(zero.sub(x))
            .mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = a.fma(V::splat(0.327_591_1), one).reciprocal();
        let p = V::splat(1.061_405_4);
        let p = p.fma(t, V::splat(-1.453_152));
        let p = p.fma(t, V::splat(1.421_413_8));
        let p = p.fma(t, V::splat(-0.284_496_74));
        let p = p.fma(t, V::splat(0.254_829_6)).mul(t);
        // For x < 0, 1 + erf = p·e^(−a²), without cancellation; for x > 0 it is 2 − p·e^(−a²).
        let tail = p
            .mul(exp2(a.mul(a).mul(V::splat(-LOG2_E))))
            .mul(V::splat(0.5));
        x.max(zero).sub(x.max(zero.sub(x)).mul(tail))
    }
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) unsafe fn silu<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { sigmoid_gate(x, x.mul(V::splat(-LOG2_E))) }
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { sigmoid_gate(V::splat(1.0), x.mul(V::splat(-LOG2_E))) }
}

/// x clamped to 0..=6.
#[inline(always)]
pub(super) unsafe fn relu6<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { x.max(V::splat(0.0)).min(V::splat(6.0)) }
}

/// x · clamp(x + 3, 0, 6) / 6.
#[inline(always)]
pub(super) unsafe fn hard_swish<V: Vector>(x: V) -> V {
    // SAFETY: this function inherits the caller's features.
    unsafe { x.mul(relu6(x.add(V::splat(3.0))).mul(V::splat(1.0 / 6.0))) }
}

/// Calls `$work` with a closure that computes `$activation`, so that a tile branches once, not once per vector.
macro_rules! with_activation {
    ($activation:expr, $vector:ident, $work:ident($($argument:expr),*)) => {
        match $activation {
            Activation::None => $work::<$vector>($($argument,)* #[inline(always)] |x| x),
            Activation::Relu => $work::<$vector>($($argument,)* #[inline(always)] |x: $vector| x.max($vector::splat(0.0))),
            Activation::QuickGelu => $work::<$vector>($($argument,)* #[inline(always)] |x| quick_gelu(x)),
            Activation::Gelu => $work::<$vector>($($argument,)* #[inline(always)] |x| gelu(x)),
            Activation::GeluTanh => $work::<$vector>($($argument,)* #[inline(always)] |x| gelu_tanh(x)),
            Activation::Silu => $work::<$vector>($($argument,)* #[inline(always)] |x| silu(x)),
            Activation::Sigmoid => $work::<$vector>($($argument,)* #[inline(always)] |x| sigmoid(x)),
            Activation::Relu6 => $work::<$vector>($($argument,)* #[inline(always)] |x| relu6(x)),
            Activation::HardSwish => $work::<$vector>($($argument,)* #[inline(always)] |x| hard_swish(x)),
        }
    };
}
pub(super) use with_activation;
