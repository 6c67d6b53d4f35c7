//! Some trees that are evaluated together, as one circuit.

use std::ops::Range;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::flows::Statistics;
use crate::device::ReadOnly;
use crate::em::Learner;
use crate::patch::evidence::PatchEvidence;
use crate::structure::chow_liu::Parents;
use crate::structure::hclt;

/// Examples that a forest of one tree looks at in one go; larger forests take proportionally fewer.
const EXAMPLES: i64 = 1024;

/// How wide trees are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Heads of every tree: clusters that share it.
    pub heads: usize,
    /// States of every region.
    pub states: usize,
}

/// Neighbouring trees of a model.
pub(super) struct Forest {
    /// Their numbers.
    pub(super) trees: Range<usize>,
    pub(super) circuit: Circuit,
    pub(super) learner: Option<Learner>,
    /// Since the last step; none before the first patches.
    pub(super) statistics: Option<Statistics>,
}

// SAFETY: plain numbers and tensors; what takes `&self` writes into new tensors alone.
unsafe impl ReadOnly for Forest {}

impl Forest {
    /// How many of so many trees make a forest: as many as were asked for, 0 for what suits the device. A GPU wants large
    /// operations, a CPU what stays in its caches.
    pub(super) fn size(wanted: usize, trees: usize, device: Device) -> usize {
        match wanted {
            0 if device.is_cuda() => trees.max(1),
            0 => 1,
            size => size,
        }
    }

    /// Uniform circuits on the trees of these numbers; `ranges` are inclusive and per variable.
    pub(super) fn uniform(
        numbers: Range<usize>,
        trees: &[Parents],
        width: Width,
        ranges: &[(i64, i64)],
        device: Device,
    ) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let categories: Vec<usize> = ranges.iter().map(|(low, high)| (high - low + 1) as usize).collect();
        let graph = hclt::forest(trees, width.states, &categories)?.with_heads(width.heads);
        let circuit = Circuit::uniform(graph, Kind::Float, device);
        Ok(Self { trees: numbers, circuit, learner: None, statistics: None })
    }

    /// Examples looked at in one go.
    fn chunk(&self) -> i64 {
        (EXAMPLES / self.trees.len() as i64).max(32)
    }

    /// log p(patch | cluster) of this forest's clusters, float64 `[N, T * heads]`, for evidence `[N, D]` whose
    /// values count from 0.
    pub(super) fn log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let n = patches.values().size()[0];
        if n == 0 {
            return Ok(Tensor::zeros(
                [0, self.circuit.plan().trees * self.circuit.plan().heads],
                (Kind::Double, patches.values().device()),
            ));
        }
        let parts =
            self.evidence(patches)?.iter().map(|some| self.circuit.log_likelihood(some)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 0))
    }

    /// Evidence `[N, D]` in parts that are looked at in one go, at least one.
    fn evidence(&self, patches: &PatchEvidence) -> Result<Vec<Evidence>> {
        let n = patches.values().size()[0];
        let some = |start| {
            let some = patches.narrow(start, self.chunk().min(n - start));
            Evidence::shared(some.values(), some.observed(), self.circuit.plan())
        };
        (0..n.max(1)).step_by(self.chunk() as usize).map(some).collect()
    }

    /// What one head draws given evidence `[N, D]` whose values count from 0: int64 `[N, D]`.
    pub(super) fn sample_given(&self, patches: &PatchEvidence, head: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let draw = |evidence: Evidence| {
            let messages = self.circuit.forward(&evidence, true)?;
            Ok(self.circuit.sample(head, evidence.examples as usize, Some(&messages), rng))
        };
        Ok(Tensor::cat(&self.evidence(patches)?.into_iter().map(draw).collect::<Result<Vec<_>>>()?, 0))
    }

    /// The largest joint probability under this forest's clusters, float64 `[N, T * heads]`, for evidence `[N, D]` whose values
    /// count from 0.
    pub(super) fn maximum(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let largest = |evidence: Evidence| Ok(self.circuit.maximise(&evidence)?.log_probability);
        Ok(Tensor::cat(&self.evidence(patches)?.into_iter().map(largest).collect::<Result<Vec<_>>>()?, 0))
    }

    /// Where it is for one head: int64 `[N, D]`.
    pub(super) fn maximiser(&self, patches: &PatchEvidence, head: usize) -> Result<Tensor> {
        let find = |evidence: Evidence| Ok(self.circuit.maximiser(head, &self.circuit.maximise(&evidence)?));
        Ok(Tensor::cat(&self.evidence(patches)?.into_iter().map(find).collect::<Result<Vec<_>>>()?, 0))
    }

    /// [`Circuit::moments`] for evidence `[N, D]` whose values count from 0 and `weights` `[N, T * heads]`.
    pub(super) fn moments(&self, patches: &PatchEvidence, weights: &Tensor) -> Result<[Tensor; 2]> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (evidence, weights) in self.evidence(patches)?.iter().zip(weights.split(self.chunk(), 0)) {
            let [mean, square] = self.circuit.moments(&self.circuit.forward(evidence, true)?, &weights);
            first.push(mean);
            second.push(square);
        }
        Ok([Tensor::cat(&first, 0), Tensor::cat(&second, 0)])
    }

    /// Flows of the pairs of patch and cluster whose weight reaches the threshold. Every tree sees patches of its own;
    /// shorter lists are padded with weight 0.
    pub(super) fn accumulate(
        &self,
        patches: &PatchEvidence,
        weights: &Tensor,
        threshold: f64,
        statistics: &mut Statistics,
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let heads = self.circuit.plan().heads;
        let of = |tree: usize| weights.narrow(1, tree as i64 * heads, heads);
        let kept = |tree| of(tree).amax([1i64].as_slice(), false).ge(threshold).nonzero().squeeze_dim(1);
        let rows: Vec<Tensor> = self.trees.clone().map(kept).collect();
        let longest = rows.iter().map(|r| r.size()[0]).max().unwrap_or(0);
        let step = (EXAMPLES / rows.len() as i64).max(32);
        for start in (0..longest).step_by(step as usize) {
            let width = step.min(longest - start);
            let (mut evidence, mut weight) = (Vec::new(), Vec::new());
            for (tree, rows) in self.trees.clone().zip(&rows) {
                let len = (rows.size()[0] - start).clamp(0, width);
                let mine = rows.narrow(0, start.min(rows.size()[0]), len);
                let pad = [0, 0, 0, width - len];
                weight.push(of(tree).index_select(0, &mine).constant_pad_nd(pad));
                evidence.push(patches.rows(&mine).map(|tensor| tensor.constant_pad_nd(pad)));
            }
            let evidence = PatchEvidence::stack(&evidence);
            let evidence = Evidence::per_tree(evidence.values(), evidence.observed(), self.circuit.plan())?;
            let _ = self.circuit.accumulate(&evidence, &Tensor::cat(&weight, 1), statistics)?;
        }
        Ok(())
    }

    /// M-step from a batch of `batch` patches over all clusters.
    pub(super) fn step(&mut self, batch: f64, eta: f64) {
        if let (Some(learner), Some(mut statistics)) = (&mut self.learner, self.statistics.take()) {
            statistics.weight = batch;
            learner.step(&mut self.circuit, statistics, eta);
        }
    }
}
