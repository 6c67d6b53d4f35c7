//! Gaussian scale mixtures for the coder: the parameters, and walks with them.

mod walk;

use std::ops::Range;

use anyhow::Result;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

pub use walk::GaussianWalk;

use super::tables::{doubles, inverse_cholesky};
use crate::run::checkpoint::Named;
use crate::{refusal, require};

/// Groups of variables with scales of their own, at most.
const MOST_GROUPS: usize = 8;

/// The parameters of all components; variables in the order in which they are walked.
#[derive(Debug)]
pub struct Gaussians {
    components: usize,
    scales: usize,
    /// Variables of each group, side by side.
    groups: Vec<Range<usize>>,
    group_of: Vec<usize>,
    /// Which variable of the patch stands at each place.
    order: Vec<usize>,
    /// Least value of the variable at each place, and how many values it has.
    ranges: Vec<(i64, usize)>,
    centre: Vec<f64>,
    /// About the centre `[K, D]`.
    mean: Vec<f64>,
    /// Inverse lower Cholesky factors, a triangle for every component.
    inverse: Vec<f64>,
    /// 1 / sigma `[S, G]`.
    inverse_scales: Vec<f64>,
    /// ln of the scales' weights `[K, S]`.
    log_weights: Vec<f64>,
}

impl Gaussians {
    /// From a model's tensors (docs/format.md) and the inclusive ranges of a patch's variables.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit, and where a shape is not positive definite.
    pub fn from_tensors(saved: &Named, ranges: &[(i64, i64)]) -> Result<Self> {
        let d = ranges.len();
        let (mean, sizes) = doubles(saved, "mean", &[-1, d as i64])?;
        let k = sizes[0];
        let (inverse_scales, sizes) = doubles(saved, "scales", &[-1, -1])?;
        let [s, g] = sizes[..] else { unreachable!("two sizes were asked for") };
        require!(
            g <= MOST_GROUPS,
            "tensor {} of the checkpoint has {g} groups, expected at most {MOST_GROUPS}",
            saved.name("scales")
        );
        let (shape, _) = doubles(saved, "shape", &[k as i64, d as i64, d as i64])?;
        let (log_weights, _) = doubles(saved, "log_weights", &[k as i64, s as i64])?;
        let (centre, _) = doubles(saved, "centre", &[d as i64])?;
        let order: Vec<usize> = saved.integers("order", &[d as i64])?.into_iter().map(|v| v as usize).collect();
        let group_of: Vec<usize> = saved.integers("group", &[d as i64])?.into_iter().map(|v| v as usize).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        require!(sorted.into_iter().eq(0..d), "tensor {} of the checkpoint is no order", saved.name("order"));
        require!(
            group_of.is_sorted() && group_of.iter().all(|&group| group < g),
            "tensor {} of the checkpoint does not name the groups of {g} side by side",
            saved.name("group")
        );
        let inverse = (0..k).into_par_iter().map(|k| {
            inverse_cholesky(&shape[k * d * d..(k + 1) * d * d], d)
                .ok_or_else(|| refusal!("the shape of cluster {k} is not positive definite"))
        });
        let inverse: Vec<Vec<f64>> = inverse.collect::<Result<_>>()?;
        let place = |&v: &usize| (ranges[v].0, (ranges[v].1 - ranges[v].0 + 1) as usize);
        Ok(Self {
            components: k,
            scales: s,
            groups: (0..g)
                .map(|g| group_of.partition_point(|&o| o < g)..group_of.partition_point(|&o| o <= g))
                .collect(),
            centre: order.iter().map(|&v| centre[v]).collect(),
            ranges: order.iter().map(place).collect(),
            group_of,
            order,
            mean,
            inverse: inverse.concat(),
            inverse_scales: inverse_scales.into_iter().map(|sigma| 1.0 / sigma).collect(),
            log_weights,
        })
    }

    /// Number of components K and of scales S.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.components, self.scales)
    }

    /// Numbers of a patch, in the order in which they are walked: each is the place of a variable of the patch.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    fn variables(&self) -> usize {
        self.order.len()
    }
}
