//! Frequencies, and walks of which part is given.

use lvd::codec::gaussian::{GaussianWalk, Gaussians};
use lvd::codec::hclt::{Forest, HcltWalk};
use lvd::codec::symbol::{Ends, TOTAL};
use lvd::codec::walk::{PatchWalk, Walk};
use lvd::run::checkpoint::Named;

use super::models::{written_gaussian, written_hclt};

/// That frequencies of the next symbol are at least 1, add up to 2^24 and are near the probabilities, which add up to 1;
/// that a search finds every one.
fn check(walk: &dyn Walk) {
    let (symbols, mut ends) = (walk.symbols(), Ends::default());
    let (mut sum, mut last) = (0, 0.0);
    for v in 0..symbols {
        let [low, high] = ends.of(walk, v);
        assert!(low == sum && high > low, "{v}: {low} {high}");
        let probability = ends.high.cumulative - ends.low.cumulative;
        assert!((f64::from(high - low) / f64::from(TOTAL) - probability).abs() < 3.0 * 512.0 / f64::from(TOTAL));
        (sum, last) = (high, ends.high.cumulative);
        for point in [low, high - 1] {
            assert_eq!(ends.find(walk, point), (v, [low, high]));
        }
    }
    assert_eq!((sum, last.to_bits()), (TOTAL, 1.0f64.to_bits()));
}

fn go(mut walk: impl Walk, symbols: impl Iterator<Item = usize>) {
    let mut ends = Ends::default();
    for symbol in symbols {
        check(&walk);
        // The terms by which weights are multiplied are the probabilities of the coder.
        ends.of(&walk, symbol);
        let cumulative = ends.high.cumulative - ends.low.cumulative;
        let probability = walk.observe(symbol, &ends.low, &ends.high);
        assert!((probability - cumulative).abs() < 1e-10, "{probability} {cumulative}");
    }
}

#[test]
fn every_symbol_has_a_frequency_and_all_add_up() {
    let ranges = [(0, 255); 16];
    let symbols = || (0..16).map(|i| [100usize, 0, 255, 130][i % 4]);
    let tensors = written_gaussian();
    let gaussians = Gaussians::from_tensors(&Named::new(&tensors).under("patch"), &ranges).unwrap();
    let mut walk = GaussianWalk::new(&gaussians, 0);
    walk.start(&[-0.5, -1.0]);
    go(walk, symbols());
    let tensors = written_hclt();
    let forest = Forest::from_tensors(&Named::new(&tensors).under("patch"), &ranges).unwrap();
    let mut walk = HcltWalk::new(&forest);
    walk.start(&[-0.5, -1.0]);
    go(walk, symbols());
}

/// P(rest | given) of one Gaussian by the walk, and by the conditional mean and deviation of two variables.
#[test]
fn given_values_condition_and_cost_nothing() {
    let ranges = [(0, 255); 16];
    let tensors = written_gaussian();
    let gaussians = Gaussians::from_tensors(&Named::new(&tensors).under("patch"), &ranges).unwrap();
    // Variable 2 of cluster 1 at scale 2, given the first two: covariance 4 (12 [i = j] + 60 / (1 + |i - j|)).
    let covariance = |i: usize, j: usize| 4.0 * (if i == j { 12.0 } else { 0.0 } + 60.0 / (1.0 + i.abs_diff(j) as f64));
    let mean = |i: usize| ((16 + i) % 7) as f64 * 4.0 - 12.0 + 20.0 + 127.5;
    let given = [140i64, 150];
    let [a, b, d] = [covariance(0, 0), covariance(0, 1), covariance(1, 1)];
    let determinant = a * d - b * b;
    let [p, q] = [covariance(2, 0), covariance(2, 1)];
    let [u, v] = [(p * d - q * b) / determinant, (q * a - p * b) / determinant];
    let expected = mean(2) + u * (140.5 - mean(0)) + v * (150.5 - mean(1));
    let deviation = (covariance(2, 2) - u * p - v * q).sqrt();

    let mut walk = GaussianWalk::new(&gaussians, 2);
    let weights = [f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0];
    walk.begin(&weights, &given);
    assert_eq!((walk.variable(), walk.weights().collect::<Vec<_>>()), (2, vec![(1, 1, 1.0)]));
    let mut ends = Ends::default();
    for value in [100usize, 150, 160] {
        ends.of(&walk, value);
        let phi = |x: f64| 0.5 * libm::erfc((expected - x) / deviation / std::f64::consts::SQRT_2);
        assert!((ends.low.cumulative - phi(value as f64)).abs() < 1e-12, "{value}");
    }
    // The weights of several components are those that were handed in, whatever the given values say of them.
    walk.begin(&[-0.5, -1.0, -0.75, -2.0], &given);
    let total: f64 = [-0.5f64, -1.0, -0.75, -2.0].map(libm::exp).iter().sum();
    for (k, s, weight) in walk.weights() {
        assert!((weight - libm::exp([-0.5, -1.0, -0.75, -2.0][k * 2 + s]) / total).abs() < 1e-15);
    }
}
