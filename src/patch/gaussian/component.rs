//! One Gaussian scale mixture and its EM step.
//!
//! ```text
//! p(x) = sum_s w_s N(x; mu, sigma_s^2 Sigma)            Sigma = L L^T,  y = L^-1 (x - mu),  q = |y|^2
//! r_s(x) = posterior of scale s                          v(x) = sum_s r_s(x) / sigma_s^2
//! mu = sum v x / sum v,     S = sum v (x - mu)(x - mu)^T,      w_s = (sum r_s + a/S) / (n + a)
//! Sigma = (S + lambda T) / (n + lambda), eigenvalues at least the floor
//! ```
//!
//! The last line is the maximum of likelihood times an inverse-Wishart prior, `-(lambda/2) (ln|Sigma| + tr(T Sigma^-1))`,
//! over matrices whose eigenvalues keep the floor. [`Component::set`] is the one place that guarantees a shape that is
//! finite, symmetric and positive definite. With a rank given, Sigma is a factor analyser's (`low_rank`), moved towards the
//! right-hand side by steps that never lower the same objective.

use tch::{Kind, Tensor};

use super::low_rank::LowRank;

/// Examples whitened in one go, so that they stay in the cache.
const ROWS: i64 = 512;
/// Bands that a whitening is cut into, and variables that are worth one.
const BANDS: i64 = 4;
const LEAST_BAND: i64 = 16;
const LN_2PI: f64 = 1.837_877_066_409_345_3;

/// What all components of a model share; every component holds it, so that threads need nothing else.
#[derive(Debug)]
pub struct Common {
    /// Scales `sigma_s` `[S]`, float64.
    pub scales: Tensor,
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
        Self { scales: self.scales.shallow_clone(), prior_shape: self.prior_shape.shallow_clone(), ..*self }
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
    /// sum v, `[]`.
    pub weight: Tensor,
    /// sum v x, `[D]`.
    pub first: Tensor,
    /// sum v x x^T, `[D, D]`.
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

/// L^-1 in the form that whitens fastest.
#[derive(Debug)]
pub struct Factor {
    /// Transpose of L^-1 `[D, D]`: upper triangular.
    transposed: Tensor,
    /// -L^-1 mu `[D]`.
    bias: Tensor,
    /// ln |L|.
    log_det: f64,
}

impl Factor {
    /// Of a mean and a positive definite shape.
    #[must_use]
    pub fn new(mean: &Tensor, shape: &Tensor, kind: Kind) -> Self {
        let lower = shape.linalg_cholesky(false);
        let log_det = lower.diagonal(0, 0, 1).log().sum(Kind::Double).double_value(&[]);
        let eye = Tensor::eye(mean.size()[0], (Kind::Double, mean.device()));
        let inverse = lower.linalg_solve_triangular(&eye, false, true, false);
        let bias = -inverse.mv(mean);
        Self { transposed: inverse.tr().to_kind(kind).contiguous(), bias: bias.to_kind(kind), log_det }
    }

    /// y `[N, D]`.
    pub fn whiten(&self, x: &Tensor) -> Tensor {
        Tensor::cat(&self.bands(x), 1)
    }

    /// q `[N]`.
    pub fn squared_distance(&self, x: &Tensor) -> Tensor {
        let n = x.size()[0];
        let squares = |y: Tensor| y.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).square_();
        let rows = |start: i64| {
            let bands = self.bands(&x.narrow(0, start, ROWS.min(n - start)));
            bands.into_iter().map(squares).reduce(|sum, more| sum + more).expect("at least one band")
        };
        let parts: Vec<Tensor> = (0..n).step_by(ROWS as usize).map(rows).collect();
        if parts.is_empty() { x.new_zeros([0], (x.kind(), x.device())) } else { Tensor::cat(&parts, 0) }
    }

    /// y in bands of variables: a band needs the variables before its end only, which saves most of the triangle's zeros.
    fn bands(&self, x: &Tensor) -> Vec<Tensor> {
        let d = x.size()[1];
        let width = if d < LEAST_BAND * BANDS { d } else { d.div_euclid(BANDS) };
        let band = |start: i64| {
            let (width, end) = (width.min(d - start), (start + width).min(d));
            let columns = self.transposed.narrow(1, start, width).narrow(0, 0, end);
            self.bias.narrow(0, start, width).addmm(&x.narrow(1, 0, end), &columns)
        };
        (0..d).step_by(width.max(1) as usize).map(band).collect()
    }

    /// The standard deviation of every variable given those before it `[D]`, at scale 1.
    pub fn deviations(&self) -> Tensor {
        self.transposed.diagonal(0, 0, 1).reciprocal()
    }

    /// ln p(x, s) `[S, N]` from q `[N]`.
    pub fn log_joint(&self, distance: &Tensor, log_weights: &Tensor, scales: &Tensor) -> Tensor {
        let d = self.bias.size()[0] as f64;
        let constant = log_weights - scales.log() * d - (self.log_det + 0.5 * d * LN_2PI);
        let rate = scales.square().reciprocal() * -0.5;
        let kind = distance.kind();
        constant.to_kind(kind).unsqueeze(1).addcmul(&rate.to_kind(kind).unsqueeze(1), &distance.unsqueeze(0))
    }
}

impl Component {
    /// A component with these parameters.
    #[must_use]
    pub fn new(mean: &Tensor, shape: &Tensor, log_weights: &Tensor, share: f64, common: &Common) -> Self {
        let [mean, shape, log_weights] = [mean, shape, log_weights].map(|t| t.to_kind(Kind::Double).copy());
        let factor = Factor::new(&mean, &shape, common.kind);
        let common = common.share();
        Self { mean, shape, log_weights, share, batch: None, memory: None, common, low_rank: None, factor }
    }

    /// A component with even scales from the mean and covariance of `count` patches.
    pub fn from_covariance(mean: &Tensor, covariance: &Tensor, count: f64, share: f64, common: &Common) -> Self {
        let spread = common.scales.square().mean(Kind::Double);
        let blend = covariance / spread * count + &common.prior_shape * common.prior_strength;
        let shape = floored(&(blend / (count + common.prior_strength)), common.floor);
        let even = common.scales.full_like(-(common.count() as f64).ln());
        let low_rank = common.rank.map(|rank| LowRank::principal(&shape, rank, common.floor));
        let shape = low_rank.as_ref().map_or(shape, LowRank::shape);
        Self { low_rank, ..Self::new(mean, &shape, &even, share, common) }
    }

    /// The factor of the shape.
    #[must_use]
    pub fn factor(&self) -> &Factor {
        &self.factor
    }

    /// ln p(x) `[N]` for x `[N, D]`.
    pub fn log_likelihood(&self, x: &Tensor) -> Tensor {
        let joint = self.log_joint(&self.factor.squared_distance(x));
        // Faster than libtorch's own, which looks for infinities first.
        let most = joint.amax([0i64].as_slice(), true);
        (joint - &most).exp_().sum_dim_intlist(0, false, None).log_() + most.squeeze_dim(0)
    }

    /// ln p(x, s) `[S, N]` from q `[N]`.
    pub fn log_joint(&self, distance: &Tensor) -> Tensor {
        self.factor.log_joint(distance, &self.log_weights, &self.common.scales)
    }

    /// Add the moments of x `[N, D]` with weights `[N]`.
    pub fn accumulate(&mut self, x: &Tensor, weights: &Tensor) {
        let joint = self.log_joint(&self.factor.squared_distance(x)); // [S, N]
        let posterior = joint.softmax(0, joint.kind()) * weights.to_kind(joint.kind());
        let precision = self.common.scales.square().reciprocal().to_kind(joint.kind());
        let v = precision.unsqueeze(0).matmul(&posterior).squeeze_dim(0); // [N]
        let centred = x - self.mean.to_kind(x.kind());
        let weighted = &centred * v.unsqueeze(1);
        let moments = Moments {
            scales: posterior.sum_dim_intlist(1, false, Kind::Double),
            weight: v.sum(Kind::Double),
            first: weighted.sum_dim_intlist(0, false, Kind::Double),
            second: weighted.tr().matmul(&centred).to_kind(Kind::Double),
        };
        match &mut self.batch {
            Some(batch) => batch.blend(1.0, &moments, 1.0),
            None => self.batch = Some(moments),
        }
    }

    /// M-step of size `eta` from a batch of `batch` patches of a data set of `examples`; `pseudocount` smooths the
    /// scales' weights.
    pub fn step(&mut self, eta: f64, batch: f64, examples: f64, pseudocount: f64) {
        let mut memory = self.memory.take().unwrap_or_else(|| self.implied(examples));
        let new = self.batch.take().map_or_else(|| memory.zeros_like(), |batch| batch.about_origin(&self.mean));
        memory.blend(1.0 - eta, &new, eta * examples / batch);
        self.set(&memory, examples, pseudocount);
        self.memory = Some(memory);
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
            self.mean = &moments.first / &moments.weight;
        } else {
            self.log_weights = self.log_weights.full_like(-(common.count() as f64).ln());
        }
        let scatter = &moments.second - self.mean.outer(&self.mean) * &moments.weight;
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
        self.factor = Factor::new(&self.mean, &self.shape, common.kind);
    }

    /// The moments of `examples` times this component's share of patches that would lead to its present parameters.
    fn implied(&self, examples: f64) -> Moments {
        let common = &self.common;
        let n = self.share * examples;
        let weights = self.log_weights.exp();
        let weight = (&weights / common.scales.square()).sum(Kind::Double) * n;
        let scatter = &self.shape * (n + common.prior_strength) - &common.prior_shape * common.prior_strength;
        Moments {
            scales: weights * n,
            first: &self.mean * &weight,
            second: scatter + self.mean.outer(&self.mean) * &weight,
            weight,
        }
    }

    /// The longest axis of the shape, scaled to one standard deviation `[D]`.
    pub fn principal_axis(&self) -> Tensor {
        let (values, vectors) = self.shape.linalg_eigh("L"); // rising
        let last = values.size()[0] - 1;
        vectors.select(1, last) * values.get(last).sqrt()
    }
}

/// The nearest matrix, for the likelihood, whose eigenvalues are at least the floor.
fn floored(shape: &Tensor, floor: f64) -> Tensor {
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

    /// Moments about the origin from those about a mean.
    fn about_origin(self, mean: &Tensor) -> Self {
        let cross = self.first.outer(mean);
        let second = self.second + &cross + cross.tr() + mean.outer(mean) * &self.weight;
        Self { first: self.first + mean * &self.weight, second, ..self }
    }

    fn zeros_like(&self) -> Self {
        let [scales, weight, first, second] = self.parts().map(Tensor::zeros_like);
        Self { scales, weight, first, second }
    }

    /// In the order of the fields.
    pub fn parts(&self) -> [&Tensor; 4] {
        [&self.scales, &self.weight, &self.first, &self.second]
    }
}
