//! One Gaussian scale mixture and patches with gaps, another gap in every patch: likelihoods and the E-step.
//!
//! With o the observed variables of a patch and m the missing ones, M the shape with the rows and columns of m replaced by
//! those of the identity, and `c_g` the deviations from the mean that were observed in group g (zeros elsewhere),
//!
//! ```text
//! q_gh = c_g^T M^-1 c_h,    ln|Sigma_oo| = ln|M|
//! ln p(x_o, s) = ln w_s - sum_g D_g(o) ln sigma_sg - ln|M|/2 - (D(o)/2) ln 2 pi - 1/2 sum_gh q_gh / (sigma_sg sigma_sh)
//! E[D_s^-1 (x - mu) | x_o, s] = sum_g a_g / sigma_sg,     a_g = c_g on o,  Sigma_mo Sigma_oo^-1 c_g on m
//! Cov[D_s^-1 x | x_o, s] = C = Sigma_mm - Sigma_mo Sigma_oo^-1 Sigma_om on m, whatever s is
//! ```
//!
//! so that the expected moments need no sum over scales beyond `v_gh = sum_s r_s / (sigma_sg sigma_sh)`:
//!
//! ```text
//! first_g = sum_n sum_h v_gh a_h        second = sum_n (sum_gh v_gh a_g a_h^T + (sum_s r_s) C)
//! ```
//!
//! This is EM with the missing values as further latents: the likelihood of what was observed never falls.

use tch::{Kind, Tensor};

use super::component::{Component, Moments};
use super::factor::LN_2PI;

/// Patches in one go: each has matrices of its own.
const ROWS: i64 = 512;

/// Patches with gaps under one component.
struct Gaps<'a> {
    component: &'a Component,
    /// 1 where a variable was observed, else 0: `[n, D]`.
    seen: Tensor,
    /// `c_g`, `[n, D, G]`.
    deviations: Tensor,
    /// The Cholesky factors of M `[n, D, D]`.
    lower: Tensor,
}

impl<'a> Gaps<'a> {
    fn new(component: &'a Component, x: &Tensor, observed: &Tensor) -> Self {
        let seen = observed.to_kind(Kind::Double);
        let kept = &component.shape * outer(&seen) + observed.logical_not().to_kind(Kind::Double).diag_embed(0, 1, 2);
        let found = (x.to_kind(Kind::Double) - &component.mean).masked_fill(&observed.logical_not(), 0.0);
        let deviations = found.unsqueeze(2) * membership(component);
        Self { component, seen, deviations, lower: kept.linalg_cholesky(false) }
    }

    /// `ln p(x_o, s)` `[n, S]`.
    fn log_joint(&self) -> Tensor {
        let Component { common, log_weights, .. } = self.component;
        let whitened = self.lower.linalg_solve_triangular(&self.deviations, false, true, false);
        let products = whitened.transpose(1, 2).matmul(&whitened).flatten(1, 2); // [n, G G]
        let sizes = self.seen.matmul(&membership(self.component)); // [n, G]
        let log_det = self.lower.diagonal(0, 1, 2).log().sum_dim_intlist(1, true, Kind::Double);
        let count = self.seen.sum_dim_intlist(1, true, Kind::Double);
        log_weights
            - products.matmul(&common.precisions().flatten(0, 1)) * 0.5
            - sizes.matmul(&common.scales.log().tr())
            - log_det
            - count * (0.5 * LN_2PI)
    }

    /// Expected moments about the component's mean, every patch counted with its weight `[n]`.
    fn moments(&self, weights: &Tensor) -> Moments {
        let Component { common, shape, .. } = self.component;
        let groups = common.groups.len() as i64;
        let posterior = self.log_joint().softmax(1, Kind::Double) * weights.to_kind(Kind::Double).unsqueeze(1);
        let v = posterior.matmul(&common.precisions().flatten(0, 1).tr()).view([-1, groups, groups]);
        let solved = self.deviations.cholesky_solve(&self.lower, false);
        let missing: Tensor = 1.0 - &self.seen;
        let a = &self.deviations + shape.matmul(&solved) * missing.unsqueeze(2); // [n, D, G]
        let side_by_side = |t: &Tensor| t.permute([1, 0, 2]).flatten(1, 2); // [D, n G]
        let explained = shape.matmul(&(self.lower.cholesky_inverse(false) * outer(&self.seen))).matmul(shape);
        let total = posterior.sum_dim_intlist(1, false, Kind::Double).view([-1, 1, 1]);
        let spread = (shape - explained) * outer(&missing) * total;
        Moments {
            scales: posterior.sum_dim_intlist(0, false, Kind::Double),
            weight: v.sum_dim_intlist(0, false, Kind::Double),
            first: v.matmul(&a.transpose(1, 2)).sum_dim_intlist(0, false, Kind::Double),
            second: side_by_side(&a.matmul(&v)).matmul(&side_by_side(&a).tr())
                + spread.sum_dim_intlist(0, false, Kind::Double),
        }
    }
}

/// 1 where a variable belongs to a group: float64 `[D, G]`.
fn membership(component: &Component) -> Tensor {
    component.common.group_of().one_hot(component.common.groups.len() as i64).to_kind(Kind::Double)
}

/// `[n, D]` -> `[n, D, D]`.
fn outer(flags: &Tensor) -> Tensor {
    flags.unsqueeze(2) * flags.unsqueeze(1)
}

/// What `of` makes of the patches x `[N, D]` about the centre, of which only what is true in `observed` `[N, D]` counts, some
/// at a time; it is given the numbers of the first patch and of how many there are.
fn by_rows<T>(
    component: &Component,
    x: &Tensor,
    observed: &Tensor,
    of: impl Fn(&Gaps, i64, i64) -> T,
) -> impl Iterator<Item = T> {
    let n = x.size()[0];
    (0..n).step_by(ROWS as usize).map(move |start| {
        let count = ROWS.min(n - start);
        of(&Gaps::new(component, &x.narrow(0, start, count), &observed.narrow(0, start, count)), start, count)
    })
}

/// ln p(observed part of x) `[N]`, float64, for x `[N, D]` about the centre.
pub fn log_likelihood(component: &Component, x: &Tensor, observed: &Tensor) -> Tensor {
    let parts: Vec<Tensor> =
        by_rows(component, x, observed, |gaps, _, _| gaps.log_joint().logsumexp([1i64].as_slice(), false)).collect();
    if parts.is_empty() { x.new_zeros([0], (Kind::Double, x.device())) } else { Tensor::cat(&parts, 0) }
}

/// Add the expected moments of x `[N, D]` about the centre, with weights `[N]`.
pub fn accumulate(component: &mut Component, x: &Tensor, observed: &Tensor, weights: &Tensor) {
    let parts: Vec<Moments> =
        by_rows(component, x, observed, |gaps, start, count| gaps.moments(&weights.narrow(0, start, count))).collect();
    for moments in parts {
        component.add(moments);
    }
}
