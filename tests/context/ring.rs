//! The ring gate against its definition: Gaussians and their conditionals in float64, one after the other.

use std::collections::BTreeMap;

use lvd::em::EmConfig;
use lvd::mixture::train::{LearningParts, Training};
use lvd::patch::config::{ContextConfig, GaussianConfig, ScaleGroups};
use lvd::patch::context::{ContextPatches, start};
use lvd::patch::{Infer, PatchEvidence, Reading};
use lvd::random::{Draws, rng};
use lvd::run::checkpoint::Named;
use tch::{Device, Kind, Tensor};

use crate::{EXPERTS, around, config, experts, of_experts, pictures, ring_of, view, windows};

type Saved = BTreeMap<String, Tensor>;

/// ln N(own numbers | earlier numbers) `[N]` of windows w `[N, W]`: the regression and the innovation's covariance from the
/// moments m and S, at a scale.
fn conditional(w: &Tensor, [m, s]: [&Tensor; 2], own: &[i64], earlier: &[i64], scale: f64) -> Tensor {
    let [own, earlier] = [own, earlier].map(Tensor::from_slice);
    let block = |rows: &Tensor, cols: &Tensor| s.index_select(0, rows).index_select(1, cols);
    let about = |numbers: &Tensor| w.index_select(1, numbers) - m.index_select(0, numbers);
    let gain = block(&own, &earlier).matmul(&block(&earlier, &earlier).inverse());
    let innovation = about(&own) - about(&earlier).matmul(&gain.tr());
    let covariance = (block(&own, &own) - gain.matmul(&block(&earlier, &own))) * scale.powi(2);
    let distance = (innovation.matmul(&covariance.inverse()) * &innovation).sum_dim_intlist(1, false, Kind::Double);
    (distance + (covariance * std::f64::consts::TAU).slogdet().1) * -0.5
}

/// Numbers of a window in the experts' order, for each group: those of the ring, those of the patch.
struct Places {
    context: Vec<i64>,
    ring: Vec<Vec<i64>>,
    patch: Vec<Vec<i64>>,
}

/// For so many channels, in which the first may be a group of its own.
fn places(around: &ContextConfig, width: i64, channels: i64, groups: ScaleGroups) -> Places {
    let (p, t) = (around.patch as i64, around.context as i64);
    let above = (-t..0).flat_map(|row| (-t..p + t).map(move |col| (row, col)));
    let pixels: Vec<_> = above.chain((0..p).flat_map(|row| (-t..0).map(move |col| (row, col)))).collect();
    let given = pixels.len() as i64 * channels;
    let colours = match groups {
        ScaleGroups::One => vec![(0, channels)],
        _ => vec![(0, 1), (1, 3)],
    };
    let near = |(row, col): (i64, i64)| {
        let distance = [-row, -col, col - p + 1].into_iter().max().unwrap();
        distance <= width
    };
    let ring = |&(first, end): &(i64, i64)| {
        let near = pixels.iter().zip(0..).filter(|(pixel, _)| near(**pixel)).map(|(_, number)| number);
        near.flat_map(|pixel: i64| (first..end).map(move |c| pixel * channels + c)).collect()
    };
    let patch = |&(first, end): &(i64, i64)| (given + p * p * first..given + p * p * end).collect();
    Places {
        context: (0..given).collect(),
        ring: colours.iter().map(ring).collect(),
        patch: colours.iter().map(patch).collect(),
    }
}

/// Logarithms of `w_k h_ks p(ring | k, s)` and of p(x | c, k, s), `[N, K, S]` each, where of windows in the experts' order,
/// about the centre, this is there.
fn joints(saved: &Saved, w: &Tensor, places: &Places, there: &[bool]) -> [Tensor; 2] {
    let (scales, log_weights) = (&saved["scales"], &saved["log_weights"]);
    let seen = |numbers: &[i64]| numbers.iter().copied().filter(|&i| there[i as usize]).collect::<Vec<_>>();
    let (mut rings, mut patches) = (Vec::new(), Vec::new());
    for (k, s) in (0..EXPERTS as i64).flat_map(|k| (0..scales.size()[0]).map(move |s| (k, s))) {
        let constant = saved["share"].double_value(&[k]).ln() + log_weights.double_value(&[k, s]);
        let mut ring = w.select(1, 0).full_like(constant);
        let mut patch = ring.zeros_like();
        let (mut before_ring, mut before) = (Vec::new(), seen(&places.context));
        for (g, (own_ring, own)) in places.ring.iter().zip(&places.patch).enumerate() {
            let [m, c] = ["mean", "shape"].map(|name| saved[&format!("{name}.{g}")].get(k));
            let (own_ring, own, scale) = (seen(own_ring), seen(own), scales.double_value(&[s, g as i64]));
            if !own_ring.is_empty() {
                ring += conditional(w, [&m, &c], &own_ring, &before_ring, scale);
            }
            patch += conditional(w, [&m, &c], &own, &before, scale);
            before_ring.extend(own_ring);
            before.extend(own);
        }
        rings.push(ring);
        patches.push(patch);
    }
    [rings, patches].map(|all| Tensor::stack(&all, 1).view([w.size()[0], EXPERTS as i64, -1]))
}

fn total(joint: &Tensor) -> Tensor {
    joint.logsumexp([1i64, 2].as_slice(), false)
}

/// Experts that differ in their weights and in those of their scales.
fn uneven(groups: ScaleGroups, around: &ContextConfig, numbers: usize) -> (ContextPatches, Saved) {
    let ranges = vec![(0, 9); numbers];
    let mut saved: Saved = experts(groups, around, &ranges).tensors().into_iter().collect();
    let weights = saved["log_weights"].copy();
    let tilted =
        &weights + (Tensor::arange(weights.numel() as i64, (Kind::Double, Device::Cpu)) * 2.3).sin().view_as(&weights);
    saved.insert("log_weights".to_owned(), tilted.log_softmax(1, Kind::Double));
    saved.insert("share".to_owned(), Tensor::from_slice(&[0.2f64, 0.8]));
    let model = ContextPatches::from_tensors(&config(groups), around, &ranges, &Named::new(&saved)).unwrap();
    (model, saved)
}

#[test]
fn weights_are_the_posterior_of_experts_and_scales_given_the_ring() {
    for (groups, channels, context, width) in
        [(ScaleGroups::One, 1, 2, 1), (ScaleGroups::One, 3, 1, 1), (ScaleGroups::LumaChroma, 3, 2, 2)]
    {
        let around = around(2, context, ring_of(width));
        let places = places(&around, width as i64, channels, groups);
        let numbers = places.context.len() + 4 * channels as usize;
        let (model, saved) = uneven(groups, &around, numbers);
        let x = windows(7, numbers as i64, 9);
        let w = (&x - &saved["centre"]).index_select(1, &saved["order"]);
        let row_length = (2 + 2 * context) as i64 * channels;
        // Nothing is missing; all above; all around; pixels here and there.
        let lower = [0, context as i64 * row_length, places.context.len() as i64];
        let mut cuts: Vec<Vec<bool>> =
            lower.map(|first| (0..numbers as i64).map(|number| number >= first).collect()).to_vec();
        cuts.push((0..numbers).map(|number| number / channels as usize % (2 + 2 * context) != 1).collect());
        cuts[3][places.context.len()..].fill(true);
        for there in cuts {
            let observed = Tensor::from_slice(&there).unsqueeze(0);
            let evidence = PatchEvidence::new(&x, Reading::Density).with_observed(&observed);
            let [ring, patch] = joints(&saved, &w, &places, &there);
            let normal = total(&ring).unsqueeze(1);
            for (found, expected) in [
                (model.weights(&evidence).unwrap(), ring.logsumexp([2i64].as_slice(), false) - &normal),
                (
                    model.log_likelihood(&evidence).unwrap(),
                    (&ring + patch).logsumexp([2i64].as_slice(), false) - normal,
                ),
            ] {
                let worst = (found - expected).abs().max().double_value(&[]);
                assert!(worst < 1e-9, "{groups:?}, {context} pixels, {there:?}: {worst}");
            }
        }
    }
}

#[test]
fn full_em_never_lowers_the_likelihood_of_ring_and_patch() {
    // Without a prior, pseudocounts and truncation every step is that of EM.
    let config =
        GaussianConfig { prior_strength: 0.0, truncate_posterior: 0.0, floor: 1e-9, ..config(ScaleGroups::One) };
    let around = around(2, 1, ring_of(1));
    let view = view(6, 8, 16, [2, 1]);
    let numbers: Vec<usize> = (0..60).collect();
    let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &numbers };
    let x = view.dequantised(&pictures(60), &draws).index_select(1, &view.whole().unwrap());
    let flat = x.flatten(0, 1).to_kind(Kind::Double);
    let members = flat.chunk(EXPERTS as i64, 0);
    let mut random = rng(3, "gate", 0);
    let model = start::from_members(&config, &around, &members, &view.ranges(), Device::Cpu, &mut random).unwrap();
    let mut model = of_experts(view, model);
    let em = EmConfig { pseudocount: 0.0, ..EmConfig::default() };
    let parts = LearningParts { patches: true, prior: true };
    let mut training = Training::new(&mut model, parts, &em, 60);
    let places = places(&around, 1, 1, ScaleGroups::One);
    let windows = PatchEvidence::new(&x, Reading::Density);
    let mut nats = Vec::new();
    for _ in 0..20 {
        let saved: Saved = training.model.patches().tensors().into_iter().collect();
        let w = (&flat - &saved["centre"]).index_select(1, &saved["order"]);
        let [ring, patch] = joints(&saved, &w, &places, &[true; 10]);
        let given = training.accumulate(&windows).unwrap().sum(Kind::Double).double_value(&[]);
        let expected = (total(&(&ring + &patch)) - total(&ring)).sum(Kind::Double).double_value(&[]);
        assert!((given - expected).abs() < 1e-6 * expected.abs(), "{given}, expected {expected}");
        nats.push(total(&(ring + patch)).mean(Kind::Double).double_value(&[]));
        training.step(1.0);
    }
    assert!(nats.windows(2).all(|pair| pair[1] > pair[0] - 1e-9), "{nats:?}");
    assert!(nats[19] > nats[0] + 0.1, "{nats:?}");
}
