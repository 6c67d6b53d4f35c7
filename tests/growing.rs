//! Growing: heads, pruning and growing of circuits against single trees and enumeration; gains against the definition.

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::grow::Growth;
use lvd::circuit::parameters::Parameters;
use lvd::circuit::tree_tables::TreeTables;
use lvd::distill::growing::config::GainGrowing;
use lvd::distill::growing::proposal::{HeldOut, Present, Proposal};
use lvd::em::schedule::Schedule;
use lvd::em::{self, EmConfig, InputFamily, Learner, Rule};
use lvd::patch::config::{GaussianConfig, HcltConfig, Start};
use lvd::patch::hclt::HcltPatches;
use lvd::patch::hclt::start;
use lvd::patch::{Grow, Infer, Part, PatchModel, Reading, gaussian};
use lvd::random::rng;
use lvd::run::checkpoint::Named;
use lvd::structure::config::TreeConfig;
use lvd::structure::hclt;
use tch::{Device, Kind, Tensor};

const PARENTS: [Option<usize>; 4] = [Some(1), None, Some(1), Some(2)];
const CATEGORIES: [usize; 4] = [3, 2, 3, 2];
const STATES: usize = 3;

fn circuit(states: usize, heads: usize) -> Circuit {
    let graph = hclt::forest(&[PARENTS.to_vec()], states, &CATEGORIES).unwrap().with_heads(heads);
    Circuit::uniform(graph, Kind::Double, Device::Cpu)
}

fn random(heads: usize, seed: u64) -> Circuit {
    let mut circuit = circuit(STATES, heads);
    circuit.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(seed, "test", 0)));
    circuit
}

fn with(tables: &TreeTables) -> Circuit {
    let (heads, states) = tables.edges[1].size2().unwrap();
    let mut circuit = circuit(states as usize, heads as usize);
    circuit.set_tree_tables(0, tables, 0.0, &mut rng(0, "no noise", 0));
    circuit
}

/// All 36 worlds, `[36, 4]`.
fn worlds() -> Tensor {
    let rows = (0..36i64).flat_map(|w| [w % 3, w / 3 % 2, w / 6 % 3, w / 18]);
    Tensor::from_slice(&rows.collect::<Vec<_>>()).view([36, 4])
}

/// log p of every world and head, `[36, heads]`.
fn all(circuit: &Circuit) -> Tensor {
    circuit.log_likelihood(&Evidence::shared(&worlds(), None, circuit.plan()).unwrap()).unwrap()
}

fn statistics(circuit: &Circuit, weights: &Tensor) -> Statistics {
    let messages = circuit.forward(&Evidence::shared(&worlds(), None, circuit.plan()).unwrap(), true).unwrap();
    let mut statistics = Statistics::new(circuit);
    let _ = circuit.flows(&messages, weights, &mut statistics);
    statistics
}

fn counts(circuit: &Circuit, weights: &Tensor) -> Parameters {
    statistics(circuit, weights).into_counts(circuit)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

fn sums_to_one(circuit: &Circuit) {
    let total = all(circuit).exp().sum_dim_intlist(0, false, Kind::Double);
    assert!(distance(&total, &total.ones_like()) < 1e-9, "{total:?}");
}

/// The single tree that a head stands for.
fn head(circuit: &Circuit, h: i64) -> Circuit {
    let mut tables = circuit.tree_tables(0);
    tables.edges[1] = tables.edges[1].narrow(0, h, 1);
    with(&tables)
}

#[test]
fn heads_are_trees_that_differ_at_the_root() {
    let many = random(3, 1);
    sums_to_one(&many);
    let likelihood = all(&many);
    let weights = Tensor::rand([36, 3], (Kind::Double, Device::Cpu));
    let mine = many.tree_edges(&counts(&many, &weights), 0);
    let mut below = mine.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
    for h in 0..3 {
        let single = head(&many, h);
        assert!(distance(&likelihood.narrow(1, h, 1), &all(&single)) < 1e-12);
        let own = single.tree_edges(&counts(&single, &weights.narrow(1, h, 1)), 0);
        assert!(distance(&mine[1].narrow(0, h, 1), &own[1]) < 1e-12);
        for v in [0, 2, 3] {
            below[v] += &own[v];
        }
    }
    for v in [0, 2, 3] {
        assert!(distance(&mine[v], &below[v]) < 1e-12);
    }
    let values = Tensor::zeros([2, 4], (Kind::Int64, Device::Cpu));
    let missing = Evidence::shared(&values, Some(&values.eq(1)), many.plan()).unwrap();
    let nothing = many.log_likelihood(&missing).unwrap();
    assert_eq!(nothing, Tensor::zeros([2, 3], (Kind::Double, Device::Cpu)));
}

#[test]
fn a_head_draws_from_its_own_tree() {
    let many = random(2, 7);
    for h in 0..2 {
        let drawn = many.sample(h as usize, 20_000, None, &mut rng(3, "test", 0));
        let world = drawn.select(1, 0) + drawn.select(1, 1) * 3 + drawn.select(1, 2) * 6 + drawn.select(1, 3) * 18;
        let found = world.bincount(None::<Tensor>, 36).to_kind(Kind::Double);
        let expected = all(&many).select(1, h).exp() * 20_000.0;
        let chi2 = ((found - &expected).square() / expected).sum(Kind::Double).double_value(&[]);
        // 35 degrees of freedom: the 99.9 % quantile is 66.6.
        assert!(chi2 < 66.6, "head {h}: {chi2}");
    }
}

#[test]
fn pruning_with_threshold_zero_changes_nothing() {
    let circuit = random(2, 2);
    let flows = circuit.tree_edges(&counts(&circuit, &Tensor::ones([36, 2], (Kind::Double, Device::Cpu))), 0);
    let (before, mut after) = (circuit.tree_tables(0), circuit.tree_tables(0));
    assert_eq!(after.prune(&flows, 0.0), 0);
    assert!(before.edges.iter().zip(&after.edges).all(|(a, b)| a == b));
    assert_eq!(circuit.cut_edges(), 0);
}

#[test]
fn a_pruned_circuit_is_normalised_and_stays_pruned_when_it_learns() {
    let original = random(2, 3);
    let ones = Tensor::ones([36, 2], (Kind::Double, Device::Cpu));
    let flows = original.tree_edges(&counts(&original, &ones), 0);
    let mut tables = original.tree_tables(0);
    // Of the 33 edges of 11 rows more than half carry less than this.
    let cut = tables.prune(&flows, 9.0);
    assert!((10..=22).contains(&cut), "{cut}");
    let rows_kept = tables.edges.iter().all(|t| bool::try_from(t.gt(0.0).any_dim(1, false).all()).unwrap());
    assert!(rows_kept);
    for rule in [Rule::Average, Rule::Decayed, Rule::Anemone { share: 0.4, momentum: 0.9 }] {
        let mut pruned = with(&tables);
        assert_eq!(pruned.cut_edges(), cut);
        sums_to_one(&pruned);
        let config = EmConfig { rule, step: Schedule::Constant { eta: 0.5 }, pseudocount: 1.0, ..EmConfig::default() };
        let marginals = em::uniform_marginals(pruned.plan(), &pruned);
        let mut learner = Learner::new(&config, InputFamily::Categorical, 36.0, &pruned, marginals);
        let before = all(&pruned);
        for _ in 0..3 {
            let seen = statistics(&pruned, &ones);
            learner.step(&mut pruned, seen, 0.5);
        }
        assert!(distance(&before, &all(&pruned)) > 1e-3);
        assert_eq!(pruned.cut_edges(), cut);
        sums_to_one(&pruned);
    }
}

fn growth(noise: f64) -> Growth {
    let doubled = [vec![0i64, 2], vec![1, 2], vec![0, 1], vec![2, 1]];
    Growth { doubled: doubled.iter().map(|d| Tensor::from_slice(d)).collect(), head: 1, cross: 0.2, noise }
}

#[test]
fn growing_without_perturbation_leaves_every_likelihood_as_it_was() {
    let small = random(2, 4);
    let grown = with(&growth(0.0).apply(&small.tree_tables(0), &PARENTS.to_vec(), &mut rng(0, "test", 0)));
    let (before, after) = (all(&small), all(&grown));
    assert_eq!(after.size(), [36, 3]);
    assert!(distance(&before, &after.narrow(1, 0, 2)) < 1e-12);
    assert!(distance(&before.narrow(1, 1, 1), &after.narrow(1, 2, 1)) < 1e-12);
    // The new head uses the new states: the doubled ones swap their shares.
    let root = grown.tree_tables(0).edges[1].copy();
    let share = |h: i64| root.double_value(&[h, 3]) / (root.double_value(&[h, 1]) + root.double_value(&[h, 3]));
    assert!((share(0) - 0.2 / 1.2).abs() < 1e-12 && (share(2) - 1.0 / 1.2).abs() < 1e-12);
}

#[test]
fn growing_keeps_pruned_edges_cut_and_normalisation_under_noise() {
    let small = random(2, 5);
    let ones = Tensor::ones([36, 2], (Kind::Double, Device::Cpu));
    let mut tables = small.tree_tables(0);
    let cut = tables.prune(&small.tree_edges(&counts(&small, &ones), 0), 4.0);
    assert!(cut > 0);
    let grown = with(&growth(0.2).apply(&tables, &PARENTS.to_vec(), &mut rng(0, "test", 0)));
    sums_to_one(&grown);
    let zeros = |table: &Tensor| table.eq(0.0);
    for (new, old) in grown.tree_tables(0).edges.iter().zip(&tables.edges) {
        let (rows, columns) = old.size2().unwrap();
        assert_eq!(zeros(&new.narrow(0, 0, rows).narrow(1, 0, columns)), zeros(old));
    }
    assert!(distance(&all(&with(&tables)), &all(&grown).narrow(1, 0, 2)) > 1e-3);
}

/// Patches of four values in 0..16 around several centres, `[n, 4]`.
fn blobs(n: i64, centres: &[i64], seed: u64) -> Tensor {
    use rand::RngExt;
    let mut rng = rng(seed, "blobs", 0);
    let rows = (0..n).flat_map(|i| {
        let centre = centres[i as usize % centres.len()];
        (0..4).map(|_| centre + rng.random_range(0..4i64)).collect::<Vec<_>>()
    });
    Tensor::from_slice(&rows.collect::<Vec<_>>()).view([n, 4])
}

const RANGES: [(i64, i64); 4] = [(0, 15); 4];

fn trees(members: &[Tensor]) -> Box<dyn PatchModel> {
    let parents = PARENTS.to_vec();
    let config = HcltConfig { states: 2, tree: TreeConfig::Given { parents }, ..HcltConfig::default() };
    Box::new(start::from_members(&config, members, &RANGES, Start::Quantile, Device::Cpu, &mut rng(1, "t", 0)).unwrap())
}

fn gaussians(members: &[Tensor]) -> Box<dyn PatchModel> {
    let config = GaussianConfig { prior_strength: 5.0, ..GaussianConfig::default() };
    let members: Vec<Tensor> = members.iter().map(|m| m.to_kind(Kind::Float) + 0.5).collect();
    Box::new(gaussian::start::from_members(&config, &members, &RANGES, Device::Cpu).unwrap())
}

/// Both families on two clusters, the first of which is two blobs, with patches as they learn from them.
fn families() -> [(Box<dyn PatchModel>, Tensor, Tensor); 2] {
    let members = [blobs(400, &[0, 6], 1), blobs(200, &[12], 2)];
    let held_out = blobs(300, &[0, 6, 12], 3);
    let float = |t: &Tensor| t.to_kind(Kind::Float) + 0.5;
    [(trees(&members), members[0].copy(), held_out.copy()), (gaussians(&members), float(&members[0]), float(&held_out))]
}

#[test]
fn gathering_copies_clusters_in_the_order_asked_for() {
    for (model, _, patches) in families() {
        let before = model.log_likelihood(&model.complete(&patches)).unwrap();
        let part = |cluster| Part { model: &*model, cluster, share: 0.3 };
        let after =
            model.gather(&[part(1), part(0), part(1)]).unwrap().log_likelihood(&model.complete(&patches)).unwrap();
        let order = Tensor::from_slice(&[1i64, 0, 1]);
        assert!(distance(&before.index_select(1, &order), &after) < 1e-3);
    }
    let [(trees, _, _), (gaussians, _, _)] = families();
    let foreign = [Part { model: &*gaussians, cluster: 0, share: 1.0 }];
    let message = trees.gather(&foreign).err().unwrap().to_string();
    assert_eq!(message, "clusters of different families cannot be joined in one model");
}

#[test]
fn trees_of_several_heads_are_gathered_whole() {
    let members = [blobs(400, &[0, 6], 1), blobs(200, &[12], 2)];
    let patches = blobs(50, &[0, 6, 12], 3);
    let config =
        HcltConfig { states: 2, tree: TreeConfig::Given { parents: PARENTS.to_vec() }, ..HcltConfig::default() };
    let mut rng = rng(1, "t", 0);
    let model = start::from_members(&config, &members, &RANGES, Start::Quantile, Device::Cpu, &mut rng).unwrap();
    let single = model.log_likelihood(&model.complete(&patches)).unwrap();
    let two: Vec<HcltPatches> =
        (0..2).map(|k| model.of_tables(k, &model.with_equal_heads(k, 2), &mut rng).unwrap()).collect();
    let part = |m: usize, cluster| Part { model: &two[m], cluster, share: 0.25 };
    let joined = model.gather(&[part(1, 0), part(1, 1), part(0, 0), part(0, 1)]).unwrap();
    let order = Tensor::from_slice(&[1i64, 1, 0, 0]);
    assert!(
        distance(&single.index_select(1, &order), &joined.log_likelihood(&joined.complete(&patches)).unwrap()) < 1e-4
    );
    // A checkpoint keeps the heads.
    let tensors = joined.tensors().into_iter().collect();
    let again = HcltPatches::from_tensors(&config, &RANGES, &Named::new(&tensors)).unwrap();
    assert_eq!(again.clusters(), 4);
    assert_eq!(
        again.log_likelihood(&again.complete(&patches)).unwrap(),
        joined.log_likelihood(&joined.complete(&patches)).unwrap()
    );
    let torn = model.gather(&[part(0, 1), part(0, 0)]).err().unwrap().to_string();
    assert_eq!(torn, "heads of a tree cannot be taken apart, nor trees of other widths joined");
}

/// The log-likelihood of all patches under a mixture.
fn total(model: &dyn PatchModel, log_weights: &[f64], patches: &Tensor) -> f64 {
    let joint =
        model.log_likelihood(&model.complete(patches)).unwrap().to_kind(Kind::Double) + Tensor::from_slice(log_weights);
    joint.logsumexp(1, false).sum(Kind::Double).double_value(&[])
}

/// What a proposal brings by definition: the likelihood with it less that without it.
fn gain_by_definition(model: &dyn PatchModel, weights: &[f64], proposal: &Proposal, patches: &Tensor) -> f64 {
    let kept: Vec<usize> = (0..weights.len()).filter(|k| !proposal.old.contains(k)).collect();
    let mut parts: Vec<Part> = kept.iter().map(|&cluster| Part { model, cluster, share: 0.5 }).collect();
    let mut new: Vec<f64> = kept.iter().map(|&k| weights[k]).collect();
    for (cluster, weight) in proposal.log_weights.iter().enumerate() {
        parts.push(Part { model: &*proposal.model, cluster, share: 0.5 });
        new.push(*weight);
    }
    total(&*model.gather(&parts).unwrap(), &new, patches) - total(model, weights, patches)
}

#[test]
fn gains_are_what_the_mixture_gains() {
    let config = GainGrowing::default();
    let weights = [(2.0f64 / 3.0).ln(), (1.0f64 / 3.0).ln()];
    for (model, members, patches) in families() {
        let held_out = HeldOut::new(&*model, &Tensor::from_slice(&weights), patches.copy()).unwrap();
        let present = Present { config: &config, model: &*model, log_weights: &weights, held_out: &held_out };
        let halves = present.split(0, &members, &mut rng(5, "test", 0)).unwrap().unwrap();
        let equal = members.narrow(0, 0, 1).expand([100, 4], false);
        assert!(present.split(0, &equal, &mut rng(5, "test", 0)).unwrap().is_none());
        let exact = gain_by_definition(&*model, &weights, &halves, &patches);
        assert!((halves.gain - exact).abs() < 0.02 * exact.abs().max(1.0), "{} against {exact}", halves.gain);
        // Two blobs in one cluster, 200 of the held-out patches; two hidden states can tell them apart already.
        if model.readings()[0] == Reading::Density {
            assert!(halves.gain > 100.0 && halves.gain > 3.0 * halves.error, "{}", halves.gain);
        }
        assert!((halves.log_weights.iter().map(|w| w.exp()).sum::<f64>() - 2.0 / 3.0).abs() < 1e-9);
        let one = present.merge((0, 1), &members, &mut rng(5, "test", 0)).unwrap();
        let exact = gain_by_definition(&*model, &weights, &one, &patches);
        assert!((one.gain - exact).abs() < 0.02 * exact.abs(), "{} against {exact}", one.gain);
        assert!(one.gain < 0.0);
    }
}
