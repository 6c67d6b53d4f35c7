//! Likelihoods and flows against the reference, enumeration and calculus.

mod oracle;

use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::{Circuit, FLOOR};
use lvd::structure::hclt::{self, Tying};
use lvd::structure::region_graph::{Input, InputKind, Region, RegionGraph};
use oracle::random::{self, Case, Observed};
use oracle::reference::{Reference, Seen};
use oracle::{Matrix, Tables, distance, numbers, read, tensor};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Log-likelihoods `[B][T]`, counts and soft posteriors of the engine.
fn engine(circuit: &Circuit, evidence: &Evidence, weights: &Matrix) -> (Vec<f64>, Tables, Option<Vec<f64>>) {
    let messages = circuit.forward(evidence, true).unwrap();
    let mut statistics = Statistics::new(circuit);
    let posterior = circuit.flows(&messages, &tensor(weights), &mut statistics);
    let counts = statistics.into_counts(circuit);
    (numbers(&messages.log_likelihood), read(circuit, &counts), posterior.map(|p| numbers(&p)))
}

/// Log-likelihoods `[B][T]` and counts of the call that does both, which for float32 and integers walks the trees.
fn walk(circuit: &Circuit, evidence: &Evidence, weights: &Matrix) -> (Vec<f64>, Tables) {
    let mut statistics = Statistics::new(circuit);
    let likelihoods = circuit.accumulate(evidence, &tensor(weights), &mut statistics).unwrap();
    (numbers(&likelihoods), read(circuit, &statistics.into_counts(circuit)))
}

fn agrees(case: &Case, graph: &RegionGraph, kind: Kind, tolerance: f64) {
    let mut rng = case.rng();
    let tables = random::tables(graph, 3.0, &mut rng);
    let seen = random::seen(case, graph, &mut rng);
    let weights = random::weights(case, &mut rng);
    let reference = Reference::new(graph, &tables);
    let mut counts = Tables::zeros(graph);
    let (mut expected, mut posteriors) = (Vec::new(), Vec::new());
    for b in 0..case.examples {
        let mut posterior = vec![vec![0.0; 3]; case.variables];
        for (t, batch) in seen.iter().enumerate() {
            expected.push(reference.log_likelihood(t, &batch[b]));
            reference.add_flows(t, &batch[b], weights[b][t], &mut counts, Some(&mut posterior));
        }
        posteriors.extend(posterior.concat());
    }
    let circuit = random::circuit(graph, &tables, kind);
    let evidence = random::evidence(case, &seen, circuit.plan());
    let (likelihoods, flows, posterior) = engine(&circuit, &evidence, &weights);
    assert!(distance(&likelihoods, &expected) < tolerance, "{likelihoods:?} {expected:?}");
    assert!(distance(&numbers(&circuit.log_likelihood(&evidence).unwrap()), &expected) < tolerance);
    assert!(distance(&flows.flat(), &counts.flat()) < tolerance, "{flows:?} {counts:?}");
    assert_eq!(posterior.is_some(), case.is_soft());
    assert!(posterior.is_none_or(|p| distance(&p, &posteriors) < tolerance));
    let (likelihoods, flows) = walk(&circuit, &evidence, &weights);
    assert!(distance(&likelihoods, &expected) < tolerance);
    assert!(distance(&flows.flat(), &counts.flat()) < tolerance, "{flows:?} {counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_circuits_agree_with_the_reference(case in random::case()) {
        let graph = random::graph(&case, &mut case.rng());
        agrees(&case, &graph, Kind::Double, 1e-10);
        agrees(&case, &graph, Kind::Float, 1e-4);
    }

    #[test]
    fn latent_trees_agree_with_the_reference(seed in any::<u64>(), rows in 1..4usize, columns in 1..4usize,
        hidden in prop::option::of(1..5usize), tied in any::<bool>()) {
        let positions = rows * columns;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let parents = (0..positions).map(|i| (i > 0).then(|| rng.random_range(0..i))).collect();
        let tying = if tied { Tying::Displacement } else { Tying::Untied };
        let graph = hclt::latent_tree(&parents, columns, 3, hidden, tying).unwrap();
        let case = Case { observed: Observed::Soft, ..Case::new(seed, 1, positions, 3) };
        agrees(&case, &graph, Kind::Double, 1e-10);
        agrees(&case, &graph, Kind::Float, 1e-4);
    }

    #[test]
    fn flows_are_theta_times_the_gradient(case in random::case()) {
        let case = case.shared();
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let tables = random::tables(&graph, 2.0, &mut rng);
        let seen = random::seen(&case, &graph, &mut rng);
        let weights = random::weights(&case, &mut rng);
        let circuit = random::circuit(&graph, &tables, Kind::Double);
        let (_, flows, _) = engine(&circuit, &random::evidence(&case, &seen, circuit.plan()), &weights);
        let expected = theta_times_gradient(&graph, &tables, &seen, &weights);
        prop_assert!(distance(&flows.flat(), &expected.flat()) < 1e-9);
    }

    #[test]
    fn small_worlds_sum_up(seed in any::<u64>(), trees in 1..3usize, variables in 1..4usize, bare in 0..2usize,
        tied in any::<bool>()) {
        let case = Case { bare, tied, ..Case::new(seed, trees, variables, 1) };
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let tables = random::tables(&graph, 2.0, &mut rng);
        let circuit = random::circuit(&graph, &tables, Kind::Double);
        let worlds = Worlds::new(&graph, &tables);
        let gaps = &random::seen(&case, &graph, &mut rng)[0][0];
        for tree in 0..trees {
            let all: f64 = worlds.values().iter().map(|x| likelihood(&circuit, x)[tree].exp()).sum();
            prop_assert!((all - 1.0).abs() < 1e-12, "all worlds have probability {all}");
        }
        let (likelihoods, flows, _) = engine(
            &circuit, &random::evidence(&case, &vec![vec![gaps.clone()]; trees], circuit.plan()), &vec![vec![1.0; trees]]);
        let mut counts = Tables::zeros(&graph);
        for (tree, found) in likelihoods.iter().enumerate() {
            let total = worlds.count(tree, gaps, &mut counts);
            prop_assert!((found.exp() / total - 1.0).abs() < 1e-11, "{} {total}", found.exp());
        }
        prop_assert!(distance(&flows.flat(), &counts.flat()) < 1e-11);
    }

    #[test]
    fn nothing_seen_is_exactly_certain(case in random::case(), single in any::<bool>()) {
        let case = case.hard();
        let mut rng = case.rng();
        let graph = random::graph(&case, &mut rng);
        let tables = random::tables(&graph, 3.0, &mut rng);
        let circuit = random::circuit(&graph, &tables, if single { Kind::Float } else { Kind::Double });
        let seen = vec![vec![vec![Seen::Missing; case.variables]; case.examples]; case.trees];
        let found = circuit.log_likelihood(&random::evidence(&case, &seen, circuit.plan())).unwrap();
        prop_assert!(numbers(&found).iter().all(|&l| l == 0.0));
    }
}

fn likelihood(circuit: &Circuit, values: &[usize]) -> Vec<f64> {
    let values: Vec<i64> = values.iter().map(|&x| x as i64).collect();
    let evidence = Evidence::shared(&Tensor::from_slice(&values).unsqueeze(0), None, circuit.plan()).unwrap();
    numbers(&circuit.log_likelihood(&evidence).unwrap())
}

/// A chain of `length` regions after a root with `fan` more children, one variable each.
fn broom(fan: usize, length: usize, states: usize, categories: usize) -> RegionGraph {
    let region = |id: usize| {
        let parent = (id > 0).then(|| if id <= fan + 1 { 0 } else { id - 1 });
        let input = Input { variable: id, kind: InputKind::Discrete { categories }, tie: id };
        Region { parent, states, input: Some(input), tie: id }
    };
    RegionGraph::new((0..=fan + length).map(region).collect(), 1 + fan + length).unwrap()
}

#[test]
fn floats_survive_extreme_tables_and_fifty_children() {
    let graph = broom(50, 733, 16, 24);
    let case = Case::new(5, 1, 784, 6);
    let mut rng = case.rng();
    let mut tables = random::tables(&graph, 20.0, &mut rng);
    for p in tables.edges.values_mut().chain(tables.inputs.values_mut()).flatten().flatten() {
        *p = p.max(FLOOR);
    }
    let seen = random::seen(&case, &graph, &mut rng);
    let weights = vec![vec![1.0]; case.examples];
    let run = |kind| {
        let circuit = random::circuit(&graph, &tables, kind);
        let evidence = random::evidence(&case, &seen, circuit.plan());
        let (likelihoods, flows, _) = engine(&circuit, &evidence, &weights);
        [(likelihoods, flows), walk(&circuit, &evidence, &weights)]
    };
    let [(double, exact), _] = run(Kind::Double);
    let reference = Reference::new(&graph, &tables);
    for (single, flows) in run(Kind::Float) {
        for (b, (s, d)) in single.iter().zip(&double).enumerate() {
            assert!(s.is_finite() && (s / d - 1.0).abs() < 1e-3, "{s} {d}");
            assert!((reference.log_likelihood(0, &seen[0][b]) / d - 1.0).abs() < 1e-10);
        }
        assert!(distance(&flows.flat(), &exact.flat()) < 1e-3);
    }
}

#[test]
fn impossible_evidence_has_no_likelihood_and_no_flows() {
    for kind in [Kind::Float, Kind::Double] {
        let graph = broom(4, 6, 3, 3);
        let case = Case::new(2, 1, 11, 40);
        let mut rng = case.rng();
        let mut tables = random::tables(&graph, 1.0, &mut rng);
        // Value 2 of variable 7 never happens, state 1 of region 3 neither, and the root is always in state 0.
        tables.inputs.get_mut(&7).unwrap()[2] = vec![0.0; 3];
        tables.edges.get_mut(&3).unwrap().iter_mut().for_each(|row| row[1] = 0.0);
        tables.edges.insert(0, vec![vec![1.0, 0.0, 0.0]]);
        // Value 0 of variable 0 needs state 1 or 2 of the root: the zero is in the root's own table.
        tables.inputs.get_mut(&0).unwrap()[0][0] = 0.0;
        let mut seen = random::seen(&case, &graph, &mut rng);
        let circuit = random::circuit(&graph, &tables, kind);
        let reference = Reference::new(&graph, &tables);
        let weights = vec![vec![10.0]; case.examples];
        let both = |seen: &[Vec<Vec<Seen>>]| {
            let evidence = random::evidence(&case, seen, circuit.plan());
            let (likelihoods, flows, _) = engine(&circuit, &evidence, &weights);
            [(likelihoods, flows), walk(&circuit, &evidence, &weights)]
        };
        for (found, flows) in both(&seen) {
            let mut counts = Tables::zeros(&graph);
            for (b, found) in found.iter().enumerate() {
                let expected = reference.log_likelihood(0, &seen[0][b]);
                let impossible = seen[0][b][7] == Seen::Value(2) || seen[0][b][0] == Seen::Value(0);
                assert_eq!(*found == f64::NEG_INFINITY, impossible);
                assert!(impossible || (found - expected).abs() < 1e-4);
                reference.add_flows(0, &seen[0][b], 10.0, &mut counts, None);
            }
            assert!(distance(&flows.flat(), &counts.flat()) < 1e-4);
        }
        seen[0].iter_mut().for_each(|x| x[7] = Seen::Value(2));
        for (found, flows) in both(&seen) {
            assert!(found.iter().all(|&l| l == f64::NEG_INFINITY));
            assert!(flows.flat().iter().all(|&f| f == 0.0), "{flows:?}");
        }
    }
}

#[test]
fn a_hard_zero_under_a_huge_ratio_stays_zero() {
    // The root must be in state 1, which every leaf finds 1e12 times less likely than state 0.
    let input = |v| Some(Input { variable: v, kind: InputKind::Discrete { categories: 2 }, tie: v });
    let leaf = |v| Region { parent: Some(0), states: 2, input: input(v), tie: v + 1 };
    let root = Region { parent: None, states: 2, input: None, tie: 0 };
    let graph = RegionGraph::new(vec![root, leaf(0), leaf(1), leaf(2)], 3).unwrap();
    let mut tables = Tables::zeros(&graph);
    tables.edges.insert(0, vec![vec![0.0, 1.0]]);
    for v in 0..3 {
        tables.edges.insert(v + 1, vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
        tables.inputs.insert(v, vec![vec![1.0, 1e-12], vec![0.0, 1.0 - 1e-12]]);
    }
    let circuit = random::circuit(&graph, &tables, Kind::Float);
    let evidence =
        Evidence::shared(&Tensor::zeros([500, 3], (Kind::Int64, Device::Cpu)), None, circuit.plan()).unwrap();
    let weights = vec![vec![1.0]; 500];
    let (found, flows, _) = engine(&circuit, &evidence, &weights);
    for (found, flows) in [(found, flows), walk(&circuit, &evidence, &weights)] {
        assert!(distance(&found, &[3.0 * 1e-12f64.ln(); 500]) < 1e-4);
        assert!(distance(&flows.edges[&0].concat(), &[0.0, 500.0]) < 1e-4);
    }
}

#[test]
fn impossible_soft_evidence_has_no_likelihood_and_no_flows() {
    let graph = hclt::latent_tree(&vec![None, Some(0), Some(0)], 3, 2, None, Tying::Untied).unwrap();
    let circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
    let never = f64::NEG_INFINITY;
    let values = Tensor::from_slice(&[0.0, -1.0, never, never, 0.0, never, 3.0, never, -2.0, 0.0, 0.0, 0.0]);
    let evidence = Evidence::soft(&values.view([2, 3, 2]), circuit.plan()).unwrap();
    let (found, flows, posterior) = engine(&circuit, &evidence, &vec![vec![1.0], vec![1.0]]);
    assert!(found[0].is_infinite() && found[0] < 0.0);
    assert!((found[1] - (0.25 * 3f64.exp() * (1.0 + (-2f64).exp())).ln()).abs() < 1e-5);
    assert!(flows.flat().iter().chain(posterior.iter().flatten()).all(|f| f.is_finite()));
    assert_eq!(posterior.unwrap()[..6], [0.0; 6]);
}

#[test]
fn evidence_that_does_not_fit_is_refused() {
    let circuit = Circuit::uniform(broom(1, 1, 2, 3), Kind::Float, Device::Cpu);
    let error = |e: anyhow::Result<Evidence>| e.unwrap_err().to_string();
    let values = |shape: &[i64]| Tensor::full(shape, 4, (Kind::Int64, Device::Cpu));
    assert_eq!(
        error(Evidence::shared(&values(&[1, 3]), None, circuit.plan())),
        "the evidence holds a value that is 2 too large for its variable"
    );
    assert_eq!(
        error(Evidence::shared(&values(&[1, 4]), None, circuit.plan())),
        "the evidence has 4 variables, the circuit has 3"
    );
    assert_eq!(
        error(Evidence::per_tree(&values(&[2, 1, 3]), None, circuit.plan())),
        "the evidence is for 2 trees, the circuit has 1"
    );
    let soft = Evidence::soft(&Tensor::zeros([1, 3, 2], (Kind::Float, Device::Cpu)), circuit.plan()).unwrap();
    assert_eq!(
        circuit.log_likelihood(&soft).unwrap_err().to_string(),
        "the circuit reads another kind of evidence than it is given"
    );
}

/// Brute force over all values and all hidden states.
struct Worlds<'a> {
    graph: &'a RegionGraph,
    tables: &'a Tables,
}

impl<'a> Worlds<'a> {
    fn new(graph: &'a RegionGraph, tables: &'a Tables) -> Self {
        Self { graph, tables }
    }

    fn values(&self) -> Vec<Vec<usize>> {
        product(&self.graph.categories())
    }

    /// Total probability of the worlds that agree with `seen`, and their posterior counts.
    fn count(&self, tree: usize, seen: &[Seen], counts: &mut Tables) -> f64 {
        let regions = self.graph.regions();
        let mine: Vec<usize> = (0..regions.len()).filter(|&r| self.graph.trees()[r] == tree).collect();
        let states = product(&mine.iter().map(|&r| regions[r].states).collect::<Vec<_>>());
        let fits = |x: &&Vec<usize>| x.iter().zip(seen).all(|(x, s)| !matches!(s, Seen::Value(y) if y != x));
        let (values, mut total, mut sums) = (self.values(), 0.0, Tables::zeros(self.graph));
        for (x, z) in values.iter().filter(fits).flat_map(|x| states.iter().map(move |z| (x, z))) {
            let state = |r: usize| z[mine.iter().position(|&m| m == r).unwrap()];
            let above = |r: usize| regions[r].parent.map_or(0, state);
            let mut p = 1.0;
            for &r in &mine {
                p *= self.tables.edges[&regions[r].tie][above(r)][state(r)];
                p *= regions[r].input.map_or(1.0, |i| self.tables.inputs[&i.tie][x[i.variable]][state(r)]);
            }
            total += p;
            for &r in &mine {
                sums.edges.get_mut(&regions[r].tie).unwrap()[above(r)][state(r)] += p;
                if let Some(i) = regions[r].input.filter(|i| seen[i.variable] != Seen::Missing) {
                    sums.inputs.get_mut(&i.tie).unwrap()[x[i.variable]][state(r)] += p;
                }
            }
        }
        *counts = counts.zip(&sums, |old, sum| old + sum / total);
        total
    }
}

/// All tuples with entry i below `sizes[i]`.
fn product(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![Vec::new()], |all, &n| {
        all.iter().flat_map(|t| (0..n).map(|x| [t.as_slice(), &[x]].concat())).collect()
    })
}

/// `theta * d (sum of weights times log p) / d theta` of a log-space circuit differentiated by autograd.
fn theta_times_gradient(graph: &RegionGraph, tables: &Tables, seen: &[Vec<Vec<Seen>>], weights: &Matrix) -> Tables {
    let leaves = |m: &Matrix| tensor(m).set_requires_grad(true);
    let edges: std::collections::BTreeMap<_, _> = tables.edges.iter().map(|(tie, m)| (*tie, leaves(m))).collect();
    let inputs: std::collections::BTreeMap<_, _> = tables.inputs.iter().map(|(tie, m)| (*tie, leaves(m))).collect();
    let mut deepest_first: Vec<usize> = (0..graph.regions().len()).collect();
    deepest_first.sort_by_key(|&r| std::cmp::Reverse(graph.depths()[r]));
    let mut total = Tensor::zeros([], (Kind::Double, Device::Cpu));
    for (b, weights) in weights.iter().enumerate() {
        let mut messages: Vec<Tensor> =
            graph.regions().iter().map(|r| Tensor::zeros([r.states as i64], (Kind::Double, Device::Cpu))).collect();
        for &r in &deepest_first {
            let region = &graph.regions()[r];
            let tree = graph.trees()[r];
            if let Some(input) = region.input
                && let Seen::Value(x) = seen[tree][b][input.variable]
            {
                messages[r] = &messages[r] + inputs[&input.tie].get(x as i64).log();
            }
            let sums = (edges[&region.tie].log() + &messages[r]).logsumexp(-1, false);
            match region.parent {
                Some(p) => messages[p] = &messages[p] + sums,
                None => total += sums.get(0) * weights[tree],
            }
        }
    }
    total.backward();
    let gradient = |(tie, leaf): (&usize, &Tensor)| {
        let gradient = leaf.grad();
        let flow = if gradient.defined() { numbers(&(gradient * leaf.detach())) } else { vec![0.0; leaf.numel()] };
        (*tie, flow.chunks(leaf.size()[1] as usize).map(<[f64]>::to_vec).collect())
    };
    Tables { edges: edges.iter().map(gradient).collect(), inputs: inputs.iter().map(gradient).collect() }
}
