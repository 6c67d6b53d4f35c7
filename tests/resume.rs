//! A training that is saved, read back and gone on with ends where an unbroken one does, also after clusters were re-seeded;
//! and one whose statistics are summed over two halves of the data ends where one that saw all of them does.

use std::collections::BTreeMap;

use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::em::back_off::BackOffConfig;
use lvd::em::{EmConfig, InputFamily, Rule};
use lvd::group::Alone;
use lvd::latent_tree::{self, LatentTreeConfig};
use lvd::mixture::train::{LearningParts, Training};
use lvd::mixture::{Mixture, Prior, even_weights};
use lvd::patch::config::{
    Covariance, FamilyConfig, GateConfig, GaussianConfig, HcltConfig, NetworkConfig, PatchConfig, RingConfig, Start,
};
use lvd::patch::{self, PatchEvidence, Reading};
use lvd::random::{Draws, rng};
use lvd::run::checkpoint::Named;
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const BOTH: LearningParts = LearningParts { patches: true, prior: true };
const PICTURES: usize = 64;

fn view(config: &PatchConfig) -> View {
    let shape = PictureShape { height: 4, width: 4, channels: 1, levels: 12 };
    match config.context {
        0 => View::new(shape, ColorSpace::Grey, Region::Whole, config.size).unwrap(),
        context => View::windowed(shape, ColorSpace::Grey, Region::Whole, config.size, context).unwrap(),
    }
}

/// Pictures of three kinds: dark, middle, bright; u8 `[PICTURES, 4, 4, 1]`.
fn pictures(seed: u64) -> Tensor {
    let mut rng = rng(seed, "pictures", 0);
    let values: Vec<u8> = (0..PICTURES)
        .flat_map(|i| {
            let base = 4 * (i % 3) as u8;
            (0..16).map(|j| base + rng.random_range(0..=(1 + j % 3))).collect::<Vec<u8>>()
        })
        .collect();
    Tensor::from_slice(&values).view([-1, 4, 4, 1])
}

fn evidence(model: &Mixture, step: u64) -> PatchEvidence {
    let numbers: Vec<usize> = (0..PICTURES).collect();
    let draws = Draws { seed: 1, purpose: "noise", pass: step, pictures: &numbers };
    model.evidence(&pictures(step), model.readings()[0], &draws).unwrap()
}

fn start(config: &PatchConfig) -> Mixture {
    let view = view(config);
    let integers = view.integers(&pictures(0)).unwrap();
    let integers = view.whole().map_or_else(|| integers.shallow_clone(), |whole| integers.index_select(1, &whole));
    let integers = integers.reshape([-1, view.numbers() as i64]);
    let patches = match config.family {
        FamilyConfig::Hclt(_) => integers,
        FamilyConfig::Gaussian(_) => integers.to_kind(Kind::Float) + 0.5,
    };
    // Different patches for every cluster, so that their trees and marginals differ.
    let members: Vec<Tensor> = (0..3).map(|k| patches.narrow(0, k * 64, 64 + 20 * k)).collect();
    let mut random = rng(1, "start", 0);
    let patches = patch::start(config, &members, &view.ranges(), Start::Quantile, Device::Cpu, &mut random).unwrap();
    if patches.own_weights() {
        return Mixture::gated(view, patches);
    }
    Mixture::independent(view, patches, even_weights(3, Device::Cpu))
}

/// Clusters by code for all patches: none has the last one, so that it loses its data.
fn without_last(model: &Mixture) -> Tensor {
    let positions = model.view().patches() as i64;
    Tensor::arange(PICTURES as i64 * positions, (Kind::Int64, Device::Cpu)).remainder(2).view([-1, positions])
}

fn steps(training: &mut Training, range: std::ops::Range<u64>) {
    for step in range {
        let patches = evidence(training.model, step);
        let _ = training.accumulate(&patches).unwrap();
        training.step(0.4);
    }
}

fn saved(training: &Training) -> BTreeMap<String, Tensor> {
    let all = training.model.tensors().into_iter().chain(training.state());
    all.map(|(name, tensor)| (name, tensor.copy())).collect()
}

fn families() -> Vec<(&'static str, PatchConfig, EmConfig)> {
    let em = EmConfig { batch: 0, ..EmConfig::default() };
    let hclt = HcltConfig { states: 3, ..HcltConfig::default() };
    let back_off = EmConfig { back_off: Some(BackOffConfig { pseudocount: 2.0, run: 3 }), ..em.clone() };
    let anemone = EmConfig { rule: Rule::Anemone { share: 0.4, momentum: 0.9 }, ..em.clone() };
    let logistic = HcltConfig { inputs: InputFamily::DiscretisedLogistic, ..hclt.clone() };
    let gaussian = GaussianConfig { scales: 3, ..GaussianConfig::default() };
    let low_rank = GaussianConfig { covariance: Covariance::LowRank { rank: 2 }, ..gaussian.clone() };
    let around = |gate, gaussian: &GaussianConfig| PatchConfig {
        size: 1,
        context: 1,
        gate,
        family: FamilyConfig::Gaussian(gaussian.clone()),
    };
    let network = GateConfig::Network(NetworkConfig { units: 4, rate: 0.01, experts_every: 3 });
    let mut all = vec![
        ("patches with context", around(GateConfig::None, &gaussian), em.clone()),
        ("patches with context and a gate", around(network, &gaussian), em.clone()),
        ("patches with context and a ring", around(GateConfig::Ring(RingConfig::default()), &gaussian), em.clone()),
    ];
    let alone = [
        ("a tree by itself", FamilyConfig::Hclt(hclt.clone()), em.clone()),
        ("trees in forests of two", FamilyConfig::Hclt(HcltConfig { forest: 2, ..hclt.clone() }), em.clone()),
        ("inputs that back off", FamilyConfig::Hclt(HcltConfig { forest: 3, ..hclt.clone() }), back_off),
        ("momentum", FamilyConfig::Hclt(HcltConfig { forest: 2, ..hclt }), anemone),
        ("logistic inputs", FamilyConfig::Hclt(logistic), em.clone()),
        ("Gaussians", FamilyConfig::Gaussian(gaussian), em.clone()),
        ("Gaussians of low rank", FamilyConfig::Gaussian(low_rank), em),
    ];
    let config = |family| PatchConfig { size: 2, context: 0, gate: GateConfig::None, family };
    all.extend(alone.map(|(name, family, em)| (name, config(family), em)));
    all
}

#[test]
fn a_training_resumed_after_a_reseed_equals_the_unbroken_one() {
    for (name, family, em) in families() {
        let mut unbroken = start(&family);
        let mut training = Training::new(&mut unbroken, BOTH, &em, PICTURES);
        steps(&mut training, 0..2);
        let patches = evidence(training.model, 2);
        training.accumulate_assigned(&patches, &without_last(training.model)).unwrap();
        training.step(0.4);
        // What the model saw so far counts too: look once, then only at a cluster that has lost everything.
        training.reseed(&mut rng(5, "reseed", 0)).unwrap();
        training.accumulate_assigned(&patches, &without_last(training.model)).unwrap();
        training.step(0.4);
        let lost = training.reseed(&mut rng(5, "reseed", 1)).unwrap();
        let expected: &[usize] = if training.model.patches().own_weights() { &[] } else { &[2] };
        assert_eq!(lost.iter().map(|(to, _)| *to).collect::<Vec<_>>(), expected, "{name}");
        let state = saved(&training);
        steps(&mut training, 3..6);
        let expected = saved(&training);

        let mut again = start(&family);
        let mut training = Training::new(&mut again, BOTH, &em, PICTURES);
        training.restore(&Named::new(&state)).unwrap();
        for (name, tensor) in saved(&training) {
            assert_eq!(tensor, state[&name], "{name} right after reading");
        }
        steps(&mut training, 3..6);
        let found = saved(&training);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, value) in &expected {
            assert_eq!(&found[tensor], value, "{name}: {tensor}");
        }
    }
}

#[test]
fn the_best_model_is_read_back_while_its_training_goes_on() {
    for (name, family, em) in families() {
        let mut model = start(&family);
        let before = model.tensors().into_iter().map(|(n, t)| (n, t.copy())).collect::<BTreeMap<_, _>>();
        let mut training = Training::new(&mut model, BOTH, &em, PICTURES);
        steps(&mut training, 0..1);
        let patches = evidence(training.model, 1);
        training.accumulate_assigned(&patches, &without_last(training.model)).unwrap();
        training.step(0.4);
        training.reseed(&mut rng(5, "reseed", 1)).unwrap();
        model.restore(&Named::new(&before)).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        for (tensor, value) in model.tensors() {
            assert_eq!(value, before[&tensor], "{name}: {tensor}");
        }
    }
}

#[test]
fn weights_and_masses_still_sum_to_one_after_clusters_were_reseeded() {
    // One picture of two patches of one pixel with three levels: nine pictures.
    let shape = PictureShape { height: 1, width: 2, channels: 1, levels: 3 };
    let view = View::new(shape, ColorSpace::Grey, Region::Whole, 1).unwrap();
    let config = PatchConfig {
        size: 1,
        context: 0,
        gate: GateConfig::None,
        family: FamilyConfig::Hclt(HcltConfig { states: 2, ..HcltConfig::default() }),
    };
    let members: Vec<Tensor> = (0..4).map(|k| Tensor::from_slice(&[k % 3, 1, (k + 1) % 3]).view([3, 1])).collect();
    let patches =
        patch::start(&config, &members, &view.ranges(), Start::Quantile, Device::Cpu, &mut rng(1, "start", 0)).unwrap();
    let mut model = Mixture::independent(view, patches, even_weights(4, Device::Cpu));
    let em = EmConfig { pseudocount: 0.5, ..EmConfig::default() };
    let mut training = Training::new(&mut model, BOTH, &em, 9);
    let worlds: Vec<u8> = (0..9u8).flat_map(|x| [x / 3, x % 3]).collect();
    let worlds = view.integers(&Tensor::from_slice(&worlds).view([9, 1, 2, 1])).unwrap();
    // Clusters 0 and 1 have all patches, 0 more than 1: 2 and 3 are lost.
    let codes = Tensor::from_slice(&[0i64, 0, 1]).repeat([6]).view([9, 2]);
    training.accumulate_assigned(&PatchEvidence::new(&worlds, Reading::Exact), &codes).unwrap();
    training.step(0.3);
    let lost = training.reseed(&mut rng(2, "reseed", 0)).unwrap();
    assert_eq!(lost, [(2, 0), (3, 1)]);
    let total = model
        .log_likelihood(&model.patch_log_likelihood(&PatchEvidence::new(&worlds, Reading::Exact)).unwrap())
        .unwrap()
        .exp()
        .sum(Kind::Double);
    assert!((total.double_value(&[]) - 1.0).abs() < 1e-6, "{total:?}");
    let Prior::Independent(log_weights) = &model.prior() else { panic!("independent") };
    assert!((log_weights.exp().sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-12);
}

#[test]
fn a_step_from_an_empty_batch_changes_nothing() {
    for (name, family, em) in families() {
        let mut model = start(&family);
        let before: Vec<(String, Tensor)> = model.patches().tensors().into_iter().map(|(n, t)| (n, t.copy())).collect();
        let none = Tensor::zeros([0, 4, 4, 1], (Kind::Uint8, Device::Cpu));
        let reading = model.readings()[0];
        let nothing = Draws { seed: 1, purpose: "noise", pass: 0, pictures: &[] };
        let patches = model.evidence(&none, reading, &nothing).unwrap();
        let mut training = Training::new(&mut model, LearningParts { patches: true, prior: false }, &em, PICTURES);
        assert_eq!(training.accumulate(&patches).unwrap().size(), [0], "{name}");
        training.step(0.5);
        for ((tensor, old), (_, new)) in before.iter().zip(model.patches().tensors()) {
            assert_eq!(*old, new, "{name}: {tensor}");
        }
        if reading == Reading::Density {
            let none = model.evidence(&none, Reading::Ordered, &nothing).unwrap();
            let positions = model.view().patches() as i64;
            assert_eq!(model.patch_log_likelihood(&none).unwrap().size(), [0, positions, 3]);
        }
    }
}

#[test]
fn values_outside_of_their_range_are_refused_by_every_family_and_reading() {
    for (name, family, _) in families() {
        let model = start(&family);
        for (wrong, row) in [(-1i64, 0), (12, 3), (-300, 1)] {
            let patches = Tensor::full([5, 1, 4], 3, (Kind::Int16, Device::Cpu));
            let _ = patches.get(row).get(0).get(2).fill_(wrong);
            let reading = *model.readings().last().unwrap();
            let patches = PatchEvidence::new(&patches, reading);
            assert!(model.patch_log_likelihood(&patches).is_err(), "{name}: {wrong}");
        }
    }
}

#[test]
fn a_small_given_cluster_keeps_its_own_patches_through_a_whole_training() {
    use lvd::data::augment::Augment;
    use lvd::data::pictures::Pictures;
    use lvd::distill::Session;
    use lvd::distill::training::{Clusters, train};
    for (name, family, em) in families() {
        let shape = PictureShape { height: 4, width: 4, channels: 1, levels: 12 };
        let bytes: Vec<u8> = Vec::try_from(pictures(0).repeat([2, 1, 1, 1]).reshape([-1])).unwrap();
        let all = Pictures::from_bytes(bytes, shape).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = lvd::run::RunFolder::open(folder.path()).unwrap();
        let (stage, mut metrics) = (run.stage("first"), run.metrics().unwrap());
        stage.begin("inputs").unwrap();
        let mut session = Session {
            group: &Alone,
            name: "first",
            stage: &stage,
            metrics: &mut metrics,
            train: &all,
            valid: &all,
            augment: Augment::default(),
            seed: 1,
            micro_batch: 16,
            watched: 16,
        };
        // One patch of 512 in the last cluster: below a hundredth of the even share of 171.
        let mut model = start(&family);
        if model.patches().own_weights() {
            continue;
        }
        let positions = model.view().patches();
        let bright = (0..2 * PICTURES).flat_map(|i| std::iter::repeat_n(i64::from(i % PICTURES % 3 == 2), positions));
        let codes = Tensor::from_slice(&bright.collect::<Vec<_>>()).view([-1, positions as i64]);
        let _ = codes.get(0).get(0).fill_(2);
        let trees = |model: &Mixture| {
            model.tensors().into_iter().find(|(name, _)| name == "patch.trees").map(|(_, t)| t.copy())
        };
        let before = trees(&model);
        train(&mut session, &mut model, BOTH, &EmConfig { epochs: 2, ..em }, &Clusters::Given(&codes)).unwrap();
        assert_eq!(trees(&model), before, "{name}");
        let Prior::Independent(log_weights) = &model.prior() else { panic!("independent") };
        let weight = log_weights.double_value(&[2]).exp();
        // A copy of the largest would have half of its weight; the start, where nothing was better, has a third.
        assert!(weight < 0.2 || (weight - 1.0 / 3.0).abs() < 1e-9, "{name}: {weight}");
        assert!(stage.partial().exists(), "the state stays until the stage has its record");
    }
}

/// Patches of some of the pictures.
fn part(patches: &PatchEvidence, start: i64, len: i64) -> PatchEvidence {
    patches.rows(&Tensor::arange_start(start, start + len, (Kind::Int64, Device::Cpu)))
}

#[test]
fn two_halves_summed_at_the_seam_equal_one_whole() {
    for (name, family, em) in families() {
        // Patches with context have no latent tree.
        for tree in [false, true].into_iter().take(if family.context > 0 { 1 } else { 2 }) {
            let with_prior = || {
                let model = start(&family);
                if !tree {
                    return model;
                }
                let parents = vec![Some(1), None, Some(1), Some(2)];
                let mut tree = latent_tree::uniform(&LatentTreeConfig::default(), &parents, 2, 3, Device::Cpu).unwrap();
                tree.update(|parameters, plan| parameters.perturb(plan, 0.5, &mut rng(2, "tree", 0)));
                model.with_tree(tree)
            };
            let [mut whole, mut first, mut second] = [(); 3].map(|()| with_prior());
            let mut whole = Training::new(&mut whole, BOTH, &em, PICTURES);
            let [mut first, mut second] =
                [&mut first, &mut second].map(|model| Training::new(model, BOTH, &em, PICTURES));
            for step in 0..3 {
                let all = evidence(whole.model, step);
                let _ = whole.accumulate(&all).unwrap();
                // The second half sees nothing at the second step, as a process without pictures of a batch does.
                let cut = if step == 1 { 64 } else { 24 };
                let _ = first.accumulate(&part(&all, 0, cut)).unwrap();
                if cut < 64 {
                    let _ = second.accumulate(&part(&all, cut, 64 - cut)).unwrap();
                }
                exchange(&mut first, &mut second);
                for training in [&mut whole, &mut first, &mut second] {
                    training.step(0.4);
                }
            }
            let [whole, first, second] = [&whole, &first, &second].map(saved);
            for (tensor, value) in &whole {
                assert_eq!(first[tensor], second[tensor], "{name}: {tensor}: both halves end in the same numbers");
                let scale = value.abs().max().double_value(&[]).max(1.0);
                let apart = (&first[tensor] - value).abs().max().double_value(&[]) / scale;
                // Adam divides small gradients by their size, and with them their rounding.
                let most = if tensor.contains("gate") { 1e-3 } else { 5e-5 };
                assert!(apart < most, "{name}, tree {tree}: {tensor} differs by {apart}");
            }
        }
    }
}

/// Sum the statistics of two trainings into both.
fn exchange(first: &mut Training, second: &mut Training) {
    let mut theirs = Vec::new();
    let mut keep = |tensor: &Tensor| {
        theirs.push(tensor.copy());
        Ok(())
    };
    second.statistics(&mut keep).unwrap();
    let (mut sums, mut others) = (Vec::new(), theirs.iter());
    let mut add = |tensor: &Tensor| {
        assert_eq!(tensor.kind(), Kind::Double);
        let _ = tensor.shallow_clone().g_add_(others.next().expect("as many tensors from both"));
        sums.push(tensor.copy());
        Ok(())
    };
    first.statistics(&mut add).unwrap();
    assert_eq!(sums.len(), theirs.len());
    let mut sums = sums.iter();
    let mut take = |tensor: &Tensor| {
        tensor.shallow_clone().copy_(sums.next().unwrap());
        Ok(())
    };
    second.statistics(&mut take).unwrap();
}
