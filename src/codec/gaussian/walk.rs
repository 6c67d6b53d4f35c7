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
use crate::codec::normal::{Tails, below, between, rough_quantile};
use crate::codec::tables::triangle;
use crate::codec::walk::{Boundary, SMALL_SHARE, Walk, reweigh};

/// A component and scale that are still possible.
#[derive(Clone, Copy, Debug)]
struct Entry {
    component: usize,
    scale: usize,
    weight: f64,
    /// z of a border at b about the centre is `offset + rate * b`.
    offset: f64,
    rate: f64,
}

impl Entry {
    /// Whether the next number's probability is computed with it.
    fn counts(&self) -> bool {
        self.weight >= SMALL_SHARE
    }
}

/// A walk through the variables of one patch after the other.
#[derive(Debug)]
pub struct GaussianWalk<'a> {
    model: &'a Gaussians,
    /// How many variables are known before the walk begins.
    given: usize,
    /// Sorted by component, then by scale.
    entries: Vec<Entry>,
    /// x + 1/2 - centre - mu of what was seen `[K, D]`, for components that are still possible.
    residuals: Vec<f64>,
    /// 1 / the weights of entries that are not small.
    inverse_total: f64,
    /// The next variable.
    next: usize,
    /// ln of the weights that the patch began with `[K]`.
    prior: Vec<f64>,
    products: Vec<f64>,
}

impl<'a> GaussianWalk<'a> {
    /// Walks whose first `given` variables, in the model's order, are known to both sides and cost nothing.
    #[must_use]
    pub fn new(model: &'a Gaussians, given: usize) -> Self {
        let (k, d) = (model.components, model.variables());
        let residuals = vec![0.0; k * d];
        Self {
            model,
            given,
            entries: Vec::new(),
            residuals,
            inverse_total: 1.0,
            next: 0,
            prior: vec![0.0; k],
            products: Vec::new(),
        }
    }

    /// Begin with these log weights `[K, S]` of components and scales, given the first values of the model's order, as they
    /// are in a patch. They change no weight: the log weights are those that hold when the values are known.
    ///
    /// # Panics
    /// When the given values are not as many as the walk was made for.
    pub fn begin(&mut self, log_weights: &[f64], given: &[i64]) {
        assert_eq!(given.len(), self.given, "values that are given");
        let (model, scales) = (self.model, self.model.scales);
        let most = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.products.clear();
        self.products.extend(log_weights.iter().map(|weight| libm::exp(weight - most)));
        let entries = &mut self.entries;
        entries.clear();
        let entry =
            |i: usize, weight| Entry { component: i / scales, scale: i % scales, weight, offset: 0.0, rate: 0.0 };
        if reweigh(&self.products, |i, weight| entries.push(entry(i, weight))) == 0.0 {
            let even = 1.0 / log_weights.len() as f64;
            entries.extend((0..log_weights.len()).map(|i| entry(i, even)));
        }
        self.next = 0;
        for (place, &value) in given.iter().enumerate() {
            self.push(value as f64 + 0.5 - model.centre[place]);
        }
        self.prepare();
    }

    /// The entries as (component, scale, weight).
    pub fn weights(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.entries.iter().map(|entry| (entry.component, entry.scale, entry.weight))
    }

    /// The border below a value of the next variable, about its centre; without end where there is no value beyond it.
    fn border(&self, v: usize) -> f64 {
        let (low, symbols) = self.model.ranges[self.next];
        match v {
            0 => f64::NEG_INFINITY,
            v if v == symbols => f64::INFINITY,
            v => (low + v as i64) as f64 - self.model.centre[self.next],
        }
    }

    /// Take note of the next variable's middle about the centre.
    fn push(&mut self, middle: f64) {
        let (d, place) = (self.model.variables(), self.next);
        let mut last = usize::MAX;
        for Entry { component, .. } in &self.entries {
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
        self.inverse_total = 1.0 / self.entries.iter().filter(|e| e.counts()).map(|e| e.weight).sum::<f64>();
        let groups = model.groups.len();
        let own = model.group_of[place];
        let mut sums = [0.0; MOST_GROUPS];
        let (mut last, mut diagonal, mut mean) = (usize::MAX, 0.0, 0.0);
        for entry in &mut self.entries {
            let k = entry.component;
            if k != last {
                last = k;
                let start = k * triangle(d) + triangle(place);
                let row = &model.inverse[start..=start + place];
                let seen = &self.residuals[k * d..k * d + place];
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
        }
    }
}

/// The sum of products in eight parts, so that a compiler may take them side by side: the order is written here.
fn inner(a: &[f64], b: &[f64]) -> f64 {
    let mut parts = [0.0f64; 8];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            parts[i] += a[i] * b[i];
        }
    }
    let tail: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7])) + tail
}

impl Walk for GaussianWalk<'_> {
    fn start(&mut self, log_weights: &[f64]) {
        let scales = self.model.scales;
        let all = log_weights.iter().zip(self.model.log_weights.chunks_exact(scales));
        let all: Vec<f64> = all.flat_map(|(k, own)| own.iter().map(move |s| k + s)).collect();
        self.prior.copy_from_slice(log_weights);
        self.begin(&all, &[]);
    }

    fn variable(&self) -> usize {
        self.model.order[self.next]
    }

    fn symbols(&self) -> usize {
        self.model.ranges[self.next].1
    }

    fn boundary(&self, v: usize, out: &mut Boundary) {
        let symbols = self.symbols();
        out.tails.clear();
        if v == 0 || v == symbols {
            // The tails of both ends: Phi is 0 below the least value and 1 above the greatest.
            out.cumulative = if v == 0 { 0.0 } else { 1.0 };
            let count = self.entries.iter().filter(|entry| entry.counts()).count();
            out.tails.resize(count, if v == 0 { 0.0 } else { -0.0 });
            return;
        }
        let border = self.border(v);
        let (tails, mut sum) = (Tails::new(), 0.0);
        for entry in self.entries.iter().filter(|entry| entry.counts()) {
            let tail = tails.at(entry.offset + entry.rate * border);
            sum += entry.weight * below(tail);
            out.tails.push(tail);
        }
        out.cumulative = sum * self.inverse_total;
    }

    fn guess(&self, share: f64) -> usize {
        let (low, symbols) = self.model.ranges[self.next];
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for entry in self.entries.iter().filter(|entry| entry.counts()) {
            let deviation = 1.0 / entry.rate;
            let mean = -entry.offset * deviation;
            total += entry.weight;
            first += entry.weight * mean;
            second += entry.weight * (mean * mean + deviation * deviation);
        }
        let mean = first / total;
        let deviation = (second / total - mean * mean).max(0.0).sqrt();
        let value = mean + deviation * rough_quantile(share) + self.model.centre[self.next] - low as f64;
        (value.max(0.0) as usize).min(symbols - 1)
    }

    fn observe(&mut self, v: usize, low: &Boundary, high: &Boundary) -> f64 {
        let ends = [v, v + 1].map(|v| self.border(v));
        let tails = Tails::new();
        let mut known = low.tails.iter().zip(&high.tails);
        self.products.clear();
        self.products.extend(self.entries.iter().map(|entry| {
            let known = if entry.counts() { known.next() } else { None };
            let [low, high] = known.map_or_else(
                || ends.map(|border| tails.at(entry.offset + entry.rate * border)),
                |(&low, &high)| [low, high],
            );
            entry.weight * between(low, high).max(0.0)
        }));
        let (entries, mut count) = (&mut self.entries, 0);
        let probability = reweigh(&self.products, |i, weight| {
            entries[count] = Entry { weight, ..entries[i] };
            count += 1;
        });
        if count > 0 {
            entries.truncate(count);
        }
        self.push((self.model.ranges[self.next].0 + v as i64) as f64 + 0.5 - self.model.centre[self.next]);
        self.prepare();
        probability
    }

    fn evidence(&mut self, out: &mut [f64]) {
        out.fill(0.0);
        for entry in &self.entries {
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
