//! What a family of patch circuits can do for the coder: go through the numbers of a patch, one after the other.

/// Weights below this share of all of them (2^-128) are dropped, by encoder and decoder alike. Less than that comes back
/// where a smooth patch turns out to have an edge.
pub const LEAST_SHARE: f64 = SMALL_SHARE * SMALL_SHARE * SMALL_SHARE / (1u64 << 8) as f64;
/// Components below this share (2^-40) are left out of the next number's probability, which they cannot move; their weights
/// are kept up, since what comes may raise them.
pub const SMALL_SHARE: f64 = 1.0 / (1u64 << 40) as f64;

/// What a walk knows of the border below a symbol.
#[derive(Clone, Debug, Default)]
pub struct Boundary {
    /// P(symbol below the border): 0 below the first symbol, 1 above the last.
    pub cumulative: f64,
    /// The same for every component whose weight is not small, as [`tail`](super::normal::tail); empty for families that
    /// have no use for it.
    pub tails: Vec<f64>,
}

/// A way through the numbers of a patch, in the order of the family: as many times as there are numbers
/// [`boundary`](Walk::boundary), as often as needed, and [`observe`](Walk::observe).
pub trait Walk {
    /// Which number of the patch comes next, in the order of the patch.
    fn variable(&self) -> usize;

    /// How many values it can take.
    fn symbols(&self) -> usize;

    /// Look at the border below value `v`, counted from the least one; `v` may be the number of values.
    fn boundary(&self, v: usize, out: &mut Boundary);

    /// Roughly, the value that has this share of the probability below it: a place to begin a search.
    fn guess(&self, share: f64) -> usize;

    /// The next number is `v`, counted from the least value, and these are the borders around it; returns its
    /// probability.
    fn observe(&mut self, v: usize, low: &Boundary, high: &Boundary) -> f64;
}

/// Walks through patches that have a cluster each, under a prior of clusters.
pub trait PatchWalk: Walk {
    /// Begin a patch whose cluster has these log probabilities `[K]`; minus infinity for what is impossible.
    fn start(&mut self, log_weights: &[f64]);

    /// After the last number: p(patch | cluster) `[K]` up to a factor that all clusters share.
    fn evidence(&mut self, out: &mut [f64]);
}

/// Multiply weights by likelihoods and drop what is below [`LEAST_SHARE`] of the sum: `kept(i, weight)` is called for all
/// that stay, with weights that add up to about 1. Returns the sum; where it is no positive number, nothing is called and
/// the old weights stay.
pub fn reweigh(products: &[f64], mut kept: impl FnMut(usize, f64)) -> f64 {
    let total: f64 = products.iter().sum();
    if total >= f64::MIN_POSITIVE && total.is_finite() {
        let (least, inverse) = (total * LEAST_SHARE, 1.0 / total);
        for (i, &product) in products.iter().enumerate() {
            if product >= least {
                kept(i, product * inverse);
            }
        }
        total
    } else {
        0.0
    }
}

/// [`reweigh`] entries by products, one for each: `weighed` gives those that stay their weight, the others are taken out.
/// Returns the sum; where it is no positive number, the entries stay as they are.
pub fn reweigh_entries<E: Copy>(entries: &mut Vec<E>, products: &[f64], weighed: impl Fn(E, f64) -> E) -> f64 {
    let mut count = 0;
    let total = reweigh(products, |i, weight| {
        entries[count] = weighed(entries[i], weight);
        count += 1;
    });
    if count > 0 {
        entries.truncate(count);
    }
    total
}

/// Divide by the sum; even where the sum is no positive number.
pub fn normalise(values: &mut [f64]) {
    let total: f64 = values.iter().sum();
    if total >= f64::MIN_POSITIVE && total.is_finite() {
        for value in values {
            *value /= total;
        }
    } else {
        values.fill(1.0 / values.len() as f64);
    }
}
