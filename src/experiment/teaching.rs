//! The teacher's two stages, training and assigning latents, and its own row in the table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::config::Config;
use super::rows::{self, Row};
use super::stages::Runner;
use crate::data::DataSet;
use crate::data::pictures::{PictureShape, Pictures};
use crate::data::view::View;
use crate::evaluate::{Score, bits_per_dimension};
use crate::latents::{Assignments, FeatureChunks};
use crate::refusal::Interrupted;
use crate::run::metrics::Metrics;
use crate::run::stage::Stage;
use crate::run::{RunFolder, checkpoint, interrupt, progress};
use crate::teacher::training::{Ending, Progress, Trainer};
use crate::teacher::{PixelTeacher, Teacher, TeacherConfig, VqVae, VqVaeConfig};

const TEACHER: &str = "teacher.safetensors";
const CODEBOOK: &str = "codebook.safetensors";
const ASSIGNMENTS: &str = "assignments.safetensors";
const RECORD: &str = "record";
/// Pictures that a teacher looks at in one go.
const BATCH: usize = 64;

/// Stage `teacher`.
///
/// # Errors
/// [`Interrupted`] when the user stops it, with everything saved; whatever stops the training.
pub fn train(config: &Config, data: &DataSet, device: Device, stage: &Stage, metrics: &mut Metrics) -> Result<Value> {
    match &config.teacher {
        TeacherConfig::VqVae(vqvae) => train_vqvae(vqvae, config.seed, data, device, stage, metrics),
        TeacherConfig::Pixel(pixel) => {
            let teacher = PixelTeacher::fit(pixel, &data.train, config.seed, device)?;
            checkpoint::save(&stage.path(TEACHER), &teacher.to_tensors(), &BTreeMap::new())?;
            Ok(json!({"teacher": teacher.name()}))
        }
    }
}

fn train_vqvae(
    config: &VqVaeConfig,
    seed: u64,
    data: &DataSet,
    device: Device,
    stage: &Stage,
    metrics: &mut Metrics,
) -> Result<Value> {
    let mut trainer = Trainer::new(config, data.train.clone(), data.valid.clone(), device, seed)?;
    if stage.partial().exists() {
        let saved = checkpoint::load(&stage.partial(), Device::Cpu)?;
        let record: Value = serde_json::from_str(saved.entry(RECORD)?)?;
        trainer.restore(saved.tensors.into_iter().collect(), &record)?;
    }
    let shape = data.train.shape();
    let bar = progress::bar("teacher", trainer.steps());
    let mut observe = |trainer: &Trainer, step: &Progress| {
        bar.set_position(step.step);
        if let Some(report) = &step.epoch_end {
            let dimensions = shape.height * shape.width * shape.channels;
            let mut values = json!(report);
            let nats = report.valid_decoder_nats + report.valid_code_nats;
            values["valid_bpd"] = json!(bits_per_dimension(nats, dimensions));
            bar.set_message(format!("valid {:.4} bpd", bits_per_dimension(nats, dimensions)));
            tracing::info!("teacher: epoch {} of {}: {values}", step.epoch, config.epochs);
            metrics.write("teacher", step.epoch as u64, &values)?;
            save_partial(trainer, stage)?;
        }
        if interrupt::requested() {
            save_partial(trainer, stage)?;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    };
    if trainer.run(&mut observe)? == Ending::Interrupted {
        return Err(Interrupted.into());
    }
    bar.finish_and_clear();
    checkpoint::save(&stage.path(TEACHER), &trainer.best_model()?.to_tensors(), &BTreeMap::new())?;
    Ok(json!({"teacher": "vqvae", "steps": trainer.steps()}))
}

fn save_partial(trainer: &Trainer, stage: &Stage) -> Result<()> {
    let (tensors, record) = trainer.state()?;
    checkpoint::save(&stage.partial(), &tensors, &BTreeMap::from([(RECORD.to_owned(), record.to_string())]))
}

/// The teacher that stage `teacher` left.
///
/// # Errors
/// When its file cannot be read or does not fit.
pub fn load(config: &Config, run: &RunFolder, shape: PictureShape, device: Device) -> Result<Box<dyn Teacher>> {
    let path = run.stage("teacher").path(TEACHER);
    let tensors = checkpoint::load(&path, device)?.tensors.into_iter().collect();
    let teacher: Result<Box<dyn Teacher>> = match &config.teacher {
        TeacherConfig::VqVae(vqvae) => VqVae::from_tensors(vqvae, shape, tensors, device).map(|t| Box::new(t) as _),
        TeacherConfig::Pixel(pixel) => {
            PixelTeacher::from_tensors(pixel, shape, tensors, device).map(|t| Box::new(t) as _)
        }
    };
    teacher.with_context(|| path.display().to_string())
}

/// A teacher's features of the patches of all training pictures that a circuit sees.
struct Features<'a> {
    teacher: &'a dyn Teacher,
    pictures: &'a Pictures,
    device: Device,
    /// Which of the teacher's patches the circuit sees, in the circuit's order.
    seen: Tensor,
}

impl FeatureChunks for Features<'_> {
    fn count(&self) -> usize {
        self.pictures.len() * self.patches()
    }

    fn patches(&self) -> usize {
        self.seen.numel()
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let bar = progress::bar("features", self.pictures.len() as u64);
        for start in (0..self.pictures.len()).step_by(BATCH) {
            let indices: Vec<usize> = (start..(start + BATCH).min(self.pictures.len())).collect();
            let pixels = self.pictures.batch(&indices)?.to_device(self.device);
            let features = self.teacher.features(&pixels)?.index_select(1, &self.seen);
            let width = features.size()[2];
            visit(features.reshape([-1, width]))?;
            bar.inc(indices.len() as u64);
            interrupt::check()?;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Stage `latents`: k-means on the teacher's features.
///
/// # Errors
/// Refusals of k-means (too few patches, constant or non-finite features); faults of data and disk.
pub fn assign(config: &Config, run: &RunFolder, data: &DataSet, device: Device, stage: &Stage) -> Result<Value> {
    let (codebook, assignments) = with_features(config, run, data, device, |features| {
        let codebook = config.latents.fit(features, config.seed)?;
        let assignments = codebook.assign_all(features)?;
        Ok((codebook, assignments))
    })?;
    checkpoint::save(&stage.path(CODEBOOK), &codebook.to_tensors(), &BTreeMap::new())?;
    let named = [("assignments".to_owned(), assignments.to_tensor())];
    checkpoint::save(&stage.path(ASSIGNMENTS), &named, &BTreeMap::new())?;
    let counts = assignments.counts(config.latents.clusters);
    Ok(json!({
        "clusters": config.latents.clusters,
        "inertia": codebook.inertia.last(),
        "smallest_cluster": counts.iter().min(),
        "largest_cluster": counts.iter().max(),
    }))
}

/// Look at the teacher's features of the training patches that the circuit sees.
///
/// # Errors
/// When the teacher cannot be read; errors of whoever looks.
pub fn with_features<T>(
    config: &Config,
    run: &RunFolder,
    data: &DataSet,
    device: Device,
    look: impl FnOnce(&dyn FeatureChunks) -> Result<T>,
) -> Result<T> {
    let shape = data.train.shape();
    let view = super::models::view(config, shape)?;
    let teacher = load(config, run, shape, device)?;
    let seen = seen_patches(teacher.grid(), &view).to_device(device);
    look(&Features { teacher: &*teacher, pictures: &data.train, device, seen })
}

/// Numbers of the teacher's patches in the part of a picture that the circuit models.
fn seen_patches((_, columns): (usize, usize), view: &View) -> Tensor {
    let (rows, cols) = (view.grid.rows, view.grid.cols);
    let numbers: Vec<i64> = (0..rows * cols).map(|i| ((i / cols) * columns + i % cols) as i64).collect();
    Tensor::from_slice(&numbers)
}

/// The clusters of the training patches: int64 `[N, L]` on the CPU.
///
/// # Errors
/// When the file of stage `latents` cannot be read or does not fit the data.
pub fn codes(config: &Config, run: &RunFolder, data: &DataSet, view: &View) -> Result<Tensor> {
    let mut saved = checkpoint::load(&run.stage("latents").path(ASSIGNMENTS), Device::Cpu)?;
    let tensor = saved.take("assignments", &[data.train.len() as i64, view.patches() as i64])?;
    Ok(Assignments::from_tensor(&tensor, config.latents.clusters)?.to_tensor().to_kind(tch::Kind::Int64))
}

/// The teacher's own bound on the test pictures; none for teachers without one.
///
/// # Errors
/// When the teacher or pictures cannot be read.
pub fn bound_row(runner: &Runner) -> Result<Option<Row>> {
    let test = &runner.data.test;
    let shape = test.shape();
    let teacher = load(runner.config, runner.run, shape, runner.device)?;
    let (mut total, mut codes, mut decoder) = (Vec::new(), 0.0, 0.0);
    for start in (0..test.len()).step_by(BATCH) {
        let indices: Vec<usize> = (start..(start + BATCH).min(test.len())).collect();
        let _guard = tch::no_grad_guard();
        let Some(bound) = teacher.bound(&test.batch(&indices)?.to_device(runner.device))? else { return Ok(None) };
        total.extend(Vec::<f64>::try_from(bound.total())?);
        codes += bound.codes.sum(tch::Kind::Double).double_value(&[]);
        decoder += bound.decoder.sum(tch::Kind::Double).double_value(&[]);
    }
    let dimensions = shape.height * shape.width * shape.channels;
    let per_dimension = |nats: f64| bits_per_dimension(nats / test.len() as f64, dimensions);
    Ok(Some(Row {
        stage: "teacher".to_owned(),
        label: rows::label("teacher").to_owned(),
        protocol: runner.config.protocol.name().to_owned(),
        reading: "bound".to_owned(),
        score: Score::of(&total, dimensions),
        latent_bpd: per_dimension(codes),
        conditional_bpd: per_dimension(decoder),
        parameters: None,
        seconds: rows::seconds(runner, "teacher")?,
    }))
}
