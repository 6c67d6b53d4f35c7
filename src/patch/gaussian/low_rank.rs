//! Low rank plus diagonal: the covariance of a factor analyser,
//!
//! ```text
//! Sigma = F F^T + diag(psi),   F [D, R]
//! ```
//!
//! fitted to a covariance C by EM for factor analysis (Rubin and Thayer 1982), which never raises
//! `ln|Sigma| + tr(C Sigma^-1)`:
//!
//! ```text
//! B = F^T Sigma^-1      F <- C B^T (I - B F + B C B^T)^-1      psi <- diag(C - F B C), at least the floor
//! ```

use tch::{Kind, Tensor};

/// EM steps on every M-step of the Gaussian.
const STEPS: usize = 5;

/// The parameters of a factor analyser, float64.
#[derive(Debug)]
pub struct LowRank {
    /// F `[D, R]`.
    pub loadings: Tensor,
    /// psi `[D]`.
    pub noise: Tensor,
}

impl LowRank {
    /// A copy that shares no memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { loadings: self.loadings.copy(), noise: self.noise.copy() }
    }

    /// From the principal axes of a covariance `[D, D]`: what they leave over is noise.
    #[must_use]
    pub fn principal(covariance: &Tensor, rank: i64, floor: f64) -> Self {
        let d = covariance.size()[0];
        let (values, vectors) = covariance.linalg_eigh("L"); // rising
        let rank = rank.min(d);
        let rest = if rank < d { values.narrow(0, 0, d - rank).mean(Kind::Double) } else { values.get(0) };
        let top = (values.narrow(0, d - rank, rank) - &rest).clamp_min(0.0).sqrt();
        let loadings = vectors.narrow(1, d - rank, rank) * top;
        let noise =
            (covariance.diagonal(0, 0, 1) - loadings.square().sum_dim_intlist(1, false, Kind::Double)).clamp_min(floor);
        Self { loadings, noise }
    }

    /// Sigma `[D, D]`.
    pub fn shape(&self) -> Tensor {
        self.loadings.matmul(&self.loadings.tr()) + self.noise.diag(0)
    }

    /// A few steps towards a covariance `[D, D]`.
    pub fn fit(&mut self, covariance: &Tensor, floor: f64) {
        for _ in 0..STEPS {
            let beta = Tensor::linalg_solve(&self.shape(), &self.loadings, true).tr(); // [R, D]
            let seen = beta.matmul(covariance); // [R, D]
            let eye = Tensor::eye(beta.size()[0], (Kind::Double, beta.device()));
            let second = eye - beta.matmul(&self.loadings) + seen.matmul(&beta.tr());
            self.loadings = Tensor::linalg_solve(&second, &seen, true).tr();
            let explained = (&self.loadings * seen.tr()).sum_dim_intlist(1, false, Kind::Double);
            self.noise = (covariance.diagonal(0, 0, 1) - explained).clamp_min(floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::gaussian::start::normal;
    use crate::random::rng;

    fn loss(shape: &Tensor, covariance: &Tensor) -> f64 {
        (shape.det().log() + covariance.matmul(&shape.inverse()).trace()).double_value(&[])
    }

    #[test]
    fn steps_never_worsen_the_fit_and_a_factor_model_is_found() {
        let mut rng = rng(1, "test", 0);
        let loadings = normal(18, &mut rng).view([9, 2]);
        let truth = LowRank { loadings, noise: Tensor::arange(9, (Kind::Double, tch::Device::Cpu)) * 0.1 + 0.3 };
        let covariance = truth.shape();
        let mut found = LowRank::principal(&covariance, 2, 1e-3);
        let mut before = f64::INFINITY;
        for _ in 0..400 {
            let now = loss(&found.shape(), &covariance);
            assert!(now <= before + 1e-9, "{before} -> {now}");
            before = now;
            found.fit(&covariance, 1e-3);
        }
        assert!((found.shape() - covariance).abs().max().double_value(&[]) < 1e-2);
    }
}
