//! The normal distribution function, with both of its tails.

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::LazyLock;

/// Pieces of a unit of z.
const PIECES: f64 = 32.0;
/// Pieces of the table: z from 0 to 8.
const COUNT: usize = 256;
/// Coefficients of a piece.
const TERMS: usize = 6;
/// 1 / sqrt(2 pi).
const PEAK: f64 = 0.398_942_280_401_432_7;

/// The Taylor series of 1 - Phi about the middle of every piece: 1e-13 of the value near 0, 1e-8 at 8. Made of `libm`'s
/// functions, which are the same everywhere.
static TABLE: LazyLock<Box<[[f64; TERMS]]>> = LazyLock::new(|| (0..COUNT).map(piece).collect());

fn piece(number: usize) -> [f64; TERMS] {
    let z = (number as f64 + 0.5) / PIECES;
    let density = PEAK * libm::exp(-0.5 * z * z);
    let hermite = [1.0, z, z * z - 1.0, z * (z * z - 3.0), (z * z - 6.0) * z * z + 3.0];
    let [a, b, c, d, e] = hermite.map(|h| h * density);
    [0.5 * libm::erfc(z * FRAC_1_SQRT_2), -a, b / 2.0, -c / 6.0, d / 24.0, -e / 120.0]
}

/// [`tail`] of many numbers; the table is looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Tails(&'static [[f64; TERMS]]);

impl Tails {
    /// The tails.
    #[must_use]
    pub fn new() -> Self {
        Self(&TABLE)
    }

    /// Phi(z) where z is not positive, and Phi(z) - 1 where it is: the tail, whose sign (that of a zero too) says which.
    #[must_use]
    pub fn at(self, z: f64) -> f64 {
        let size = z.abs();
        let place = size * PIECES;
        let number = place as usize;
        let far = if let Some([a, b, c, d, e, f]) = self.0.get(number) {
            let x = (place - (number as f64 + 0.5)) * (1.0 / PIECES);
            a + x * (b + x * (c + x * (d + x * (e + x * f))))
        } else {
            0.5 * libm::erfc(size * FRAC_1_SQRT_2)
        };
        if z > 0.0 { -far } else { far }
    }
}

impl Default for Tails {
    fn default() -> Self {
        Self::new()
    }
}

/// The tail of one number, see [`Tails::at`].
#[must_use]
pub fn tail(z: f64) -> f64 {
    Tails::new().at(z)
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
        assert!((below(tail(1.0)) - 0.841_344_746_068_542_9).abs() < 1e-12);
        assert!((below(tail(-1.0)) - 0.158_655_253_931_457_05).abs() < 1e-12);
        assert!((below(tail(0.0)) - 0.5).abs() < 1e-12);
        assert!(below(tail(f64::INFINITY)) >= 1.0 && below(tail(f64::NEG_INFINITY)) <= 0.0);
        // Phi(-10) = 7.619853024160527e-24, Phi(-11) = 1.9106595744986622e-28: the same mass on both sides.
        let mass = 7.619_853_024_160_527e-24 - 1.910_659_574_498_662e-28;
        for (a, b) in [(-11.0, -10.0), (10.0, 11.0)] {
            assert!((between(tail(a), tail(b)) / mass - 1.0).abs() < 1e-12, "{a}");
        }
        assert!((between(tail(-1.0), tail(1.0)) - 0.682_689_492_137_085_9).abs() < 1e-12);
        assert!(between(tail(f64::NEG_INFINITY), tail(f64::INFINITY)) >= 1.0);
    }

    #[test]
    fn the_table_is_near_everywhere() {
        for step in 0..20_000 {
            let z = f64::from(step) * 5e-4;
            let exact = 0.5 * libm::erfc(z * FRAC_1_SQRT_2);
            let tolerance = if z < 2.0 { 1e-12 } else { 2e-8 };
            assert!((tail(-z) / exact - 1.0).abs() < tolerance, "{z}");
            assert!(tail(z).to_bits() == (-tail(-z)).to_bits() || z == 0.0);
        }
    }

    #[test]
    fn the_rough_quantile_is_near() {
        for z in [-4.0, -1.3, -0.1, 0.4, 2.5] {
            assert!((rough_quantile(below(tail(z))) - z).abs() < 1e-3, "{z}");
        }
    }
}
