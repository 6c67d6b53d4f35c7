//! One discretised logistic, fitted to a table of target probabilities.

use crate::circuit::FLOOR;

const SMALLEST_LOG_SCALE: f64 = -3.0;

/// Mean and log-scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// mu.
    pub mean: f64,
    /// ln s.
    pub log_scale: f64,
}

/// A fit with what it says of a target.
struct Candidate {
    fit: Fit,
    ends: Vec<Tails>,
    /// p(x) for every value.
    table: Vec<f64>,
    /// Expected log-likelihood under the target.
    objective: f64,
}

/// F(u) and 1 - F(u), neither by a difference, and u: at the lower end of a value's interval in scales from the mean.
#[derive(Clone, Copy)]
struct Tails {
    below: f64,
    above: f64,
    u: f64,
}

impl Fit {
    /// That of a target's first two moments.
    #[must_use]
    pub fn moments(target: &[f64]) -> Self {
        let mean = (0..).zip(target).map(|(x, p)| f64::from(x) * p).sum::<f64>();
        let variance = (0..).zip(target).map(|(x, p)| (f64::from(x) - mean).powi(2) * p).sum::<f64>();
        let scale = variance.max(1e-4).sqrt() * (3f64.sqrt() / std::f64::consts::PI);
        Self { mean, log_scale: scale.ln().max(SMALLEST_LOG_SCALE) }
    }

    /// A fit that is no worse under the target than this one, and its table, normalised and nowhere below the floor: one
    /// scoring step, from the moments where those are far away and better. EM asks again.
    #[must_use]
    pub fn improved(self, target: &[f64]) -> (Self, Vec<f64>) {
        let mut best = self.on(target);
        let moments = Self::moments(target);
        if (moments.mean - self.mean).abs().max((moments.log_scale - self.log_scale).abs()) > self.log_scale.exp() {
            best.keep_better(moments.on(target));
        }
        let [mean, log_scale] = best.scoring_step(target);
        let step = |share: f64| Self {
            mean: best.fit.mean + share * mean,
            log_scale: (best.fit.log_scale + share * log_scale).max(SMALLEST_LOG_SCALE),
        };
        let (whole, part) = (step(1.0), step(0.25));
        if !best.keep_better(whole.on(target)) {
            best.keep_better(part.on(target));
        }
        (best.fit, best.table)
    }

    /// p(x) for every value.
    #[must_use]
    pub fn table(self, values: usize) -> Vec<f64> {
        table(&self.ends(values))
    }

    fn on(self, target: &[f64]) -> Candidate {
        let ends = self.ends(target.len());
        let table = table(&ends);
        let objective = target.iter().zip(&table).filter(|(target, _)| **target > 0.0).map(|(t, p)| t * p.ln()).sum();
        Candidate { fit: self, ends, table, objective }
    }

    /// The ends of all values' intervals; the first and the last value take the tails.
    fn ends(self, values: usize) -> Vec<Tails> {
        let scale = self.log_scale.exp();
        let inner = |x: usize| {
            let u = (x as f64 - 0.5 - self.mean) / scale;
            let small = (-u.abs()).exp();
            let near = 1.0 / (1.0 + small);
            let far = small * near;
            if u > 0.0 { Tails { below: near, above: far, u } } else { Tails { below: far, above: near, u } }
        };
        let mut ends: Vec<Tails> = (0..=values).map(inner).collect();
        ends[0] = Tails { below: 0.0, above: 1.0, u: 0.0 };
        ends[values] = Tails { below: 1.0, above: 0.0, u: 0.0 };
        ends
    }
}

/// F at the upper end less F at the lower one, or the same of 1 - F where that is smaller: nothing cancels.
fn table(ends: &[Tails]) -> Vec<f64> {
    let inside = |w: &[Tails]| if w[0].below < 0.5 { w[1].below - w[0].below } else { w[0].above - w[1].above };
    let mut table: Vec<f64> = ends.windows(2).map(|w| inside(w).max(FLOOR)).collect();
    let total = table.iter().sum::<f64>();
    for p in &mut table {
        *p /= total;
    }
    table
}

impl Candidate {
    /// Become another one where that is better; says whether it was.
    fn keep_better(&mut self, other: Self) -> bool {
        let better = other.objective > self.objective;
        if better {
            *self = other;
        }
        better
    }

    /// Steps of mean and log-scale: the gradient over the second moment of the score, each clamped to one scale.
    fn scoring_step(&self, target: &[f64]) -> [f64; 2] {
        let scale = self.fit.log_scale.exp();
        // The density in scales, by itself and times the place.
        let density = |end: &Tails| (end.below * end.above, end.below * end.above * end.u);
        let (mut gm, mut gs, mut mm, mut ss, mut ms) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for ((target, p), ends) in target.iter().zip(&self.table).zip(self.ends.windows(2)) {
            let (low, high) = (density(&ends[0]), density(&ends[1]));
            let by_mean = (low.0 - high.0) / (p * scale);
            let by_scale = (low.1 - high.1) / p;
            gm += target * by_mean;
            gs += target * by_scale;
            mm += target * by_mean * by_mean;
            ss += target * by_scale * by_scale;
            ms += target * by_mean * by_scale;
        }
        let det = (mm * ss - ms * ms).max(1e-12);
        [((ss * gm - ms * gs) / det).clamp(-scale, scale), ((mm * gs - ms * gm) / det).clamp(-1.0, 1.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 / (1 + e^-u).
    fn logistic(u: f64) -> f64 {
        1.0 / (1.0 + (-u).exp())
    }

    #[test]
    fn a_table_is_the_logistic_over_unit_intervals_with_the_tails_at_its_ends() {
        for (mean, log_scale) in [(3.2, 0.0), (-1.0, 1.0), (11.0, 0.5), (5.0, -1.0)] {
            let table = Fit { mean, log_scale }.table(10);
            assert!((table.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let scale = f64::exp(log_scale);
            let f = |x: f64| logistic((x - mean) / scale);
            for (x, p) in table.iter().enumerate() {
                let below = if x == 0 { 0.0 } else { f(x as f64 - 0.5) };
                let above = if x == 9 { 1.0 } else { f(x as f64 + 0.5) };
                assert!((p - (above - below).max(FLOOR)).abs() < 1e-8, "{mean} {log_scale} {x}: {p}");
            }
        }
    }

    #[test]
    fn far_values_keep_their_probability_to_the_last_digits() {
        // F(a) - F(b) far to the right is e^-a - e^-b.
        let table = Fit { mean: 0.0, log_scale: 0.0 }.table(30);
        let expected = f64::exp(-17.5) - f64::exp(-18.5);
        assert!((table[18] / expected - 1.0).abs() < 1e-6, "{} {expected}", table[18]);
    }

    #[test]
    fn a_fit_finds_the_logistic_that_a_target_is_and_never_gets_worse() {
        let target = Fit { mean: 97.3, log_scale: 1.4 }.table(256);
        let mut fit = Fit { mean: 120.0, log_scale: 3.0 };
        let mut last = f64::NEG_INFINITY;
        for _ in 0..20 {
            let (next, table) = fit.improved(&target);
            let objective = target.iter().zip(&table).map(|(t, p)| t * p.ln()).sum::<f64>();
            assert!(objective >= last - 1e-12);
            (fit, last) = (next, objective);
        }
        assert!((fit.mean - 97.3).abs() < 1e-3 && (fit.log_scale - 1.4).abs() < 1e-3, "{fit:?}");
    }
}
