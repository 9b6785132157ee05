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

/// ½ x (1 + erf(x / √2)), absolute error below 1e-6.
///
/// erf(x / √2) / 2x is even. Here it is a polynomial of `2 x² / 5.5² − 1`, fitted for the least error of the result, and ½ / 5.5
/// at x = 5.5, beyond which erf differs from 1 by less than 4e-8. A third of the time of a formula with an exponential.
#[inline(always)]
pub(super) unsafe fn gelu<V: Vector>(x: V) -> V {
    const END: f32 = 5.5;
    const COEFFICIENTS: [f32; 13] = [
        2.584_990_3e-3,
        -2.573_958_8e-3,
        2.493_837_6e-3,
        -6.232_341_3e-3,
        1.140_790_7e-2,
        -1.540_426_9e-2,
        2.003_692_8e-2,
        -2.593_426e-2,
        3.211_220_7e-2,
        -3.880_548_5e-2,
        4.773_57e-2,
        -6.417_195_5e-2,
        1.285_519_5e-1,
    ];
    // SAFETY: this function inherits the caller's features.
    unsafe {
        let clamped = x.max(V::splat(-END)).min(V::splat(END));
        let u = clamped
            .mul(clamped)
            .fma(V::splat(2.0 / (END * END)), V::splat(-1.0));
        let mut p = V::splat(-8.921_498e-4);
        for coefficient in COEFFICIENTS {
            p = p.fma(u, V::splat(coefficient));
        }
        x.mul(clamped.fma(p, V::splat(0.5)))
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
