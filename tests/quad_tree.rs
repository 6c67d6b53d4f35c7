//! Quad trees by the engine of the hidden Chow-Liu trees: regions that observe nothing, against loops over all hidden states.

mod oracle;

use std::collections::BTreeMap;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::tree_tables::TreeTables;
use lvd::em::EmConfig;
use lvd::latent_tree::LatentTreeConfig;
use lvd::patch::config::{HcltConfig, Start};
use lvd::patch::hclt::{HcltPatches, start};
use lvd::patch::{Grow, Infer, Learn, Part, PatchEvidence};
use lvd::random::rng;
use lvd::refusal::Problems;
use lvd::run::checkpoint::Named;
use lvd::structure::config::TreeConfig;
use lvd::structure::hclt;
use lvd::structure::quad_tree::quad_tree;
use oracle::{distance, numbers};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const STATES: usize = 2;
const VALUES: usize = 3;

/// A quad tree of 2 x 3 pixels with tables at random: nine regions.
fn circuit(kind: Kind) -> Circuit {
    let graph = hclt::forest(&[quad_tree(2, 3, 1)], STATES, &[VALUES; 6]).unwrap();
    let mut circuit = Circuit::uniform(graph, kind, Device::Cpu);
    circuit.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(1, "tables", 0)));
    circuit
}

/// All pictures of six pixels with three values: int64 `[729, 6]`.
fn worlds() -> Tensor {
    let world = |i: usize| (0..6u32).map(move |v| (i / VALUES.pow(v) % VALUES) as i64);
    let all: Vec<i64> = (0..VALUES.pow(6)).flat_map(world).collect();
    Tensor::from_slice(&all).view([-1, 6])
}

/// p(picture) by the sum over the states of all nine regions. Their parents are written out here:
///
/// ```text
/// 0 1 | 2      0, 1, 3, 4 are below 6; 2 and 5 below 7; 6 and 7 below 8
/// 3 4 | 5
/// ```
fn enumerated(tables: &TreeTables, picture: &[i64]) -> f64 {
    const ABOVE: [usize; 8] = [6, 6, 7, 6, 6, 7, 8, 8];
    let mut total = 0.0;
    for states in 0..STATES.pow(9) {
        let state = |r: usize| (states / STATES.pow(r as u32) % STATES) as i64;
        let mut p = tables.edges[8].double_value(&[0, state(8)]);
        for (r, &above) in ABOVE.iter().enumerate() {
            p *= tables.edges[r].double_value(&[state(above), state(r)]);
        }
        for (v, &value) in picture.iter().enumerate() {
            p *= tables.inputs[v].as_ref().unwrap().double_value(&[value, state(v)]);
        }
        total += p;
    }
    total
}

#[test]
fn the_likelihood_is_the_sum_over_all_hidden_states() {
    let circuit = circuit(Kind::Double);
    let (worlds, tables) = (worlds(), circuit.tree_tables(0));
    assert_eq!(tables.inputs.iter().filter(|input| input.is_none()).count(), 3);
    let found = circuit.log_likelihood(&Evidence::shared(&worlds, None, circuit.plan()).unwrap()).unwrap();
    assert!((found.exp().sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-10);
    for row in (0..729).step_by(61) {
        let picture: Vec<i64> = Vec::try_from(worlds.get(row)).unwrap();
        let expected = enumerated(&tables, &picture);
        assert!((found.double_value(&[row, 0]).exp() - expected).abs() < 1e-12, "{picture:?}");
    }
}

#[test]
fn samples_come_as_often_as_their_probability_says() {
    let circuit = circuit(Kind::Double);
    let probability =
        circuit.log_likelihood(&Evidence::shared(&worlds(), None, circuit.plan()).unwrap()).unwrap().exp();
    let drawn = circuit.sample(0, 40_000, None, &mut rng(2, "samples", 0));
    let places = Tensor::from_slice(&[1i64, 3, 9, 27, 81, 243]);
    let counts = (drawn * places).sum_dim_intlist(1, false, Kind::Int64).bincount(None::<&Tensor>, 729);
    let expected = probability.squeeze_dim(1) * 40_000.0;
    let differences = (counts.to_kind(Kind::Double) - &expected).square() / expected;
    // Chi-square with 728 degrees of freedom: a deviation of 38.
    let found = differences.sum(Kind::Double).double_value(&[]);
    assert!((found - 728.0).abs() < 5.0 * 38.0, "{found}");
}

/// Pictures whose pixels are 0 four times of five.
fn digits(n: i64, pixels: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed, "digits", 0);
    let value = |_| if rng.random_bool(0.8) { 0 } else { rng.random_range(0..17i64) };
    Tensor::from_slice(&(0..n * pixels).map(value).collect::<Vec<_>>()).view([n, pixels])
}

#[test]
fn the_walk_agrees_with_the_passes_at_widths_of_all_kinds() {
    for (states, channels) in [(1, 1), (8, 3), (17, 1), (64, 3), (128, 1)] {
        let graph = hclt::forest(&[quad_tree(7, 5, channels)], states, &vec![17; 35 * channels]).unwrap();
        let mut single = Circuit::uniform(graph.clone(), Kind::Float, Device::Cpu);
        single.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(3, "tables", 0)));
        let mut double = Circuit::uniform(graph, Kind::Double, Device::Cpu);
        double.update(|parameters, _| parameters.assign(single.parameters()));
        let values = digits(150, 35 * channels as i64, 4);
        let observed = digits(150, 35 * channels as i64, 5).lt(9);
        let evidence = Evidence::shared(&values, Some(&observed), single.plan()).unwrap();
        let weights = Tensor::linspace(0.0, 2.0, 150, (Kind::Float, Device::Cpu)).view([150, 1]);
        let messages = double.forward(&evidence, true).unwrap();
        let [mut walked, mut passed] = [Statistics::new(&single), Statistics::new(&double)];
        let _ = double.flows(&messages, &weights, &mut passed);
        let found = single.accumulate(&evidence, &weights, &mut walked).unwrap();
        let rest = |all: &Tensor| numbers(&all.narrow(0, 1, 149));
        assert!(distance(&rest(&found), &rest(&messages.log_likelihood)) < 1e-5, "{states}");
        let (walked, passed) = (walked.into_counts(&single), passed.into_counts(&double));
        for (a, b) in walked.edges.iter().zip(&passed.edges).chain(walked.inputs.iter().zip(&passed.inputs)) {
            assert!(distance(&numbers(a), &numbers(b)) < 1e-4, "{states} states, {channels} channels");
        }
    }
}

/// Patches of 3 x 3 values that share a hidden coin: each says little of it, all together much.
fn coins(n: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed, "coins", 0);
    let rows = (0..n).flat_map(|_| {
        let coin = rng.random_range(0..2i64);
        (0..9).map(|_| 6 * coin + rng.random_range(0..13)).collect::<Vec<_>>()
    });
    Tensor::from_slice(&rows.collect::<Vec<_>>()).view([n, 9])
}

const RANGES: [(i64, i64); 9] = [(0, 18); 9];

fn config() -> HcltConfig {
    HcltConfig { states: 4, tree: TreeConfig::QuadTree {}, ..HcltConfig::default() }
}

fn model(members: &[Tensor], from: Start) -> HcltPatches {
    start::from_members(&config(), members, &RANGES, from, Device::Cpu, &mut rng(3, "test", 0)).unwrap()
}

fn complete(patches: &Tensor, model: &HcltPatches) -> PatchEvidence {
    model.complete(patches)
}

fn mean(model: &HcltPatches, patches: &Tensor) -> f64 {
    model.log_likelihood(&complete(patches, model)).unwrap().mean(Kind::Double).double_value(&[])
}

#[test]
fn tables_counted_with_clusters_as_states_know_of_the_coin_and_em_goes_on_from_there() {
    let (train, test) = (coins(4000, 5), coins(1000, 6));
    let mut random = model(&[train.copy()], Start::Random);
    random.randomise(&mut rng(4, "test", 0));
    let [quantile, mut around] = [Start::Quantile, Start::Neighbourhoods].map(|from| model(&[train.copy()], from));
    let [none, some, most] = [&random, &quantile, &around].map(|model| mean(model, &test));
    assert!(most > none + 0.5 && most > some, "{none} {some} {most}");
    let em = EmConfig { batch: 0, ..EmConfig::default() };
    around.begin(&em, 4000.0);
    let before = mean(&around, &train);
    for _ in 0..3 {
        around.accumulate(&complete(&train, &around), &Tensor::ones([4000, 1], (Kind::Double, Device::Cpu))).unwrap();
        around.step(1.0);
    }
    assert!(mean(&around, &train) > before);
}

#[test]
fn files_keep_regions_that_observe_nothing_and_heads_and_copies_work_with_them() {
    let members = [coins(300, 7), coins(300, 8)];
    let patches = coins(40, 9);
    let mut model = model(&members, Start::Quantile);
    let before = model.log_likelihood(&complete(&patches, &model)).unwrap();
    let tensors: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
    assert_eq!(tensors["trees"].size(), [2, 13]);
    assert_eq!(tensors["edges"].size(), [2, 13, 4, 4]);
    assert_eq!(tensors["inputs"].size(), [2, 9, 19, 4]);
    let again = HcltPatches::from_tensors(&config(), &RANGES, &Named::new(&tensors)).unwrap();
    assert_eq!(again.log_likelihood(&complete(&patches, &again)).unwrap(), before);
    let part = |cluster| Part { model: &model, cluster, share: 0.5 };
    let gathered = model.gather(&[part(1), part(0)]).unwrap();
    let turned = gathered.log_likelihood(&gathered.complete(&patches)).unwrap();
    assert!(distance(&numbers(&turned.flip([1i64].as_slice())), &numbers(&before)) < 1e-5);
    let mut random = rng(1, "t", 0);
    let two = model.of_tables(1, &model.with_equal_heads(1, 2), &mut random).unwrap();
    let heads = two.log_likelihood(&complete(&patches, &two)).unwrap();
    assert!(distance(&numbers(&heads.select(1, 1)), &numbers(&before.select(1, 1))) < 1e-5);
    model.reseed(0, 1, &mut random).unwrap();
    assert_ne!(model.log_likelihood(&complete(&patches, &model)).unwrap().select(1, 1), before.select(1, 1));
    let few = BTreeMap::from([("trees".to_owned(), Tensor::from_slice(&[-1i64, 0]).view([1, 2]))]);
    let message = HcltPatches::from_tensors(&config(), &RANGES, &Named::new(&few)).err().unwrap().to_string();
    assert_eq!(
        message,
        "tensor trees of the checkpoint has 2 regions a tree, expected one for each of 9 variables at least"
    );
}

#[test]
fn other_shapes_than_squares_are_refused() {
    let patches = Tensor::zeros([5, 6], (Kind::Int64, Device::Cpu));
    let made =
        start::from_members(&config(), &[patches], &[(0, 1); 6], Start::Quantile, Device::Cpu, &mut rng(1, "t", 0));
    assert_eq!(
        made.err().unwrap().to_string(),
        "a quad tree divides a square of pixels with 1 or 3 channels, the data have 6 variables"
    );
}

#[test]
fn a_latent_tree_cannot_be_a_quad_tree() {
    let mut problems = Problems::default();
    let config = LatentTreeConfig { tree: TreeConfig::QuadTree {}, ..LatentTreeConfig::default() };
    config.check("distill.tree", &mut problems);
    assert_eq!(
        problems.into_result("x.yaml").unwrap_err().to_string(),
        "x.yaml: 1 problem\n  distill.tree.tree.kind: expected chow_liu or given, found quad_tree: every region of a latent \
         tree is that of a patch"
    );
}
