//! One Gaussian scale mixture and its EM step.
//!
//! ```text
//! p(x) = sum_s w_s N(x; mu, D_s Sigma D_s)          D_s = diag(sigma_sg), one scale for every group g of variables
//! Sigma = L L^T,   y_g = L^-1 (x - mu)_g,  q_gh = y_g . y_h       (x)_g: x with zeros outside of group g
//! ln p(x, s) = ln w_s - sum_g D_g ln sigma_sg - ln|L| - (D/2) ln 2 pi - 1/2 sum_gh q_gh / (sigma_sg sigma_sh)
//! r_s(x) = posterior of scale s                       v_gh(x) = sum_s r_s(x) / (sigma_sg sigma_sh)
//! mu:  sum_h Sigma^-1_gh (sum v_gh (x_h - mu_h)) = 0   for every g;     w_s = (sum r_s + a/S) / (n + a)
//! S_gh = sum v_gh (x - mu)_g (x - mu)_h^T
//! Sigma = (S + lambda T) / (n + lambda), eigenvalues at least the floor
//! ```
//!
//! With one group this is the Gaussian scale mixture, `mu = sum v x / sum v`. With more the mean is the best for the shape
//! before the step and the shape the best for the new mean, so likelihood times prior still never falls.
//!
//! The last line is the maximum of likelihood times an inverse-Wishart prior, `-(lambda/2) (ln|Sigma| + tr(T Sigma^-1))`,
//! over matrices whose eigenvalues keep the floor. [`Component::set`] is the one place that guarantees a shape that is
//! finite, symmetric and positive definite. With a rank given, Sigma is a factor analyser's (`low_rank`), moved towards the
//! right-hand side by steps that never lower the same objective.

use tch::{Kind, Tensor};

use super::factor::{Factor, spans};
use super::low_rank::LowRank;
use crate::patch::log_sum::log_sum_exp;

/// What all components of a model share; every component holds it, so that threads need nothing else.
#[derive(Debug)]
pub struct Common {
    /// Scales `sigma_sg` `[S, G]`, float64.
    pub scales: Tensor,
    /// Variables of each group; they lie side by side.
    pub groups: Vec<i64>,
    /// Prior shape T `[D, D]`, float64.
    pub prior_shape: Tensor,
    /// lambda: patches that the prior counts for.
    pub prior_strength: f64,
    /// Least eigenvalue of a shape.
    pub floor: f64,
    /// Rank of factor analysers; none for full covariances.
    pub rank: Option<i64>,
    /// What the passes over patches compute in.
    pub kind: Kind,
}

impl Common {
    /// The same tensors for another holder.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            scales: self.scales.shallow_clone(),
            groups: self.groups.clone(),
            prior_shape: self.prior_shape.shallow_clone(),
            ..*self
        }
    }

    /// Logarithms of even weights `[S]`.
    fn even(&self) -> Tensor {
        self.scales.select(1, 0).full_like(-(self.count() as f64).ln())
    }

    /// The group of every variable: int64 `[D]`.
    pub fn group_of(&self) -> Tensor {
        let numbers = self.groups.iter().zip(0i64..).flat_map(|(&n, g)| std::iter::repeat_n(g, n as usize));
        Tensor::from_slice(&numbers.collect::<Vec<_>>()).to_device(self.scales.device())
    }

    /// A number for every pair of variables `[D, D]` from one for every pair of groups `[G, G]`.
    fn by_variables(&self, by_groups: &Tensor) -> Tensor {
        let group_of = self.group_of();
        by_groups.index_select(0, &group_of).index_select(1, &group_of)
    }

    /// From `[G, G, D]` the entries `[G, D]` whose second group is the variable's own.
    fn own_columns(&self, all: &Tensor) -> Tensor {
        let own = spans(&self.groups).zip(0..).map(|((start, len), h)| all.select(1, h).narrow(1, start, len));
        Tensor::cat(&own.collect::<Vec<_>>(), 1)
    }

    /// sum `v_gh x_g x_h^T` `[D, D]` of x `[N, D]` and v `[G, G, N]`.
    fn second(&self, v: &Tensor, x: &Tensor) -> Tensor {
        let row = |((start, len), g): ((i64, i64), i64)| {
            let mine = x.narrow(1, start, len).tr();
            let block = |((start, len), h)| (&mine * v.get(g).get(h)).matmul(&x.narrow(1, start, len));
            Tensor::cat(&spans(&self.groups).zip(0..).map(block).collect::<Vec<_>>(), 1)
        };
        Tensor::cat(&spans(&self.groups).zip(0..).map(row).collect::<Vec<_>>(), 0)
    }

    /// `1 / (sigma_sg sigma_sh)` `[G, G, S]`.
    pub fn precisions(&self) -> Tensor {
        let inverse = self.scales.reciprocal().tr();
        inverse.unsqueeze(1) * inverse.unsqueeze(0)
    }

    /// Number of scales.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.scales.size()[0]
    }
}

/// Sums over patches, weighted by posteriors; float64. Those of a batch are about the component's mean: float32 products
/// keep the small eigenvalues of the shape only there. Those of the whole data set are about the origin.
#[derive(Debug)]
pub struct Moments {
    /// sum `r_s`, `[S]`.
    pub scales: Tensor,
    /// sum `v_gh`, `[G, G]`.
    pub weight: Tensor,
    /// sum `v_gh x_h`, `[G, D]`: h is the group of the column.
    pub first: Tensor,
    /// sum `v_gh x_g x_h^T`, `[D, D]`.
    pub second: Tensor,
}

/// One Gaussian scale mixture.
#[derive(Debug)]
pub struct Component {
    /// mu `[D]`, float64.
    pub mean: Tensor,
    /// Sigma `[D, D]`, float64.
    pub shape: Tensor,
    /// ln `w_s` `[S]`, float64.
    pub log_weights: Tensor,
    /// Share of all patches that this component has had.
    pub share: f64,
    /// Statistics since the last step.
    pub batch: Option<Moments>,
    /// Decayed statistics of the whole data set.
    pub memory: Option<Moments>,
    /// What all components share.
    pub common: Common,
    /// Sigma as a factor analyser, where a rank is given.
    pub low_rank: Option<LowRank>,
    factor: Factor,
}

impl Component {
    /// A component with these parameters.
    #[must_use]
    pub fn new(mean: &Tensor, shape: &Tensor, log_weights: &Tensor, share: f64, common: &Common) -> Self {
        let [mean, shape, log_weights] = [mean, shape, log_weights].map(|t| t.to_kind(Kind::Double).copy());
        let factor = Factor::new(&mean, &shape, &common.groups, common.kind);
        let common = common.share();
        Self { mean, shape, log_weights, share, batch: None, memory: None, common, low_rank: None, factor }
    }

    /// A component with even scales from the mean and covariance of `count` patches.
    #[must_use]
    pub fn from_covariance(mean: &Tensor, covariance: &Tensor, count: f64, share: f64, common: &Common) -> Self {
        let spread = common.scales.square().mean(Kind::Double);
        let blend = covariance / spread * count + &common.prior_shape * common.prior_strength;
        let shape = floored(&(blend / (count + common.prior_strength)), common.floor);
        Self::of_shape(mean, &shape, &common.even(), share, common)
    }

    /// A component with these parameters, or the nearest factor analyser's by principal axes where a rank is given.
    pub fn of_shape(mean: &Tensor, shape: &Tensor, log_weights: &Tensor, share: f64, common: &Common) -> Self {
        let low_rank = common.rank.map(|rank| LowRank::principal(shape, rank, common.floor));
        let own = low_rank.as_ref().map(LowRank::shape);
        Self { low_rank, ..Self::new(mean, own.as_ref().unwrap_or(shape), log_weights, share, common) }
    }

    /// The same parameters, nothing accumulated or remembered.
    #[must_use]
    pub fn copy(&self) -> Self {
        let low_rank = self.low_rank.as_ref().map(LowRank::copy);
        Self { low_rank, ..Self::new(&self.mean, &self.shape, &self.log_weights, self.share, &self.common) }
    }

    /// The factor of the shape.
    #[must_use]
    pub fn factor(&self) -> &Factor {
        &self.factor
    }

    /// ln p(x) `[N]` for x `[N, D]`.
    pub fn log_likelihood(&self, x: &Tensor) -> Tensor {
        log_sum_exp(self.log_joint(&self.factor.products(x)), 0)
    }

    /// ln p(x, s) `[S, N]` from [`Factor::products`].
    pub fn log_joint(&self, products: &Tensor) -> Tensor {
        self.factor.log_joint(products, &self.log_weights, &self.common.scales)
    }

    /// Add the moments of x `[N, D]` with weights `[N]`.
    pub fn accumulate(&mut self, x: &Tensor, weights: &Tensor) {
        let joint = self.log_joint(&self.factor.products(x)); // [S, N]
        let posterior = joint.softmax(0, joint.kind()) * weights.to_kind(joint.kind());
        let v = self.common.precisions().to_kind(joint.kind()).matmul(&posterior); // [G, G, N]
        let centred = x - self.mean.to_kind(x.kind());
        let first = v.matmul(&centred); // [G, G, D]
        let moments = Moments {
            scales: posterior.sum_dim_intlist(1, false, Kind::Double),
            weight: v.sum_dim_intlist(-1, false, Kind::Double),
            first: self.common.own_columns(&first).to_kind(Kind::Double),
            second: self.common.second(&v, &centred).to_kind(Kind::Double),
        };
        self.add(moments);
    }

    /// Add moments about the component's mean.
    pub fn add(&mut self, moments: Moments) {
        match &mut self.batch {
            Some(batch) => batch.blend(1.0, &moments, 1.0),
            None => self.batch = Some(moments),
        }
    }

    /// M-step of size `eta` from a batch of `batch` patches of a data set of `examples`; `pseudocount` smooths the
    /// scales' weights.
    pub fn step(&mut self, eta: f64, batch: f64, examples: f64, pseudocount: f64) {
        let mut memory = self.remembered(examples);
        let new = self.batch.take().map_or_else(|| memory.zeros_like(), |batch| batch.about(&self.mean, &self.common));
        memory.blend(1.0 - eta, &new, eta * examples / batch);
        self.set(&memory, examples, pseudocount);
        self.memory = Some(memory);
    }

    /// The decayed statistics; before the first step, those that the parameters stand for.
    pub fn remembered(&self, examples: f64) -> Moments {
        self.memory.as_ref().map_or_else(|| self.implied(examples), Moments::copy)
    }

    /// The parameters that are most probable for these moments.
    pub fn set(&mut self, moments: &Moments, examples: f64, pseudocount: f64) {
        let common = self.common.share();
        let n = moments.scales.sum(Kind::Double).double_value(&[]);
        self.share = n / examples;
        let even = pseudocount / common.count() as f64;
        let weights = &moments.scales + even;
        self.log_weights = (&weights / weights.sum(Kind::Double).clamp_min(f64::MIN_POSITIVE)).log();
        if n > 0.0 {
            self.mean = self.best_mean(moments);
        } else {
            self.log_weights = common.even();
        }
        let scatter = moments.about(&-&self.mean, &common).second;
        let shape = (scatter + &common.prior_shape * common.prior_strength) / (n + common.prior_strength).max(1e-300);
        let target = floored(&((&shape + shape.tr()) * 0.5), common.floor);
        self.shape = match common.rank {
            None => target,
            Some(rank) => {
                let principal = || LowRank::principal(&self.shape, rank, common.floor);
                let low_rank = self.low_rank.get_or_insert_with(principal);
                low_rank.fit(&target, common.floor);
                low_rank.shape()
            }
        };
        self.factor = Factor::new(&self.mean, &self.shape, &common.groups, common.kind);
    }

    /// The most probable mean at the present shape.
    fn best_mean(&self, moments: &Moments) -> Tensor {
        if self.common.groups.len() == 1 {
            return moments.first.get(0) / moments.weight.get(0);
        }
        let precision = Tensor::linalg_inv(&self.shape);
        let right = &precision * moments.first.index_select(0, &self.common.group_of());
        let left = precision * self.common.by_variables(&moments.weight);
        Tensor::linalg_solve(&left, &right.sum_dim_intlist(1, false, Kind::Double), true)
    }

    /// The moments of `examples` times this component's share of patches that would lead to its present parameters.
    #[must_use]
    pub fn implied(&self, examples: f64) -> Moments {
        let common = &self.common;
        let n = self.share * examples;
        let weights = self.log_weights.exp();
        let weight = common.precisions().matmul(&weights) * n;
        let shape = &self.shape * (n + common.prior_strength) - &common.prior_shape * common.prior_strength;
        let first = self.mean.zeros_like().unsqueeze(0).repeat([common.groups.len() as i64, 1]);
        Moments { scales: weights * n, first, second: shape, weight }.about(&self.mean, common)
    }

    /// The longest axis of the shape, scaled to one standard deviation `[D]`.
    pub fn principal_axis(&self) -> Tensor {
        let (values, vectors) = self.shape.linalg_eigh("L"); // rising
        let last = values.size()[0] - 1;
        vectors.select(1, last) * values.get(last).sqrt()
    }
}

/// The nearest symmetric matrix, for the likelihood, whose eigenvalues are at least the floor.
pub fn floored(shape: &Tensor, floor: f64) -> Tensor {
    let eye = Tensor::eye(shape.size()[0], (Kind::Double, shape.device()));
    let (_, info) = (shape - &eye * (floor * (1.0 - 1e-9))).linalg_cholesky_ex(false, false);
    if info.int64_value(&[]) == 0 {
        return shape.shallow_clone();
    }
    let (values, vectors) = shape.linalg_eigh("L");
    (&vectors * values.clamp_min(floor)).matmul(&vectors.tr())
}

impl Moments {
    /// `self * keep + other * add`.
    pub fn blend(&mut self, keep: f64, other: &Self, add: f64) {
        for (mine, theirs) in self.parts().into_iter().zip(other.parts()) {
            let _ = mine.shallow_clone().g_mul_scalar_(keep).g_add_(&(theirs * add));
        }
    }

    /// Those of x + shift from those of x.
    fn about(&self, shift: &Tensor, common: &Common) -> Self {
        let group_of = common.group_of();
        let cross = self.first.index_select(0, &group_of).tr() * shift; // [i, j]: sum v_gh x_i shift_j
        let weight = common.by_variables(&self.weight);
        Self {
            scales: self.scales.shallow_clone(),
            weight: self.weight.shallow_clone(),
            first: &self.first + self.weight.index_select(1, &group_of) * shift,
            second: &self.second + &cross + cross.tr() + weight * shift.outer(shift),
        }
    }

    /// Those of no patches.
    #[must_use]
    pub fn zeros(common: &Common) -> Self {
        let (d, g) = (common.groups.iter().sum(), common.groups.len() as i64);
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, common.scales.device()));
        Self { scales: zeros(&[common.count()]), weight: zeros(&[g, g]), first: zeros(&[g, d]), second: zeros(&[d, d]) }
    }

    fn zeros_like(&self) -> Self {
        let [scales, weight, first, second] = self.parts().map(Tensor::zeros_like);
        Self { scales, weight, first, second }
    }

    /// A copy that shares no memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        let [scales, weight, first, second] = self.parts().map(Tensor::copy);
        Self { scales, weight, first, second }
    }

    /// In the order of the fields.
    pub fn parts(&self) -> [&Tensor; 4] {
        [&self.scales, &self.weight, &self.first, &self.second]
    }
}
