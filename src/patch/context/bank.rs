//! The whitenings of all experts side by side, for windows of which the same numbers are observed: one matrix product for
//! all of them.
//!
//! ```text
//! ln p(x | c, k) = ln sum_s exp(a_ks + u_s(c) + n_ks - 1/2 sum_g q_kg / s_g^2) - ln sum_s exp(a_ks + u_s(c))
//! ```
//!
//! with `n_ks` what normalises the Gaussians, a the logarithms of the scales' weights and u what a gate adds to them (0
//! without one; the second term is 0 then). The experts of rings ([`super::ring`]) are such a bank too, with nothing given.

use tch::Tensor;

use super::common::Common;
use super::expert::Expert;
use super::factor::Factor;
use super::weights::{Tilt, Weights};
use crate::device::{self, Read, ReadOnly};
use crate::patch::log_sum::log_sum_exp;

/// Windows in one go: what is computed of them for all experts and scales stays in the cache.
const ROWS: i64 = 128;

/// All experts.
#[derive(Debug)]
pub struct Bank {
    /// Every expert by itself.
    pub factors: Vec<Factor>,
    /// Columns by number of the patch, then by expert: `[W, D' K]`.
    columns: Tensor,
    bias: Tensor,
    /// a + n, `[S, K]`, and each alone.
    constants: Tensor,
    log_weights: Tensor,
    normalisers: Tensor,
    /// `-1 / (2 s_g^2)`, `[G, S, 1]`.
    rates: Tensor,
}

// SAFETY: tensors and numbers; what takes `&self` writes into new tensors alone.
unsafe impl ReadOnly for Bank {}

impl Bank {
    /// Of all experts and their factors.
    #[must_use]
    pub fn new(experts: &[Expert], factors: Vec<Factor>, common: &Common) -> Self {
        let stacked = |of: &dyn Fn(&Factor) -> Tensor, dim: i64| {
            Tensor::stack(&factors.iter().map(of).collect::<Vec<_>>(), dim).contiguous()
        };
        let columns = stacked(&|f| f.columns().shallow_clone(), -1).flatten(1, 2); // [W, D' K]
        let bias = stacked(&|f| f.bias().shallow_clone(), -1).flatten(0, 1);
        let log_weights = Tensor::stack(&experts.iter().map(|e| e.log_weights.shallow_clone()).collect::<Vec<_>>(), 1);
        let normalisers = stacked(&|f| f.constants(&common.scales), 1);
        let constants = &log_weights + &normalisers;
        let rates = (common.precisions() * -0.5).unsqueeze(2).to_kind(common.kind);
        let [constants, log_weights, normalisers] =
            [constants, log_weights, normalisers].map(|t| t.to_kind(common.kind));
        Self { factors, columns, bias, constants, log_weights, normalisers, rates }
    }

    /// Which numbers of a patch are observed.
    pub fn own(&self) -> &Tensor {
        &self.factors[0].own
    }

    /// ln p(x | c, k) `[N, K]` of windows `[N, W]`, with the gate's weights of the experts where there is one.
    pub fn log_likelihood(&self, windows: &Tensor, weights: &Weights) -> Tensor {
        let n = windows.size()[0];
        let some = |start: i64| {
            let count = ROWS.min(n - start);
            (Read(self), windows.narrow(0, start, count), weights.scales_of(start, count))
        };
        let work = (0..n).step_by(ROWS as usize).map(some).collect();
        let parts =
            device::spread(windows.device(), work, |(bank, windows, tilt): (Read<Self>, Tensor, Option<Tensor>)| {
                bank.0.of_few(&windows, tilt)
            });
        let none = || windows.new_zeros([0, self.factors.len() as i64], (windows.kind(), windows.device()));
        weights.with_experts(if parts.is_empty() { none() } else { Tensor::cat(&parts, 0) })
    }

    /// ln p(x | c, k) `[n, K]` of few windows; `tilt` is u ([`Tilt::scales`]).
    fn of_few(&self, windows: &Tensor, tilt: Option<Tensor>) -> Tensor {
        let mut joint = self.joint(windows, &self.constants); // [n, S, K]
        if let Some(tilt) = &tilt {
            let _ = joint.g_add_(tilt);
        }
        let found = log_sum_exp(joint, 1);
        match tilt {
            // One for all experts: their weights are not normalised yet.
            Some(tilt) if tilt.size()[2] == 1 => {
                found - tilt.squeeze_dim(2).exp().matmul(&self.log_weights.exp()).log_()
            }
            _ => found,
        }
    }

    /// `constants - 1/2 sum_g q_kg / s_g^2` `[n, S, K]`.
    fn joint(&self, windows: &Tensor, constants: &Tensor) -> Tensor {
        let (n, experts) = (windows.size()[0], self.factors.len() as i64);
        let y = self.bias.addmm(windows, &self.columns).square_().view([n, self.own().numel() as i64, experts]);
        let mut joint = constants.unsqueeze(0);
        for ((start, width), g) in self.factors[0].spans().zip(0..) {
            let squares = y.narrow(1, start, width).sum_dim_intlist([1i64].as_slice(), true, None); // [n, 1, K]
            joint = joint.addcmul(&squares, &self.rates.get(g));
        }
        joint
    }

    /// What windows `[N, W]` say of experts with weights `exp(shares)` `[K]` and of their scales:
    /// `g_k h_ks` in proportion to `exp(shares_k + a_ks) p(window | k, s)`.
    pub fn tilt(&self, windows: &Tensor, shares: &Tensor) -> Tilt {
        let n = windows.size()[0];
        let some = |start: i64| (Read(self), windows.narrow(0, start, ROWS.min(n - start)));
        let work = (0..n.max(1)).step_by(ROWS as usize).map(some).collect();
        let few = |(bank, windows): (Read<Self>, Tensor)| {
            let scales = bank.0.joint(&windows, &bank.0.normalisers); // [n, S, K]
            let total = (&scales + &bank.0.log_weights).logsumexp([1i64].as_slice(), true);
            (total.squeeze_dim(1), scales - total)
        };
        let (totals, scales): (Vec<_>, Vec<_>) = device::spread(windows.device(), work, few).into_iter().unzip();
        let experts = Tensor::cat(&totals, 0) + shares.to_kind(windows.kind());
        Tilt { experts: experts.log_softmax(1, windows.kind()), scales: Tensor::cat(&scales, 0) }
    }
}
