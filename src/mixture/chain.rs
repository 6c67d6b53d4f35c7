//! Pictures drawn patch by patch, where patches see the pixels around them.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::{Mixture, Prior};
use crate::circuit::sample::draw;
use crate::patch::{PatchEvidence, Reading};
use crate::require;

impl Mixture {
    /// Draw pictures: patches as int64 `[count, L, D]`. Every patch is drawn as a point of the density given those before it,
    /// and rounded down to integers, within their ranges, at the end.
    pub(super) fn sample_in_order(&self, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let [l, d] = [self.view.patches() as i64, self.view.variables() as i64];
        let nothing = Tensor::zeros([count as i64, l, d], (Kind::Double, self.patches.device()));
        self.view.bounded(&self.fill_in_order(&nothing, &nothing.ne(0.0), rng).floor())
    }

    /// Draw the patches that were not observed of pictures `[B, L, numbers]`, given those before them: points of the density,
    /// float64 `[B, L, D]`, observed patches as they are.
    ///
    /// # Errors
    /// A refusal where a patch was observed in part, and where the reading is not the density.
    pub fn complete_in_order(&self, evidence: &PatchEvidence, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        require!(
            evidence.reading() == Reading::Density,
            "patches with context are drawn from the density\n  ask for the density reading"
        );
        let [numbers, own] = [self.view.numbers() as i64, self.view.variables() as i64];
        let patch = |tensor: &Tensor| tensor.narrow(-1, numbers - own, own);
        let values = patch(evidence.values()).to_kind(Kind::Double);
        let inside = patch(&self.view.observed().expect("patches see others").to_device(values.device()));
        let observed = evidence.observed().map_or_else(|| inside.expand_as(&values), patch);
        let whole = observed.eq_tensor(&inside).all_dim(-1, true);
        let part = observed.any_dim(-1, true).logical_and(&whole.logical_not()).any();
        require!(
            part.int64_value(&[]) == 0,
            "patches with context are drawn as a whole: the mask cuts through patches of {0} x {0} pixels",
            self.view.grid.patch
        );
        Ok(self.fill_in_order(&values, &whole.expand_as(&values), rng))
    }

    /// Draw the patches of which nothing is true in `known` `[N, L, D]`, in raster order: float64 `[N, L, D]`.
    fn fill_in_order(&self, values: &Tensor, known: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        let count = values.size()[0];
        let [height, width] = self.view.size().map(|n| n as i64);
        let (p, channels) = (self.view.grid.patch as i64, self.view.grid.channels as i64);
        let cols = self.view.grid.cols as i64;
        let whole = self.view.grid.assemble(values).to_device(self.patches.device());
        let inside = self.view.observed().expect("patches see others");
        for i in (0..self.view.patches() as i64).filter(|&i| known.select(1, i).all().int64_value(&[]) == 0) {
            let windows = self.view.cut(&whole.narrow(1, 0, height).narrow(2, 0, width)).select(1, i);
            let drawn = self.next_patch(&windows, &inside.get(i), rng);
            let patch = values.select(1, i).to_device(drawn.device()).where_self(&known.select(1, i), &drawn);
            whole.narrow(1, i / cols * p, p).narrow(2, i % cols * p, p).copy_(&patch.reshape([count, p, p, channels]));
        }
        self.view.grid.cut(&whole)
    }

    /// A patch `[count, D]`, float64, given the windows `[count, numbers]` that are known but for it, as far as they lie inside
    /// of the picture (bool `[numbers]`).
    fn next_patch(&self, windows: &Tensor, inside: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        let [numbers, own] = [self.view.numbers() as i64, self.view.variables() as i64];
        let observed = inside.copy();
        let _ = observed.narrow(0, numbers - own, own).fill_(0);
        let evidence = PatchEvidence::new(windows, Reading::Density).with_observed(&observed.unsqueeze(0));
        let weights = match &self.prior {
            Prior::Independent(log_weights) => log_weights.exp().expand([windows.size()[0], -1], false),
            _ => self.patches.weights(&evidence).expect("windows of the view").exp(),
        };
        let clusters = draw(&weights, rng);
        let drawn = self.patches.sample_given(&evidence, &clusters, rng).expect("windows of the view");
        drawn.narrow(1, numbers - own, own)
    }
}
