//! Gaussian scale mixtures, variable by variable: the ordered reading.
//!
//! ```text
//! P(x_d = v | x_<d) = sum_ks w_ks [Phi(z_ks(v + 1)) - Phi(z_ks(v))]
//! z_ks(b) = sum_g t_kg / sigma_sg + (b - centre_d - mu_kd) M_dd / sigma_s,g(d)        M: inverse lower Cholesky factor
//! t_kg = sum over j < d of group g of M_dj (x_j + 1/2 - centre_j - mu_kj)
//! ```
//!
//! The tails fall to the least and the greatest value. After `x_d` every weight is multiplied by its own term. The `t_kg` are
//! those of a component, whatever the scale, and are computed for components that are still possible.

use super::{Gaussians, MOST_GROUPS};
use crate::codec::normals::{Entry, Normals, Span};
use crate::codec::tables::{inner, triangle};
use crate::codec::walk::{Boundary, PatchWalk, Walk};

/// A walk through the variables of one patch after the other.
#[derive(Debug)]
pub struct GaussianWalk<'a> {
    model: &'a Gaussians,
    /// How many variables are known before the walk begins.
    given: usize,
    normals: Normals,
    /// x + 1/2 - centre - mu of what was seen `[K, D]`, for components that are still possible.
    residuals: Vec<f64>,
    /// The next variable.
    next: usize,
    /// ln of the weights that the patch began with `[K]`.
    prior: Vec<f64>,
}

impl<'a> GaussianWalk<'a> {
    /// Walks whose first `given` variables, in the model's order, are known to both sides and cost nothing.
    #[must_use]
    pub fn new(model: &'a Gaussians, given: usize) -> Self {
        let (k, d) = (model.components, model.variables());
        let residuals = vec![0.0; k * d];
        Self { model, given, normals: Normals::default(), residuals, next: 0, prior: vec![0.0; k] }
    }

    /// Begin with these log weights `[K, S]` of components and scales, given the first values of the model's order, as they
    /// are in a patch. They change no weight: the log weights are those that hold when the values are known.
    ///
    /// # Panics
    /// When the given values are not as many as the walk was made for.
    pub fn begin(&mut self, log_weights: &[f64], given: &[i64]) {
        assert_eq!(given.len(), self.given, "values that are given");
        let model = self.model;
        self.normals.begin(log_weights, model.scales);
        self.next = 0;
        for (place, &value) in given.iter().enumerate() {
            self.push(value as f64 + 0.5 - model.centre[place]);
        }
        self.prepare();
    }

    /// The entries as (component, scale, weight).
    pub fn weights(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.normals.entries().iter().map(|entry| (entry.component, entry.scale, entry.weight))
    }

    fn span(&self) -> Span {
        let (low, symbols) = self.model.ranges[self.next];
        Span { low, symbols, centre: self.model.centre[self.next] }
    }

    /// Take note of the next variable's middle about the centre.
    fn push(&mut self, middle: f64) {
        let (d, place) = (self.model.variables(), self.next);
        let mut last = usize::MAX;
        for Entry { component, .. } in self.normals.entries() {
            if *component != last {
                last = *component;
                self.residuals[last * d + place] = middle - self.model.mean[last * d + place];
            }
        }
        self.next += 1;
    }

    /// What the next variable is like under every entry.
    fn prepare(&mut self) {
        let (model, d, place) = (self.model, self.model.variables(), self.next);
        if place == d {
            return;
        }
        let groups = model.groups.len();
        let own = model.group_of[place];
        let mut sums = [0.0; MOST_GROUPS];
        let (mut last, mut diagonal, mut mean) = (usize::MAX, 0.0, 0.0);
        let residuals = &self.residuals;
        self.normals.prepare(|entry| {
            let k = entry.component;
            if k != last {
                last = k;
                let start = k * triangle(d) + triangle(place);
                let row = &model.inverse[start..=start + place];
                let seen = &residuals[k * d..k * d + place];
                for (sum, span) in sums.iter_mut().zip(&model.groups) {
                    let span = span.start.min(place)..span.end.min(place);
                    *sum = inner(&row[span.clone()], &seen[span]);
                }
                (diagonal, mean) = (row[place], model.mean[k * d + place]);
            }
            let inverse = &model.inverse_scales[entry.scale * groups..(entry.scale + 1) * groups];
            entry.rate = diagonal * inverse[own];
            let whitened: f64 = sums.iter().zip(inverse).map(|(sum, inverse)| sum * inverse).sum();
            entry.offset = whitened - mean * entry.rate;
        });
    }
}

impl Walk for GaussianWalk<'_> {
    fn variable(&self) -> usize {
        self.model.order[self.next]
    }

    fn symbols(&self) -> usize {
        self.model.ranges[self.next].1
    }

    fn boundary(&self, v: usize, out: &mut Boundary) {
        self.normals.boundary(v, &self.span(), out);
    }

    fn guess(&self, share: f64) -> usize {
        self.normals.guess(share, &self.span())
    }

    fn observe(&mut self, v: usize, low: &Boundary, high: &Boundary) -> f64 {
        let span = self.span();
        let probability = self.normals.observe(v, &span, low, high);
        self.push(span.middle(v));
        self.prepare();
        probability
    }
}

impl PatchWalk for GaussianWalk<'_> {
    fn start(&mut self, log_weights: &[f64]) {
        let scales = self.model.scales;
        let all = log_weights.iter().zip(self.model.log_weights.chunks_exact(scales));
        let all: Vec<f64> = all.flat_map(|(k, own)| own.iter().map(move |s| k + s)).collect();
        self.prior.copy_from_slice(log_weights);
        self.begin(&all, &[]);
    }

    fn evidence(&mut self, out: &mut [f64]) {
        out.fill(0.0);
        for entry in self.normals.entries() {
            out[entry.component] += entry.weight;
        }
        let prior = out.iter().zip(&self.prior).filter(|(weight, _)| **weight > 0.0).map(|(_, &log)| log);
        let least = prior.fold(f64::INFINITY, f64::min);
        for (weight, &log) in out.iter_mut().zip(&self.prior) {
            if *weight > 0.0 {
                *weight *= libm::exp(least - log);
            }
        }
    }
}
