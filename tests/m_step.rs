//! The M-step in one pass over the tables against libtorch's passes in float64, from the same statistics.

mod oracle;

use lvd::circuit::Circuit;
use lvd::circuit::flows::Statistics;
use lvd::circuit::parameters::Parameters;
use lvd::device;
use lvd::em::back_off::{BackOff, BackOffConfig};
use lvd::em::{self, EmConfig, InputFamily, Learner, Rule};
use lvd::structure::region_graph::RegionGraph;
use oracle::numbers;
use oracle::random::{self, Case};
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// What a training of a few steps looks like.
#[derive(Clone, Debug)]
struct Training {
    case: Case,
    heads: usize,
    decayed: bool,
    /// Share of the edges that are cut, and of the weights that are zero.
    cut: f64,
    idle: f64,
    pseudocount: f64,
    back_off: Option<BackOffConfig>,
    etas: Vec<f64>,
}

fn training() -> impl Strategy<Value = Training> {
    let share = || prop_oneof![Just(0.0), Just(0.5)];
    let pseudocount = prop_oneof![Just(0.0), 0.01..2.0];
    let back_off =
        prop::option::of((0.1..20.0, 2_usize..4).prop_map(|(pseudocount, run)| BackOffConfig { pseudocount, run }));
    let parts = (random::case(), 1..4usize, any::<bool>(), share(), share());
    (parts, pseudocount, back_off, prop::collection::vec(0.05..1.0, 3)).prop_map(
        |((case, heads, decayed, cut, idle), pseudocount, back_off, etas)| Training {
            case,
            heads,
            decayed,
            cut,
            idle,
            pseudocount,
            back_off,
            etas,
        },
    )
}

impl Training {
    fn graph(&self, rng: &mut ChaCha8Rng) -> RegionGraph {
        random::graph(&self.case, rng).with_heads(self.heads)
    }

    /// A circuit with random tables, some of whose edges are cut.
    fn circuit(&self, kind: Kind) -> Circuit {
        let mut rng = self.case.rng();
        let graph = self.graph(&mut rng);
        let mut circuit = random::circuit(&graph, &random::tables(&graph, 2.0, &mut rng), kind);
        circuit.update(|parameters, _| {
            for edges in &mut parameters.edges {
                let draws: Vec<f64> = (0..edges.numel()).map(|_| rng.random()).collect();
                let cut = Tensor::from_slice(&draws).lt(self.cut).view_as(edges);
                let _ = cut.narrow(-1, 0, 1).fill_(0); // no row loses all
                let total = edges.masked_fill_(&cut, 0.0).sum_dim_intlist(-1, true, kind);
                let _ = edges.g_div_(&total);
            }
        });
        circuit
    }

    fn learner(&self, circuit: &Circuit) -> Learner {
        let rule = if self.decayed { Rule::Decayed } else { Rule::Average };
        let config = EmConfig {
            rule,
            pseudocount: self.pseudocount,
            input_pseudocount: self.pseudocount,
            ..EmConfig::default()
        };
        let uneven = |variable: usize, _: usize, categories: i64| {
            let weights = (0..categories).map(|v| ((v + 1) * (variable as i64 + 1) % 4) as f64 + f64::from(v == 0));
            let weights = Tensor::from_slice(&weights.collect::<Vec<_>>());
            let total = weights.sum(Kind::Double);
            weights / total
        };
        let marginals = em::input_marginals(circuit.plan(), circuit, uneven);
        let back_off = self.back_off.map(|config| BackOff::new(config, circuit, &marginals));
        Learner::new(&config, InputFamily::Categorical, 50.0, circuit, marginals).with_back_off(back_off)
    }

    /// Statistics of a few examples by libtorch's passes.
    fn statistics(&self, circuit: &Circuit, rng: &mut ChaCha8Rng) -> Statistics {
        let seen = random::seen(&self.case, circuit.graph(), rng);
        let evidence = random::evidence(&self.case, &seen, circuit.plan());
        let weight = |_| if rng.random_bool(self.idle) { 0.0 } else { rng.random_range(0.1..2.0) };
        let weights: Vec<f64> = (0..self.case.examples * self.case.trees * self.heads).map(weight).collect();
        let weights = Tensor::from_slice(&weights).view([self.case.examples as i64, -1]);
        let mut statistics = Statistics::new(circuit);
        let _ = circuit.flows(&circuit.forward(&evidence, true).unwrap(), &weights, &mut statistics);
        statistics
    }
}

/// The same statistics for the same circuit in another precision.
fn copied(statistics: &mut Statistics, circuit: &Circuit) -> Statistics {
    let mut tensors = Vec::new();
    let mut keep = |tensor: &Tensor| {
        tensors.push(tensor.copy());
        Ok(())
    };
    statistics.hand_out(&mut keep).unwrap();
    let (mut copy, mut tensors) = (Statistics::new(circuit), tensors.into_iter());
    copy.hand_out(&mut |tensor| {
        tensor.shallow_clone().copy_(&tensors.next().unwrap());
        Ok(())
    })
    .unwrap();
    copy
}

/// All numbers of some tables.
fn flat(tables: &Parameters) -> Vec<f64> {
    tables.edges.iter().chain(&tables.inputs).flat_map(numbers).collect()
}

/// Whether numbers are those expected, up to float32's rounding over a step.
fn agree(found: &[f64], expected: &[f64]) -> bool {
    found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs().max(b.abs()) + 1e-30)
}

/// A few steps in one pass and by libtorch's passes in float64.
fn steps_agree(training: &Training) {
    let [mut single, mut double] = [Kind::Float, Kind::Double].map(|kind| training.circuit(kind));
    double.update(|parameters, _| parameters.assign(single.parameters()));
    let [mut quick, mut slow] = [&single, &double].map(|circuit| training.learner(circuit));
    let mut rng = training.case.rng();
    for &eta in &training.etas {
        let mut statistics = training.statistics(&double, &mut rng);
        let copy = copied(&mut statistics, &single);
        quick.step(&mut single, copy, eta);
        slow.step(&mut double, statistics, eta);
        let (found, expected) = (flat(single.parameters()), flat(double.parameters()));
        assert!(agree(&found, &expected), "{found:?} {expected:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_agrees_with_many(training in training()) {
        steps_agree(&training);
    }
}

#[test]
fn states_that_no_example_reached_back_off_to_nothing() {
    // One example, of which a variable was not observed.
    for seed in 0..20 {
        steps_agree(&Training {
            case: Case::new(seed, 1, 3, 1),
            heads: 1,
            decayed: false,
            cut: 0.0,
            idle: 0.0,
            pseudocount: 0.01,
            back_off: Some(BackOffConfig { pseudocount: 12.5, run: 2 }),
            etas: vec![0.05; 3],
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let training = Training {
        case: Case { bare: 3, ..Case::new(5, 2, 12, 6) },
        heads: 2,
        decayed: true,
        cut: 0.3,
        idle: 0.2,
        pseudocount: 0.3,
        back_off: Some(BackOffConfig { pseudocount: 3.0, run: 2 }),
        etas: vec![0.7, 0.3, 0.4],
    };
    let before = tch::get_num_threads() as usize;
    let runs = [1, 2, 4].map(|threads| {
        device::set_threads(Some(threads)).unwrap();
        let mut circuit = training.circuit(Kind::Float);
        let (mut learner, mut rng) = (training.learner(&circuit), training.case.rng());
        for &eta in &training.etas {
            let statistics = training.statistics(&circuit, &mut rng);
            learner.step(&mut circuit, statistics, eta);
        }
        flat(circuit.parameters())
    });
    device::set_threads(Some(before)).unwrap();
    for run in &runs[1..] {
        assert!(run.iter().zip(&runs[0]).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
