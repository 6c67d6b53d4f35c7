//! Questions to a model against enumeration: 2 x 4 pictures of bits, two patches, three clusters.

mod oracle;

use lvd::circuit::evidence::Evidence;
use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::latent_tree::{self, LatentTreeConfig, certain};
use lvd::mixture::mask::Mask;
use lvd::mixture::{Mixture, Prior, even_weights};
use lvd::patch::config::{ContextConfig, GateConfig, GaussianConfig, HcltConfig, Start};
use lvd::patch::{PatchEvidence, PatchModel, Reading, context, gaussian, hclt};
use lvd::query::support::{Answer, Question};
use lvd::query::{conditional, explain};
use lvd::random::{Draws, rng};
use lvd::structure::config::TreeConfig;
use lvd::structure::hclt::forest;
use lvd::wavelet::Transform;
use oracle::{numbers, random};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

const CLUSTERS: usize = 3;
const SHAPE: PictureShape = PictureShape { height: 2, width: 4, channels: 1, levels: 2 };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Latents {
    Independent,
    Tree,
    Hidden,
}

const ALL: [Latents; 3] = [Latents::Independent, Latents::Tree, Latents::Hidden];

fn view() -> View {
    View::new(SHAPE, ColorSpace::Grey, Region::Whole, 2).unwrap()
}

fn members(d: i64) -> Vec<Tensor> {
    let bits = |k: i64| (0..8 * d).map(|i| i64::from(i * (k + 3) % 7 > 2)).collect::<Vec<_>>();
    (0..CLUSTERS as i64).map(|k| Tensor::from_slice(&bits(k)).view([8, d])).collect()
}

fn with_latents(view: View, patches: Box<dyn PatchModel>, latents: Latents) -> Mixture {
    let hidden = match latents {
        Latents::Independent => {
            let weights = Tensor::from_slice(&[0.2, 0.3, 0.5]).log();
            return Mixture::independent(view, patches, weights);
        }
        Latents::Tree => None,
        Latents::Hidden => Some(2),
    };
    let config = LatentTreeConfig { hidden, ..LatentTreeConfig::default() };
    let mut tree = latent_tree::uniform(&config, &vec![Some(1), None], 2, CLUSTERS, Device::Cpu).unwrap();
    tree.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(2, "test", 0)));
    Mixture::new(view, patches, Prior::Tree(Box::new(tree)))
}

/// HCLTs with tables at random.
fn model(latents: Latents) -> Mixture {
    let config = HcltConfig {
        states: 2,
        tree: TreeConfig::Given { parents: vec![None, Some(0), Some(0), Some(2)] },
        ..HcltConfig::default()
    };
    let random = &mut rng(1, "test", 0);
    let patches =
        hclt::start::from_members(&config, &members(4), &view().ranges(), Start::Random, Device::Cpu, random).unwrap();
    with_latents(view(), Box::new(patches), latents)
}

fn gaussians() -> GaussianConfig {
    GaussianConfig { double: true, scales: 2, ordered_window: f64::INFINITY, ..GaussianConfig::default() }
}

/// Gaussians of noisy bits.
fn density(view: View, latents: Latents) -> Mixture {
    let d = view.variables() as i64;
    let noisy = |(k, bits): (usize, Tensor)| {
        let random = &mut rng(k as u64, "noise", 0);
        let noise: Vec<f64> = (0..bits.numel()).map(|_| random.random::<f64>()).collect();
        bits.to_kind(Kind::Double) + Tensor::from_slice(&noise).view_as(&bits)
    };
    let members: Vec<Tensor> = members(d).into_iter().enumerate().map(noisy).collect();
    let patches = gaussian::start::from_members(&gaussians(), &members, &view.ranges(), Device::Cpu).unwrap();
    with_latents(view, Box::new(patches), latents)
}

/// All 256 pictures, u8 `[256, 2, 4, 1]`.
fn pixels() -> Tensor {
    let bits: Vec<u8> = (0..256u16).flat_map(|x| (0..8).map(move |bit| (x >> bit & 1) as u8)).collect();
    Tensor::from_slice(&bits).view([256, 2, 4, 1])
}

fn worlds() -> Tensor {
    view().integers(&pixels()).unwrap()
}

fn exact(patches: &Tensor) -> PatchEvidence {
    PatchEvidence::new(patches, Reading::Exact)
}

fn nats(model: &Mixture, evidence: &PatchEvidence) -> Vec<f64> {
    numbers(&conditional::log_likelihood(model, evidence).unwrap())
}

/// Masks `[n, 2, 4]` of every kind: at random, of nothing, of everything.
fn masks() -> Tensor {
    let random = &mut rng(5, "masks", 0);
    let mut flags: Vec<bool> = (0..6 * 8).map(|_| random.random()).collect();
    flags.extend([false; 8]);
    flags.extend([true; 8]);
    Tensor::from_slice(&flags).view([-1, 2, 4])
}

fn mask(observed: &Tensor) -> Mask {
    Mask::new(observed).unwrap()
}

/// Probabilities of the worlds that agree with one of them on a mask `[2, 4]`, 0 elsewhere.
fn agreeing(model: &Mixture, world: i64, observed: &Tensor) -> Vec<f64> {
    let all = pixels();
    let same = all.eq_tensor(&all.get(world)).squeeze_dim(-1).logical_or(&observed.logical_not());
    let same = numbers(&same.flatten(1, 2).all_dim(1, false));
    nats(model, &exact(&worlds())).iter().zip(same).map(|(nats, same)| nats.exp() * same).collect()
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < tolerance, "{worst}: {a:?} {b:?}");
}

#[test]
fn marginals_are_sums_and_conditionals_their_quotients() {
    for latents in ALL {
        let model = model(latents);
        let masks = masks();
        for i in 0..masks.size()[0] {
            let (world, observed) = (37 * i % 256, masks.get(i));
            let evidence = model.observe(exact(&worlds().narrow(0, world, 1)), &mask(&observed)).unwrap();
            let expected = agreeing(&model, world, &observed).iter().sum::<f64>().ln();
            close(&nats(&model, &evidence), &[expected], 1e-5);
        }
        let nothing = mask(&masks.get(6));
        assert_eq!(nats(&model, &model.observe(exact(&worlds()), &nothing).unwrap()), vec![0.0; 256]);
    }
}

#[test]
fn a_mask_for_each_picture_and_one_for_all_agree() {
    let model = model(Latents::Hidden);
    let masks = masks();
    let worlds = worlds().narrow(0, 100, masks.size()[0]);
    let together = nats(&model, &model.observe(exact(&worlds), &mask(&masks)).unwrap());
    let alone = (0..masks.size()[0])
        .flat_map(|i| nats(&model, &model.observe(exact(&worlds.narrow(0, i, 1)), &mask(&masks.get(i))).unwrap()));
    close(&together, &alone.collect::<Vec<_>>(), 1e-6);
}

#[test]
fn completions_have_the_frequencies_of_the_conditional() {
    const COUNT: usize = 20_000;
    for latents in ALL {
        let model = model(latents);
        let (world, observed) = (90, masks().get(1));
        let evidence = model.observe(exact(&worlds().narrow(0, world, 1)), &mask(&observed)).unwrap();
        let drawn = conditional::samples(&model, &evidence, COUNT, &mut rng(3, "test", 0)).unwrap();
        let pixels = view().pixels(&drawn.squeeze_dim(0)).unwrap().view([COUNT as i64, 8]).to_kind(Kind::Int64);
        let places = Tensor::from_slice(&(0..8).map(|bit| 1i64 << bit).collect::<Vec<_>>());
        let found = numbers(&pixels.mv(&places).bincount::<Tensor>(None, 256));
        let exact = agreeing(&model, world, &observed);
        let total: f64 = exact.iter().sum();
        let (mut statistic, mut cells) = (0.0, 0);
        for (found, exact) in found.iter().zip(&exact) {
            let expected = exact / total * COUNT as f64;
            if *exact == 0.0 {
                assert!(*found < 0.5, "an observed pixel has changed");
            } else {
                statistic += (found - expected).powi(2) / expected;
                cells += 1;
            }
        }
        // Mean of chi-square and five of its standard deviations.
        let freedom = f64::from(cells - 1);
        assert!(statistic < freedom + 5.0 * (2.0 * freedom).sqrt(), "{latents:?}: {statistic} of {freedom}");
    }
}

#[test]
fn moments_are_sums_over_all_completions() {
    for latents in ALL {
        let model = model(latents);
        for i in 0..3 {
            let (world, observed) = (77 + i, masks().get(i));
            let evidence = model.observe(exact(&worlds().narrow(0, world, 1)), &mask(&observed)).unwrap();
            let found = conditional::moments(&model, &evidence).unwrap();
            let weights = Tensor::from_slice(&agreeing(&model, world, &observed));
            let weights = &weights / weights.sum(Kind::Double);
            let mean = worlds().to_kind(Kind::Double).flatten(1, 2).tr().mv(&weights);
            close(&numbers(&found.mean), &numbers(&mean), 1e-5);
            close(&numbers(&found.variance), &numbers(&(&mean - mean.square())), 1e-5);
        }
    }
}

#[test]
fn many_completions_have_the_conditional_moments() {
    const COUNT: i64 = 4_000;
    for latents in ALL {
        let model = density(view(), latents);
        let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &[0] };
        let seen = model.evidence(&pixels().narrow(0, 90, 1), Reading::Density, &draws).unwrap();
        let evidence = model.observe(seen, &mask(&masks().get(1))).unwrap();
        let found = conditional::moments(&model, &evidence).unwrap();
        let drawn = conditional::samples(&model, &evidence, COUNT as usize, &mut rng(3, "test", 0)).unwrap();
        let mean = drawn.mean_dim([1i64].as_slice(), false, Kind::Double);
        let error = (&found.variance / COUNT as f64).sqrt();
        let worst = (&mean - &found.mean).abs() - error * 5.0;
        assert!(worst.max().double_value(&[]) < 1e-6, "{latents:?}: {mean} {}", found.mean);
        let observed = found.variance.eq(0.0);
        let values = evidence.values().to_kind(Kind::Double).unsqueeze(1).expand_as(&drawn);
        let same = drawn.eq_tensor(&values).logical_or(&observed.logical_not().unsqueeze(1));
        assert!(bool::try_from(same.all()).unwrap(), "an observed value has changed");
        let spread = drawn.var_dim([1i64].as_slice(), true, false);
        let ratio = (spread / &found.variance).masked_select(&observed.logical_not());
        assert!((ratio - 1.0).abs().max().double_value(&[]) < 0.25, "{latents:?}");
    }
}

#[test]
fn what_is_odd_is_odd_given_everything_else() {
    for latents in ALL {
        let model = model(latents);
        let all = nats(&model, &exact(&worlds()));
        let found = conditional::patch_surprise(&model, &exact(&worlds())).unwrap();
        for i in 0..2i64 {
            let right = Tensor::from_slice(&[false, false, true, true]).expand([2, 4], false);
            let others = if i == 0 { right.copy() } else { right.logical_not() };
            let others = nats(&model, &model.observe(exact(&worlds()), &mask(&others)).unwrap());
            let expected: Vec<f64> = others.iter().zip(&all).map(|(others, all)| others - all).collect();
            close(&numbers(&found.select(1, i)), &expected, 1e-5);
        }
    }
}

/// Every assignment of states and values of a small forest, one by one.
#[test]
fn max_product_finds_the_largest_of_all_states_and_values() {
    let graph = forest(&[vec![None, Some(0), Some(1)], vec![Some(2), Some(2), None]], 2, &[3, 2, 3]).unwrap();
    let tables = random::tables(&graph, 1.5, &mut rng(4, "test", 0));
    let circuit = random::circuit(&graph, &tables, Kind::Double);
    let values = Tensor::from_slice(&[2i64, 0, 1, 0, 1, 2]).view([2, 3]);
    let observed = Tensor::from_slice(&[true, false, false, false, true, false]).view([2, 3]);
    let evidence = Evidence::shared(&values, Some(&observed), circuit.plan()).unwrap();
    let maximum = circuit.maximise(&evidence).unwrap();
    for tree in 0..2 {
        let regions: Vec<usize> = (0..graph.regions().len()).filter(|&r| graph.trees()[r] == tree).collect();
        let at = circuit.maximiser(tree, &maximum);
        for row in 0..2i64 {
            let (mut best, mut world) = (f64::NEG_INFINITY, Vec::new());
            for states in 0..1usize << regions.len() {
                let state = |r: usize| states >> regions.iter().position(|&q| q == r).unwrap() & 1;
                let edges: f64 = regions
                    .iter()
                    .map(|&r| {
                        let region = &graph.regions()[r];
                        tables.edges[&region.tie][region.parent.map_or(0, state)][state(r)].ln()
                    })
                    .sum();
                for code in 0..18usize {
                    let x = [code % 3, code / 3 % 2, code / 6];
                    let fits = (0..3).all(|v| {
                        observed.int64_value(&[row, v]) == 0 || values.int64_value(&[row, v]) == x[v as usize] as i64
                    });
                    let read = |&r: &usize| {
                        let input = graph.regions()[r].input?;
                        Some(tables.inputs[&input.tie][x[input.variable]][state(r)].ln())
                    };
                    let total = edges + regions.iter().filter_map(read).sum::<f64>();
                    if fits && total > best {
                        (best, world) = (total, x.map(|v| v as i64).to_vec());
                    }
                }
            }
            close(&[maximum.log_probability.double_value(&[row, tree as i64])], &[best], 1e-9);
            assert_eq!(Vec::<i64>::try_from(at.get(row)).unwrap(), world);
        }
    }
}

/// All pairs of clusters, and for the explanation all completions too.
#[test]
fn the_best_explanation_is_the_largest_of_all() {
    for latents in [Latents::Independent, Latents::Tree] {
        let model = model(latents);
        let codes: Vec<i64> = (0..9).flat_map(|z| [z / 3, z % 3]).collect();
        let codes = Tensor::from_slice(&codes).view([9, 2]);
        let prior = match model.prior() {
            Prior::Independent(weights) => weights.take(&codes).sum_dim_intlist(1, false, Kind::Double),
            _ => model.log_likelihood(&certain(&codes, CLUSTERS as i64)).unwrap(),
        };
        let joint = |values: &Tensor| {
            let column = |z: i64| {
                let at = |i: i64| values.select(1, i).select(1, codes.int64_value(&[z, i]));
                at(0) + at(1) + prior.double_value(&[z])
            };
            Tensor::stack(&(0..9).map(column).collect::<Vec<_>>(), 1)
        };
        let likelihoods = joint(&model.patch_log_likelihood(&exact(&worlds())).unwrap().to_kind(Kind::Double));
        let (found, value) = explain::codes(&model, &exact(&worlds())).unwrap();
        let (expected, at) = likelihoods.max_dim(1, false);
        close(&numbers(&value), &numbers(&expected), 1e-5);
        assert!(found == codes.index_select(0, &at), "{latents:?}");

        let maxima = model.patches().maximum(&exact(&worlds()).flat()).unwrap().view([256, 2, 3]);
        let of_worlds = numbers(&joint(&maxima).amax([1i64].as_slice(), false));
        for i in 0..masks().size()[0] {
            let (world, observed) = (37 * i % 256, masks().get(i));
            let evidence = model.observe(exact(&worlds().narrow(0, world, 1)), &mask(&observed)).unwrap();
            let found = explain::explain(&model, &evidence).unwrap();
            let fits = agreeing(&model, world, &observed);
            let fitting = of_worlds.iter().zip(&fits).filter(|(_, p)| **p > 0.0).map(|(nats, _)| *nats);
            close(&numbers(&found.log_probability), &[fitting.fold(f64::NEG_INFINITY, f64::max)], 1e-5);
            let again = explain::explain(&model, &exact(&found.patches)).unwrap();
            close(&numbers(&again.log_probability), &numbers(&found.log_probability), 1e-5);
            assert!(again.patches == found.patches);
        }
    }
}

#[test]
fn the_best_explanation_of_a_density_is_no_less_than_any_point() {
    let model = density(view(), Latents::Tree);
    let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &[0] };
    let seen = || model.evidence(&pixels().narrow(0, 90, 1), Reading::Density, &draws).unwrap();
    let observed = masks().get(1);
    let evidence = model.observe(seen(), &mask(&observed)).unwrap();
    let found = explain::explain(&model, &evidence).unwrap();
    let whole = |patches: &Tensor| {
        let evidence = PatchEvidence::new(patches, Reading::Density);
        numbers(&explain::explain(&model, &evidence).unwrap().log_probability)
    };
    close(&whole(&found.patches), &numbers(&found.log_probability), 1e-8);
    let drawn = conditional::samples(&model, &evidence, 200, &mut rng(3, "test", 0)).unwrap().squeeze_dim(0);
    let best = numbers(&found.log_probability)[0];
    assert!(whole(&drawn).iter().all(|nats| *nats <= best + 1e-9));
    let missing = evidence.observed().unwrap().logical_not().to_kind(Kind::Double);
    for step in [0.3, -0.3, 0.01, -0.01] {
        assert!(whole(&(&found.patches + &missing * step))[0] < best);
    }
}

#[test]
fn an_ordered_reading_sums_over_whole_patches() {
    let model = density(view(), Latents::Tree);
    let ordered = |patches: &Tensor| PatchEvidence::new(patches, Reading::Ordered);
    let left = Tensor::from_slice(&[true, true, false, false]).expand([2, 4], false);
    let all = nats(&model, &ordered(&worlds()));
    let found = nats(&model, &model.observe(ordered(&worlds().narrow(0, 90, 1)), &mask(&left)).unwrap());
    let x = pixels().narrow(2, 0, 2);
    let same = numbers(&x.eq_tensor(&x.get(90)).flatten(1, 3).all_dim(1, false));
    let expected: f64 = all.iter().zip(same).map(|(nats, same)| nats.exp() * same).sum();
    close(&found, &[expected.ln()], 1e-6);
}

/// Experts of 1 x 1 patches that see one pixel around them.
fn context() -> Mixture {
    let view = View::windowed(SHAPE, ColorSpace::Grey, Region::Whole, 1, 1).unwrap();
    let d = view.numbers() as i64;
    let noisy = |k: u64| {
        let random = &mut rng(k, "windows", 0);
        Tensor::from_slice(&(0..40 * d).map(|_| random.random_range(0.0..2.0)).collect::<Vec<f64>>()).view([40, d])
    };
    let around = ContextConfig { patch: 1, context: 1, gate: GateConfig::None };
    let members = [noisy(0), noisy(1)];
    let patches = context::start::from_members(
        &gaussians(),
        &around,
        &members,
        &view.ranges(),
        Device::Cpu,
        &mut rng(3, "gate", 0),
    )
    .unwrap();
    Mixture::new(view, Box::new(patches), Prior::Independent(even_weights(2, Device::Cpu)))
}

#[test]
fn patches_with_context_are_completed_after_a_raster_prefix() {
    let model = context();
    let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &[0] };
    let seen = || model.evidence(&pixels().narrow(0, 90, 1), Reading::Density, &draws).unwrap();
    let observed = Tensor::from_slice(&[true, true, true, true, true, false, false, false]).view([2, 4]);
    let evidence = model.observe(seen(), &mask(&observed)).unwrap();
    let drawn = conditional::samples(&model, &evidence, 3_000, &mut rng(3, "test", 0)).unwrap().squeeze_dim(0);
    let own = evidence.values().select(2, model.view().numbers() as i64 - 1).to_kind(Kind::Double);
    let known = drawn.squeeze_dim(-1).narrow(1, 0, 5);
    assert!(known == own.narrow(1, 0, 5).expand_as(&known));
    // What comes next is p(x_5 | x_0..4): the mean of many draws against a sum over a grid.
    let next = drawn.select(1, 5).squeeze_dim(-1);
    let (low, step, cells) = (-8.0, 0.01, 1_800i64);
    let grid = Tensor::arange(cells, (Kind::Double, Device::Cpu)) * step + low;
    let more = Tensor::from_slice(&[true, true, true, true, true, true, false, false]).view([2, 4]);
    let whole = model.view().grid.assemble(&own.unsqueeze(-1)).expand([cells, 2, 4, 1], false).contiguous();
    whole.select(1, 1).select(1, 1).copy_(&grid.unsqueeze(-1));
    let windows = PatchEvidence::new(&model.view().cut(&whole), Reading::Density);
    let windows = windows.with_observed(&model.view().observed().unwrap());
    let density = conditional::log_likelihood(&model, &model.observe(windows, &mask(&more)).unwrap()).unwrap();
    let density = (density - conditional::log_likelihood(&model, &evidence).unwrap()).exp() * step;
    close(&[density.sum(Kind::Double).double_value(&[])], &[1.0], 1e-3);
    let mean = density.dot(&grid).double_value(&[]);
    let spread = (density.dot(&grid.square()).double_value(&[]) - mean * mean).sqrt();
    let found = next.mean(Kind::Double).double_value(&[]);
    assert!((found - mean).abs() < 5.0 * spread / 3_000f64.sqrt(), "{found} {mean}");
}

/// The table of abilities, row by row: what it refuses is refused, the rest is answered.
#[test]
fn the_table_of_abilities_is_true() {
    let transformed = |transform| view().transformed(transform).unwrap();
    let integers = transformed(Transform::Cdf53Integer);
    let models = [
        model(Latents::Tree),
        density(view(), Latents::Tree),
        density(integers, Latents::Independent),
        density(transformed(Transform::Cdf53), Latents::Independent),
        context(),
    ];
    let mut refusals = 0;
    for model in models {
        for reading in model.readings() {
            for question in Question::ALL {
                let refused = matches!(question.answer(&model, reading), Answer::Refused(_));
                let answered = ask(&model, reading, question);
                assert_eq!(answered.is_err(), refused, "{question:?} {reading:?}: {:?}", answered.err());
                refusals += usize::from(refused);
            }
        }
    }
    assert!(refusals > 20, "{refusals}");
}

fn ask(model: &Mixture, reading: Reading, question: Question) -> anyhow::Result<()> {
    let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &[0, 1] };
    let whole = || model.evidence(&pixels().narrow(0, 90, 2), reading, &draws);
    let flags = |flags: [u8; 8]| mask(&Tensor::from_slice(&flags).view([2, 4]).ne(0));
    let some = || model.observe(whole()?, &flags([1, 0, 0, 1, 0, 1, 1, 1]));
    // The first patches in raster order, whichever size they have.
    let first = || {
        let context = model.view().context > 0;
        model.observe(whole()?, &flags(if context { [1, 1, 1, 1, 1, 1, 0, 0] } else { [1, 1, 0, 0, 1, 1, 0, 0] }))
    };
    let random = &mut rng(3, "test", 0);
    match question {
        Question::Likelihood => conditional::log_likelihood(model, &whole()?).map(drop),
        Question::Marginal => conditional::log_likelihood(model, &some()?).map(drop),
        Question::Prefix => conditional::log_likelihood(model, &first()?).map(drop),
        Question::Posterior => model.posterior(&model.patch_log_likelihood(&whole()?)?).map(drop),
        Question::JointCodes => explain::codes(model, &whole()?).map(drop),
        Question::Sample if reading == Reading::Ordered => Err(lvd::refusal!("drawn from the density")),
        Question::Sample => {
            assert_eq!(model.sample(2, random).size()[0], 2);
            Ok(())
        }
        Question::Completion => conditional::samples(model, &some()?, 2, random).map(drop),
        Question::PrefixCompletion => conditional::samples(model, &first()?, 2, random).map(drop),
        Question::Moments => conditional::moments(model, &some()?).map(drop),
        Question::Explanation | Question::MostProbablePixels => explain::explain(model, &some()?).map(drop),
    }
}
