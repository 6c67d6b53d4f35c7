//! The VQ-VAE-2 teacher as a whole: shapes on awkward grids, an honest bound, training that can be broken off.

use anyhow::Result;
use lvd::data::pictures::{PictureShape, Pictures};
use lvd::random;
use lvd::teacher::training::{Ending, EpochReport, Trainer};
use lvd::teacher::vqvae::{CodePrior, FeatureChoice};
use lvd::teacher::{Teacher, VqVae, VqVaeConfig};
use rand::RngExt;
use std::ops::ControlFlow;
use tch::{Device, Kind, Tensor};

fn tiny(patch: usize) -> VqVaeConfig {
    VqVaeConfig {
        patch,
        hidden: 8,
        residual: 4,
        residual_blocks: 1,
        embedding: 4,
        codes_bottom: 8,
        codes_top: 6,
        decoder: vec![16],
        mixtures: 2,
        epochs: 3,
        batch: 8,
        restart_after: 4,
        ..VqVaeConfig::default()
    }
}

fn shape(height: usize, width: usize, channels: usize, levels: usize) -> PictureShape {
    PictureShape { height, width, channels, levels }
}

/// Pictures of independent uniform values.
fn noise(count: usize, shape: PictureShape, seed: u64) -> Pictures {
    let mut rng = random::rng(seed, "noise", 0);
    let size = count * shape.height * shape.width * shape.channels;
    Pictures::from_bytes((0..size).map(|_| rng.random_range(0..shape.levels) as u8).collect(), shape).unwrap()
}

/// Pictures of two kinds: all low or all high values, with one level of noise.
fn two_kinds(count: usize, shape: PictureShape, seed: u64) -> Pictures {
    let mut rng = random::rng(seed, "two kinds", 0);
    let size = shape.height * shape.width * shape.channels;
    let mut bytes = Vec::new();
    for _ in 0..count {
        let base = if rng.random_bool(0.5) { 1 } else { shape.levels as u8 - 3 };
        bytes.extend((0..size).map(|_| base + rng.random_range(0..2u8)));
    }
    Pictures::from_bytes(bytes, shape).unwrap()
}

fn train(config: &VqVaeConfig, train: &Pictures, valid: &Pictures, seed: u64) -> (Trainer, Ending, Vec<EpochReport>) {
    let mut trainer = Trainer::new(config, train.clone(), valid.clone(), Device::Cpu, seed).unwrap();
    let mut epochs = Vec::new();
    let ending = trainer
        .run(&mut |_, progress| {
            epochs.extend(progress.epoch_end.clone());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    (trainer, ending, epochs)
}

/// The number in a one-element tensor.
fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

#[test]
fn any_picture_divisible_by_the_patch_is_described() {
    let shapes = [
        (8, 8, 1, 2),   // grid 4 x 4
        (8, 8, 1, 8),   // grid 1 x 1: the top level is padded
        (12, 20, 3, 4), // grid 3 x 5: odd both ways
        (6, 4, 3, 2),   // grid 3 x 2
        (2, 2, 1, 2),   // one patch of the least size
    ];
    for (height, width, channels, patch) in shapes {
        let shape = shape(height, width, channels, 17);
        let pixels = noise(3, shape, 1).batch(&[0, 1, 2]).unwrap();
        for (features, numbers) in
            [(FeatureChoice::Quantised, 8), (FeatureChoice::Continuous, 8), (FeatureChoice::Codes, 14)]
        {
            let config = VqVaeConfig { features, ..tiny(patch) };
            let model = VqVae::fresh(&config, shape, 3, Device::Cpu).unwrap();
            let (rows, columns) = model.grid();
            assert_eq!((rows, columns), (height / patch, width / patch));
            let found = model.features(&pixels).unwrap();
            assert_eq!((found.size(), found.kind()), (vec![3, (rows * columns) as i64, numbers], Kind::Float));
            let bound = model.bound(&pixels).unwrap().unwrap();
            assert_eq!((bound.total().size(), bound.total().kind()), (vec![3], Kind::Double));
            // An untrained model's prior is uniform: 8 bottom codes a patch, 6 top codes a square of patches.
            let squares = rows.div_ceil(2) * columns.div_ceil(2);
            let expected = (rows * columns) as f64 * 8f64.ln() + squares as f64 * 6f64.ln();
            assert!((number(&bound.codes.get(0)) - expected).abs() < 1e-9);
        }
    }
}

#[test]
fn a_batch_is_its_pictures_one_by_one_in_any_order() {
    let shape = shape(12, 8, 3, 256);
    let pictures = noise(4, shape, 2);
    let model = VqVae::fresh(&tiny(4), shape, 5, Device::Cpu).unwrap();
    let all = model.features(&pictures.batch(&[0, 1, 2, 3]).unwrap()).unwrap();
    let turned = model.features(&pictures.batch(&[2, 0, 3, 1]).unwrap()).unwrap();
    assert!(turned.allclose(&all.index_select(0, &Tensor::from_slice(&[2i64, 0, 3, 1])), 1e-5, 1e-6, false));
    let bounds = model.bound(&pictures.batch(&[0, 1, 2, 3]).unwrap()).unwrap().unwrap().total();
    for picture in 0..4 {
        let alone = model.bound(&pictures.batch(&[picture]).unwrap()).unwrap().unwrap().total();
        assert!((number(&alone) - bounds.double_value(&[picture as i64])).abs() < 1e-3);
    }
}

#[test]
fn codes_as_features_count_the_codes_that_differ() {
    let shape = shape(8, 8, 1, 17);
    let config = VqVaeConfig { features: FeatureChoice::Codes, ..tiny(2) };
    let (trainer, ..) = train(&config, &noise(40, shape, 1), &noise(8, shape, 2), 1);
    let found = trainer.best_model().unwrap().features(&noise(9, shape, 3).batch(&[0, 4, 8]).unwrap()).unwrap();
    let flat = found.flatten(0, 1);
    let distances = Tensor::cdist(&flat, &flat, 2.0, None).square();
    let whole = distances.round();
    assert!(distances.allclose(&whole, 0.0, 1e-3, false));
    assert!(number(&whole.max()) <= 2.0 && number(&whole.max()) >= 1.0);
}

#[test]
fn on_uniform_noise_the_bound_is_above_the_entropy_and_comes_near_it() {
    let shape = shape(4, 4, 1, 17);
    let entropy = 16.0 * 17f64.ln();
    for code_prior in [CodePrior::Uniform, CodePrior::Empirical] {
        let config = VqVaeConfig { code_prior, epochs: 12, batch: 32, ..tiny(2) };
        let (trainer, ..) = train(&config, &noise(512, shape, 1), &noise(128, shape, 2), 1);
        let fresh = noise(2000, shape, 3).batch(&(0..2000).collect::<Vec<_>>()).unwrap();
        let bound = trainer.best_model().unwrap().bound(&fresh).unwrap().unwrap();
        let (mean, deviation) = (number(&bound.total().mean(Kind::Double)), number(&bound.total().std(true)));
        assert!(mean + 3.0 * deviation / 2000f64.sqrt() > entropy, "{code_prior:?}: {mean} under {entropy}");
        assert!(mean < 1.35 * entropy, "{code_prior:?}: {mean} far above {entropy}");
        assert!(number(&bound.codes.min()) > 0.0);
    }
}

#[test]
fn training_learns_what_there_is_to_learn() {
    // One bit says which kind a picture is, each of its 64 values is one more fair bit: 65 ln 2 nats.
    let shape = shape(8, 8, 1, 17);
    let config = VqVaeConfig { epochs: 30, learning_rate: 3e-3, ..tiny(4) };
    let (_, ending, epochs) = train(&config, &two_kinds(256, shape, 1), &two_kinds(64, shape, 2), 1);
    let nats = |report: &EpochReport| report.valid_decoder_nats + report.valid_code_nats;
    let best = epochs.iter().rfind(|report| report.best).map(nats).unwrap();
    let truth = 65.0 * 2f64.ln();
    assert!(best < nats(&epochs[0]) / 2.0 && best < 1.4 * truth, "{best} after {:?}, {ending:?}", nats(&epochs[0]));
    assert!(best > 0.95 * truth, "{best} is below the entropy {truth}");
}

/// Steps until the observer has been called `steps` times.
fn run_for(trainer: &mut Trainer, steps: u64) -> Result<Ending> {
    let mut left = steps;
    trainer.run(&mut |_, _| {
        left -= 1;
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}

#[test]
fn a_broken_training_goes_on_bit_for_bit() {
    let shape = shape(8, 8, 1, 17);
    let (train, valid) = (noise(30, shape, 1), noise(9, shape, 2));
    let fresh = || Trainer::new(&tiny(2), train.clone(), valid.clone(), Device::Cpu, 9).unwrap();
    let finish = |trainer: &mut Trainer| {
        assert_eq!(run_for(trainer, u64::MAX).unwrap(), Ending::Complete);
        trainer.state().unwrap()
    };
    let (expected, expected_record) = finish(&mut fresh());
    // Four steps an epoch: in the first epoch, at its end, in the last.
    for steps in [1, 4, 10] {
        let mut first = fresh();
        assert_eq!(run_for(&mut first, steps).unwrap(), Ending::Interrupted);
        let (tensors, record) = first.state().unwrap();
        let record = serde_json::from_str(&record.to_string()).unwrap();
        let mut second = fresh();
        second.restore(tensors, &record).unwrap();
        let (found, found_record) = finish(&mut second);
        assert_eq!(found_record, expected_record);
        assert_eq!(found.len(), expected.len());
        for ((found_name, found), (name, expected)) in found.iter().zip(&expected) {
            assert_eq!(found_name, name);
            assert!(found == expected, "{name} differs after a break at step {steps}");
        }
    }
}

#[test]
fn what_does_not_belong_is_refused() {
    let shape = shape(8, 8, 1, 17);
    let pictures = noise(8, shape, 1);
    let trainer = |config: &VqVaeConfig, seed| {
        Trainer::new(config, pictures.clone(), pictures.clone(), Device::Cpu, seed).unwrap()
    };
    let (tensors, record) = trainer(&tiny(2), 1).state().unwrap();
    let copy = || tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect::<Vec<_>>();
    let error = trainer(&tiny(2), 2).restore(copy(), &record).unwrap_err().to_string();
    assert!(error.starts_with("teacher state: it belongs to another training"), "{error}");
    let mut missing = copy();
    let (name, _) = missing.remove(0);
    let error = trainer(&tiny(2), 1).restore(missing, &record).unwrap_err().to_string();
    assert!(error.starts_with(&format!("teacher weights: tensor `{name}` is missing: ")), "{error}");

    let weights = VqVae::fresh(&tiny(2), shape, 1, Device::Cpu).unwrap().to_tensors();
    let wider = VqVaeConfig { embedding: 5, ..tiny(2) };
    let error = VqVae::from_tensors(&wider, shape, weights, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("expected Float [5, 8, 1, 1], found Float [4, 8, 1, 1]"), "{error}");
    let empty = Pictures::from_bytes(vec![], shape).unwrap();
    let error = Trainer::new(&tiny(2), pictures.clone(), empty, Device::Cpu, 1).err().unwrap().to_string();
    assert_eq!(error, "teacher: there are no validation pictures: choose a split that has some");
}

#[test]
fn weights_round_trip() {
    let shape = shape(6, 6, 3, 256);
    let pixels = noise(2, shape, 1).batch(&[0, 1]).unwrap();
    let model = VqVae::fresh(&tiny(2), shape, 4, Device::Cpu).unwrap();
    let again = VqVae::from_tensors(&tiny(2), shape, model.to_tensors(), Device::Cpu).unwrap();
    assert_eq!(model.features(&pixels).unwrap(), again.features(&pixels).unwrap());
    let names: Vec<String> = model.to_tensors().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"bottom.codebook".into()) && names.contains(&"top.prior.empirical".into()), "{names:?}");
}
