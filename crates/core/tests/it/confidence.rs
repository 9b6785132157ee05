//! Calibrated confidence: against SciPy, against worlds whose posterior is known, and inputs that are refused.

mod bank;
mod golden;
mod light;
mod sphere;
mod stated;
mod truth;
