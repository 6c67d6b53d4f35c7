//! The ordered reading of one expert: as that of Gaussian patches, with the scales of the innovations.
//!
//! ```text
//! P(x | c) = sum_s h_s prod_i [Phi((x_i + 1 - m_i) / (s_g d_i)) - Phi((x_i - m_i) / (s_g d_i))]
//! ```
//!
//! `m_i` is the regression of number i on the context + 1/2 and on `x_j` + 1/2 for j < i, `d_i` its deviation at scale 1 and
//! `s_g` the scale of its group. The least and the greatest value of a number take the tails, so P sums to 1 over all
//! patches in range, whatever the context.

use tch::{Kind, Tensor};

use super::factor::Factor;
use crate::patch::gaussian::ordered::{Integers, log_interval};

/// Windows whose intervals stay in the cache.
const ROWS: i64 = 512;

/// Windows that one expert is asked about; `middle` are whole windows, the ends those of the patch.
pub struct Case {
    /// The integers.
    pub integers: Integers,
    /// ln of the scales' weights, `[S, 1]` or `[S, N]`.
    pub log_weights: Tensor,
    /// Scales whose density is so many nats below the best one's are left out: a bound from below.
    pub window: f64,
}

impl Case {
    /// ln P(x | c) `[N]`.
    pub fn log_mass(&self, factor: &Factor, scales: &Tensor) -> Tensor {
        let middle = &self.integers.middle;
        let n = middle.size()[0];
        let some = |start: i64| {
            let numbers = Tensor::arange_start(start, (start + ROWS).min(n), (Kind::Int64, middle.device()));
            let varies = self.log_weights.size()[1] > 1;
            let log_weights =
                if varies { self.log_weights.index_select(1, &numbers) } else { self.log_weights.shallow_clone() };
            Self { integers: self.integers.rows(&numbers), log_weights, window: self.window }.of_few(factor, scales)
        };
        let parts: Vec<Tensor> = (0..n).step_by(ROWS as usize).map(some).collect();
        let none = || middle.new_zeros([0], (middle.kind(), middle.device()));
        if parts.is_empty() { none() } else { Tensor::cat(&parts, 0) }
    }

    fn of_few(&self, factor: &Factor, scales: &Tensor) -> Tensor {
        let y = factor.whiten(&self.integers.middle);
        let joint = factor.log_joint(&factor.squares(&y), &self.log_weights, scales); // [S, N]
        let kept = joint.ge_tensor(&(joint.amax([0i64].as_slice(), true) - self.window));
        let half = factor.deviations.reciprocal() * 0.5; // [D']
        let log_weights = self.log_weights.to_kind(joint.kind()).expand_as(&joint);
        let log_mass = joint.full_like(f64::NEG_INFINITY);
        for s in 0..joint.size()[0] {
            let rows = kept.get(s).nonzero().squeeze_dim(1);
            if rows.numel() == 0 {
                continue;
            }
            let inverse = factor.by_number(&scales.get(s).reciprocal()).to_kind(y.kind());
            let scaled = y.index_select(0, &rows) * &inverse;
            let mass = log_interval(&scaled, &(&half * inverse), &self.integers.rows(&rows));
            let mass = mass.sum_dim_intlist(1, false, y.kind()) + log_weights.get(s).index_select(0, &rows);
            let _ = log_mass.get(s).index_copy_(0, &rows, &mass);
        }
        log_mass.logsumexp(0, false)
    }
}
