//! The mixing layer: one weight per tree of a forest, `p(x) = sum_t pi_t p_t(x)`.

use tch::{Kind, Tensor};

/// log p(x) `[B]` and the posterior p(t | x) `[B, T]`, both float64, from log-likelihoods `[B, T]` and log-weights `[T]`.
pub fn mix(log_likelihood: &Tensor, log_weights: &Tensor) -> (Tensor, Tensor) {
    let joint = log_likelihood.to_kind(Kind::Double) + log_weights;
    let total = joint.logsumexp(-1, true);
    let posterior = (joint - &total).exp();
    (total.squeeze_dim(-1), posterior)
}
