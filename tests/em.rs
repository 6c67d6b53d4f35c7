//! EM steps against counting, and the theorems that hold for them.

mod oracle;

use std::collections::BTreeMap;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::parameters::Parameters;
use lvd::em::back_off::{BackOff, BackOffConfig};
use lvd::em::{self, EmConfig, InputFamily, Learner, Rule};
use lvd::run::checkpoint::{Named, prefixed};
use lvd::structure::hclt;
use lvd::structure::region_graph::RegionGraph;
use oracle::em::Prior;
use oracle::random::{self, Case};
use oracle::reference::Reference;
use oracle::{Tables, distance, numbers, read, tensor};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

type Batch = Vec<Vec<Vec<oracle::reference::Seen>>>;

const NO_PRIOR: Prior = Prior { edges: 0.0, inputs: 0.0 };

fn learner(rule: Rule, prior: Prior, family: InputFamily, examples: f64, circuit: &Circuit) -> Learner {
    let config = EmConfig { rule, pseudocount: prior.edges, input_pseudocount: prior.inputs, ..EmConfig::default() };
    Learner::new(&config, family, examples, circuit, em::uniform_marginals(circuit.plan(), circuit))
}

fn statistics(circuit: &Circuit, evidence: &Evidence, weights: &Tensor) -> Statistics {
    let mut statistics = Statistics::new(circuit);
    circuit.flows(&circuit.forward(evidence, true).unwrap(), weights, &mut statistics);
    statistics
}

fn ones(examples: i64, trees: i64) -> Tensor {
    Tensor::ones([examples, trees], (Kind::Double, Device::Cpu))
}

/// A rule by its formula in `lvd::em`, on plain tables.
struct Counting {
    rule: Rule,
    prior: Prior,
    back_off: Option<BackOffConfig>,
    examples: f64,
    memory: Option<Tables>,
    steps: i32,
}

impl Counting {
    fn normalise(&self, counts: &Tables, scale: f64) -> Tables {
        let smooth = self.back_off.map(|b| oracle::em::back_off(counts, scale * b.pseudocount, b.run));
        oracle::em::normalise(smooth.as_ref().unwrap_or(counts), self.prior, scale)
    }

    fn step(&mut self, graph: &RegionGraph, old: &Tables, counts: &Tables, weight: f64, eta: f64) -> Tables {
        self.steps += 1;
        match self.rule {
            Rule::Average => {
                let new = self.normalise(counts, 1.0);
                old.zip(&new, |old, new| (1.0 - eta) * old + eta * new)
            }
            Rule::Decayed => {
                let scaled = counts.zip(counts, |c, _| c * self.examples / weight);
                let before = self.memory.take().unwrap_or_else(|| {
                    let total =
                        |&r: &usize| counts.edges[&graph.regions()[r].tie].iter().flatten().sum::<f64>() / weight;
                    let joint = oracle::em::top_down(graph, old, &graph.roots().iter().map(total).collect::<Vec<_>>());
                    joint.zip(&joint, |j, _| j * self.examples)
                });
                let memory = before.zip(&scaled, |m, c| (1.0 - eta) * m + eta * c);
                self.memory = Some(memory.clone());
                self.normalise(&memory, 1.0)
            }
            Rule::Anemone { share, momentum } => {
                let before = self.memory.take().unwrap_or_else(|| Tables::zeros(graph));
                let memory = before.zip(counts, |m, c| momentum * m + (1.0 - momentum) * c / weight);
                let flow = memory.zip(&memory, |m, _| m / (1.0 - momentum.powi(self.steps)));
                self.memory = Some(memory);
                let roots: Vec<f64> =
                    graph.roots().iter().map(|&r| flow.edges[&graph.regions()[r].tie].iter().flatten().sum()).collect();
                let joint = oracle::em::top_down(graph, old, &roots);
                let mixed = flow.zip(&joint, |f, j| share * eta * f + (1.0 - share * eta) * j);
                self.normalise(&mixed, 1.0 / self.examples)
            }
        }
    }
}

fn steps_agree(case: &Case, rule: Rule, back_off: Option<BackOffConfig>, etas: &[f64], kind: Kind, tolerance: f64) {
    let mut rng = case.rng();
    let graph = random::graph(case, &mut rng);
    let mut tables = random::tables(&graph, 2.0, &mut rng);
    let prior = Prior { edges: rng.random_range(0.01..2.0), inputs: rng.random_range(0.01..2.0) };
    let mut circuit = random::circuit(&graph, &tables, kind);
    let marginals = em::uniform_marginals(circuit.plan(), &circuit);
    let mut learner = learner(rule, prior, InputFamily::Categorical, 50.0, &circuit)
        .with_back_off(back_off.map(|b| BackOff::new(b, &circuit, &marginals)));
    let mut counting = Counting { rule, prior, back_off, examples: 50.0, memory: None, steps: 0 };
    for &eta in etas {
        let seen = random::seen(case, &graph, &mut rng);
        let weights = random::weights(case, &mut rng);
        let mut counts = Tables::zeros(&graph);
        let reference = Reference::new(&graph, &tables);
        for (t, batch) in seen.iter().enumerate() {
            for (b, seen) in batch.iter().enumerate() {
                reference.add_flows(t, seen, weights[b][t], &mut counts, None);
            }
        }
        tables = counting.step(&graph, &tables, &counts, weights.iter().flatten().sum(), eta);
        let statistics = statistics(&circuit, &random::evidence(case, &seen, circuit.plan()), &tensor(&weights));
        learner.step(&mut circuit, statistics, eta);
        let found = read(&circuit, circuit.parameters());
        assert!(distance(&found.flat(), &tables.flat()) < tolerance, "{found:?} {tables:?}");
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let anemone = (0.1..1.0, 0.0..0.95).prop_map(|(share, momentum)| Rule::Anemone { share, momentum });
    prop_oneof![Just(Rule::Average), Just(Rule::Decayed), anemone]
}

fn back_off() -> impl Strategy<Value = Option<BackOffConfig>> {
    prop::option::of((0.1..20.0, 2_usize..4).prop_map(|(pseudocount, run)| BackOffConfig { pseudocount, run }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_agree_with_counting(
        case in random::case(), rule in rule(), back_off in back_off(), etas in prop::collection::vec(0.05..1.0, 3),
    ) {
        steps_agree(&case, rule, back_off, &etas, Kind::Double, 1e-10);
        steps_agree(&case, rule, back_off, &etas, Kind::Float, 1e-4);
    }

    #[test]
    fn full_batch_steps_never_lower_the_objective(case in random::case(), logistic in any::<bool>()) {
        let case = Case { examples: case.examples + 10, trees: 1, ..case.hard() };
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let mut circuit = random::circuit(&graph, &random::tables(&graph, 1.0, &mut rng), Kind::Double);
        let seen = random::seen(&case, &graph, &mut rng);
        let evidence = random::evidence(&case, &seen, circuit.plan());
        let (prior, family) = if logistic {
            (NO_PRIOR, InputFamily::DiscretisedLogistic)
        } else {
            (Prior { edges: 0.3, inputs: 0.7 }, InputFamily::Categorical)
        };
        let mut learner = learner(Rule::Average, prior, family, case.examples as f64, &circuit);
        let mut objectives = Vec::new();
        for _ in 0..21 {
            let statistics = statistics(&circuit, &evidence, &ones(case.examples as i64, 1));
            learner.step(&mut circuit, statistics, 1.0);
            let likelihood = circuit.log_likelihood(&evidence).unwrap().sum(Kind::Double).double_value(&[]);
            let tables = read(&circuit, circuit.parameters());
            objectives.push(likelihood + if logistic { 0.0 } else { oracle::em::log_prior(&tables, prior) });
        }
        prop_assert!(objectives.windows(2).all(|w| w[1] > w[0] - 1e-6), "{objectives:?}");
    }

    #[test]
    fn micro_batches_add_up(case in random::case()) {
        let case = Case { examples: 12, ..case.shared() };
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let circuit = random::circuit(&graph, &random::tables(&graph, 2.0, &mut rng), Kind::Double);
        let seen = random::seen(&case, &graph, &mut rng);
        let weights = random::weights(&case, &mut rng);
        let whole = statistics(&circuit, &random::evidence(&case, &seen, circuit.plan()), &tensor(&weights));
        let mut parts = Statistics::new(&circuit);
        for (from, to) in [(0, 1), (1, 6), (6, 12)] {
            let part: Vec<_> = seen.iter().map(|batch| batch[from..to].to_vec()).collect();
            let evidence = random::evidence(&Case { examples: to - from, ..case }, &part, circuit.plan());
            let messages = circuit.forward(&evidence, true).unwrap();
            circuit.flows(&messages, &tensor(&weights[from..to].to_vec()), &mut parts);
        }
        prop_assert!((whole.weight - parts.weight).abs() < 1e-12 * whole.weight);
        let (whole, parts) = (whole.into_counts(&circuit), parts.into_counts(&circuit));
        let (whole, parts) = (read(&circuit, &whole).flat(), read(&circuit, &parts).flat());
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
        prop_assert!(whole.iter().zip(&parts).all(close));
    }

    #[test]
    fn rules_meet_at_step_size_one(case in random::case(), pseudocount in 0.0..2.0) {
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let tables = random::tables(&graph, 2.0, &mut rng);
        let seen = random::seen(&case, &graph, &mut rng);
        let after = |rule, prior| {
            let mut circuit = random::circuit(&graph, &tables, Kind::Double);
            let evidence = random::evidence(&case, &seen, circuit.plan());
            let weights = ones(case.examples as i64, case.trees as i64);
            let all = (case.examples * case.trees) as f64;
            let mut learner = learner(rule, prior, InputFamily::Categorical, all, &circuit);
            for _ in 0..2 {
                let statistics = statistics(&circuit, &evidence, &weights);
                learner.step(&mut circuit, statistics, 1.0);
            }
            read(&circuit, circuit.parameters()).flat()
        };
        let prior = Prior { edges: pseudocount, inputs: pseudocount };
        prop_assert!(distance(&after(Rule::Decayed, prior), &after(Rule::Average, prior)) < 1e-10);
        let anemone = Rule::Anemone { share: 1.0, momentum: 0.0 };
        prop_assert!(distance(&after(anemone, NO_PRIOR), &after(Rule::Average, NO_PRIOR)) < 1e-10);
    }

    #[test]
    fn a_restored_learner_goes_on_as_if_unbroken(case in random::case(), rule in rule(), logistic in any::<bool>()) {
        let mut rng = case.rng();
        let case = case.hard();
        let graph = random::forest(&case, &mut rng);
        let tables = random::tables(&graph, 1.0, &mut rng);
        let family = if logistic { InputFamily::DiscretisedLogistic } else { InputFamily::Categorical };
        let prior = Prior { edges: 0.1, inputs: 0.2 };
        let batches: Vec<Batch> = (0..5).map(|_| random::seen(&case, &graph, &mut rng)).collect();
        let train = |circuit: &mut Circuit, learner: &mut Learner, batches: &[Batch]| {
            for seen in batches {
                let evidence = random::evidence(&case, seen, circuit.plan());
                let statistics = statistics(circuit, &evidence, &ones(case.examples as i64, case.trees as i64));
                learner.step(circuit, statistics, 0.4);
            }
        };
        let mut circuit = random::circuit(&graph, &tables, Kind::Float);
        let mut unbroken = learner(rule, prior, family, 30.0, &circuit);
        train(&mut circuit, &mut unbroken, &batches[..2]);
        let saved = circuit.by_variable(circuit.parameters()).into_iter();
        let saved = saved.chain(prefixed("learner", unbroken.state(&circuit)));
        let saved: BTreeMap<String, Tensor> = saved.map(|(name, tensor)| (name, tensor.copy())).collect();
        train(&mut circuit, &mut unbroken, &batches[2..]);

        let mut second = Circuit::uniform(graph.clone(), Kind::Float, Device::Cpu);
        let (saved, trees) = (Named::new(&saved), 0..case.trees);
        let read_back = Parameters::uniform(second.plan(), Kind::Float, Device::Cpu);
        second.put_by_variable(&read_back, &saved, &trees).unwrap();
        second.update(|parameters, _| parameters.assign(&read_back));
        let mut restored = learner(rule, prior, family, 30.0, &second);
        restored.restore(&second, &saved.under("learner"), &trees).unwrap();
        train(&mut second, &mut restored, &batches[2..]);
        prop_assert_eq!(read(&second, second.parameters()), read(&circuit, circuit.parameters()));
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_named() {
    let graph = hclt::forest(&[vec![None, Some(0)]], 2, &[3, 3]).unwrap();
    let circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let restore = |name: &str, tensor: Option<Tensor>| {
        let mut saved: BTreeMap<String, Tensor> =
            prefixed("circuit", circuit.by_variable(circuit.parameters())).into_iter().collect();
        saved.remove(name);
        saved.extend(tensor.map(|t| (name.to_owned(), t)));
        let into = Parameters::zeros(circuit.plan(), Kind::Float, Device::Cpu);
        circuit.put_by_variable(&into, &Named::new(&saved).under("circuit"), &(0..1)).unwrap_err().to_string()
    };
    assert_eq!(restore("circuit.edges", None), "tensor circuit.edges is missing from the checkpoint");
    assert_eq!(
        restore("circuit.roots", Some(zeros(&[2, 2]))),
        "tensor circuit.roots of the checkpoint has shape [2, 2], expected [-1, 1, 2]"
    );
    assert_eq!(
        restore("circuit.inputs", Some(zeros(&[1, 2, 3, 2]) / 0.0)),
        "tensor circuit.inputs of the checkpoint is not finite"
    );
    assert_eq!(
        restore("circuit.edges", Some(zeros(&[0, 2, 2, 2]))),
        "tensor circuit.edges of the checkpoint holds 0 trees, expected 1"
    );
}

#[test]
fn tables_by_variable_do_not_depend_on_how_trees_share_a_forest() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let trees = [vec![None, Some(0), Some(1)], vec![Some(2), None, Some(1)]];
    let [one, two] = [0, 1].map(|t| {
        let graph = hclt::forest(&trees[t..=t], 2, &[3, 1, 4]).unwrap();
        let mut circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
        circuit.update(|parameters, plan| parameters.perturb(plan, 0.5, &mut rng));
        circuit
    });
    let both = Circuit::uniform(hclt::forest(&trees, 2, &[3, 1, 4]).unwrap(), Kind::Float, Device::Cpu);
    let alone = [&one, &two].map(|circuit| circuit.by_variable(circuit.parameters()));
    let joined = alone[0].iter().zip(&alone[1]).map(|((name, a), (_, b))| (name.clone(), Tensor::cat(&[a, b], 0)));
    let joined: BTreeMap<String, Tensor> = joined.collect();
    let into = Parameters::uniform(both.plan(), Kind::Float, Device::Cpu);
    both.put_by_variable(&into, &Named::new(&joined), &(0..2)).unwrap();
    for (name, tensor) in both.by_variable(&into) {
        assert_eq!(tensor, joined[&name], "{name}");
    }
    // By hand: the table of tree 1's variable 2 to its parent, variable 1, and its value 3 under state 0.
    let table = two.tree_tables(0);
    assert_eq!(joined["edges"].get(1).get(2), table.edges[2]);
    assert_eq!(joined["inputs"].get(1).get(2).get(3), table.inputs[2].as_ref().unwrap().get(3));
    assert!(!bool::try_from(joined["inputs"].get(1).get(1).get(1).any()).unwrap(), "nothing behind the last value");
    assert_eq!(joined["roots"].get(1).get(0), table.edges[1].get(0));
}

/// Integers from a logistic distribution, rounded, with the tails at the ends.
fn logistic_sample(mean: f64, scale: f64, categories: i64, count: usize, rng: &mut impl Rng) -> Tensor {
    let draw = |u: f64| (mean + scale * (u / (1.0 - u)).ln()).round().clamp(0.0, (categories - 1) as f64) as i64;
    let values: Vec<i64> = (0..count).map(|_| draw(rng.random())).collect();
    Tensor::from_slice(&values).unsqueeze(1)
}

#[test]
fn discretised_logistics_find_mean_and_scale() {
    const COUNT: usize = 20_000;
    for (mean, scale) in [(100.3, 7.0), (128.0, 0.6), (3.0, 10.0), (254.0, 30.0)] {
        let graph = hclt::forest(&[vec![None]], 1, &[256]).unwrap();
        let mut circuit = Circuit::uniform(graph, Kind::Double, Device::Cpu);
        let mut learner = learner(Rule::Average, NO_PRIOR, InputFamily::DiscretisedLogistic, COUNT as f64, &circuit);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let values = logistic_sample(mean, scale, 256, COUNT, &mut rng);
        let evidence = Evidence::shared(&values, None, circuit.plan()).unwrap();
        for _ in 0..10 {
            let statistics = statistics(&circuit, &evidence, &ones(COUNT as i64, 1));
            learner.step(&mut circuit, statistics, 1.0);
        }
        let state: BTreeMap<String, Tensor> = learner.state(&circuit).into_iter().collect();
        let found_mean = numbers(&state["logistic.mean"])[0];
        let found_scale = numbers(&state["logistic.log_scale"])[0].exp();
        // Standard errors of the maximum-likelihood estimates, doubled for what rounding and tails hide.
        let n = COUNT as f64;
        let (mean_error, scale_error) = (2.0 * scale * (3.0 / n).sqrt(), 2.0 * scale * (1.0 / (1.43 * n)).sqrt());
        assert!((found_mean - mean).abs() < 3.0 * mean_error, "{found_mean} for {mean}, {scale}");
        assert!((found_scale - scale).abs() < 3.0 * scale_error, "{found_scale} for {mean}, {scale}");
        let table = read(&circuit, circuit.parameters()).inputs[&0].concat();
        assert!((table.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((table[0] - 1.0 / (1.0 + ((found_mean - 0.5) / found_scale).exp())).abs() < 1e-6);
    }
}

#[test]
fn back_off_follows_the_marginal_inside_a_run_and_leaves_the_mass_of_runs() {
    let graph = hclt::forest(&[vec![None]], 1, &[5]).unwrap();
    let mut circuit = Circuit::uniform(graph, Kind::Double, Device::Cpu);
    // The last run has one value; no example has the marginal's value 3.
    let marginal = Tensor::from_slice(&[0.1, 0.3, 0.2, 0.0, 0.4]).unsqueeze(1);
    let marginals = em::input_marginals(circuit.plan(), &circuit, |_, _, _| marginal.squeeze_dim(-1));
    let back_off = BackOff::new(BackOffConfig { pseudocount: 40.0, run: 2 }, &circuit, &marginals);
    let mut learner =
        learner(Rule::Average, NO_PRIOR, InputFamily::Categorical, 8.0, &circuit).with_back_off(Some(back_off));
    let values = Tensor::from_slice(&[0_i64, 0, 0, 1, 2, 4, 4, 4]).unsqueeze(1);
    let evidence = Evidence::shared(&values, None, circuit.plan()).unwrap();
    let statistics = statistics(&circuit, &evidence, &ones(8, 1));
    learner.step(&mut circuit, statistics, 1.0);
    let table = read(&circuit, circuit.parameters()).inputs[&0].concat();
    // Runs hold 4, 1 and 3 of 8 counts, so 20, 5 and 15 of 40 pseudocounts.
    let expected = [3.0 + 20.0 * 0.25, 1.0 + 20.0 * 0.75, 1.0 + 5.0, 0.0, 3.0 + 15.0].map(|c| c / 48.0);
    assert!(distance(&table, &expected) < 1e-6, "{table:?}");
}

#[test]
fn perturbing_keeps_rows_normalised_and_breaks_ties() {
    let graph = hclt::forest(&[vec![None, Some(0)], vec![Some(1), None]], 3, &[4, 2]).unwrap();
    let mut circuit = Circuit::uniform(graph, Kind::Double, Device::Cpu);
    circuit.update(|p, plan| p.perturb(plan, 0.5, &mut ChaCha8Rng::seed_from_u64(1)));
    let tables = read(&circuit, circuit.parameters());
    let normalised = oracle::em::normalise(&tables, NO_PRIOR, 1.0);
    assert!(distance(&tables.flat(), &normalised.flat()) < 1e-9);
    let uniform = tables.edges.values().flatten().flatten().filter(|p| (*p - 1.0 / 3.0).abs() < 1e-6).count();
    assert_eq!(uniform, 0);
    // Two trees: a prior (2), an edge 3 x 3 (6), inputs (4 - 1) * 3 and (2 - 1) * 3.
    assert_eq!(Parameters::count(circuit.plan()), 2 * (2 + 6 + 9 + 3));
}

#[test]
fn counts_of_a_large_batch_lose_no_small_flow() {
    // A sum of 2^25 in float32 has steps of 4: a thousand further examples of weight 1 would vanish one by one.
    let graph = hclt::forest(&[vec![None]], 1, &[3]).unwrap();
    let circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
    let mut statistics = Statistics::new(&circuit);
    let mut add = |value: i64, weight: f64| {
        let evidence = Evidence::shared(&Tensor::from_slice(&[value]).unsqueeze(1), None, circuit.plan()).unwrap();
        let messages = circuit.forward(&evidence, true).unwrap();
        let weight = Tensor::from_slice(&[weight]).view([1, 1]);
        circuit.flows(&messages, &weight, &mut statistics);
    };
    let large = f64::from(1 << 25);
    add(1, large);
    for _ in 0..1000 {
        add(1, 1.0);
    }
    add(2, 0.125);
    let counts = statistics.into_counts(&circuit);
    let inputs = numbers(&counts.inputs[0].to_kind(Kind::Double));
    assert!((inputs[1] - (large + 1000.0)).abs() <= 2.0, "{inputs:?}"); // float32 holds every fourth number
    assert_eq!((inputs[0], inputs[2]), (0.0, 0.125));
}
