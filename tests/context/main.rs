//! Patches that see the pixels around them, against enumeration, definitions and theorems.

mod ring;

use std::collections::BTreeMap;

use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::em::EmConfig;
use lvd::mixture::Mixture;
use lvd::mixture::mask::Mask;
use lvd::mixture::train::{LearningParts, Training};
use lvd::patch::config::{ContextConfig, GateConfig, GaussianConfig, NetworkConfig, RingConfig, ScaleGroups};
use lvd::patch::context::{ContextPatches, start};
use lvd::patch::gaussian::GaussianPatches;
use lvd::patch::{Infer, PatchEvidence, Reading};
use lvd::random::{Draws, rng};
use lvd::run::checkpoint::Named;
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const EXPERTS: usize = 2;

fn config(groups: ScaleGroups) -> GaussianConfig {
    GaussianConfig {
        scales: 2,
        scale_groups: groups,
        ordered_window: f64::INFINITY,
        double: true,
        ..GaussianConfig::default()
    }
}

fn network() -> GateConfig {
    GateConfig::Network(NetworkConfig { units: 5, rate: 0.02, experts_every: 1 })
}

fn ring_of(width: usize) -> GateConfig {
    GateConfig::Ring(RingConfig { width })
}

fn around(patch: usize, context: usize, gate: GateConfig) -> ContextConfig {
    ContextConfig { patch, context, gate }
}

fn view(height: usize, width: usize, levels: usize, [patch, context]: [usize; 2]) -> View {
    let shape = PictureShape { height, width, channels: 1, levels };
    View::windowed(shape, ColorSpace::Grey, Region::Whole, patch, context).unwrap()
}

/// Random numbers `[n, d]`, correlated, of a size that suits levels of a few.
fn windows(n: i64, d: i64, seed: u64) -> Tensor {
    let mut random = rng(seed, "windows", 0);
    let numbers: Vec<f64> = (0..n * d).map(|_| random.random_range(0.0..3.0)).collect();
    let x = Tensor::from_slice(&numbers).view([n, d]);
    (&x + x.roll([1], [1]) * 0.7 + x.mean_dim([1i64].as_slice(), true, Kind::Double) * 0.5) * 0.6
}

/// Experts of random windows; a gate whose last layer is random too.
fn experts(groups: ScaleGroups, around: &ContextConfig, ranges: &[(i64, i64)]) -> ContextPatches {
    let members: Vec<Tensor> = (0..EXPERTS as u64).map(|k| windows(40, ranges.len() as i64, k)).collect();
    let model =
        start::from_members(&config(groups), around, &members, ranges, Device::Cpu, &mut rng(3, "gate", 0)).unwrap();
    let mut saved: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
    if let Some(last) = saved.get_mut("gate.w3") {
        let mut random = rng(4, "last layer", 0);
        let numbers: Vec<f32> = (0..last.numel()).map(|_| random.random_range(-0.5..0.5)).collect();
        *last = Tensor::from_slice(&numbers).view_as(last);
    }
    ContextPatches::from_tensors(&config(groups), around, ranges, &Named::new(&saved)).unwrap()
}

fn mixture(view: View, around: &ContextConfig) -> Mixture {
    of_experts(view, experts(ScaleGroups::One, around, &view.ranges()))
}

/// With constant weights of the experts where they have none of their own.
fn of_experts(view: View, experts: ContextPatches) -> Mixture {
    let gated = experts.own_weights();
    let patches = Box::new(experts);
    if gated {
        return Mixture::gated(view, patches);
    }
    Mixture::independent(view, patches, Tensor::from_slice(&[0.3f64, 0.7]).log())
}

fn log_likelihood(model: &Mixture, pixels: &Tensor, reading: Reading) -> Tensor {
    let pictures: Vec<usize> = (0..pixels.size()[0] as usize).collect();
    let noise = Draws { seed: 1, purpose: "test", pass: 0, pictures: &pictures };
    let evidence = model.evidence(pixels, reading, &noise).unwrap();
    model.log_likelihood(&model.patch_log_likelihood(&evidence).unwrap()).unwrap()
}

/// All pictures of so many pixels with so many levels, u8 `[n, H, W, 1]`.
fn worlds(height: i64, width: i64, levels: i64) -> Tensor {
    let pixels = height * width;
    let numbers = Tensor::arange(levels.pow(pixels as u32), (Kind::Int64, Device::Cpu)).unsqueeze(1);
    let places: Vec<i64> = (0..pixels as u32).map(|p| levels.pow(p)).collect();
    let digits = numbers.divide_tensor_mode(&Tensor::from_slice(&places), "floor").remainder(levels);
    digits.to_kind(Kind::Uint8).view([-1, height, width, 1])
}

#[test]
fn the_ordered_reading_sums_to_one_over_all_pictures_at_every_border() {
    // Whole and cut patches, with and without neighbours above, to the left and to the right.
    for (height, width, levels, shape) in [
        (1, 1, 5, [2, 1]),
        (2, 3, 3, [2, 1]),
        (3, 2, 3, [2, 2]),
        (3, 4, 2, [1, 1]),
        (3, 5, 2, [2, 1]),
        (4, 3, 2, [3, 2]),
    ] {
        for gate in [GateConfig::None, network(), ring_of(1), ring_of(shape[1])] {
            let model = mixture(view(height, width, levels, shape), &around(shape[0], shape[1], gate));
            let all = worlds(height as i64, width as i64, levels as i64);
            let sum = log_likelihood(&model, &all, Reading::Ordered).exp().sum(Kind::Double).double_value(&[]);
            assert!((sum - 1.0).abs() < 1e-7, "{height} x {width}, {shape:?}, {gate:?}: {sum}");
        }
    }
}

/// ln p(x | c, k) of one window in the experts' order, by the definition: regressions from the moments, at every scale.
fn reference(saved: &BTreeMap<String, Tensor>, window: &Tensor, k: i64, given: i64, groups: &[i64]) -> f64 {
    let w = (window - &saved["centre"]).index_select(0, &saved["order"]);
    let scales = &saved["scales"];
    let mut joint = Vec::new();
    for s in 0..scales.size()[0] {
        let mut total = saved["log_weights"].double_value(&[k, s]);
        let mut start = given;
        for (g, &width) in groups.iter().enumerate() {
            let [mean, shape] = ["mean", "shape"].map(|name| saved[&format!("{name}.{g}")].get(k));
            let part = |rows: i64, from: i64, cols: i64, to: i64| shape.narrow(0, from, rows).narrow(1, to, cols);
            let gain = part(width, start, start, 0).matmul(&part(start, 0, start, 0).inverse());
            let innovation = w.narrow(0, start, width)
                - mean.narrow(0, start, width)
                - gain.mv(&(w.narrow(0, 0, start) - mean.narrow(0, 0, start)));
            let scale = scales.double_value(&[s, g as i64]);
            let covariance =
                (part(width, start, width, start) - gain.matmul(&part(start, 0, width, start))) * scale.powi(2);
            let distance = innovation.dot(&covariance.inverse().mv(&innovation)).double_value(&[]);
            let determinant = (&covariance * std::f64::consts::TAU).det().log().double_value(&[]);
            total -= 0.5 * (distance + determinant);
            start += width;
        }
        joint.push(total);
    }
    Tensor::from_slice(&joint).logsumexp(0, false).double_value(&[])
}

#[test]
fn the_density_is_that_of_the_regressions() {
    for (groups, channels, widths) in [(ScaleGroups::One, 1, vec![4]), (ScaleGroups::LumaChroma, 3, vec![4, 8])] {
        let around = around(2, 1, GateConfig::None);
        let ranges = vec![(0, 9); 10 * channels];
        let model = experts(groups, &around, &ranges);
        let saved: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
        let x = windows(5, ranges.len() as i64, 9);
        let found = model.log_likelihood(&PatchEvidence::new(&x, Reading::Density)).unwrap();
        for (i, k) in (0..5).flat_map(|i| [(i, 0), (i, 1)]) {
            let expected = reference(&saved, &x.get(i), k, 6 * channels as i64, &widths);
            let found = found.double_value(&[i, k]);
            assert!(
                (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
                "{groups:?}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn what_is_cut_by_a_border_is_summed_out() {
    // The density without one number of the patch is the integral over it.
    let model = experts(ScaleGroups::One, &around(2, 1, GateConfig::None), &[(0, 9); 10]);
    let x = windows(1, 10, 9);
    let grid = 4000;
    let line = Tensor::linspace(-20.0, 25.0, grid, (Kind::Double, Device::Cpu));
    let filled = x.expand([grid, 10], false).copy();
    filled.select(1, 8).copy_(&line);
    let density = model.log_likelihood(&PatchEvidence::new(&filled, Reading::Density)).unwrap().exp();
    let integral = density.sum_dim_intlist(0, false, Kind::Double) * (45.0 / 3999.0);
    let observed = Tensor::arange(10, (Kind::Int64, Device::Cpu)).ne(8).unsqueeze(0);
    let cut = PatchEvidence::new(&x, Reading::Density).with_observed(&observed);
    let found = model.log_likelihood(&cut).unwrap().get(0).exp();
    assert!((found - &integral).abs().max().double_value(&[]) < 1e-7 * integral.max().double_value(&[]));
}

#[test]
fn regressions_that_ignore_the_context_are_the_gaussians_of_patches_alone() {
    let around = around(2, 1, GateConfig::None);
    let model = experts(ScaleGroups::One, &around, &[(0, 4); 10]);
    let mut saved: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
    let shape = saved["shape.0"].copy();
    let _ = shape.narrow(1, 0, 6).narrow(2, 6, 4).zero_();
    let _ = shape.narrow(1, 6, 4).narrow(2, 0, 6).zero_();
    let own = |name: &str, from: &Tensor, dims: &[i64]| {
        let part = dims.iter().fold(from.shallow_clone(), |t, &dim| t.narrow(dim, 6, 4));
        (name.to_owned(), part)
    };
    let mut alone: BTreeMap<String, Tensor> = [
        own("centre", &saved["centre"], &[0]),
        own("covariance", &saved["covariance"], &[0, 1]),
        own("mean", &saved["mean.0"], &[1]),
        own("shape", &shape, &[1, 2]),
    ]
    .into();
    for name in ["log_weights", "share", "scales"] {
        alone.insert(name.to_owned(), saved[name].copy());
    }
    alone.insert("order".to_owned(), Tensor::arange(4, (Kind::Int64, Device::Cpu)));
    saved.insert("shape.0".to_owned(), shape);
    let config = config(ScaleGroups::One);
    let model = ContextPatches::from_tensors(&config, &around, &[(0, 4); 10], &Named::new(&saved)).unwrap();
    let gaussians = GaussianPatches::from_tensors(&config, &[(0, 4); 4], &Named::new(&alone)).unwrap();
    for reading in [Reading::Density, Reading::Ordered] {
        let x = windows(20, 10, 5);
        let x = if reading == Reading::Ordered { x.floor().clamp(0.0, 4.0) } else { x };
        let with = model.log_likelihood(&PatchEvidence::new(&x, reading)).unwrap();
        let without = gaussians.log_likelihood(&PatchEvidence::new(&x.narrow(1, 6, 4), reading)).unwrap();
        assert!((with - without).abs().max().double_value(&[]) < 1e-9, "{reading:?}");
    }
}

fn pictures(count: i64) -> Tensor {
    (windows(count, 48, 7).view([count, 6, 8, 1]) * 3.0).floor().clamp(0.0, 15.0).to_kind(Kind::Uint8)
}

#[test]
fn free_numbers_are_counted_as_by_hand() {
    // An expert: 4 numbers regressed on 6, their means and covariances, two scales that add up to 1.
    let experts = 2 * (4 * 6 + 4 + 4 * 5 / 2 + 1);
    let alone = experts_of(GateConfig::None);
    assert_eq!(alone.parameter_count(), experts);
    // The gate: 6 numbers, 3 of the channel and 6 pixels to 5 units, to 5 units, to two experts and two scales.
    let gate = 5 * (15 + 1) + 5 * (5 + 1) + 4 * (5 + 1);
    let gated = experts_of(network());
    assert_eq!(gated.parameter_count(), experts + gate);
    let network = gated.tensors().into_iter().filter(|(name, _)| name.starts_with("gate."));
    assert_eq!(network.map(|(_, tensor)| tensor.numel()).sum::<usize>(), gate);
    // A ring of 6 numbers: their means and covariances, and the experts' weights.
    assert_eq!(experts_of(ring_of(1)).parameter_count(), experts + 2 * (6 + 6 * 7 / 2) + 1);
}

fn experts_of(gate: GateConfig) -> ContextPatches {
    experts(ScaleGroups::One, &around(2, 1, gate), &[(0, 9); 10])
}

/// Mean log-likelihood of whole windows before every one of some full steps.
fn trained(gate: GateConfig, steps: usize) -> Vec<f64> {
    let view = view(6, 8, 16, [2, 1]);
    let mut model = mixture(view, &around(2, 1, gate));
    let pixels = pictures(60);
    let numbers: Vec<usize> = (0..60).collect();
    let noise = Draws { seed: 1, purpose: "test", pass: 0, pictures: &numbers };
    let windows = model.evidence(&pixels, Reading::Density, &noise).unwrap();
    let whole = windows.values().index_select(1, &view.whole().unwrap());
    let whole = PatchEvidence::new(&whole, Reading::Density);
    let parts = LearningParts { patches: true, prior: true };
    let em = EmConfig { pseudocount: 0.0, ..EmConfig::default() };
    let mut training = Training::new(&mut model, parts, &em, 60);
    let step = |_| {
        let nats = training.accumulate(&whole).unwrap().mean(Kind::Double).double_value(&[]);
        training.step(1.0);
        nats
    };
    (0..steps).map(step).collect()
}

#[test]
fn full_em_never_lowers_the_likelihood_of_patches_given_their_contexts() {
    let nats = trained(GateConfig::None, 15);
    // The prior (of 50 windows among 60 x 6) moves the optimum: later steps trade likelihood for it, by little.
    assert!(nats.windows(2).take(5).all(|pair| pair[1] > pair[0]), "{nats:?}");
    assert!(nats[14] > nats[0] + 1.0, "{nats:?}");
}

/// Windows whose contexts tell how strong the contrast of the patch is: a standard deviation of 4 in the first half, of 0.4
/// in the second.
fn contrasts(n: usize) -> Tensor {
    let mut random = rng(6, "contrasts", 0);
    let normal = rand_distr::StandardNormal;
    let mut numbers = Vec::new();
    for i in 0..n {
        let [deviation, middle] = if i < n / 2 { [4.0, 20.0] } else { [0.4, -20.0] };
        numbers.extend((0..6).map(|_| middle + random.sample::<f64, _>(normal)));
        numbers.extend((0..4).map(|_| deviation * random.sample::<f64, _>(normal)));
    }
    Tensor::from_slice(&numbers).view([n as i64, 10])
}

/// Nats of a window, on average, after some full steps on [`contrasts`].
fn nats_of_contrasts(gate: GateConfig) -> f64 {
    let x = contrasts(1000);
    let members = x.chunk(2, 0);
    let around = around(2, 1, gate);
    // Contrasts of 0.4 are below what is usual, under the largest scale all the more.
    let config = GaussianConfig { floor: 1e-3, prior_strength: 1.0, ..config(ScaleGroups::One) };
    let mut random = rng(3, "gate", 0);
    let model = start::from_members(&config, &around, &members, &[(-99, 99); 10], Device::Cpu, &mut random).unwrap();
    let view = view(6, 8, 16, [2, 1]);
    let mut model = of_experts(view, model);
    let windows = PatchEvidence::new(&x.unsqueeze(0), Reading::Density);
    let parts = LearningParts { patches: true, prior: true };
    let mut training = Training::new(&mut model, parts, &EmConfig::default(), 100);
    for _ in 0..60 {
        let _ = training.accumulate(&windows).unwrap();
        training.step(1.0);
    }
    -training.accumulate(&windows).unwrap().sum(Kind::Double).double_value(&[]) / 1000.0
}

#[test]
fn a_gate_tells_from_the_context_what_constants_pay_for() {
    // Which of two equally frequent contrasts it is costs ln 2 where nobody looks at the context.
    let constant = nats_of_contrasts(GateConfig::None);
    for gate in [network(), ring_of(1)] {
        let gated = nats_of_contrasts(gate);
        assert!(gated < constant - 0.5, "{gate:?}: {gated}, with constant weights {constant}");
    }
}

#[test]
fn drawn_patches_have_the_moments_of_their_regression() {
    const COUNT: i64 = 20_000;
    let model = experts(ScaleGroups::One, &around(2, 1, GateConfig::None), &[(0, 9); 10]);
    let saved: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
    let x = windows(1, 10, 9);
    let known = Tensor::arange(10, (Kind::Int64, Device::Cpu)).lt(6).unsqueeze(0);
    let many = PatchEvidence::new(&x.repeat([COUNT, 1]), Reading::Density).with_observed(&known);
    let clusters = Tensor::ones([COUNT], (Kind::Int64, Device::Cpu));
    let drawn = model.sample_given(&many, &clusters, &mut rng(5, "test", 0)).unwrap();
    assert!(drawn.narrow(1, 0, 6) == x.narrow(1, 0, 6).repeat([COUNT, 1]));
    let (mean, shape) = (saved["mean.0"].get(1), saved["shape.0"].get(1));
    let part = |r: (i64, i64), c: (i64, i64)| shape.narrow(0, r.0, r.1).narrow(1, c.0, c.1);
    let gain = part((6, 4), (0, 6)).matmul(&part((0, 6), (0, 6)).inverse());
    let context = x.get(0) - &saved["centre"] - &mean;
    let expected = gain.mv(&context.narrow(0, 0, 6)) + mean.narrow(0, 6, 4) + saved["centre"].narrow(0, 6, 4);
    let spread = (saved["log_weights"].get(1).exp() * saved["scales"].select(1, 0).square()).sum(Kind::Double);
    let covariance = (part((6, 4), (6, 4)) - gain.matmul(&part((0, 6), (6, 4)))) * spread;
    let patch = drawn.narrow(1, 6, 4);
    let deviation = covariance.diagonal(0, 0, 1).sqrt();
    let error = (patch.mean_dim([0i64].as_slice(), false, Kind::Double) - expected) / &deviation;
    assert!(error.abs().max().double_value(&[]) < 5.0 / (COUNT as f64).sqrt());
    let found = patch.tr().cov(1, None::<&Tensor>, None::<&Tensor>);
    let error = (found - covariance) / deviation.outer(&deviation);
    assert!(error.abs().max().double_value(&[]) < 0.06, "{error:?}");
}

#[test]
fn pictures_are_drawn_within_their_ranges_and_marginals_are_of_prefixes() {
    for gate in [GateConfig::None, network(), ring_of(1)] {
        let model = mixture(view(5, 7, 8, [2, 2]), &around(2, 2, gate));
        let drawn = model.view().display(&model.sample(9, &mut rng(1, "samples", 0)));
        assert_eq!(drawn.size(), [9, 5, 7, 1]);
        assert!(drawn.max().int64_value(&[]) <= 255);

        let all = worlds(2, 4, 2);
        let model = mixture(view(2, 4, 2, [2, 1]), &around(2, 1, gate));
        let numbers: Vec<usize> = (0..256).collect();
        let noise = Draws { seed: 1, purpose: "test", pass: 0, pictures: &numbers };
        let evidence = || model.evidence(&all, Reading::Ordered, &noise).unwrap();
        let marginal = |mask: &Mask| {
            let seen = model.observe(evidence(), mask)?;
            model.log_likelihood(&model.patch_log_likelihood(&seen)?)
        };
        let joint = log_likelihood(&model, &all, Reading::Ordered).exp();
        let left = marginal(&Mask::left(2, 4)).unwrap().exp();
        // All pictures with the same left half as the first: pixels 2, 3, 6, 7 are free.
        let same = [0i64, 4, 8, 12, 64, 68, 72, 76, 128, 132, 136, 140, 192, 196, 200, 204];
        let sum = joint.index_select(0, &Tensor::from_slice(&same)).sum(Kind::Double).double_value(&[]);
        assert!((left.double_value(&[0]) - sum).abs() < 1e-8, "{} {sum}", left.double_value(&[0]));
        let refused = marginal(&Mask::chessboard(2, 4)).unwrap_err().to_string();
        assert!(refused.starts_with("patches with context have marginals of the first patches in raster order only"));
    }
}
