//! Gaussian patches against references in float64, enumeration, numerical integration and the theorems of EM.

use lvd::em::EmConfig;
use lvd::patch::config::{Covariance, GaussianConfig, GaussianStart, ScaleGroups};
use lvd::patch::gaussian::component::Component;
use lvd::patch::gaussian::conditional::{conditional_moments, conditional_shape};
use lvd::patch::gaussian::{GaussianPatches, start};
use lvd::patch::{Grow, Infer, Learn, PatchEvidence, Reading};
use lvd::random::rng;
use lvd::run::checkpoint::Named;
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const LEVELS: i64 = 5;

/// Everything exact: float64, nothing left out.
/// Floats as points of the density (NaN: not observed), integers in order.
fn seen(x: &Tensor) -> PatchEvidence {
    if !x.is_floating_point() {
        return PatchEvidence::new(x, Reading::Ordered);
    }
    let observed = x.isnan().logical_not();
    let all = bool::try_from(observed.all()).unwrap();
    let seen = PatchEvidence::new(x, Reading::Density);
    if all { seen } else { seen.with_observed(&observed) }
}

fn exact() -> GaussianConfig {
    GaussianConfig {
        double: true,
        truncate_posterior: 0.0,
        ordered_window: f64::INFINITY,
        prior_strength: 3.0,
        scales: 3,
        ..GaussianConfig::default()
    }
}

/// The same with scales of luma and chroma apart.
fn apart() -> GaussianConfig {
    GaussianConfig { scale_groups: ScaleGroups::LumaChroma, ..exact() }
}

/// Correlated integers in range, dequantised: `[n, D]`.
fn patches(n: i64, d: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed, "test patches", 0);
    let mut out = Vec::new();
    for _ in 0..n {
        let base = rng.random_range(0.0..LEVELS as f64);
        for _ in 0..d {
            let x: f64 = (base + rng.random_range(-1.0..1.0)).clamp(0.0, LEVELS as f64 - 1.0);
            out.push(x.floor() + rng.random::<f64>());
        }
    }
    Tensor::from_slice(&out).view([n, d])
}

fn model(config: &GaussianConfig, clusters: i64, d: i64) -> GaussianPatches {
    let members: Vec<Tensor> = (0..clusters).map(|k| patches(20, d, k as u64)).collect();
    start::from_members(config, &members, &vec![(0, LEVELS - 1); d as usize], Device::Cpu).unwrap()
}

/// All `LEVELS^d` patches, int64.
fn worlds(d: u32) -> Tensor {
    let all = (0..LEVELS.pow(d)).flat_map(|x| (0..d).map(move |i| x / LEVELS.pow(i) % LEVELS));
    Tensor::from_slice(&all.collect::<Vec<_>>()).view([-1, i64::from(d)])
}

fn tensor(model: &GaussianPatches, name: &str) -> Tensor {
    model.tensors().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// ln N(x; mean, shape) by determinant and inverse.
fn log_normal(x: &Tensor, mean: &Tensor, shape: &Tensor) -> f64 {
    let deviation = x - mean;
    let distance = deviation.dot(&shape.inverse().mv(&deviation)).double_value(&[]);
    -0.5 * (distance + shape.det().double_value(&[]).ln() + x.numel() as f64 * (2.0 * std::f64::consts::PI).ln())
}

/// ln p(x | k) by the definition.
fn reference(config: &GaussianConfig, model: &GaussianPatches, x: &Tensor, k: i64) -> f64 {
    let (centre, mean) = (tensor(model, "centre"), tensor(model, "mean").get(k));
    let (shape, weights) = (tensor(model, "shape").get(k), tensor(model, "log_weights").get(k));
    let (x, d) = (x - centre, x.numel());
    let scales = [-1f64, 0.0, 1.0].map(f64::exp);
    let apart = config.scale_groups == ScaleGroups::LumaChroma;
    // Luma is every third variable; components have it first.
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by_key(|i| apart && i % 3 != 0);
    let x = x.index_select(0, &Tensor::from_slice(&order.iter().map(|&i| i as i64).collect::<Vec<_>>()));
    let terms = (0..if apart { 9 } else { 3 }).map(|s: usize| {
        let of = |i: &usize| if apart && !i.is_multiple_of(3) { scales[s / 3] } else { scales[s % 3] };
        let scale = Tensor::from_slice(&order.iter().map(of).collect::<Vec<_>>());
        weights.double_value(&[s as i64]).exp() * log_normal(&x, &mean, &(&shape * scale.outer(&scale))).exp()
    });
    terms.sum::<f64>().ln()
}

fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found}, expected {expected}");
}

#[test]
fn the_density_is_that_of_the_definition_and_marginals_are_its_integrals() {
    for (config, d) in [(exact(), 3), (apart(), 3), (apart(), 6)] {
        let model = model(&config, 2, d);
        let x = patches(7, d, 9);
        let found = model.log_likelihood(&seen(&x)).unwrap();
        for (i, k) in (0..7).flat_map(|i| [(i, 0), (i, 1)]) {
            assert_close(found.double_value(&[i, k]), reference(&config, &model, &x.get(i), k), 1e-10);
        }
        integrates(&model, d);
    }
}

/// The marginal without one variable is the integral over it, the conditional mean that of the variable times the density.
fn integrates(model: &GaussianPatches, d: i64) {
    let x = patches(1, d, 9);
    let one = x.get(0);
    let grid = 4000;
    let line = Tensor::linspace(-40.0, 50.0, grid, (Kind::Double, Device::Cpu));
    let filled = one.unsqueeze(0).expand([grid, d], false).copy();
    filled.select(1, 1).copy_(&line);
    let density = model.log_likelihood(&seen(&filled)).unwrap().exp();
    let integral = density.sum_dim_intlist(0, false, Kind::Double) * (90.0 / 3999.0);
    let [first, second] = [1, 2]
        .map(|power| line.pow_tensor_scalar(power).unsqueeze(0).matmul(&density).get(0) * (90.0 / 3999.0) / &integral);
    let _ = one.get(1).fill_(f64::NAN);
    let marginal = model.log_likelihood(&seen(&one.unsqueeze(0))).unwrap().get(0).exp();
    let centre = tensor(model, "centre");
    for k in 0..2 {
        assert_close(marginal.double_value(&[k]), integral.double_value(&[k]), 1e-6);
        let [mean, shape, weights] = ["mean", "shape", "log_weights"].map(|name| tensor(model, name).get(k));
        let component = Component::new(&mean, &shape, &weights, 1.0, model.common());
        let order = if d == 3 { vec![0i64, 1, 2] } else { vec![0, 3, 1, 2, 4, 5] };
        let place = order.iter().position(|&v| v == 1).unwrap() as i64;
        let ordered = (&one - &centre).index_select(0, &Tensor::from_slice(&order));
        let observed = ordered.isnan().logical_not().unsqueeze(0);
        let [found, square] =
            conditional_moments(&ordered.nan_to_num(0.0, 0.0, 0.0).unsqueeze(0), &observed, &component)
                .map(|moment| moment.double_value(&[0, place]));
        let (first, centre) = (first.double_value(&[k]), centre.double_value(&[1]));
        assert_close(square + 2.0 * found * centre + centre * centre, second.double_value(&[k]), 1e-6);
        assert_close(found + centre, first, 1e-6);
        conditional_samples(model, &one, k, [first, second.double_value(&[k])]);
    }
    let nothing = Tensor::full([2, d], f64::NAN, (Kind::Double, Device::Cpu));
    assert!(model.log_likelihood(&seen(&nothing)).unwrap().abs().max().double_value(&[]) < 1e-300);
}

/// Draws of variable 1 given the others have its exact moments, within five standard errors; so says `expectation`.
fn conditional_samples(model: &GaussianPatches, one: &Tensor, k: i64, [first, second]: [f64; 2]) {
    const COUNT: i64 = 20_000;
    let patch = seen(&one.nan_to_num(0.0, 0.0, 0.0).unsqueeze(0)).with_observed(&one.isnan().logical_not());
    let weights = Tensor::from_slice(&[0i64, 1]).eq(k).unsqueeze(0);
    let [mean, square] = model.expectation(&patch, &weights).unwrap().map(|moment| moment.double_value(&[0, 1]));
    assert_close(mean, first, 1e-6);
    assert_close(square, second, 1e-6);
    let many = patch.rows(&Tensor::zeros([COUNT], (Kind::Int64, Device::Cpu)));
    let clusters = Tensor::full([COUNT], k, (Kind::Int64, Device::Cpu));
    let drawn = model.sample_given(&many, &clusters, &mut rng(5, "test", 0)).unwrap();
    assert_close(drawn.double_value(&[17, 0]), one.double_value(&[0]), 1e-12);
    let drawn = drawn.select(1, 1);
    for (moment, expected) in [(drawn.shallow_clone(), first), (drawn.square(), second)] {
        let error = moment.std(true).double_value(&[]) / (COUNT as f64).sqrt();
        let found = moment.mean(Kind::Double).double_value(&[]);
        assert!((found - expected).abs() < 5.0 * error, "{found} +- {error}, expected {expected}");
    }
}

#[test]
fn conditionals_are_schur_complements() {
    let model = model(&exact(), 1, 4);
    let parts = [tensor(&model, "mean"), tensor(&model, "shape")].map(|t| t.get(0));
    let [mean, shape] = &parts;
    let x = Tensor::from_slice(&[f64::NAN, 1.5, f64::NAN, 0.5]);
    let component = Component::new(mean, shape, &tensor(&model, "log_weights").get(0), 1.0, model.common());
    let observed = x.isnan().logical_not().unsqueeze(0);
    let [found, _] = conditional_moments(&x.nan_to_num(0.0, 0.0, 0.0).unsqueeze(0), &observed, &component);
    let found = found.get(0);
    // The precision matrix knows both: E[m | o] = mu_m - P_mm^-1 P_mo (x_o - mu_o), Cov = P_mm^-1.
    let precision = shape.inverse();
    let missing = Tensor::from_slice(&[0i64, 2]);
    let seen = Tensor::from_slice(&[1i64, 3]);
    let block = |a: &Tensor, b: &Tensor| precision.index_select(0, a).index_select(1, b);
    let covariance = block(&missing, &missing).inverse();
    let deviation = x.index_select(0, &seen) - mean.index_select(0, &seen);
    let expected = mean.index_select(0, &missing) - covariance.matmul(&block(&missing, &seen)).mv(&deviation);
    let error = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    assert!(error(&found.index_select(0, &missing), &expected) < 1e-10);
    assert!(error(&conditional_shape(&[false, true, false, true], &component), &covariance) < 1e-10);
    assert_close(found.double_value(&[1]), 1.5, 1e-12);
}

#[test]
fn the_ordered_reading_sums_to_one_and_is_no_less_than_the_bound() {
    for (d, scales, config) in [(2, 1, exact()), (2, 3, exact()), (3, 3, exact()), (3, 3, apart())] {
        let model = model(&GaussianConfig { scales, ..config }, 2, d);
        let worlds = worlds(d as u32);
        let mass = model.log_likelihood(&seen(&worlds)).unwrap();
        let sums = mass.exp().sum_dim_intlist(0, false, Kind::Double);
        for k in 0..2 {
            assert_close(sums.double_value(&[k]), 1.0, 1e-12);
        }
    }
    // With a window something may be left out, never added.
    let narrow = GaussianConfig { ordered_window: 0.5, ..exact() };
    let (all, some) = (model(&exact(), 2, 2), model(&narrow, 2, 2));
    let worlds = worlds(2);
    let excess = some.log_likelihood(&seen(&worlds)).unwrap() - all.log_likelihood(&seen(&worlds)).unwrap();
    assert!(excess.max().double_value(&[]) <= 1e-12);
}

#[test]
fn the_density_bound_is_below_the_mass_of_its_box() {
    for d in [1, 2] {
        let model = model(&exact(), 1, d);
        let grid = 60i64;
        let step = (Tensor::arange(grid, (Kind::Double, Device::Cpu)) + 0.5) / grid as f64;
        let noise = match d {
            1 => step.view([grid, 1]),
            _ => Tensor::cartesian_prod(&[step.shallow_clone(), step]),
        };
        for world in worlds(d as u32).to_kind(Kind::Double).split(1, 0) {
            let density = model.log_likelihood(&seen(&(&noise + &world))).unwrap().select(1, 0);
            let bound = density.mean(Kind::Double).double_value(&[]);
            let mass = density.exp().mean(Kind::Double).double_value(&[]).ln();
            assert!(bound <= mass + 1e-12, "{bound} above {mass}");
            if d == 1 {
                // In one dimension the ordered reading is the box itself, but for the tails.
                let ordered = model.log_likelihood(&seen(&world.to_kind(Kind::Int64))).unwrap().double_value(&[0, 0]);
                let inside = (1..LEVELS - 1).contains(&world.int64_value(&[0, 0]));
                assert!(ordered >= mass - 1e-4);
                assert!(!inside || (ordered - mass).abs() < 1e-4, "{ordered}, box {mass}");
            }
        }
    }
}

/// ln p(data) and the logarithm of the priors on shapes and scales, with even clusters.
fn objective(model: &GaussianPatches, x: &Tensor, config: &GaussianConfig, pseudocount: f64) -> f64 {
    let k = model.clusters() as i64;
    let likelihood = (model.log_likelihood(&seen(x)).unwrap() - (k as f64).ln()).logsumexp(1, false);
    let covariance = tensor(model, "covariance");
    let d = covariance.size()[0];
    let prior = covariance * config.prior_scale + Tensor::eye(d, (Kind::Double, Device::Cpu)) / 12.0;
    let mut total = likelihood.sum(Kind::Double).double_value(&[]);
    for c in 0..k {
        let shape = tensor(model, "shape").get(c);
        let trace = prior.matmul(&shape.inverse()).trace().double_value(&[]);
        total -= 0.5 * config.prior_strength * (shape.det().double_value(&[]).ln() + trace);
        let weights = tensor(model, "log_weights").get(c).sum(Kind::Double).double_value(&[]);
        total += pseudocount / model.common().count() as f64 * weights;
    }
    total
}

#[test]
fn full_em_never_lowers_likelihood_times_prior() {
    for covariance in [Covariance::Full, Covariance::LowRank { rank: 1 }] {
        never_falls(&GaussianConfig { floor: 1e-9, covariance, ..exact() });
        never_falls(&GaussianConfig { floor: 1e-9, covariance, ..apart() });
    }
}

fn never_falls(config: &GaussianConfig) {
    let mut model = model(config, 3, 3);
    let x = patches(200, 3, 77);
    let em = EmConfig { pseudocount: 0.7, ..EmConfig::default() };
    model.begin(&em, 200.0);
    let mut before = f64::NEG_INFINITY;
    for _ in 0..15 {
        let now = objective(&model, &x, config, em.pseudocount);
        assert!(now >= before - 1e-8, "{before} -> {now}");
        before = now;
        let posterior = model.log_likelihood(&seen(&x)).unwrap().softmax(1, Kind::Double);
        // Two micro-batches make the same step as one.
        for (x, posterior) in x.split(120, 0).iter().zip(posterior.split(120, 0)) {
            model.accumulate(&seen(x), &posterior).unwrap();
        }
        model.step(1.0);
    }
}

#[test]
fn a_step_from_the_statistics_that_the_parameters_imply_changes_nothing() {
    for config in [exact(), apart()] {
        let mut model = model(&GaussianConfig { floor: 1e-9, ..config }, 2, 3);
        let before = [tensor(&model, "mean"), tensor(&model, "shape")];
        model.begin(&EmConfig { pseudocount: 0.0, ..EmConfig::default() }, 40.0);
        let x = patches(30, 3, 5);
        model.accumulate(&seen(&x), &Tensor::full([30, 2], 0.5, (Kind::Double, Device::Cpu))).unwrap();
        model.step(1e-12);
        for (before, after) in before.iter().zip([tensor(&model, "mean"), tensor(&model, "shape")]) {
            assert!((before - after).abs().max().double_value(&[]) < 1e-9);
        }
    }
}

#[test]
fn samples_occur_as_often_as_the_ordered_reading_says() {
    let model = model(&exact(), 1, 2);
    let drawn = model.sample(0, 4000, &mut rng(4, "test", 0));
    let worlds = worlds(2);
    // A sample is a draw of the density, floored and clipped: boxes are near, but not equal to, the ordered masses.
    let index = drawn.select(1, 0) + drawn.select(1, 1) * LEVELS;
    let share = index.bincount(None::<&Tensor>, LEVELS * LEVELS).to_kind(Kind::Double) / 4000.0;
    let mass = model.log_likelihood(&seen(&worlds)).unwrap().select(1, 0).exp();
    let total_variation = (share - mass).abs().sum(Kind::Double).double_value(&[]) / 2.0;
    assert!(total_variation < 0.08, "{total_variation}");
}

#[test]
fn luma_and_chroma_come_back_in_their_places() {
    let mut rng = rng(6, "test", 0);
    let rows: Vec<f64> = (0..1200).map(|i| f64::from(i % 6) * 2.0 + rng.random::<f64>()).collect();
    let config = GaussianConfig { scales: 1, prior_strength: 0.0, floor: 1e-3, ..apart() };
    let x = Tensor::from_slice(&rows).view([200, 6]);
    let model = start::from_members(&config, &[x], &[(0, 11); 6], Device::Cpu).unwrap();
    let drawn = model.sample(0, 500, &mut rng).to_kind(Kind::Double).mean_dim([0i64].as_slice(), false, Kind::Double);
    let expected = Tensor::arange(6, (Kind::Double, Device::Cpu)) * 2.0;
    assert!((drawn - expected).abs().max().double_value(&[]) < 0.1);
}

#[test]
fn data_of_a_known_mixture_cost_its_entropy() {
    let truth = model(&exact(), 2, 2);
    let mut x = Vec::new();
    let mut rng = rng(8, "test", 0);
    for k in 0..2 {
        x.push(truth.sample(k, 3000, &mut rng));
    }
    let x = Tensor::cat(&x, 0);
    let noise: Vec<f64> = (0..x.numel()).map(|_| rng.random::<f64>()).collect();
    let dequantised = x.to_kind(Kind::Double) + Tensor::from_slice(&noise).view_as(&x);
    let nats = |model: &GaussianPatches| {
        let log = (model.log_likelihood(&seen(&dequantised)).unwrap() - 2f64.ln()).logsumexp(1, false);
        (-log.mean(Kind::Double).double_value(&[]), log.std(true).double_value(&[]) / 6000f64.sqrt())
    };
    let (entropy, error) = nats(&truth);
    let mut learned = model(&exact(), 2, 2);
    learned.randomise(&mut rng);
    learned.begin(&EmConfig::default(), 6000.0);
    for _ in 0..60 {
        let posterior = (learned.log_likelihood(&seen(&dequantised)).unwrap()).softmax(1, Kind::Double);
        learned.accumulate(&seen(&dequantised), &posterior).unwrap();
        learned.step(1.0);
    }
    assert!(nats(&learned).0 <= entropy + 3.0 * error, "{} against {entropy} +- {error}", nats(&learned).0);
}

#[test]
fn float32_agrees_with_float64_and_order_does_not_matter() {
    let d = 70; // wide enough for the split triangle
    let (double, single) = (model(&exact(), 2, d), model(&GaussianConfig { double: false, ..exact() }, 2, d));
    let x = patches(33, d, 3);
    let [a, b] = [double.log_likelihood(&seen(&x)).unwrap(), single.log_likelihood(&seen(&x)).unwrap()];
    assert!((&a - b.to_kind(Kind::Double)).abs().max().double_value(&[]) < 1e-2);
    let integers = x.floor().to_kind(Kind::Int64);
    let [a, b] = [double.log_likelihood(&seen(&integers)).unwrap(), single.log_likelihood(&seen(&integers)).unwrap()];
    assert!((&a - b.to_kind(Kind::Double)).abs().max().double_value(&[]) < 1e-2);
    // Components the other way round: the same numbers the other way round.
    let turned: Vec<Tensor> = (0..2).rev().map(|k| patches(20, d, k)).collect();
    let turned = start::from_members(&exact(), &turned, &vec![(0, LEVELS - 1); d as usize], Device::Cpu).unwrap();
    let difference = double.log_likelihood(&seen(&x)).unwrap() - turned.log_likelihood(&seen(&x)).unwrap().flip([1]);
    assert!(difference.abs().max().double_value(&[]) < 1e-9);
}

#[test]
fn constant_and_two_valued_pixels_give_finite_numbers() {
    let mut rng = rng(2, "test", 0);
    let rows: Vec<f64> = (0..200)
        .flat_map(|_| {
            let two = if rng.random_bool(0.5) { 0.0 } else { 255.0 };
            [
                0.0 + rng.random::<f64>(),
                two + rng.random::<f64>(),
                two + rng.random::<f64>(),
                255.0 + rng.random::<f64>(),
            ]
        })
        .collect();
    let x = Tensor::from_slice(&rows).view([200, 4]);
    for prior_strength in [0.0, 50.0] {
        let config = GaussianConfig { prior_strength, ..GaussianConfig::default() };
        let mut model = start::from_members(&config, &[x.shallow_clone()], &[(0, 255); 4], Device::Cpu).unwrap();
        model.begin(&EmConfig::default(), 200.0);
        for _ in 0..5 {
            model.accumulate(&seen(&x), &Tensor::ones([200, 1], (Kind::Float, Device::Cpu))).unwrap();
            model.step(1.0);
        }
        let strange = Tensor::from_slice(&[255i64, 0, 255, 0, 0, 255, 255, 255]).view([2, 4]);
        for log in [model.log_likelihood(&seen(&x)).unwrap(), model.log_likelihood(&seen(&strange)).unwrap()] {
            assert_eq!(log.isfinite().all().int64_value(&[]), 1, "{prior_strength}: {log:?}");
        }
        assert!(model.log_likelihood(&seen(&strange)).unwrap().max().double_value(&[]) <= 0.0);
    }
}

#[test]
fn splitting_finds_clusters_and_a_model_comes_back_from_its_tensors() {
    for covariance in [Covariance::Full, Covariance::LowRank { rank: 2 }] {
        splits(&GaussianConfig { start: GaussianStart::Splitting, covariance, ..exact() });
    }
}

fn splits(config: &GaussianConfig) {
    let members: Vec<Tensor> = (0..3).map(|k| patches(60, 3, k)).collect();
    let ranges = [(0, LEVELS - 1); 3];
    let model = start::from_members(config, &members, &ranges, Device::Cpu).unwrap();
    assert_eq!(model.clusters(), 3);
    let x = patches(9, 3, 50);
    let tensors = model.tensors().into_iter().collect();
    let again = GaussianPatches::from_tensors(config, &ranges, &Named::new(&tensors)).unwrap();
    assert!(again.log_likelihood(&seen(&x)).unwrap() == model.log_likelihood(&seen(&x)).unwrap());
    let one = start::from_members(&exact(), &[Tensor::cat(&members, 0)], &ranges, Device::Cpu).unwrap();
    let all = Tensor::cat(&members, 0);
    let nats = |m: &GaussianPatches| {
        let k = (m.clusters() as f64).ln();
        -(m.log_likelihood(&seen(&all)).unwrap() - k).logsumexp(1, false).mean(Kind::Double).double_value(&[])
    };
    assert!(nats(&model) < nats(&one));
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let model = model(&exact(), 1, 2);
    let observed = Tensor::from_slice(&[true, false]);
    let missing = seen(&Tensor::from_slice(&[1i16, 0]).view([1, 2])).with_observed(&observed);
    assert_eq!(
        model.log_likelihood(&missing).unwrap_err().to_string(),
        "the ordered reading of Gaussians has exact marginals of whole patches only: its sums run over all values of the missing variables\n  ask for the density reading"
    );
    let outside = Tensor::from_slice(&[1i64, LEVELS]).view([1, 2]);
    assert_eq!(
        model.log_likelihood(&seen(&outside)).unwrap_err().to_string(),
        "the patches hold a value outside the range of its variable"
    );
    let wide = Tensor::zeros([1, 3], (Kind::Double, Device::Cpu));
    assert_eq!(
        model.log_likelihood(&seen(&wide)).unwrap_err().to_string(),
        "the patches have 3 numbers each, the Gaussians expect 2"
    );
}
