//! The ordered reading: a probability mass function on integers from a Gaussian scale mixture, one variable after the
//! other, every integer taking the mass of the unit interval above it.
//!
//! ```text
//! P(x) = sum_s w_s prod_i [Phi((x_i + 1 - m_si) / (sigma_si d_i)) - Phi((x_i - m_si) / (sigma_si d_i))]
//! ```
//!
//! with `m_si` the conditional mean of variable i given `x_j` + 1/2 for j < i, `d_i` its conditional deviation at scale 1 and
//! `sigma_si` the scale of its group. With `y_g` = L^-1 (x + 1/2 - mu)_g, the interval of variable i is
//! `sum_g y_gi / sigma_sg` -+ 1 / (2 `d_i` `sigma_si`). The least and the greatest
//! value of a variable take the tails, so P sums to 1 over all patches in range.

use tch::{Kind, Tensor};

use super::component::Component;

/// Patches in one go: the intervals of all variables of these stay in the cache.
const ROWS: i64 = 128;

/// Integers `[N, D]` with the ends of their ranges marked.
pub struct Integers {
    /// x + 1/2, about the model's centre `[N, D]`.
    pub middle: Tensor,
    /// Whether a variable has its least value `[N, D]`.
    pub lowest: Tensor,
    /// Whether a variable has its greatest value `[N, D]`.
    pub highest: Tensor,
}

impl Integers {
    /// The same tensors for another holder.
    #[must_use]
    pub fn share(&self) -> Self {
        let [middle, lowest, highest] = [&self.middle, &self.lowest, &self.highest].map(Tensor::shallow_clone);
        Self { middle, lowest, highest }
    }

    /// Some of the patches, by number.
    #[must_use]
    pub fn rows(&self, rows: &Tensor) -> Self {
        let [middle, lowest, highest] =
            [&self.middle, &self.lowest, &self.highest].map(|tensor| tensor.index_select(0, rows));
        Self { middle, lowest, highest }
    }
}

impl Component {
    /// ln P(x) `[N]`. Scales that are `window` nats less probable than the best, by their densities, are left out:
    /// a bound from below, exact with an infinite window.
    pub fn log_mass(&self, x: &Integers, window: f64) -> Tensor {
        let n = x.middle.size()[0];
        let rows = |start: i64| {
            let numbers = Tensor::arange_start(start, (start + ROWS).min(n), (Kind::Int64, x.middle.device()));
            self.log_mass_of(&x.rows(&numbers), window)
        };
        let parts: Vec<Tensor> = (0..n).step_by(ROWS as usize).map(rows).collect();
        if parts.is_empty() {
            x.middle.new_zeros([0], (x.middle.kind(), x.middle.device()))
        } else {
            Tensor::cat(&parts, 0)
        }
    }

    fn log_mass_of(&self, x: &Integers, window: f64) -> Tensor {
        let parts = self.factor().whiten(&x.middle);
        let joint = self.log_joint(&self.factor().inner(&parts)); // [S, N]
        let kept = joint.ge_tensor(&(joint.amax([0i64].as_slice(), true) - window));
        let half = self.factor().deviations().reciprocal() * 0.5; // [D]
        let group_of = self.common.group_of();
        let log_mass = joint.full_like(f64::NEG_INFINITY);
        for s in 0..joint.size()[0] {
            let rows = kept.get(s).nonzero().squeeze_dim(1);
            if rows.numel() == 0 {
                continue;
            }
            let scales = self.common.scales.get(s);
            let scaled = |(y, g): (&Tensor, i64)| y.index_select(0, &rows) / scales.double_value(&[g]);
            let y = parts.iter().zip(0..).map(scaled).reduce(|sum, more| sum + more).expect("at least one group");
            let half = &half / scales.index_select(0, &group_of).to_kind(y.kind());
            let mass = log_interval(&y, &half, &x.rows(&rows)).sum_dim_intlist(1, false, y.kind());
            let weighted = mass + self.log_weights.double_value(&[s]);
            let _ = log_mass.get(s).index_copy_(0, &rows, &weighted);
        }
        log_mass.logsumexp(0, false)
    }
}

/// ln [Phi(y + half) - Phi(y - half)], open to the side where a variable is at the end of its range.
pub fn log_interval(y: &Tensor, half: &Tensor, x: &Integers) -> Tensor {
    let upper = (y + half).masked_fill(&x.highest, f64::INFINITY);
    let lower = (y - half).masked_fill(&x.lowest, f64::NEG_INFINITY);
    // Mirrored to the left, where both logarithms are exact.
    let right = y.gt(0.0);
    let (near, far) =
        (upper.where_self(&right.logical_not(), &-&lower), lower.where_self(&right.logical_not(), &-&upper));
    let near = near.special_log_ndtr();
    let gap = (far.special_log_ndtr() - &near).clamp_max(-1e-30);
    near + (-gap.expm1()).log()
}
