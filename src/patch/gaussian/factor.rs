//! Whitening by the inverse Cholesky factor of a shape, one part for every group of variables.

use tch::{Kind, Tensor};

/// Examples whitened in one go, so that they stay in the cache.
const ROWS: i64 = 512;
/// Bands that a whitening is cut into, and variables that are worth one.
const BANDS: i64 = 4;
const LEAST_BAND: i64 = 16;
/// ln 2 pi.
pub const LN_2PI: f64 = 1.837_877_066_409_345_3;

/// L^-1 in the form that whitens fastest.
#[derive(Debug)]
pub struct Factor {
    /// Transpose of L^-1 `[D, D]`: upper triangular.
    transposed: Tensor,
    /// `-L^-1 mu_g` `[G, D]`.
    bias: Tensor,
    /// ln |L|.
    log_det: f64,
    /// Variables of each group.
    groups: Vec<i64>,
}

impl Factor {
    /// Of a mean and a positive definite shape whose variables come in these groups.
    #[must_use]
    pub fn new(mean: &Tensor, shape: &Tensor, groups: &[i64], kind: Kind) -> Self {
        let lower = shape.linalg_cholesky(false);
        let log_det = lower.diagonal(0, 0, 1).log().sum(Kind::Double).double_value(&[]);
        let eye = Tensor::eye(mean.size()[0], (Kind::Double, mean.device()));
        let inverse = lower.linalg_solve_triangular(&eye, false, true, false);
        let parts = spans(groups).map(|(start, len)| -inverse.narrow(1, start, len).mv(&mean.narrow(0, start, len)));
        let bias = Tensor::stack(&parts.collect::<Vec<_>>(), 0).to_kind(kind);
        Self { transposed: inverse.tr().to_kind(kind).contiguous(), bias, log_det, groups: groups.to_vec() }
    }

    /// `y_g` by group, `[N, D]` each.
    #[must_use]
    pub fn whiten(&self, x: &Tensor) -> Vec<Tensor> {
        let bands = self.bands(x);
        (0..self.groups.len()).map(|g| Tensor::cat(&bands.iter().map(|band| &band[g]).collect::<Vec<_>>(), 1)).collect()
    }

    /// `q_gh` for `g <= h`, doubled where they differ: `[P, N]`.
    pub fn products(&self, x: &Tensor) -> Tensor {
        let n = x.size()[0];
        let rows = |start: i64| {
            let bands = self.bands(&x.narrow(0, start, ROWS.min(n - start)));
            bands.iter().map(|y| self.inner(y)).reduce(|sum, more| sum + more).expect("at least one band")
        };
        let parts: Vec<Tensor> = (0..n).step_by(ROWS as usize).map(rows).collect();
        let none = || x.new_zeros([self.pairs().count() as i64, 0], (x.kind(), x.device()));
        if parts.is_empty() { none() } else { Tensor::cat(&parts, 1) }
    }

    /// [`Factor::products`] from `y_g` by group.
    pub fn inner(&self, y: &[Tensor]) -> Tensor {
        let pair = |(g, h): (usize, usize)| {
            if g == h {
                y[g].norm_scalaropt_dim(2.0, [1i64].as_slice(), false).square_()
            } else {
                (&y[g] * &y[h]).sum_dim_intlist(1, false, None) * 2.0
            }
        };
        Tensor::stack(&self.pairs().map(pair).collect::<Vec<_>>(), 0)
    }

    /// Pairs of groups, the smaller number first.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let groups = self.groups.len();
        (0..groups).flat_map(move |g| (g..groups).map(move |h| (g, h)))
    }

    /// `y_g` by bands of variables and groups: a band needs the variables before its end only, which saves most of the
    /// triangle's zeros.
    fn bands(&self, x: &Tensor) -> Vec<Vec<Tensor>> {
        let d = x.size()[1];
        let width = if d < LEAST_BAND * BANDS { d } else { d.div_euclid(BANDS) };
        let band = |start: i64| {
            let (width, end) = (width.min(d - start), (start + width).min(d));
            let columns = self.transposed.narrow(1, start, width);
            let part = |((first, len), g): ((i64, i64), i64)| {
                let len = len.min(end - first).max(0);
                let first = first.min(end);
                let bias = self.bias.get(g).narrow(0, start, width);
                bias.addmm(&x.narrow(1, first, len), &columns.narrow(0, first, len))
            };
            spans(&self.groups).zip(0..).map(part).collect()
        };
        (0..d).step_by(width.max(1) as usize).map(band).collect()
    }

    /// The standard deviation of every variable given those before it `[D]`, at scale 1.
    pub fn deviations(&self) -> Tensor {
        self.transposed.diagonal(0, 0, 1).reciprocal()
    }

    /// ln p(x, s) `[S, N]` from [`Factor::products`].
    pub fn log_joint(&self, products: &Tensor, log_weights: &Tensor, scales: &Tensor) -> Tensor {
        let sizes: Vec<f64> = self.groups.iter().map(|&n| n as f64).collect();
        let sizes = Tensor::from_slice(&sizes).to_device(scales.device());
        let d = self.bias.size()[1] as f64;
        let constant = log_weights - scales.log().mv(&sizes) - (self.log_det + 0.5 * d * LN_2PI);
        let rate =
            self.pairs().map(|(g, h)| (scales.select(1, g as i64) * scales.select(1, h as i64)).reciprocal() * -0.5);
        let rate = Tensor::stack(&rate.collect::<Vec<_>>(), 1);
        let kind = products.kind();
        constant.to_kind(kind).unsqueeze(1).addmm(&rate.to_kind(kind), products)
    }
}

/// First variable and number of variables of each group.
pub fn spans(groups: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    groups.iter().scan(0, |next, &len| {
        *next += len;
        Some((*next - len, len))
    })
}
