//! Random graphs, tables and evidence.

use lvd::circuit::evidence::Evidence;
use lvd::circuit::plan::Plan;
use lvd::structure::hclt;
use lvd::structure::region_graph::{Input, InputKind, Region, RegionGraph};
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::Tables;
use super::reference::Seen;

/// The kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Integers, the same for all trees.
    Shared,
    /// Integers, others for every tree.
    PerTree,
    /// Log-likelihoods of three states.
    Soft,
}

/// What a random case looks like.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub seed: u64,
    pub trees: usize,
    pub variables: usize,
    /// Regions without input, per tree.
    pub bare: usize,
    /// All regions of a tree are children of its first.
    pub star: bool,
    /// Edge and input tables are shared where their shapes allow.
    pub tied: bool,
    pub observed: Observed,
    pub examples: usize,
}

impl Case {
    /// A plain case: no bare regions, no ties, shared integers.
    pub fn new(seed: u64, trees: usize, variables: usize, examples: usize) -> Self {
        Self { seed, trees, variables, bare: 0, star: false, tied: false, observed: Observed::Shared, examples }
    }

    /// The same with integers instead of soft evidence.
    pub fn hard(self) -> Self {
        let observed = if self.observed == Observed::Soft { Observed::Shared } else { self.observed };
        Self { observed, ..self }
    }

    /// The same with integers that all trees see.
    pub fn shared(self) -> Self {
        Self { observed: Observed::Shared, ..self }
    }

    pub fn is_soft(&self) -> bool {
        self.observed == Observed::Soft
    }

    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }
}

/// Cases of every kind.
pub fn case() -> impl Strategy<Value = Case> {
    let observed = prop_oneof![Just(Observed::Shared), Just(Observed::PerTree), Just(Observed::Soft)];
    let sizes = (1..4usize, 1..13usize, 0..4usize, 1..7usize);
    (any::<u64>(), sizes, any::<bool>(), any::<bool>(), observed).prop_map(
        |(seed, (trees, variables, bare, examples), star, tied, observed)| Case {
            seed,
            trees,
            variables,
            bare,
            star,
            tied,
            observed,
            examples,
        },
    )
}

const STATES: [usize; 4] = [1, 2, 3, 5];

/// A forest in random order: random parents, state counts, gaps in the inputs and ties.
pub fn graph(case: &Case, rng: &mut impl Rng) -> RegionGraph {
    let categories: Vec<usize> = (0..case.variables).map(|_| rng.random_range(1..5)).collect();
    let per_tree = case.variables + case.bare;
    let mut regions: Vec<Region> = Vec::new();
    let mut order: Vec<usize> = (0..case.trees * per_tree).collect();
    order.shuffle(rng);
    for tree in 0..case.trees {
        let mut variables: Vec<Option<usize>> = (0..per_tree).map(|v| (v < case.variables).then_some(v)).collect();
        variables.shuffle(rng);
        for (i, variable) in variables.into_iter().enumerate() {
            let parent = (i > 0).then(|| tree * per_tree + if case.star { 0 } else { rng.random_range(0..i) });
            let id = regions.len();
            let kind = |v: usize| {
                if case.is_soft() { InputKind::Soft } else { InputKind::Discrete { categories: categories[v] } }
            };
            let input = variable.map(|v| Input { variable: v, kind: kind(v), tie: id });
            let states = if case.is_soft() && input.is_some() { 3 } else { STATES[rng.random_range(0..STATES.len())] };
            regions.push(Region { parent, states, input, tie: id });
        }
    }
    if case.tied {
        tie(&mut regions, rng);
    }
    let mut shuffled = regions.clone();
    for (old, region) in regions.into_iter().enumerate() {
        shuffled[order[old]] = Region { parent: region.parent.map(|p| order[p]), ..region };
    }
    RegionGraph::new(shuffled, case.variables).expect("a valid graph")
}

/// HCLTs with random parents and numbers of values: one region per variable, in the order of the variables.
pub fn forest(case: &Case, rng: &mut impl Rng) -> RegionGraph {
    let categories: Vec<usize> = (0..case.variables).map(|_| rng.random_range(1..5)).collect();
    let mut tree = || {
        let mut order: Vec<usize> = (0..case.variables).collect();
        order.shuffle(rng);
        let mut parents = vec![None; case.variables];
        for i in 1..order.len() {
            parents[order[i]] = Some(order[rng.random_range(0..i)]);
        }
        parents
    };
    let trees: Vec<_> = (0..case.trees).map(|_| tree()).collect();
    hclt::forest(&trees, STATES[rng.random_range(0..STATES.len())], &categories).expect("valid trees")
}

/// Let regions (no roots) share tables with earlier ones of the same shape, at any depth and in any tree.
fn tie(regions: &mut [Region], rng: &mut impl Rng) {
    for r in 1..regions.len() {
        let other = rng.random_range(0..r);
        let shape = |i: usize| regions[i].parent.map(|p| (regions[p].states, regions[i].states));
        if shape(r).is_some() && shape(r) == shape(other) {
            regions[r].tie = regions[other].tie;
        }
        let other = rng.random_range(0..r);
        let theirs = regions[other].input.filter(|_| regions[other].states == regions[r].states);
        if let (Some(mine), Some(theirs)) = (&mut regions[r].input, theirs)
            && mine.kind == theirs.kind
        {
            mine.tie = theirs.tie;
        }
    }
}

/// Tables whose rows are drawn with weights `exp(sharpness * normal-like)`.
pub fn tables(graph: &RegionGraph, sharpness: f64, rng: &mut impl Rng) -> Tables {
    let mut tables = Tables::zeros(graph);
    let mut draw = || (sharpness * (rng.random::<f64>() + rng.random::<f64>() + rng.random::<f64>() - 1.5)).exp();
    for entry in tables.edges.values_mut().chain(tables.inputs.values_mut()).flatten().flatten() {
        *entry = draw();
    }
    super::em::normalise(&tables, super::em::Prior { edges: 0.0, inputs: 0.0 }, 1.0)
}

/// Evidence `[tree][example][variable]`; a quarter of the values is missing.
pub fn seen(case: &Case, graph: &RegionGraph, rng: &mut impl Rng) -> Vec<Vec<Vec<Seen>>> {
    let categories = graph.categories();
    let mut one = |v: usize| match categories[v] {
        _ if case.is_soft() => {
            let offset = rng.random_range(-300.0..300.0);
            Seen::Soft((0..3).map(|_| offset + rng.random_range(-5.0..5.0)).collect())
        }
        _ if rng.random_bool(0.25) => Seen::Missing,
        categories => Seen::Value(rng.random_range(0..categories)),
    };
    let mut example = || (0..case.variables).map(&mut one).collect::<Vec<_>>();
    let mut batch = || (0..case.examples).map(|_| example()).collect::<Vec<_>>();
    if case.observed == Observed::PerTree {
        (0..case.trees).map(|_| batch()).collect()
    } else {
        vec![batch(); case.trees]
    }
}

/// The same for the engine.
pub fn evidence(case: &Case, seen: &[Vec<Vec<Seen>>], plan: &Plan) -> Evidence {
    let shape = [seen.len() as i64, case.examples as i64, case.variables as i64];
    let all = seen.iter().flatten().flatten();
    if case.is_soft() {
        let values: Vec<f64> =
            all.flat_map(|s| if let Seen::Soft(v) = s { v.clone() } else { unreachable!("soft") }).collect();
        let values = Tensor::from_slice(&values).view([shape[0], shape[1], shape[2], 3]);
        return Evidence::soft(&values.get(0), plan).expect("soft evidence");
    }
    let values: Vec<i64> = all.clone().map(|s| if let Seen::Value(x) = s { *x as i64 } else { -9 }).collect();
    let observed: Vec<bool> = all.map(|s| matches!(s, Seen::Value(_))).collect();
    let (values, observed) = (Tensor::from_slice(&values).view(shape), Tensor::from_slice(&observed).view(shape));
    if case.observed == Observed::PerTree {
        Evidence::per_tree(&values, Some(&observed), plan)
    } else {
        Evidence::shared(&values.get(0), Some(&observed.get(0)), plan)
    }
    .expect("evidence of the graph")
}

/// Weights `[B, T]` in `[0, 2)`.
pub fn weights(case: &Case, rng: &mut impl Rng) -> Vec<Vec<f64>> {
    (0..case.examples).map(|_| (0..case.trees).map(|_| rng.random_range(0.0..2.0)).collect()).collect()
}

/// A circuit with the tables.
pub fn circuit(graph: &RegionGraph, tables: &Tables, kind: Kind) -> lvd::circuit::Circuit {
    let mut circuit = lvd::circuit::Circuit::uniform(graph.clone(), kind, Device::Cpu);
    super::install(&mut circuit, tables);
    circuit
}
