//! What a likelihood needs of an expert: the last rows of the whitening of every regression, for windows of which the same
//! numbers are observed.
//!
//! ```text
//! S_g = L L^T over (c, x_<=g),   y_g = the last D_g rows of L^-1 (w - m_g),   q_g = |y_g|^2
//! ln p(x | c, s) = -sum_g (D_g ln s_g + q_g / (2 s_g^2)) - sum ln L_dd - (D/2) ln 2 pi
//! ```
//!
//! The rows of x in L^-1 are those of the regression of x on what comes before it, divided by its deviations: nothing else
//! of the whitening is computed. A regression on fewer numbers is that of the moments without the others.

use tch::{Kind, Tensor};

use super::common::{Common, Regression};
use crate::device::ReadOnly;

const LN_2PI: f64 = 1.837_877_066_409_345_5;

/// The whitening of patches given their contexts.
#[derive(Debug)]
pub struct Factor {
    /// Rows of L^-1 as columns, zero where nothing is observed: `[W, D']`, D' the observed numbers of a patch.
    columns: Tensor,
    /// `[D']`.
    bias: Tensor,
    /// Conditional deviations at scale 1, `[D']`.
    pub deviations: Tensor,
    /// Observed numbers of the patch in each group.
    widths: Vec<i64>,
    /// Which numbers of the patch those are, int64 `[D']`.
    pub own: Tensor,
    /// ln of the product of the deviations.
    log_det: f64,
}

// SAFETY: tensors and numbers; what takes `&self` writes into new tensors alone.
unsafe impl ReadOnly for Factor {}

impl Factor {
    /// Of regressions group by group, where what is true in `observed` (W flags, in the order of the components) is there.
    #[must_use]
    pub fn new(regressions: &[Regression], observed: &[bool], common: &Common) -> Self {
        let device = common.scales.device();
        let mut parts: [Vec<Tensor>; 3] = Default::default();
        let (mut widths, mut own) = (Vec::new(), Vec::new());
        for ((start, width), regression) in common.spans().zip(regressions) {
            let there = |range: std::ops::Range<i64>| range.filter(|&i| observed[i as usize]).collect::<Vec<_>>();
            let (before, mine) = (there(0..start), there(start..start + width));
            own.extend(mine.iter().map(|i| i - common.given));
            widths.push(mine.len() as i64);
            let seen = Tensor::from_slice(&[before, mine].concat()).to_device(device);
            let part = rows(regression, &seen, widths[widths.len() - 1], common);
            parts.iter_mut().zip(part).for_each(|(all, part)| all.push(part));
        }
        let [columns, bias, deviations] = parts;
        let deviations = Tensor::cat(&deviations, 0);
        Self {
            columns: Tensor::cat(&columns, 1).to_kind(common.kind).contiguous(),
            bias: Tensor::cat(&bias, 0).to_kind(common.kind),
            log_det: deviations.log().sum(Kind::Double).double_value(&[]),
            deviations: deviations.to_kind(common.kind),
            own: Tensor::from_slice(&own).to_device(device),
            widths,
        }
    }

    /// The same tensors for another holder.
    #[must_use]
    pub fn share(&self) -> Self {
        let [columns, bias, deviations, own] =
            [&self.columns, &self.bias, &self.deviations, &self.own].map(Tensor::shallow_clone);
        Self { columns, bias, deviations, own, widths: self.widths.clone(), log_det: self.log_det }
    }

    /// Rows of L^-1 as columns `[W, D']`.
    pub fn columns(&self) -> &Tensor {
        &self.columns
    }

    /// What they add to `[D']`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What normalises the Gaussians at every scale, `[S]`, float64.
    pub fn constants(&self, scales: &Tensor) -> Tensor {
        let widths: Vec<f64> = self.widths.iter().map(|&w| w as f64).collect();
        let all = widths.iter().sum::<f64>();
        let widths = Tensor::from_slice(&widths).to_device(scales.device());
        -scales.log().mv(&widths) - (self.log_det + 0.5 * all * LN_2PI)
    }

    /// y `[N, D']` of windows `[N, W]`.
    pub fn whiten(&self, windows: &Tensor) -> Tensor {
        self.bias.addmm(windows, &self.columns)
    }

    /// q `[G, N]` from y.
    pub fn squares(&self, y: &Tensor) -> Tensor {
        let square = |(start, width)| y.narrow(1, start, width).square().sum_dim_intlist(1, false, None);
        Tensor::stack(&self.spans().map(square).collect::<Vec<_>>(), 0)
    }

    /// First number and width of each group among the observed numbers of a patch.
    pub fn spans(&self) -> impl Iterator<Item = (i64, i64)> {
        self.widths.iter().scan(0, |next, &width| {
            *next += width;
            Some((*next - width, width))
        })
    }

    /// A number for every observed number of a patch `[D']` from one for every group `[G]`.
    pub fn by_number(&self, by_group: &Tensor) -> Tensor {
        let widths = Tensor::from_slice(&self.widths).to_device(by_group.device());
        by_group.repeat_interleave_self_tensor(&widths, None, None)
    }

    /// ln p(x, s | c) `[S, N]` from q `[G, N]` and the logarithms of the scales' weights, `[S, 1]` or `[S, N]`.
    pub fn log_joint(&self, squares: &Tensor, log_weights: &Tensor, scales: &Tensor) -> Tensor {
        let constant = self.constants(scales);
        let rate = scales.square().reciprocal() * -0.5;
        let kind = squares.kind();
        (log_weights + constant.unsqueeze(1)).to_kind(kind).addmm(&rate.to_kind(kind), squares)
    }

    /// What y is at x = 0, `[N, width]`, and the triangle `[width, width]` that takes x there, of one group.
    pub fn innovation(&self, windows: &Tensor, group: usize, rows: (i64, i64)) -> (Tensor, Tensor) {
        let (start, width) = self.spans().nth(group).expect("a group of the model");
        let y = self.whiten(windows).narrow(1, start, width);
        (y, self.columns.narrow(0, rows.0, rows.1).narrow(1, start, width).tr())
    }
}

/// Columns `[W, width]`, bias and deviations `[width]` of the last `width` of the numbers `seen` of a regression.
fn rows(regression: &Regression, seen: &Tensor, width: i64, common: &Common) -> [Tensor; 3] {
    let n = seen.size()[0];
    let shape = regression.shape.index_select(0, seen).index_select(1, seen);
    let lower = shape.linalg_cholesky(false);
    let last = Tensor::eye(n, (Kind::Double, seen.device())).narrow(1, n - width, width);
    let inner = lower.tr().linalg_solve_triangular(&last, true, true, false); // [n, width]
    let bias = -inner.tr().mv(&regression.mean.index_select(0, seen));
    let zeros = Tensor::zeros([common.numbers(), width], (Kind::Double, seen.device()));
    let deviations = lower.diagonal(0, 0, 1).narrow(0, n - width, width);
    [zeros.index_copy(0, seen, &inner), bias, deviations.copy()]
}
