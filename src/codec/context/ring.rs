//! The ring gate in plain loops, in a fixed order.
//!
//! ```text
//! ln g_k h_ks = const + ln w_k + a_ks + sum_d ln M_dd - sum_g (D_g ln s_g + q_g / (2 s_g^2)),   q_g = sum of y_d^2 over d in g
//! ```
//!
//! with y and M of the ring's own regressions, which are those of windows of which nothing is given ([`super::rows`]).

use anyhow::Result;

use super::gate::normalise_logarithms;
use super::rows::{Regressions, Rows};
use crate::codec::tables::{doubles, inner};
use crate::data::view::View;
use crate::data::windows::WindowShape;
use crate::patch::config::ScaleGroups;
use crate::patch::context::ring::{LEAST_SHARE, places};
use crate::refusal;
use crate::run::checkpoint::Named;

/// The moments of the rings of all experts, see [`crate::patch::context::ring`].
#[derive(Debug)]
pub struct Ring {
    regressions: Regressions,
    /// ln `w_k` + `a_ks`, `[K, S]`.
    log_weights: Vec<f64>,
    /// 1 / s `[S, G]`.
    inverse_scales: Vec<f64>,
}

/// The whitenings of rings beside one kind of border.
#[derive(Debug)]
pub struct RingRows {
    rows: Rows,
    /// Which number of the context that is there each of the ring's is.
    places: Vec<usize>,
    /// What does not depend on the pixels `[K, S]`.
    constants: Vec<f64>,
    /// `1 / (2 s_g^2)`, `[S, G]`.
    rates: Vec<f64>,
}

impl Ring {
    /// From a model's tensors, of which these were read already.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn from_tensors(
        saved: &Named,
        view: &View,
        windows: &Regressions,
        log_weights: &[f64],
        inverse_scales: &[f64],
    ) -> Result<Self> {
        let (groups, scales) = (windows.widths.len(), log_weights.len() / windows.count);
        let width = saved.integers("gate.width", &[])?[0];
        let width = usize::try_from(width).ok().filter(|width| (1..=view.context).contains(width));
        let width =
            width.ok_or_else(|| refusal!("tensor {} of the checkpoint is no width", saved.name("gate.width")))?;
        let colours = [ScaleGroups::One, ScaleGroups::LumaChroma].into_iter().find(|known| known.count() == groups);
        let colours = colours.ok_or_else(|| refusal!("the scales of the checkpoint are of {groups} groups"))?;
        let window = WindowShape { patch: view.grid.patch, context: view.context, channels: view.grid.channels };
        let order = Vec::<i64>::try_from(places(width, window, colours))?;
        let order: Vec<usize> = order.into_iter().map(|number| number as usize).collect();
        let widths: Vec<usize> = colours.order(order.len() as i64).1.into_iter().map(|width| width as usize).collect();
        let ends = widths.iter().scan(0, |end, width| {
            *end += width;
            Some(*end)
        });
        let part = |(end, (means, shapes)): (usize, &(Vec<f64>, Vec<f64>))| {
            let (size, seen) = (means.len() / windows.count, &order[..end]);
            let of_expert = |k: usize| seen.iter().map(move |i| k * size + i);
            let mean = (0..windows.count).flat_map(of_expert).map(|i| means[i]);
            let rows = (0..windows.count).flat_map(of_expert);
            let shape = rows.flat_map(|row| seen.iter().map(move |j| shapes[row * size + j]));
            (mean.collect(), shape.collect())
        };
        let moments = ends.zip(&windows.moments).map(part).collect();
        let (shares, _) = doubles(saved, "share", &[windows.count as i64])?;
        let weigh = |(share, own): (f64, &[f64])| -> Vec<f64> {
            own.iter().map(|a| libm::log(share.max(LEAST_SHARE)) + a).collect()
        };
        Ok(Self {
            regressions: Regressions { count: windows.count, given: 0, widths, order, moments },
            log_weights: shares.into_iter().zip(log_weights.chunks_exact(scales)).flat_map(weigh).collect(),
            inverse_scales: inverse_scales.to_vec(),
        })
    }

    /// For windows of which these numbers are there; none where the moments of an expert are not positive definite.
    #[must_use]
    pub fn rows(&self, observed: &[bool]) -> Option<RingRows> {
        let rows = Rows::new(&self.regressions, observed)?;
        let before = |&place: &usize| observed[..self.regressions.order[place]].iter().filter(|there| **there).count();
        let groups = self.regressions.widths.len();
        let scales = self.log_weights.len() / self.regressions.count;
        let mut constants = self.log_weights.clone();
        for (k, own) in constants.chunks_exact_mut(scales).enumerate() {
            for d in 0..rows.own() {
                let log_rate = libm::log(rows.row(k, d).1);
                for (weight, inverse) in own.iter_mut().zip(self.inverse_scales.chunks_exact(groups)) {
                    *weight += log_rate + libm::log(inverse[rows.group[d]]);
                }
            }
        }
        Some(RingRows {
            places: rows.places.iter().map(before).collect(),
            rows,
            constants,
            rates: self.inverse_scales.iter().map(|inverse| inverse * inverse * 0.5).collect(),
        })
    }
}

impl RingRows {
    /// ln `g_k(c) h_ks(c)` `[K, S]` for what is there of a context, about the centre, in the order of windows.
    #[must_use]
    pub fn log_weights(&self, context: &[f64], scales: usize) -> Vec<f64> {
        let ring: Vec<f64> = self.places.iter().map(|&place| context[place]).collect();
        let groups = self.rates.len() / scales;
        let mut all = self.constants.clone();
        for (k, own) in all.chunks_exact_mut(scales).enumerate() {
            let mut squares = vec![0.0; groups];
            for (d, &value) in ring.iter().enumerate() {
                let (row, diagonal, bias) = self.rows.row(k, d);
                let y = inner(row, &ring[..d]) + diagonal * value + bias;
                squares[self.rows.group[d]] += y * y;
            }
            for (weight, rates) in own.iter_mut().zip(self.rates.chunks_exact(groups)) {
                *weight -= rates.iter().zip(&squares).map(|(rate, square)| rate * square).sum::<f64>();
            }
        }
        normalise_logarithms(&mut all);
        all
    }
}
