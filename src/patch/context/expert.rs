//! One expert: a conditional Gaussian whose innovations have a contrast scale for every group of variables.
//!
//! ```text
//! p(x | c) = sum_s h_s prod_g N(x_g; A_g (c, x_<g) + b_g, s_g^2 Sigma_g)      c: context, x_<g: earlier groups of the patch
//! r_s = posterior of the scales,   v_g = sum_s r_s / s_g^2
//! m_g = sum v_g w / sum v_g,   S_g = (sum v_g (w - m_g)(w - m_g)^T + lambda T) / (n + lambda)       w = (c, x_<=g)
//! A_g = S_xc S_cc^-1,   b_g = m_x - A_g m_c,   Sigma_g = S_xx - A_g S_cx
//! ```
//!
//! With one group this is the mixture's Gaussian `N(x | A c + b, s^2 Sigma)`. With luma and chroma, the scales are those of
//! the innovations: chroma is regressed on its context and on the patch's luma, and what is left has a scale of its own, so
//! that the M-step is the closed form of two weighted regressions. Without the prior (lambda T, an inverse-Wishart's) every
//! step is the maximum of the expected log-likelihood of x given c. Where the context is cut by the picture's border the
//! regression on what is there comes from the same `S_g`.

use tch::{Kind, Tensor};

use super::common::{Common, Regression};
use super::factor::Factor;
use super::moments::{Moments, Part};
use crate::device::ReadOnly;
use crate::patch::gaussian::component::floored;

/// Windows that a scale counts for at least, where its weight is scaled.
const LEAST: f64 = 1e-6;

/// How an expert is moved.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its size.
    pub eta: f64,
    /// Windows of the batch.
    pub batch: f64,
    /// Windows of the data set.
    pub examples: f64,
    /// Smooths the scales' weights.
    pub pseudocount: f64,
    /// Whether a gate tilts the scales' weights, so that their M-step is iterative scaling.
    pub gated: bool,
}

/// One conditional Gaussian scale mixture.
#[derive(Debug)]
pub struct Expert {
    /// One for every group.
    pub regressions: Vec<Regression>,
    /// ln of the scales' weights `[S]`, float64.
    pub log_weights: Tensor,
    /// Share of all windows that this expert has had.
    pub share: f64,
    /// Statistics since the last step.
    pub batch: Option<Moments>,
    /// Decayed statistics of the whole data set.
    pub memory: Option<Moments>,
    factor: Factor,
}

// SAFETY: tensors and numbers; what takes `&self` writes into new tensors alone.
unsafe impl ReadOnly for Expert {}

impl Expert {
    /// An expert with these parameters.
    #[must_use]
    pub fn new(regressions: Vec<Regression>, log_weights: Tensor, share: f64, common: &Common) -> Self {
        let factor = Factor::new(&regressions, &vec![true; common.numbers() as usize], common);
        Self { regressions, log_weights, share, batch: None, memory: None, factor }
    }

    /// An expert with even scales from the mean `[W]` and covariance `[W, W]` of `count` windows.
    #[must_use]
    pub fn from_covariance(mean: &Tensor, covariance: &Tensor, count: f64, share: f64, common: &Common) -> Self {
        let spread = common.scales.square().mean(Kind::Double);
        let blend = covariance / spread * count + &common.prior_shape * common.prior_strength;
        let shape = floored(&(blend / (count + common.prior_strength)), common.floor);
        let regression = |(start, width)| {
            let end = start + width;
            Regression { mean: mean.narrow(0, 0, end).copy(), shape: corner(&shape, end).copy() }
        };
        Self::new(common.spans().map(regression).collect(), common.even(), share, common)
    }

    /// The whitening of windows of which everything is observed.
    #[must_use]
    pub fn factor(&self) -> &Factor {
        &self.factor
    }

    /// Add the moments of windows w `[N, W]` with weights `[N]`; `log_weights` are the scales', `[S, 1]` or `[S, N]`. Returns
    /// the weighted posterior of the scales `[S, N]`.
    pub fn accumulate(&mut self, w: &Tensor, weights: &Tensor, log_weights: &Tensor, common: &Common) -> Tensor {
        let joint = self.factor.log_joint(&self.factor.squares(&self.factor.whiten(w)), log_weights, &common.scales);
        let posterior = joint.softmax(0, joint.kind()) * weights.to_kind(joint.kind());
        let v = common.precisions().to_kind(joint.kind()).matmul(&posterior); // [G, N]
        let part = |(((start, width), regression), g): (((i64, i64), &Regression), i64)| {
            // About the present mean: float32 products keep small eigenvalues only there.
            let centred = w.narrow(1, 0, start + width) - regression.mean.to_kind(w.kind());
            let weighted = &centred * v.get(g).unsqueeze(1);
            Part {
                weight: v.get(g).sum(Kind::Double),
                first: weighted.sum_dim_intlist(0, false, Kind::Double),
                second: weighted.tr().matmul(&centred).to_kind(Kind::Double),
            }
        };
        let parts = common.spans().zip(&self.regressions).zip(0..).map(part).collect();
        let scales = posterior.sum_dim_intlist(1, false, Kind::Double);
        let expected = (log_weights.exp() * weights).sum_dim_intlist(1, false, Kind::Double);
        let moments = Moments { scales, expected, parts };
        match &mut self.batch {
            Some(batch) => batch.blend(1.0, &moments, 1.0),
            None => self.batch = Some(moments),
        }
        posterior
    }

    /// M-step from a batch.
    pub fn step(&mut self, step: &Step, common: &Common) {
        let mut memory = self.remembered(step.examples, common);
        let before = self.log_weights.shallow_clone();
        let mut tilted = None;
        if let Some(batch) = self.batch.take() {
            let even = step.pseudocount / common.count() as f64;
            let [found, expected] = [&batch.scales, &batch.expected].map(|sum| (sum + even).clamp_min(LEAST));
            tilted = Some(before + (found / expected).log() * step.eta);
            let new = batch.about(self.regressions.iter().map(|r| r.mean.shallow_clone()));
            memory.blend(1.0 - step.eta, &new, step.eta * step.examples / step.batch);
        } else {
            memory.scale(1.0 - step.eta);
        }
        self.set(&memory, step.examples, step.pseudocount, common);
        if let (true, Some(tilted)) = (step.gated, tilted) {
            self.log_weights = tilted.log_softmax(0, Kind::Double);
        }
        self.memory = Some(memory);
    }

    /// The decayed statistics; before the first step, those that the parameters stand for.
    pub fn remembered(&self, examples: f64, common: &Common) -> Moments {
        self.memory.as_ref().map_or_else(|| self.implied(examples, common), Moments::copy)
    }

    /// The parameters that are most probable for these moments.
    pub fn set(&mut self, moments: &Moments, examples: f64, pseudocount: f64, common: &Common) {
        let n = moments.scales.sum(Kind::Double).double_value(&[]);
        self.share = n / examples;
        let weights = &moments.scales + pseudocount / common.count() as f64;
        if n <= 0.0 {
            self.log_weights = common.even();
            return;
        }
        self.log_weights = (&weights / weights.sum(Kind::Double).clamp_min(f64::MIN_POSITIVE)).log();
        for (regression, part) in self.regressions.iter_mut().zip(&moments.parts) {
            let mean = &part.first / &part.weight;
            let scatter = &part.second - mean.outer(&part.first);
            let prior = corner(&common.prior_shape, mean.size()[0]) * common.prior_strength;
            let shape = (scatter + prior) / (n + common.prior_strength).max(1e-300);
            regression.shape = floored(&((&shape + shape.tr()) * 0.5), common.floor);
            regression.mean = mean;
        }
        self.factor = Factor::new(&self.regressions, &vec![true; common.numbers() as usize], common);
    }

    /// The moments of `examples` times this expert's share of windows that would lead to its present parameters.
    fn implied(&self, examples: f64, common: &Common) -> Moments {
        let n = self.share * examples;
        let weights = self.log_weights.exp();
        let weight = common.precisions().mv(&weights) * n; // [G]
        let part = |(regression, g): (&Regression, i64)| {
            let prior = corner(&common.prior_shape, regression.mean.size()[0]) * common.prior_strength;
            Part {
                weight: weight.get(g),
                first: regression.mean.zeros_like(),
                second: &regression.shape * (n + common.prior_strength) - prior,
            }
        };
        let parts = self.regressions.iter().zip(0..).map(part).collect();
        let expected = &weights * n;
        Moments { scales: weights * n, expected, parts }.about(self.regressions.iter().map(|r| r.mean.shallow_clone()))
    }
}

/// The first rows and columns of a matrix.
fn corner(matrix: &Tensor, size: i64) -> Tensor {
    matrix.narrow(0, 0, size).narrow(1, 0, size)
}
