//! The walk over trees on the CPU against libtorch's passes in float64, for trees of any width.

mod oracle;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::parameters::Parameters;
use lvd::device;
use lvd::structure::region_graph::{Input, InputKind, Region, RegionGraph};
use oracle::{distance, numbers};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// A forest, its tables, and examples for it.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    trees: usize,
    variables: usize,
    heads: usize,
    /// Most states of a region.
    states: usize,
    /// All regions of a tree have that many.
    even: bool,
    examples: usize,
    /// Share of the values that are missing, of the edges that are cut, and of the weights that are zero.
    gaps: f64,
    cut: f64,
    idle: f64,
    per_tree: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = (1..3usize, 1..16usize, 1..11usize, 1..70usize, 1..150usize);
    let share = || prop_oneof![Just(0.0), Just(0.3), Just(1.0)];
    (any::<u64>(), sizes, any::<(bool, bool)>(), (share(), prop_oneof![Just(0.0), Just(0.4)], share())).prop_map(
        |(seed, (trees, variables, heads, states, examples), (even, per_tree), (gaps, cut, idle))| Case {
            seed,
            trees,
            variables,
            heads,
            states,
            even,
            examples,
            gaps,
            cut,
            idle,
            per_tree,
        },
    )
}

impl Case {
    fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// Random parents; one region in six reads nothing.
    fn graph(&self) -> RegionGraph {
        let mut rng = self.rng();
        let categories: Vec<usize> = (0..self.variables).map(|_| rng.random_range(1..9)).collect();
        let mut regions = Vec::new();
        for _ in 0..self.trees {
            let first = regions.len();
            let mut variable = 0;
            while variable < self.variables {
                let id = regions.len();
                let input = rng.random_bool(5.0 / 6.0).then(|| {
                    variable += 1;
                    let kind = InputKind::Discrete { categories: categories[variable - 1] };
                    Input { variable: variable - 1, kind, tie: id }
                });
                let states = if self.even { self.states } else { rng.random_range(1..=self.states) };
                let parent = (id > first).then(|| rng.random_range(first..id));
                regions.push(Region { parent, states, input, tie: id });
            }
        }
        RegionGraph::new(regions, self.variables).unwrap().with_heads(self.heads)
    }

    /// The circuit in float32, and the same numbers in float64.
    fn circuits(&self) -> [Circuit; 2] {
        let graph = self.graph();
        let mut single = Circuit::uniform(graph.clone(), Kind::Float, Device::Cpu);
        let mut rng = self.rng();
        single.update(|parameters, plan| {
            parameters.perturb(plan, 0.9, &mut rng);
            for edges in &mut parameters.edges {
                let cut = Tensor::from_slice(&draws(edges.numel(), &mut rng)).lt(self.cut).view_as(edges);
                let _ = edges.masked_fill_(&cut, 0.0);
            }
        });
        let mut double = Circuit::uniform(graph, Kind::Double, Device::Cpu);
        double.update(|parameters, _| parameters.assign(single.parameters()));
        [single, double]
    }

    fn evidence(&self, circuit: &Circuit) -> Evidence {
        let mut rng = self.rng();
        let shape = [self.trees as i64, self.examples as i64, self.variables as i64];
        let count = shape.iter().product::<i64>() as usize;
        let categories = circuit.plan().categories.squeeze_dim(-1);
        let values = Tensor::from_slice(&draws(count, &mut rng)).view(shape) * categories;
        let values = values.floor().to_kind(Kind::Int64);
        let observed = Tensor::from_slice(&draws(count, &mut rng)).ge(self.gaps).view(shape);
        let observed = (self.gaps > 0.0).then_some(&observed);
        if self.per_tree {
            Evidence::per_tree(&values, observed, circuit.plan()).unwrap()
        } else {
            Evidence::shared(&values.get(0), observed.map(|o| o.get(0)).as_ref(), circuit.plan()).unwrap()
        }
    }

    fn weights(&self) -> Tensor {
        let mut rng = self.rng();
        let count = self.examples * self.trees * self.heads;
        let weights = Tensor::from_slice(&draws(count, &mut rng));
        let idle = Tensor::from_slice(&draws(count, &mut rng)).lt(self.idle);
        weights.masked_fill(&idle, 0.0).view([self.examples as i64, -1]).to_kind(Kind::Float)
    }
}

/// Numbers drawn evenly from 0 to 1.
fn draws(count: usize, rng: &mut impl Rng) -> Vec<f64> {
    (0..count).map(|_| rng.random()).collect()
}

/// All numbers of some tables.
fn flat(tables: &Parameters) -> Vec<f64> {
    tables.edges.iter().chain(&tables.inputs).flat_map(numbers).collect()
}

/// Expected counts by the walk.
fn walked(circuit: &Circuit, evidence: &Evidence, weights: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let mut statistics = Statistics::new(circuit);
    let found = circuit.accumulate(evidence, weights, &mut statistics).unwrap();
    (numbers(&found), flat(&statistics.into_counts(circuit)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_agrees_with_the_passes(case in case()) {
        let [single, double] = case.circuits();
        let (evidence, weights) = (case.evidence(&single), case.weights());
        let messages = double.forward(&evidence, true).unwrap();
        let mut statistics = Statistics::new(&double);
        let _ = double.flows(&messages, &weights, &mut statistics);
        let expected = numbers(&messages.log_likelihood);
        prop_assert!(distance(&numbers(&single.log_likelihood(&evidence).unwrap()), &expected) < 1e-5);
        let (found, counts) = walked(&single, &evidence, &weights);
        let with_weight = numbers(&weights.view([-1, case.trees as i64, case.heads as i64]).amax(-1, true)
            .expand([-1, -1, case.heads as i64], false));
        for ((found, expected), weight) in found.iter().zip(&expected).zip(with_weight) {
            prop_assert!(weight == 0.0 || distance(&[*found], &[*expected]) < 1e-5, "{found} {expected}");
        }
        prop_assert!(distance(&counts, &flat(&statistics.into_counts(&double))) < 1e-4);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let case = Case {
        seed: 3,
        trees: 2,
        variables: 40,
        heads: 2,
        states: 17,
        even: true,
        examples: 700,
        gaps: 0.1,
        cut: 0.1,
        idle: 0.3,
        per_tree: false,
    };
    let [circuit, _] = case.circuits();
    let (evidence, weights) = (case.evidence(&circuit), case.weights());
    let before = tch::get_num_threads() as usize;
    let runs = [1, 2, 4, 2, 4].map(|threads| {
        device::set_threads(Some(threads)).unwrap();
        walked(&circuit, &evidence, &weights)
    });
    device::set_threads(Some(before)).unwrap();
    for run in &runs[1..] {
        assert!(run.1.iter().zip(&runs[0].1).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(run.0.iter().zip(&runs[0].0).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn the_counts_of_two_halves_are_those_of_the_whole() {
    let case = Case {
        seed: 4,
        trees: 1,
        variables: 30,
        heads: 1,
        states: 33,
        even: false,
        examples: 300,
        gaps: 0.1,
        cut: 0.0,
        idle: 0.2,
        per_tree: false,
    };
    let [circuit, _] = case.circuits();
    let values = Tensor::zeros([300, 30], (Kind::Int64, Device::Cpu));
    let weights = case.weights();
    let seen = |from: i64, to: i64| Evidence::shared(&values.narrow(0, from, to - from), None, circuit.plan()).unwrap();
    let whole = walked(&circuit, &seen(0, 300), &weights).1;
    let mut statistics = Statistics::new(&circuit);
    for (from, to) in [(0, 101), (101, 300)] {
        let weights = weights.narrow(0, from, to - from);
        let _ = circuit.accumulate(&seen(from, to), &weights, &mut statistics).unwrap();
    }
    assert!(distance(&flat(&statistics.into_counts(&circuit)), &whole) < 1e-5);
}
