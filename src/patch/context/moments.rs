//! Weighted sums over windows that an expert's M-step is made from.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::common::Common;
use crate::run::checkpoint::Named;

/// Sums over windows, weighted by posteriors; float64. Those of a batch are about the expert's means, those of the whole
/// data set about the origin.
#[derive(Debug)]
pub struct Moments {
    /// sum `r_s`, `[S]`.
    pub scales: Tensor,
    /// sum `r h_s`: what the scales' weights made one expect, `[S]`.
    pub expected: Tensor,
    /// Those of every group.
    pub parts: Vec<Part>,
}

/// Sums for the regression of one group; w is the window up to the group's end.
#[derive(Debug)]
pub struct Part {
    /// sum `v_g`.
    pub weight: Tensor,
    /// sum `v_g w`, `[E]`.
    pub first: Tensor,
    /// sum `v_g w w^T`, `[E, E]`.
    pub second: Tensor,
}

impl Moments {
    /// Those of no windows.
    #[must_use]
    pub fn zeros(common: &Common) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, common.scales.device()));
        let part = |(start, width)| {
            let end = start + width;
            Part { weight: zeros(&[]), first: zeros(&[end]), second: zeros(&[end, end]) }
        };
        let scales = || zeros(&[common.count()]);
        Self { scales: scales(), expected: scales(), parts: common.spans().map(part).collect() }
    }

    /// All sums in a fixed order.
    #[must_use]
    pub fn tensors(&self) -> Vec<&Tensor> {
        let parts = self.parts.iter().flat_map(|part| [&part.weight, &part.first, &part.second]);
        [&self.scales, &self.expected].into_iter().chain(parts).collect()
    }

    /// `self * keep + other * add`.
    pub fn blend(&mut self, keep: f64, other: &Self, add: f64) {
        for (mine, theirs) in self.tensors().into_iter().zip(other.tensors()) {
            let _ = mine.shallow_clone().g_mul_scalar_(keep).g_add_(&(theirs * add));
        }
    }

    /// `self * keep`.
    pub fn scale(&mut self, keep: f64) {
        for mine in self.tensors() {
            let _ = mine.shallow_clone().g_mul_scalar_(keep);
        }
    }

    /// Those of w + shift from those of w, with a shift for every group.
    #[must_use]
    pub fn about(&self, shifts: impl Iterator<Item = Tensor>) -> Self {
        let moved = |(part, shift): (&Part, Tensor)| {
            let cross = part.first.outer(&shift);
            Part {
                weight: part.weight.copy(),
                first: &part.first + &part.weight * &shift,
                second: &part.second + &cross + cross.tr() + &part.weight * shift.outer(&shift),
            }
        };
        let parts = self.parts.iter().zip(shifts).map(moved).collect();
        Self { scales: self.scales.copy(), expected: self.expected.copy(), parts }
    }

    /// A copy that shares no memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        let part = |p: &Part| Part { weight: p.weight.copy(), first: p.first.copy(), second: p.second.copy() };
        let parts = self.parts.iter().map(part).collect();
        Self { scales: self.scales.copy(), expected: self.expected.copy(), parts }
    }
}

/// Names of the tensors of [`Moments::tensors`], behind a prefix.
fn names(prefix: &str, groups: usize) -> Vec<String> {
    let part = |g: usize| ["weight", "first", "second"].map(|name| format!("{prefix}.{name}.{g}"));
    let scales = ["scales", "expected"].map(|name| format!("{prefix}.{name}"));
    scales.into_iter().chain((0..groups).flat_map(part)).collect()
}

/// The moments of all experts as tensors by name, the expert first.
#[must_use]
pub fn stacked(prefix: &str, all: &[Moments]) -> Vec<(String, Tensor)> {
    let of = |i: usize| Tensor::stack(&all.iter().map(|moments| moments.tensors()[i]).collect::<Vec<_>>(), 0);
    let groups = all.first().map_or(0, |moments| moments.parts.len());
    names(prefix, groups).into_iter().enumerate().map(|(i, name)| (name, of(i))).collect()
}

/// Undoes [`stacked`] for so many experts.
///
/// # Errors
/// When a tensor is missing or does not fit; the message names it.
pub fn unstacked(prefix: &str, saved: &Named, experts: usize, common: &Common) -> Result<Vec<Moments>> {
    let all: Vec<Moments> = (0..experts).map(|_| Moments::zeros(common)).collect();
    for (i, name) in names(prefix, common.groups.len()).iter().enumerate() {
        let size = [&[experts as i64], all[0].tensors()[i].size().as_slice()].concat();
        let stack = saved.doubles(name, &size)?;
        for (k, moments) in (0..).zip(&all) {
            moments.tensors()[i].shallow_clone().copy_(&stack.get(k));
        }
    }
    Ok(all)
}
