//! Bits per dimension: the only place where nats become bits.
//!
//! ```text
//! bits per dimension = -mean log p(x) / (H * W * C * ln 2)        standard error: of the mean over pictures
//! ```

use serde::{Deserialize, Serialize};

/// Nats per picture to bits per dimension, with `dimensions` = H * W * C of the original picture.
///
/// ```
/// use lvd::evaluate::bits_per_dimension;
///
/// // 8 x 8 pictures of 16 equally probable levels: 4 bits each.
/// let nats = 64.0 * 16f64.ln();
/// assert!((bits_per_dimension(nats, 64) - 4.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn bits_per_dimension(nats: f64, dimensions: usize) -> f64 {
    nats / (dimensions as f64 * std::f64::consts::LN_2)
}

/// Mean code length of a set of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean of -log p(x) in bits per dimension.
    pub bits_per_dimension: f64,
    /// Standard error of that mean, over pictures.
    pub standard_error: f64,
    /// Mean of -log p(x) in nats per picture.
    pub nats_mean: f64,
    /// How many pictures.
    pub num_images: usize,
    /// H * W * C of a picture.
    pub num_dimensions: usize,
}

impl Score {
    /// From code lengths -log p(x) in nats, one per picture.
    #[must_use]
    pub fn of(nats: &[f64], dimensions: usize) -> Self {
        let n = nats.len() as f64;
        let mean = nats.iter().sum::<f64>() / n;
        let variance = nats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self {
            bits_per_dimension: bits_per_dimension(mean, dimensions),
            standard_error: bits_per_dimension((variance / n).sqrt(), dimensions),
            nats_mean: mean,
            num_images: nats.len(),
            num_dimensions: dimensions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_drawn_evenly_costs_eight_bits() {
        let score = Score::of(&[256f64.ln() * 12.0; 4], 12);
        assert!((score.bits_per_dimension - 8.0).abs() < 1e-12);
        assert!(score.standard_error < 1e-9);
    }

    #[test]
    fn the_standard_error_is_that_of_the_mean() {
        let score = Score::of(&[1.0, 3.0], 1); // deviation sqrt(2), of the mean 1
        assert!((score.standard_error - 1.0 / std::f64::consts::LN_2).abs() < 1e-12);
    }
}
