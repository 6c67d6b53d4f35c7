//! The picture model against enumeration: 2 x 4 pictures of bits, two patches, three clusters.

use std::collections::BTreeMap;

use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::em::schedule::Schedule;
use lvd::em::{EmConfig, Rule};
use lvd::latent_tree::{self, LatentTreeConfig, certain};
use lvd::mixture::mask::Mask;
use lvd::mixture::train::{LearningParts, Training};
use lvd::mixture::{Mixture, Prior, even_weights};
use lvd::patch::config::{HcltConfig, Start};
use lvd::patch::hclt::start;
use lvd::patch::{PatchEvidence, Reading};
use lvd::random::rng;
use lvd::run::checkpoint::Named;
use lvd::structure::config::TreeConfig;
use tch::{Device, Kind, Tensor};

const CLUSTERS: i64 = 3;

fn exact(patches: &Tensor) -> PatchEvidence {
    PatchEvidence::new(patches, Reading::Exact)
}

fn view() -> View {
    let shape = PictureShape { height: 2, width: 4, channels: 1, levels: 2 };
    View::new(shape, ColorSpace::Grey, Region::Whole, 2).unwrap()
}

/// Tables at random; a latent tree or even independent latents.
fn model(tree: bool) -> Mixture {
    let config = HcltConfig {
        states: 2,
        tree: TreeConfig::Given { parents: vec![None, Some(0), Some(0), Some(2)] },
        ..HcltConfig::default()
    };
    let members: Vec<Tensor> = (3..3 + CLUSTERS)
        .map(|k| {
            let bits: Vec<i64> = (0..32).map(|i| i64::from(i * k % 7 > 2)).collect();
            Tensor::from_slice(&bits).view([8, 4])
        })
        .collect();
    let patches =
        start::from_members(&config, &members, &view().ranges(), Start::Random, Device::Cpu, &mut rng(1, "test", 0))
            .unwrap();
    let prior = if tree {
        let parents = vec![Some(1), None];
        let mut tree = latent_tree::uniform(&LatentTreeConfig::default(), &parents, 2, 3, Device::Cpu).unwrap();
        tree.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(2, "test", 0)));
        Prior::Tree(Box::new(tree))
    } else {
        Prior::Independent(even_weights(3, Device::Cpu))
    };
    Mixture::new(view(), Box::new(patches), prior)
}

/// All 256 pictures as patches `[256, 2, 4]`.
fn worlds() -> Tensor {
    let bits: Vec<u8> = (0..256u16).flat_map(|x| (0..8).map(move |bit| (x >> bit & 1) as u8)).collect();
    view().integers(&Tensor::from_slice(&bits).view([256, 2, 4, 1])).unwrap()
}

/// All 9 pairs of clusters, `[9, 2]`.
fn all_codes() -> Tensor {
    let codes: Vec<i64> = (0..9).flat_map(|z| [z / 3, z % 3]).collect();
    Tensor::from_slice(&codes).view([9, 2])
}

/// log p(x, z) by its definition, `[256, 9]`.
fn joint(model: &Mixture) -> Tensor {
    let codes = all_codes();
    let prior = model.log_likelihood(&certain(&codes, CLUSTERS)).unwrap();
    let patches = model.patch_log_likelihood(&exact(&worlds())).unwrap().to_kind(Kind::Double);
    let columns: Vec<Tensor> = (0..9)
        .map(|z| {
            let at = |i: i64| patches.select(1, i).select(1, codes.int64_value(&[z, i]));
            at(0) + at(1) + prior.double_value(&[z])
        })
        .collect();
    Tensor::stack(&columns, 1)
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
    let distance = (a - b).abs().max().double_value(&[]);
    assert!(distance < tolerance, "{distance}");
}

#[test]
fn all_pictures_together_have_probability_one() {
    for tree in [false, true] {
        let model = model(tree);
        let log_likelihood = model.log_likelihood(&model.patch_log_likelihood(&exact(&worlds())).unwrap()).unwrap();
        assert!((log_likelihood.exp().sum(Kind::Double).double_value(&[]) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn likelihood_and_posterior_are_sums_over_all_clusters() {
    for tree in [false, true] {
        let model = model(tree);
        let joint = joint(&model);
        let (total, posterior) = model.posterior(&model.patch_log_likelihood(&exact(&worlds())).unwrap()).unwrap();
        close(&total, &joint.logsumexp(1, false), 1e-5);
        let by_definition = (&joint - joint.logsumexp(1, true)).exp().view([256, 3, 3]);
        close(
            &posterior.select(1, 0).to_kind(Kind::Double),
            &by_definition.sum_dim_intlist(2, false, Kind::Double),
            1e-5,
        );
        close(
            &posterior.select(1, 1).to_kind(Kind::Double),
            &by_definition.sum_dim_intlist(1, false, Kind::Double),
            1e-5,
        );
    }
}

#[test]
fn prior_plus_residual_minus_refund_is_the_total() {
    let model = model(true);
    let parts = model.decompose(&exact(&worlds())).unwrap();
    let joint = joint(&model);
    let chosen = parts.codes.select(1, 0) * 3 + parts.codes.select(1, 1);
    let posterior = (&joint - joint.logsumexp(1, true)).gather(1, &chosen.unsqueeze(1), false).squeeze_dim(1);
    let refund = -posterior; // -log p(z(x) | x), by enumeration
    assert!(refund.min().double_value(&[]) > 0.0);
    close(&(&parts.latent + &parts.conditional - refund), &parts.total, 1e-5);
}

#[test]
fn joint_em_on_everything_never_lowers_the_likelihood() {
    let mut model = model(true);
    let config = EmConfig {
        rule: Rule::Average,
        step: Schedule::Constant { eta: 1.0 },
        pseudocount: 0.0,
        input_pseudocount: 0.0,
        ..EmConfig::default()
    };
    // Pictures with equal halves more often: something to learn for tree and patches.
    let rows: Vec<i64> = (0..256).chain((0..16).map(|x| x * 17 % 256)).collect();
    let data = worlds().index_select(0, &Tensor::from_slice(&rows));
    let mut training = Training::new(&mut model, LearningParts { patches: true, prior: true }, &config, rows.len());
    let mut before = f64::NEG_INFINITY;
    for _ in 0..8 {
        let total = training.accumulate(&exact(&data)).unwrap().sum(Kind::Double).double_value(&[]);
        assert!(total >= before - 1e-3, "{total} after {before}");
        before = total;
        training.step(1.0);
    }
}

#[test]
fn a_checkpoint_brings_back_the_same_model() {
    let trained = model(true);
    let mut other = model(true);
    other.randomise(&mut rng(9, "other", 0));
    let tensors = trained.tensors().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect::<BTreeMap<_, _>>();
    let score = |m: &Mixture| m.log_likelihood(&m.patch_log_likelihood(&exact(&worlds())).unwrap()).unwrap();
    assert!((score(&other) - score(&trained)).abs().max().double_value(&[]) > 1e-3);
    other.restore(&Named::new(&tensors)).unwrap();
    close(&score(&other), &score(&trained), 1e-12);
}

#[test]
fn sampled_pictures_follow_the_model() {
    let model = model(true);
    let count = 20_000;
    let drawn = model.sample(count, &mut rng(4, "samples", 0)).view([-1, 8]);
    let weights = Tensor::from_slice(&[1i64, 2, 4, 8, 16, 32, 64, 128]);
    let number = |t: &Tensor| (t.to_kind(Kind::Int64) * &weights).sum_dim_intlist(1, false, Kind::Int64);
    let counts = number(&drawn).bincount(None::<&Tensor>, 256).to_kind(Kind::Double);
    let exact =
        model.log_likelihood(&model.patch_log_likelihood(&exact(&worlds())).unwrap()).unwrap().exp() * count as f64;
    let expected = exact.zeros_like().index_copy(0, &number(&worlds().view([-1, 8])), &exact);
    let chi_square = ((counts - &expected).square() / expected).sum(Kind::Double).double_value(&[]);
    // 255 degrees of freedom: mean 255, standard deviation 22.6; 355 is exceeded with probability below 1e-4.
    assert!(chi_square < 355.0, "{chi_square}");
}

#[test]
fn masked_pictures_have_the_marginal_of_what_is_observed() {
    for tree in [false, true] {
        let model = model(tree);
        let score = |seen: PatchEvidence| model.log_likelihood(&model.patch_log_likelihood(&seen).unwrap()).unwrap();
        let all = score(exact(&worlds())).exp();
        let masks = [Mask::top(2, 4), Mask::left(2, 4), Mask::chessboard(2, 4)];
        for (mask, pixels) in masks.iter().zip([[0, 1, 2, 3], [0, 1, 4, 5], [0, 2, 5, 7]]) {
            let masked = score(model.observe(exact(&worlds()), mask).unwrap()).exp();
            // The marginals of all worlds sum to 1 once for every way to fill in what is hidden.
            assert_eq!(mask.pixels(), 4);
            assert!((masked.sum(Kind::Double).double_value(&[]) - 16.0).abs() < 1e-4);
            // By hand for the world of zeros: the sum over the worlds that are zero where it is observed.
            let zero =
                pixels.map(|pixel| worlds_of_pixels().select(1, pixel)).into_iter().reduce(|a, b| a + b).unwrap().eq(0);
            let expected = (&all * zero).sum(Kind::Double).double_value(&[]);
            assert!((masked.double_value(&[0]) - expected).abs() < 1e-6);
        }
    }
}

/// All 256 pictures as pixels `[256, 8]`, row by row.
fn worlds_of_pixels() -> Tensor {
    let bits: Vec<i64> = (0..256i64).flat_map(|x| (0..8).map(move |bit| x >> bit & 1)).collect();
    Tensor::from_slice(&bits).view([256, 8])
}

#[test]
fn a_mask_for_every_picture_and_one_for_all_agree_and_odd_ones_are_refused() {
    let model = model(true);
    let score = |mask: &Tensor| {
        let seen = model.observe(exact(&worlds()), &Mask::new(mask).unwrap()).unwrap();
        model.log_likelihood(&model.patch_log_likelihood(&seen).unwrap()).unwrap()
    };
    let one = Tensor::from_slice(&[true, false, true, true, false, false, true, false]).view([2, 4]);
    assert_eq!(score(&one), score(&one.unsqueeze(0).repeat([256, 1, 1])));
    let nothing = Tensor::zeros([2, 4], (Kind::Bool, Device::Cpu));
    // The float32 tables of the tree sum to 1 but for rounding.
    assert!(score(&nothing).abs().max().double_value(&[]) < 1e-6);
    close(
        &score(&nothing.logical_not()),
        &model.log_likelihood(&model.patch_log_likelihood(&exact(&worlds())).unwrap()).unwrap(),
        1e-12,
    );
    let refused = |mask: &Tensor| {
        Mask::new(mask).and_then(|mask| model.observe(exact(&worlds()), &mask)).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&Tensor::zeros([4, 2], (Kind::Bool, Device::Cpu))),
        "the mask has 4 x 2 pixels, the model's pictures have 2 x 4"
    );
    assert_eq!(refused(&Tensor::zeros([3, 2, 4], (Kind::Bool, Device::Cpu))), "there are 3 masks for 256 pictures");
    assert_eq!(refused(&Tensor::zeros([8], (Kind::Bool, Device::Cpu))), "a mask is [H, W] or [B, H, W], found [8]");
    assert_eq!(
        refused(&Tensor::zeros([2, 4], (Kind::Uint8, Device::Cpu))),
        "a mask is true where a pixel is observed: expected bool, found Uint8"
    );
}

#[test]
fn conditionals_of_patches_agree_with_enumeration() {
    const COUNT: i64 = 4000;
    let model = model(false);
    let patches = model.patches();
    let all = worlds().select(1, 0).narrow(0, 0, 256).unique_dim(0, true, false, false).0; // [16, 4]
    let given = patches.log_likelihood(&exact(&all)).unwrap().exp().to_kind(Kind::Double); // [16, 3]
    let observed = Tensor::from_slice(&[true, false, false, true]);
    let patch = Tensor::from_slice(&[1i64, 9, 9, 0]).view([1, 4]);
    let fits = all.select(1, 0).eq(1).logical_and(&all.select(1, 3).eq(0)).to_kind(Kind::Double).unsqueeze(1);
    let posterior = &given * &fits / (&given * &fits).sum_dim_intlist([0i64].as_slice(), true, Kind::Double);
    let means = posterior.tr().matmul(&all.to_kind(Kind::Double)); // [3, 4]

    let evidence = exact(&patch).with_observed(&observed);
    let weights = Tensor::from_slice(&[0.2, 0.5, 0.3]).unsqueeze(0);
    let [first, second] = patches.expectation(&evidence, &weights).unwrap();
    assert!((&first - weights.matmul(&means)).abs().max().double_value(&[]) < 1e-6);
    assert!((first - second).abs().max().double_value(&[]) < 1e-12, "the square of a bit is the bit");

    let clusters = (Tensor::arange(3 * COUNT, (Kind::Int64, Device::Cpu)) / 7).remainder(3);
    let rows = Tensor::zeros([3 * COUNT], (Kind::Int64, Device::Cpu));
    let drawn = patches.sample_given(&evidence.rows(&rows), &clusters, &mut rng(8, "test", 0)).unwrap();
    for k in 0..3 {
        let mine = drawn.index_select(0, &clusters.eq(k).nonzero().squeeze_dim(1)).to_kind(Kind::Double);
        let n = mine.size()[0] as f64;
        for v in 0..4 {
            let (p, found) = (means.double_value(&[k, v]), mine.select(1, v).mean(Kind::Double).double_value(&[]));
            assert!((found - p).abs() <= 4.5 * (p * (1.0 - p) / n).sqrt() + 1e-7, "{k} {v}: {found}, expected {p}");
        }
    }
}
