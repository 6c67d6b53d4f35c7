//! The parameters of all experts, and the windows of pictures of any size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::gate::Gate;
use super::rows::{Regressions, Rows};
use crate::codec::tables::doubles;
use crate::data::view::View;
use crate::refusal;
use crate::run::checkpoint::Named;

/// The parameters of all experts.
#[derive(Debug)]
pub struct Experts {
    /// What the numbers of patches are regressed on.
    regressions: Regressions,
    /// Scales of each group, 1 / s `[S, G]`.
    pub(super) inverse_scales: Vec<f64>,
    pub(super) scales: usize,
    pub(super) groups: usize,
    /// Least value and number of values of the window's number at each place.
    pub(super) ranges: Vec<(i64, usize)>,
    /// What values are taken about, by place.
    pub(super) centre: Vec<f64>,
    /// ln of the scales' weights `[K, S]`.
    pub(super) log_weights: Vec<f64>,
    /// ln of the experts' weights `[K]`, or a gate.
    pub(super) prior: Weights,
    kinds: Mutex<HashMap<Vec<bool>, Arc<Rows>>>,
}

/// A window of a picture.
#[derive(Debug)]
pub struct Window {
    /// The place of each of its numbers in the picture `[H, W, C]`; none where it sticks out.
    pub places: Vec<Option<usize>>,
    /// The rows for what of it is there.
    pub rows: Arc<Rows>,
}

/// Who weighs the experts.
#[derive(Debug)]
pub enum Weights {
    /// Constants: ln `g_k` `[K]`.
    Constant(Vec<f64>),
    /// A network that looks at the context.
    Gate(Gate),
}

impl Experts {
    /// From a model's tensors (docs/format.md) and how it sees pictures.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn from_tensors(saved: &Named, view: &View) -> Result<Self> {
        let (patch, ranges) = (saved.under("patch"), view.ranges());
        let (w, own) = (ranges.len(), view.variables());
        let given = w - own;
        let (log_weights, sizes) = doubles(&patch, "log_weights", &[-1, -1])?;
        let [count, scales] = sizes[..] else { unreachable!("two sizes were asked for") };
        let (inverse_scales, sizes) = doubles(&patch, "scales", &[scales as i64, -1])?;
        let groups = sizes[1];
        let (centre, _) = doubles(&patch, "centre", &[w as i64])?;
        let order: Vec<usize> = patch.integers("order", &[w as i64])?.into_iter().map(|v| v as usize).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        crate::require!(sorted.into_iter().eq(0..w), "tensor {} of the checkpoint is no order", patch.name("order"));
        let (mut moments, mut widths, mut end) = (Vec::new(), Vec::new(), given);
        for g in 0..groups {
            let (mean, sizes) = doubles(&patch, &format!("mean.{g}"), &[count as i64, -1])?;
            let size = sizes[1];
            crate::require!(
                size > end && size <= w,
                "tensor {} of the checkpoint has {size} numbers",
                patch.name(&format!("mean.{g}"))
            );
            let (shape, _) = doubles(&patch, &format!("shape.{g}"), &[count as i64, size as i64, size as i64])?;
            moments.push((mean, shape));
            widths.push(size - end);
            end = size;
        }
        crate::require!(end == w, "the groups of the checkpoint have {end} numbers, a window has {w}");
        let prior = if patch.has("gate.w1") {
            Weights::Gate(Gate::from_tensors(&patch, view, count, scales)?)
        } else {
            Weights::Constant(doubles(&saved.under("prior"), "log_weights", &[count as i64])?.0)
        };
        Ok(Self {
            inverse_scales: inverse_scales.into_iter().map(|s| 1.0 / s).collect(),
            scales,
            groups,
            ranges: order.iter().map(|&v| (ranges[v].0, (ranges[v].1 - ranges[v].0 + 1) as usize)).collect(),
            centre: order.iter().map(|&v| centre[v]).collect(),
            regressions: Regressions { count, given, widths, order, moments },
            log_weights,
            prior,
            kinds: Mutex::default(),
        })
    }

    /// Numbers of a context.
    #[must_use]
    pub fn context_numbers(&self) -> usize {
        self.regressions.given
    }

    /// The window's number at each place of the experts' order `[W]`.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.regressions.order
    }

    /// The window of a patch, counted in raster order, of pictures of the view's size.
    ///
    /// # Errors
    /// A refusal where moments are not positive definite.
    pub fn window(&self, view: &View, patch: usize) -> Result<Window> {
        let places = view.places(patch);
        let there: Vec<bool> = places.iter().map(Option::is_some).collect();
        Ok(Window { rows: self.rows(&there)?, places })
    }

    /// The rows for windows of which these places are there (flags in the order of windows).
    fn rows(&self, observed: &[bool]) -> Result<Arc<Rows>> {
        if let Some(found) = self.kinds.lock().expect("no thread panics").get(observed) {
            return Ok(Arc::clone(found));
        }
        let made = Rows::new(&self.regressions, observed)
            .ok_or_else(|| refusal!("the moments of an expert are not positive definite"))?;
        let made = Arc::new(made);
        self.kinds.lock().expect("no thread panics").insert(observed.to_vec(), Arc::clone(&made));
        Ok(made)
    }
}
