//! The normal distribution function, exact in both tails.

use std::f64::consts::FRAC_1_SQRT_2;

/// Phi(z) where z is not positive, and Phi(z) - 1 where it is: the tail, whose sign (that of a zero too) says which.
#[must_use]
pub fn tail(z: f64) -> f64 {
    let far = 0.5 * libm::erfc(z.abs() * FRAC_1_SQRT_2);
    if z > 0.0 { -far } else { far }
}

/// Phi from its [`tail`].
#[must_use]
pub fn below(tail: f64) -> f64 {
    if tail.is_sign_negative() { 1.0 + tail } else { tail }
}

/// Phi(b) - Phi(a) from the tails of a <= b, without cancellation however far out they lie.
#[must_use]
pub fn between(a: f64, b: f64) -> f64 {
    let crossed = !a.is_sign_negative() && b.is_sign_negative();
    let difference = b - a;
    if crossed { 1.0 + difference } else { difference }
}

/// A rough inverse of Phi for p in (0, 1): to 5e-4, by Abramowitz and Stegun 26.2.23. A place to begin a search.
#[must_use]
pub fn rough_quantile(p: f64) -> f64 {
    let far = p.min(1.0 - p).max(1e-300);
    let t = (-2.0 * libm::log(far)).sqrt();
    let top = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let bottom = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let z = t - top / bottom;
    if p < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        assert!((below(tail(1.0)) - 0.841_344_746_068_542_9).abs() < 1e-15);
        assert!((below(tail(-1.0)) - 0.158_655_253_931_457_05).abs() < 1e-15);
        assert!((below(tail(0.0)) - 0.5).abs() < 1e-16);
        assert!(below(tail(f64::INFINITY)) >= 1.0 && below(tail(f64::NEG_INFINITY)) <= 0.0);
        // Phi(-10) = 7.619853024160527e-24, Phi(-11) = 1.9106595744986622e-28: the same mass on both sides.
        let mass = 7.619_853_024_160_527e-24 - 1.910_659_574_498_662e-28;
        for (a, b) in [(-11.0, -10.0), (10.0, 11.0)] {
            assert!((between(tail(a), tail(b)) / mass - 1.0).abs() < 1e-12, "{a}");
        }
        assert!((between(tail(-1.0), tail(1.0)) - 0.682_689_492_137_085_9).abs() < 1e-15);
        assert!(between(tail(f64::NEG_INFINITY), tail(f64::INFINITY)) >= 1.0);
    }

    #[test]
    fn the_rough_quantile_is_near() {
        for z in [-4.0, -1.3, -0.1, 0.4, 2.5] {
            assert!((rough_quantile(below(tail(z))) - z).abs() < 1e-3, "{z}");
        }
    }
}
