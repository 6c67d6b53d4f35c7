//! Conditionals of one Gaussian scale mixture under any mask of pixels, by the Schur complement at every scale:
//!
//! ```text
//! p(x_m | x_o) = sum_s r_s(x_o) N(x_m; mu_m + D_m G D_o^-1 (x_o - mu_o), D_m C D_m)
//! G = Sigma_mo Sigma_oo^-1,   C = Sigma_mm - G Sigma_om,   r_s the posterior of scale s given x_o
//! ```
//!
//! With the scale given, the most probable missing variables are the conditional mean, and
//! `max p(x_o, x_m, s) = p(x_o, s) / sqrt(|2 pi D_m C D_m|)`.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::component::Component;
use super::factor::LN_2PI;
use super::marginal::{Group, groups};
use super::start::normal;
use crate::circuit::sample::draw;

/// p(missing | observed) of a component for patches with the same variables observed.
struct Conditional<'a> {
    component: &'a Component,
    group: &'a Group,
    /// The observed part `[n, O]`, float64.
    seen: Tensor,
    /// G transposed `[O, M]`.
    gain: Tensor,
    /// C `[M, M]`.
    shape: Tensor,
}

impl<'a> Conditional<'a> {
    fn new(component: &'a Component, group: &'a Group, rows: &Tensor) -> Self {
        let block = |rows: &Tensor, cols: &Tensor| component.shape.index_select(0, rows).index_select(1, cols);
        let cross = block(&group.observed, &group.missing);
        let inner = block(&group.missing, &group.missing);
        let gain = Tensor::linalg_solve(&block(&group.observed, &group.observed), &cross, true);
        let shape = inner - cross.tr().matmul(&gain);
        Self { component, group, seen: rows.index_select(1, &group.observed), gain, shape }
    }

    /// `ln p(x_o, s)` `[n, S]`, float64.
    fn log_joint(&self) -> Tensor {
        let Component { log_weights, common, .. } = self.component;
        if self.group.observed.numel() == 0 {
            return log_weights.unsqueeze(0).repeat([self.seen.size()[0], 1]);
        }
        let factor = self.group.factor(self.component);
        let products = factor.products(&self.seen.to_kind(common.kind));
        factor.log_joint(&products, log_weights, &common.scales).to_kind(Kind::Double).tr()
    }

    /// r `[n, S]`.
    fn posterior(&self) -> Tensor {
        self.log_joint().softmax(1, Kind::Double)
    }

    /// `max over x_m of ln p(x_o, x_m, s)` `[n, S]`: a normal's density is largest at its mean.
    fn log_maximum(&self) -> Tensor {
        let count = self.group.missing.numel() as f64;
        if count == 0.0 {
            return self.log_joint();
        }
        let log_det = self.shape.linalg_cholesky(false).diagonal(0, 0, 1).log().sum(Kind::Double);
        let scales = by_variable(self.component).index_select(1, &self.group.missing).log();
        let peak = -(scales.sum_dim_intlist(1, false, Kind::Double) + log_det) - 0.5 * count * LN_2PI;
        self.log_joint() + peak
    }

    /// Mean `[n, M]` and the scales of the missing variables `[1 or n, M]` under scales `[1 or n, D]`.
    fn at(&self, scales: &Tensor) -> (Tensor, Tensor) {
        let [above, below] = [&self.group.missing, &self.group.observed].map(|which| scales.index_select(1, which));
        let deviation = (&self.seen - self.component.mean.index_select(0, &self.group.observed)) / below;
        (deviation.matmul(&self.gain) * &above + self.component.mean.index_select(0, &self.group.missing), above)
    }

    /// First and second moments of the missing variables, `[n, M]` each.
    fn moments(&self) -> [Tensor; 2] {
        let (posterior, scales) = (self.posterior(), by_variable(self.component));
        let variance = self.shape.diagonal(0, 0, 1);
        let mut sums: Option<[Tensor; 2]> = None;
        for s in 0..posterior.size()[1] {
            let (mean, scale) = self.at(&scales.narrow(0, s, 1));
            let second = mean.square() + scale.square() * &variance;
            let parts = [mean, second].map(|part| part * posterior.narrow(1, s, 1));
            sums = Some(match sums {
                None => parts,
                Some([first, second]) => [first + &parts[0], second + &parts[1]],
            });
        }
        sums.expect("there is a scale")
    }

    /// The missing variables, drawn: `[n, M]`.
    fn sample(&self, rng: &mut ChaCha8Rng) -> Tensor {
        let chosen = draw(&self.posterior(), rng);
        let (mean, scale) = self.at(&by_variable(self.component).index_select(0, &chosen));
        let noise = normal(mean.numel(), rng).view_as(&mean).to_device(mean.device());
        noise.matmul(&self.shape.linalg_cholesky(false).tr()) * scale + mean
    }
}

/// Scales of a component's variables `[S, D]`.
fn by_variable(component: &Component) -> Tensor {
    component.common.scales.index_select(1, &component.common.group_of())
}

/// First and second moments of x `[N, D]` about the centre given what is true in `observed` `[N, D]`: float64 `[N, D]` each.
pub fn conditional_moments(x: &Tensor, observed: &Tensor, component: &Component) -> [Tensor; 2] {
    let x = x.to_kind(Kind::Double);
    let filled = [x.copy(), x.square()];
    for group in groups(observed) {
        if group.missing.numel() > 0 {
            let rows = x.index_select(0, &group.rows);
            let moments = Conditional::new(component, &group, &rows).moments();
            for (all, moment) in filled.iter().zip(moments) {
                put(all, &group, &moment);
            }
        }
    }
    filled
}

/// Draw what is not `observed` `[N, D]` of x `[N, D]` about the centre: float64 `[N, D]`.
pub fn conditional_sample(x: &Tensor, observed: &Tensor, component: &Component, rng: &mut ChaCha8Rng) -> Tensor {
    let filled = x.to_kind(Kind::Double).copy();
    for group in groups(observed) {
        if group.missing.numel() > 0 {
            let rows = filled.index_select(0, &group.rows);
            put(&filled, &group, &Conditional::new(component, &group, &rows).sample(rng));
        }
    }
    filled
}

/// max over the missing variables and the scales of ln p(x, s) `[N]` for x `[N, D]` about the centre, float64.
pub fn conditional_maximum(x: &Tensor, observed: &Tensor, component: &Component) -> Tensor {
    let x = x.to_kind(Kind::Double);
    let all = x.new_zeros([x.size()[0]], (Kind::Double, x.device()));
    for group in groups(observed) {
        let rows = x.index_select(0, &group.rows);
        let largest = Conditional::new(component, &group, &rows).log_maximum().amax([1i64].as_slice(), false);
        let _ = all.shallow_clone().index_copy_(0, &group.rows, &largest);
    }
    all
}

/// Where it is: float64 `[N, D]`.
pub fn conditional_maximiser(x: &Tensor, observed: &Tensor, component: &Component) -> Tensor {
    let filled = x.to_kind(Kind::Double).copy();
    for group in groups(observed) {
        if group.missing.numel() > 0 {
            let rows = filled.index_select(0, &group.rows);
            let conditional = Conditional::new(component, &group, &rows);
            let scales = by_variable(component).index_select(0, &conditional.log_maximum().argmax(1, false));
            put(&filled, &group, &conditional.at(&scales).0);
        }
    }
    filled
}

/// Write what a group misses `[n, M]` into all patches `[N, D]`.
fn put(all: &Tensor, group: &Group, missing: &Tensor) {
    let rows = all.index_select(0, &group.rows).index_copy(1, &group.missing, missing);
    let _ = all.shallow_clone().index_copy_(0, &group.rows, &rows);
}

/// Covariance of the missing variables given the observed ones where all scales are 1.
pub fn conditional_shape(mask: &[bool], component: &Component) -> Tensor {
    let device = component.mean.device();
    let group = Group::new(mask.to_vec(), Tensor::zeros([0], (Kind::Int64, device)));
    let none = Tensor::zeros([0, mask.len() as i64], (Kind::Double, device));
    Conditional::new(component, &group, &none).shape
}
