//! Pictures drawn patch by patch, where patches see the pixels around them.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::{Mixture, Prior};
use crate::circuit::sample::draw;
use crate::patch::{PatchEvidence, Reading};

impl Mixture {
    /// Draw pictures: patches as int64 `[count, L, D]`. Every patch is drawn as a point of the density given those before it,
    /// and rounded down to integers, within their ranges, at the end.
    pub(super) fn sample_in_order(&self, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let [height, width] = self.view.size().map(|n| n as i64);
        let (p, channels) = (self.view.grid.patch as i64, self.view.grid.channels as i64);
        let device = self.patches.device();
        let (rows, cols) = (self.view.grid.rows as i64, self.view.grid.cols as i64);
        let whole = Tensor::zeros([count as i64, rows * p, cols * p, channels], (Kind::Double, device));
        let place = |i: i64| whole.narrow(1, i / cols * p, p).narrow(2, i % cols * p, p);
        let observed = self.view.observed().expect("patches see others");
        for i in 0..rows * cols {
            let windows = self.view.cut(&whole.narrow(1, 0, height).narrow(2, 0, width)).select(1, i);
            let drawn = self.next_patch(&windows, &observed.get(i), rng);
            place(i).copy_(&drawn.reshape([count as i64, p, p, channels]));
        }
        let patches = self.view.grid.cut(&whole.floor()).to_kind(Kind::Int64);
        let ranges = self.view.ranges();
        let own = &ranges[ranges.len() - self.view.variables()..];
        let bounded = own.iter().zip(0i64..).map(|((low, high), v)| patches.select(-1, v).clamp(*low, *high));
        Tensor::stack(&bounded.collect::<Vec<_>>(), -1)
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
