//! Data from a known circuit: entropy, marginals, and what EM can learn from them.

mod oracle;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::em::{self, EmConfig, InputFamily, Learner, Rule};
use lvd::structure::hclt::{self, Tying};
use oracle::{numbers, random};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const VARIABLES: usize = 4;
const CATEGORIES: usize = 3;
const COUNT: i64 = 20_000;

/// The second tree of a forest, so that sampling has to tell trees apart.
fn known() -> Circuit {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let chain = vec![None, Some(0), Some(1), Some(2)];
    let star = vec![Some(2), Some(2), None, Some(2)];
    let graph = hclt::forest(&[chain, star], 3, &[CATEGORIES; VARIABLES]).unwrap();
    let tables = random::tables(&graph, 1.5, &mut rng);
    random::circuit(&graph, &tables, Kind::Double)
}

/// All worlds `[3^4, 4]` and their probabilities under the second tree.
fn worlds(circuit: &Circuit) -> Vec<f64> {
    let digits = |w: usize| (0..VARIABLES).rev().map(move |d| (w / CATEGORIES.pow(d as u32) % CATEGORIES) as i64);
    let all: Vec<i64> = (0..CATEGORIES.pow(VARIABLES as u32)).flat_map(digits).collect();
    let all = Tensor::from_slice(&all).view([-1, VARIABLES as i64]);
    let evidence = Evidence::shared(&all, None, circuit.plan()).unwrap();
    numbers(&circuit.log_likelihood(&evidence).unwrap().select(1, 1).exp())
}

fn chi_square(observed: &[f64], expected: &[f64]) -> f64 {
    observed.iter().zip(expected).map(|(o, e)| (o - e).powi(2) / e).sum()
}

/// Mean and standard error of -log p under one tree.
fn cross_entropy(circuit: &Circuit, tree: i64, values: &Tensor) -> (f64, f64) {
    let evidence = Evidence::shared(values, None, circuit.plan()).unwrap();
    let nats = numbers(&circuit.log_likelihood(&evidence).unwrap().select(1, tree).neg());
    let n = nats.len() as f64;
    let mean = nats.iter().sum::<f64>() / n;
    (mean, (nats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

#[test]
fn samples_have_the_entropy_and_the_frequencies_of_their_circuit() {
    let circuit = known();
    let exact = worlds(&circuit);
    let entropy: f64 = exact.iter().map(|p| -p * p.ln()).sum();
    let sample = circuit.sample(1, COUNT as usize, None, &mut ChaCha8Rng::seed_from_u64(4));
    assert_eq!(sample.size(), [COUNT, VARIABLES as i64]);
    let (mean, error) = cross_entropy(&circuit, 1, &sample);
    assert!((mean - entropy).abs() < 3.0 * error, "{mean} +- {error}, entropy {entropy}");

    let world = sample.matmul(&Tensor::from_slice(&[27i64, 9, 3, 1]));
    let observed = numbers(&world.bincount::<Tensor>(None, 81));
    let expected: Vec<f64> = exact.iter().map(|p| p * COUNT as f64).collect();
    assert!(expected.iter().all(|&e| e > 5.0));
    // The 0.999 quantiles of chi-square with 80 and with 2 degrees of freedom.
    assert!(chi_square(&observed, &expected) < 124.8, "{}", chi_square(&observed, &expected));
    for v in 0..VARIABLES {
        let marginal = |counts: &[f64]| {
            let mut sums = [0.0; CATEGORIES];
            counts.iter().enumerate().for_each(|(w, c)| sums[w / 3usize.pow(3 - v as u32) % CATEGORIES] += c);
            sums
        };
        let statistic = chi_square(&marginal(&observed), &marginal(&expected));
        assert!(statistic < 13.8, "variable {v}: {statistic}");
    }
}

#[test]
fn samples_given_evidence_follow_the_posterior() {
    let circuit = known();
    // Variables 1 and 3 are 2 and 0; the others are drawn.
    let seen = Tensor::from_slice(&[7i64, 2, -3, 0]).view([1, 4]).repeat([COUNT, 1]);
    let observed = Tensor::from_slice(&[false, true, false, true]).view([1, 4]).expand_as(&seen);
    let evidence = Evidence::shared(&seen, Some(&observed), circuit.plan()).unwrap();
    let messages = circuit.forward(&evidence, true).unwrap();
    let sample = circuit.sample(1, COUNT as usize, Some(&messages), &mut ChaCha8Rng::seed_from_u64(6));
    assert_eq!(sample.select(1, 1), seen.select(1, 1));
    assert_eq!(sample.select(1, 3), seen.select(1, 3));
    let pair = sample.select(1, 0) * 3 + sample.select(1, 2);
    let observed = numbers(&pair.bincount::<Tensor>(None, 9));
    let joint: Vec<f64> = (0..9).map(|p| worlds(&circuit)[27 * (p / 3) + 9 * 2 + 3 * (p % 3)]).collect();
    let total: f64 = joint.iter().sum();
    let log_marginal = messages.log_likelihood.double_value(&[0, 1]);
    assert!((log_marginal - total.ln()).abs() < 1e-5);
    let expected: Vec<f64> = joint.iter().map(|p| p / total * COUNT as f64).collect();
    // The 0.999 quantile of chi-square with 8 degrees of freedom.
    assert!(chi_square(&observed, &expected) < 26.1, "{observed:?} {expected:?}");
}

#[test]
fn states_of_soft_inputs_are_sampled_by_their_tables() {
    let graph = hclt::latent_tree(&vec![None, Some(0)], 2, 2, None, Tying::Untied).unwrap();
    let mut circuit = Circuit::uniform(graph, Kind::Double, Device::Cpu);
    let mut tables = oracle::Tables::zeros(circuit.graph());
    tables.edges.insert(0, vec![vec![0.3, 0.7]]);
    tables.edges.insert(1, vec![vec![0.9, 0.1], vec![0.4, 0.6]]);
    oracle::install(&mut circuit, &tables);
    let sample = circuit.sample(0, COUNT as usize, None, &mut ChaCha8Rng::seed_from_u64(5));
    let observed = numbers(&sample.matmul(&Tensor::from_slice(&[2i64, 1])).bincount::<Tensor>(None, 4));
    let expected = [0.27, 0.03, 0.28, 0.42].map(|p| p * COUNT as f64);
    assert!(chi_square(&observed, &expected) < 16.3, "{observed:?}"); // 0.999 quantile, 3 degrees of freedom
}

#[test]
fn a_trained_circuit_comes_close_to_the_entropy_and_not_below() {
    let truth = known();
    let entropy: f64 = worlds(&truth).iter().map(|p| -p * p.ln()).sum();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let train = truth.sample(1, COUNT as usize, None, &mut rng);
    let test = truth.sample(1, COUNT as usize, None, &mut rng);
    let graph = hclt::forest(&[vec![Some(2), Some(2), None, Some(2)]], 4, &[CATEGORIES; VARIABLES]).unwrap();
    let mut circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
    circuit.update(|p, plan| p.perturb(plan, 0.5, &mut rng));
    let config = EmConfig { rule: Rule::Average, ..EmConfig::default() };
    let marginals = em::uniform_marginals(circuit.plan(), &circuit);
    let mut learner = Learner::new(&config, InputFamily::Categorical, COUNT as f64, &circuit, marginals);
    let evidence = Evidence::shared(&train, None, circuit.plan()).unwrap();
    let weights = Tensor::ones([COUNT, 1], (Kind::Float, Device::Cpu));
    let (before, _) = cross_entropy(&circuit, 0, &test);
    for _ in 0..100 {
        let mut statistics = Statistics::new(&circuit);
        circuit.flows(&circuit.forward(&evidence, true).unwrap(), &weights, &mut statistics);
        learner.step(&mut circuit, statistics, 1.0);
    }
    let (after, error) = cross_entropy(&circuit, 0, &test);
    assert!(before > entropy + 0.1);
    assert!(after > entropy - 3.0 * error && after < entropy + 3.0 * error + 0.02, "{after} +- {error}, {entropy}");
}

#[test]
fn moments_given_evidence_are_those_of_all_worlds() {
    let circuit = known();
    let all = worlds(&circuit);
    let seen = Tensor::from_slice(&[7i64, 2, -3, 0]).view([1, 4]);
    let observed = Tensor::from_slice(&[false, true, false, true]).view([1, 4]);
    let evidence = Evidence::shared(&seen, Some(&observed), circuit.plan()).unwrap();
    let messages = circuit.forward(&evidence, true).unwrap();
    let second = Tensor::from_slice(&[0.0, 1.0]).unsqueeze(0);
    let [mean, square] = circuit.moments(&messages, &second);
    let fits = |w: &usize| w / 9 % 3 == 2 && w.is_multiple_of(3);
    let total: f64 = (0..81).filter(fits).map(|w| all[w]).sum();
    for v in 0..VARIABLES {
        let value = |w: usize| (w / 3usize.pow(3 - v as u32) % 3) as f64;
        let expected = |power: i32| (0..81).filter(fits).map(|w| all[w] * value(w).powi(power)).sum::<f64>() / total;
        assert!((mean.double_value(&[0, v as i64]) - expected(1)).abs() < 1e-12);
        assert!((square.double_value(&[0, v as i64]) - expected(2)).abs() < 1e-12);
    }
}
