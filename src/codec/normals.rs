//! The next number as a mixture of normals: its probabilities, and what it says of the components.

use super::normal::{Tails, below, between, rough_quantile};
use super::walk::{Boundary, SMALL_SHARE, reweigh, reweigh_entries};

/// A component and scale that are still possible.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which component.
    pub component: usize,
    /// Which scale.
    pub scale: usize,
    /// Its share, given what was seen.
    pub weight: f64,
    /// z of a border at b about the centre is `offset + rate * b`.
    pub offset: f64,
    /// See [`offset`](Self::offset).
    pub rate: f64,
    /// Entries of one component with the same twin have the same offset and rate.
    pub twin: usize,
}

impl Entry {
    /// Whether the next number's probability is computed with it.
    fn counts(&self) -> bool {
        self.weight >= SMALL_SHARE
    }
}

/// Tails at one border, each computed once for the twins of a component.
struct Shared {
    tails: Tails,
    border: f64,
    component: usize,
    /// By twin; NaN where it was not asked for yet.
    known: [f64; MOST_TWINS],
}

impl Shared {
    fn new(border: f64) -> Self {
        Self { tails: Tails::new(), border, component: usize::MAX, known: [f64::NAN; MOST_TWINS] }
    }

    fn of(&mut self, entry: &Entry) -> f64 {
        let fresh = || self.tails.at(entry.offset + entry.rate * self.border);
        if entry.component != self.component {
            self.component = entry.component;
            self.known.fill(f64::NAN);
        }
        match self.known.get_mut(entry.twin) {
            Some(known) if known.is_nan() => {
                *known = fresh();
                *known
            }
            Some(known) => *known,
            None => fresh(),
        }
    }
}

/// Twins that are told apart; entries of higher ones are computed by themselves.
const MOST_TWINS: usize = 16;
/// The twin of an entry that has none.
pub const ALONE: usize = usize::MAX;

/// Values of the next number.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The least one.
    pub low: i64,
    /// How many there are.
    pub symbols: usize,
    /// What they are taken about.
    pub centre: f64,
}

impl Span {
    /// The border below a value, about the centre; without end where there is no value beyond it.
    fn border(&self, v: usize) -> f64 {
        match v {
            0 => f64::NEG_INFINITY,
            v if v == self.symbols => f64::INFINITY,
            v => (self.low + v as i64) as f64 - self.centre,
        }
    }

    /// The middle of a value, about the centre.
    #[must_use]
    pub fn middle(&self, v: usize) -> f64 {
        (self.low + v as i64) as f64 + 0.5 - self.centre
    }
}

/// All entries, sorted by component, then by scale.
#[derive(Debug, Default)]
pub struct Normals {
    entries: Vec<Entry>,
    /// 1 / the weights of entries that are not small.
    inverse_total: f64,
    products: Vec<f64>,
}

impl Normals {
    /// Begin with these log weights `[K, S]`; minus infinity for what is impossible.
    pub fn begin(&mut self, log_weights: &[f64], scales: usize) {
        let most = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.products.clear();
        self.products.extend(log_weights.iter().map(|weight| libm::exp(weight - most)));
        let entries = &mut self.entries;
        entries.clear();
        let entry = |i: usize, weight| Entry {
            component: i / scales,
            scale: i % scales,
            weight,
            offset: 0.0,
            rate: 0.0,
            twin: ALONE,
        };
        if reweigh(&self.products, |i, weight| entries.push(entry(i, weight))) == 0.0 {
            let even = 1.0 / log_weights.len() as f64;
            entries.extend((0..log_weights.len()).map(|i| entry(i, even)));
        }
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Say what the next number is like under every entry, by setting `offset` and `rate`.
    pub fn prepare(&mut self, set: impl FnMut(&mut Entry)) {
        self.inverse_total = 1.0 / self.entries.iter().filter(|e| e.counts()).map(|e| e.weight).sum::<f64>();
        self.entries.iter_mut().for_each(set);
    }

    /// See [`Walk::boundary`](super::walk::Walk::boundary).
    pub fn boundary(&self, v: usize, span: &Span, out: &mut Boundary) {
        out.tails.clear();
        if v == 0 || v == span.symbols {
            // The tails of both ends: Phi is 0 below the least value and 1 above the greatest.
            out.cumulative = if v == 0 { 0.0 } else { 1.0 };
            let count = self.entries.iter().filter(|entry| entry.counts()).count();
            out.tails.resize(count, if v == 0 { 0.0 } else { -0.0 });
            return;
        }
        let border = span.border(v);
        let (mut shared, mut sum) = (Shared::new(border), 0.0);
        for entry in self.entries.iter().filter(|entry| entry.counts()) {
            let tail = shared.of(entry);
            sum += entry.weight * below(tail);
            out.tails.push(tail);
        }
        out.cumulative = sum * self.inverse_total;
    }

    /// See [`Walk::guess`](super::walk::Walk::guess).
    #[must_use]
    pub fn guess(&self, share: f64, span: &Span) -> usize {
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
        let value = mean + deviation * rough_quantile(share) + span.centre - span.low as f64;
        (value.max(0.0) as usize).min(span.symbols - 1)
    }

    /// The next number is `v`: weights become those given it; returns its probability.
    pub fn observe(&mut self, v: usize, span: &Span, low: &Boundary, high: &Boundary) -> f64 {
        let mut ends = [v, v + 1].map(|v| Shared::new(span.border(v)));
        let mut known = low.tails.iter().zip(&high.tails);
        self.products.clear();
        self.products.extend(self.entries.iter().map(|entry| {
            let known = if entry.counts() { known.next() } else { None };
            let [low, high] =
                known.map_or_else(|| ends.each_mut().map(|end| end.of(entry)), |(&low, &high)| [low, high]);
            entry.weight * between(low, high).max(0.0)
        }));
        reweigh_entries(&mut self.entries, &self.products, |entry, weight| Entry { weight, ..entry })
    }
}
