//! Learning from patches and pictures of which some numbers are missing, against the definition in float64 and the theorems
//! of EM. (Circuits over integers with missing evidence: `circuit.rs` and `em.rs`, by counting.)

use lvd::color::ColorSpace;
use lvd::data::batches::Batch;
use lvd::data::missing::hide;
use lvd::data::patches::Region;
use lvd::data::pictures::{PictureShape, Pictures};
use lvd::data::view::View;
use lvd::em::EmConfig;
use lvd::mixture::mask::Mask;
use lvd::mixture::train::{LearningParts, Training};
use lvd::mixture::{Mixture, even_weights};
use lvd::patch::config::{GaussianConfig, HcltConfig, ScaleGroups, Start};
use lvd::patch::gaussian::component::{Common, Component, Moments};
use lvd::patch::gaussian::{self, GaussianPatches, partial};
use lvd::patch::{Infer, Learn, PatchEvidence, PatchModel, Reading, hclt};
use lvd::random::{Draws, rng};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

fn normal(size: &[i64], seed: u64) -> Tensor {
    let mut rng = rng(seed, "test", 0);
    let count: i64 = size.iter().product();
    // The sum of twelve even numbers.
    let one = |_| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    Tensor::from_slice(&(0..count).map(one).collect::<Vec<_>>()).view(size)
}

fn flags(size: &[i64], seed: u64) -> Tensor {
    let mut rng = rng(seed, "flags", 0);
    let count: i64 = size.iter().product();
    Tensor::from_slice(&(0..count).map(|_| rng.random_bool(0.6)).collect::<Vec<_>>()).view(size)
}

/// Five variables in groups of three and two (or in one), four scales.
fn component(groups: &[i64]) -> Component {
    let d: i64 = groups.iter().sum();
    let scales = normal(&[4, groups.len() as i64], 3).exp();
    let common = Common {
        scales,
        groups: groups.to_vec(),
        prior_shape: Tensor::eye(d, DOUBLE),
        prior_strength: 1.0,
        floor: 1e-6,
        rank: None,
        kind: Kind::Double,
    };
    let root = normal(&[d, d], 4);
    let shape = root.matmul(&root.tr()) + Tensor::eye(d, DOUBLE);
    Component::new(&normal(&[d], 5), &shape, &normal(&[4], 6).log_softmax(0, Kind::Double), 0.3, &common)
}

/// `ln p(x_o, s)`, and the mean and covariance of all variables given `x_o` and s, by the covariance at that scale.
fn at_scale(component: &Component, x: &Tensor, observed: &Tensor, s: i64) -> (f64, Tensor, Tensor) {
    let scales = component.common.scales.get(s).index_select(0, &component.common.group_of());
    let covariance = &component.shape * scales.outer(&scales);
    let [seen, hidden] = [observed.shallow_clone(), observed.logical_not()].map(|which| which.nonzero().squeeze_dim(1));
    let block = |a: &Tensor, b: &Tensor| covariance.index_select(0, a).index_select(1, b);
    let inner = block(&seen, &seen);
    let deviation = (x - &component.mean).index_select(0, &seen);
    let inverse = inner.inverse();
    let distance = deviation.dot(&inverse.mv(&deviation)).double_value(&[]);
    let count = seen.numel() as f64;
    let log_det = if count > 0.0 { inner.det().log().double_value(&[]) } else { 0.0 };
    let density = -0.5 * (distance + log_det + count * (2.0 * std::f64::consts::PI).ln());
    let gain = block(&hidden, &seen).matmul(&inverse);
    let mean = x.copy().index_copy(0, &hidden, &(component.mean.index_select(0, &hidden) + gain.mv(&deviation)));
    let rest = block(&hidden, &hidden) - gain.matmul(&block(&seen, &hidden));
    let spread = Tensor::zeros_like(&covariance);
    let rows = spread.index_select(0, &hidden).index_copy(1, &hidden, &rest);
    (component.log_weights.double_value(&[s]) + density, mean, spread.index_copy(0, &hidden, &rows))
}

/// The moments by their definition: every scale by itself, every patch by itself.
fn by_definition(component: &Component, x: &Tensor, observed: &Tensor, weights: &Tensor) -> (Vec<f64>, Moments) {
    let common = &component.common;
    let group_of = common.group_of();
    let mut moments = Moments::zeros(common);
    let mut likelihoods = Vec::new();
    for i in 0..x.size()[0] {
        let each: Vec<_> = (0..4).map(|s| at_scale(component, &x.get(i), &observed.get(i), s)).collect();
        let joint = Tensor::from_slice(&each.iter().map(|e| e.0).collect::<Vec<_>>());
        likelihoods.push(joint.logsumexp([0i64].as_slice(), false).double_value(&[]));
        let posterior = joint.softmax(0, Kind::Double) * weights.get(i);
        moments.scales += &posterior;
        for (s, (_, mean, covariance)) in (0i64..).zip(&each) {
            let r = posterior.get(s);
            let inverse = common.scales.get(s).reciprocal(); // [G]
            let by_variable = inverse.index_select(0, &group_of);
            let deviation = mean - &component.mean;
            moments.weight += inverse.outer(&inverse) * &r;
            moments.first += inverse.unsqueeze(1) * (&by_variable * &deviation) * &r;
            let second = deviation.outer(&deviation) + covariance;
            moments.second += second * by_variable.outer(&by_variable) * &r;
        }
    }
    (likelihoods, moments)
}

#[test]
fn moments_of_patches_with_gaps_are_those_of_the_definition() {
    for groups in [&[5i64][..], &[3, 2]] {
        let mut component = component(groups);
        let x = normal(&[40, 5], 7) * 2.0;
        let observed = flags(&[40, 5], 8);
        let _ = observed.get(0).fill_(0); // nothing of the first patch, all of the second
        let _ = observed.get(1).fill_(1);
        let weights = normal(&[40], 9).abs();
        let (likelihoods, expected) = by_definition(&component, &x, &observed, &weights);
        // What stands where nothing was observed has no say.
        let junk = x.where_self(&observed, &Tensor::from(f64::NAN));
        let found = partial::log_likelihood(&component, &junk, &observed);
        let difference = (found - Tensor::from_slice(&likelihoods)).abs().max().double_value(&[]);
        assert!(difference < 1e-10, "{groups:?}: {difference}");
        assert!(likelihoods[0].abs() < 1e-12);
        partial::accumulate(&mut component, &junk, &observed, &weights);
        let found = component.batch.as_ref().expect("moments");
        for (found, expected) in found.parts().into_iter().zip(expected.parts()) {
            let scale = expected.abs().max().double_value(&[]);
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-9 * scale, "{groups:?}: {found} instead of {expected}");
        }
    }
}

#[test]
fn patches_without_gaps_have_the_moments_of_whole_ones() {
    for groups in [&[5i64][..], &[3, 2]] {
        let [mut whole, mut gaps] = [component(groups), component(groups)];
        let (x, weights) = (normal(&[30, 5], 7), normal(&[30], 9).abs());
        whole.accumulate(&x, &weights);
        partial::accumulate(&mut gaps, &x, &x.isfinite(), &weights);
        for (a, b) in whole.batch.unwrap().parts().into_iter().zip(gaps.batch.unwrap().parts()) {
            assert!((a - b).abs().max().double_value(&[]) < 1e-10 * a.abs().max().double_value(&[]));
        }
    }
}

fn gaussians(config: &GaussianConfig, d: i64) -> GaussianPatches {
    let members: Vec<Tensor> = (0..2).map(|k| normal(&[30, d], k) * 2.0 + 5.0).collect();
    gaussian::start::from_members(config, &members, &vec![(0, 9); d as usize], Device::Cpu).unwrap()
}

#[test]
fn many_masks_and_few_give_the_same_likelihoods() {
    for scale_groups in [ScaleGroups::One, ScaleGroups::LumaChroma] {
        let config = GaussianConfig { double: true, scales: 3, scale_groups, ..GaussianConfig::default() };
        let model = gaussians(&config, 6);
        let x = normal(&[64, 6], 20) + 5.0;
        let observed = flags(&[64, 6], 21);
        let seen =
            |rows: &Tensor, observed: &Tensor| PatchEvidence::new(rows, Reading::Density).with_observed(observed);
        let all = model.log_likelihood(&seen(&x, &observed)).unwrap();
        for i in 0..64 {
            // Sixteen times the same mask are a group.
            let rows = x.narrow(0, i, 1).repeat([16, 1]);
            let one = model.log_likelihood(&seen(&rows, &observed.narrow(0, i, 1))).unwrap();
            let difference = (one.get(0) - all.get(i)).abs().max().double_value(&[]);
            assert!(difference < 1e-9, "{i}: {difference}");
        }
    }
}

#[test]
fn the_likelihood_of_what_was_observed_never_falls() {
    for scale_groups in [ScaleGroups::One, ScaleGroups::LumaChroma] {
        let config = GaussianConfig {
            double: true,
            scales: 3,
            scale_groups,
            truncate_posterior: 0.0,
            prior_strength: 1e-9,
            ..GaussianConfig::default()
        };
        let mut model = gaussians(&config, 6);
        let x = (normal(&[200, 6], 30) + normal(&[200, 1], 31) * 2.0) * 1.5 + 4.0;
        let seen = PatchEvidence::new(&x, Reading::Density).with_observed(&flags(&[200, 6], 32));
        model.begin(&EmConfig { pseudocount: 0.0, ..EmConfig::default() }, 200.0);
        let mut last = f64::NEG_INFINITY;
        // Equal weights of the components, which do not learn here.
        for step in 0..15 {
            let joint = model.log_likelihood(&seen).unwrap() - 2f64.ln();
            let total = joint.logsumexp([1i64].as_slice(), false).sum(Kind::Double).double_value(&[]);
            assert!(total >= last - 1e-7, "step {step}: {total} after {last}");
            last = total;
            model.accumulate(&seen, &joint.softmax(1, Kind::Double)).unwrap();
            model.step(1.0);
        }
    }
}

const SHAPE: PictureShape = PictureShape { height: 4, width: 4, channels: 1, levels: 4 };

fn mixtures() -> Vec<Mixture> {
    let view = View::new(SHAPE, ColorSpace::Grey, Region::Whole, 2).unwrap();
    let members: Vec<Tensor> =
        (0..2).map(|k| (normal(&[40, 4], k).abs() + k as f64).clamp(0.0, 3.0).floor().to_kind(Kind::Int64)).collect();
    let hclt = HcltConfig { states: 2, ..HcltConfig::default() };
    let hclt =
        hclt::start::from_members(&hclt, &members, &view.ranges(), Start::Quantile, Device::Cpu, &mut rng(1, "t", 0));
    let gaussian = GaussianConfig { double: true, scales: 3, ..GaussianConfig::default() };
    let members: Vec<Tensor> = members.iter().map(|m| m.to_kind(Kind::Double) + 0.5).collect();
    let gaussian = gaussian::start::from_members(&gaussian, &members, &view.ranges(), Device::Cpu).unwrap();
    let families: [Box<dyn PatchModel>; 2] = [Box::new(hclt.unwrap()), Box::new(gaussian)];
    families.map(|patches| Mixture::independent(view, patches, even_weights(2, Device::Cpu))).into()
}

/// The model's tensors after a step on these pixels of which only what is true counts.
fn after_a_step(mut model: Mixture, pixels: &Tensor, observed: &Tensor) -> Vec<(String, Tensor)> {
    let both = LearningParts { patches: true, prior: true };
    let numbers: Vec<usize> = (0..pixels.size()[0] as usize).collect();
    let noise = Draws { seed: 1, purpose: "noise", pass: 0, pictures: &numbers };
    let evidence = model.evidence(pixels, model.readings()[0], &noise).unwrap();
    let evidence = model.observe(evidence, &Mask::new(observed).unwrap()).unwrap();
    let mut training = Training::new(&mut model, both, &EmConfig::default(), numbers.len());
    let _ = training.accumulate(&evidence).unwrap();
    training.step(0.7);
    model.tensors()
}

#[test]
fn what_stands_at_missing_pixels_teaches_nothing() {
    let pixels = (normal(&[12, 4, 4, 1], 40).abs() * 1.5).clamp(0.0, 3.0).to_kind(Kind::Uint8);
    let observed = flags(&[12, 4, 4], 41);
    let turned: Tensor = 3 - &pixels;
    let other = turned.where_self(&observed.unsqueeze(-1).logical_not(), &pixels);
    for (a, b) in mixtures().into_iter().zip(mixtures()) {
        let before = a.tensors();
        let [one, two] = [after_a_step(a, &pixels, &observed), after_a_step(b, &other, &observed)];
        assert!(one.iter().zip(&two).all(|(a, b)| a.1 == b.1));
        assert!(one.iter().zip(&before).any(|(a, b)| a.1 != b.1), "nothing was learned");
    }
}

#[test]
fn masks_travel_with_their_pictures() {
    let pixels: Vec<u8> = (0..6 * 16).map(|i| (i % 4) as u8).collect();
    let observed = flags(&[6, 4, 4], 50);
    let whole = Pictures::from_bytes(pixels, SHAPE).unwrap();
    let pictures = hide(&whole, &observed).unwrap();
    let chosen = pictures.select(1..6).pick(&[3, 0]);
    let Batch { pixels, observed: found, .. } = chosen.batches(0..2, 2).next().unwrap().unwrap();
    let rows = Tensor::from_slice(&[4i64, 1]);
    assert!(found.unwrap() == observed.index_select(0, &rows));
    // Where they were observed, pixels are as they were.
    let original = whole.batch(&[4, 1]).unwrap();
    let seen = observed.index_select(0, &rows).unsqueeze(-1);
    assert!(pixels.masked_fill(&seen.logical_not(), 0) == original.masked_fill(&seen.logical_not(), 0));
    assert_ne!(pictures.sha256(), whole.sha256());
    let all = hide(&whole, &Tensor::ones([6, 4, 4], (Kind::Bool, Device::Cpu))).unwrap();
    assert_ne!(all.sha256(), pictures.sha256());
    assert!(whole.batches(0..2, 2).next().unwrap().unwrap().observed.is_none());
}
