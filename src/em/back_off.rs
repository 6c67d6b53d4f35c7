//! Input tables of ordered values back off to runs of neighbouring values.
//!
//! A state's counts c(v) are few for each of 256 values and many for each run of neighbouring values. The back-off
//! distribution keeps the state's own mass of every run and shares it out within the run as the variable's marginal m:
//!
//! ```text
//! q(v) = c(run of v) / c(all) * m(v) / m(run of v)
//! ```
//!
//! `a` pseudocounts follow it, c(v) <- c(v) + a q(v): no run gains or loses mass by it. (Shrinkage towards a coarser model,
//! as n-gram models of language do; q moves with the counts, so this is no fixed prior and EM's objective may fall.)

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::plan::Segment;
use crate::refusal::Problems;

/// How strongly input tables follow runs of neighbouring values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackOffConfig {
    /// Pseudocounts of every input distribution that follow its back-off distribution.
    pub pseudocount: f64,
    /// Neighbouring values in a run, from 0 up; the last run may be shorter.
    pub run: usize,
}

impl BackOffConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let Self { pseudocount, run } = *self;
        let fine = pseudocount > 0.0 && pseudocount.is_finite();
        let expected = format!("expected a number above 0, found {pseudocount}");
        problems.check(fine, format!("{path}.pseudocount"), expected);
        problems.check(run >= 2, format!("{path}.run"), format!("expected at least 2 values, found {run}"));
    }
}

/// [`BackOffConfig`] for the input pools of a circuit.
#[derive(Debug)]
pub struct BackOff {
    config: BackOffConfig,
    /// m(v) / m(run of v) `[rows, 1]`, pool by pool.
    within: Vec<Tensor>,
}

impl BackOff {
    /// For marginals m `[rows, 1]` of every input pool.
    #[must_use]
    pub fn new(config: BackOffConfig, circuit: &Circuit, marginals: &[Tensor]) -> Self {
        let within = circuit.plan().input_pools.iter().zip(marginals).map(|(pool, marginals)| {
            let out = marginals.to_kind(Kind::Double).copy();
            for segment in &pool.segments {
                let mut values = segment.values(&out);
                let runs = runs(segment, config.run, &values);
                let _ = values.g_div_(&runs.tr().matmul(&runs.matmul(&values)).clamp_min(f64::MIN_POSITIVE));
            }
            out.to_kind(circuit.kind())
        });
        Self { config, within: within.collect() }
    }

    /// a.
    pub(super) fn pseudocount(&self) -> f64 {
        self.config.pseudocount
    }

    /// Values in a run.
    pub(super) fn run(&self) -> usize {
        self.config.run
    }

    /// m(v) / m(run of v) `[rows, 1]` of a pool.
    pub(super) fn within(&self, pool: usize) -> &Tensor {
        &self.within[pool]
    }

    /// `counts <- counts + a scale q` for a segment's part of a pool.
    pub(super) fn add(&self, pool: usize, segment: &Segment, counts: &Tensor, scale: f64) {
        let mut values = segment.values(counts);
        let runs = runs(segment, self.config.run, &values);
        let coarse = runs.matmul(&values);
        let total = coarse.sum_dim_intlist(1, true, coarse.kind()).clamp_min(f64::from(f32::MIN_POSITIVE));
        let spread = runs.tr().matmul(&(coarse * (self.config.pseudocount * scale) / total));
        let _ = values.addcmul_(&spread, &segment.values(&self.within[pool]));
    }
}

/// Which value lies in which run: `[runs, categories]`, 1 or 0, of the kind of `like`.
fn runs(segment: &Segment, run: usize, like: &Tensor) -> Tensor {
    let options = (Kind::Int64, like.device());
    let (categories, run) = (segment.categories, run as i64);
    let of_value = Tensor::arange(categories, options).floor_divide_scalar(run);
    let number = Tensor::arange((categories + run - 1) / run, options).unsqueeze(1);
    number.eq_tensor(&of_value).to_kind(like.kind())
}
