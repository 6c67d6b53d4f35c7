//! The teacher's two stages, training and assigning latents, and its own row in the table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::config::Config;
use super::features::{BATCH, Features};
use super::protocol::Protocol;
use super::rows::{self, Row};
use super::stages::Runner;
use crate::data::pictures::PictureShape;
use crate::data::view::View;
use crate::data::{DataSet, Split};
use crate::evaluate::{Score, bits_per_dimension};
use crate::latents::{Assignments, FeatureChunks};
use crate::refusal::Interrupted;
use crate::require;
use crate::run::metrics::Metrics;
use crate::run::stage::StageFolder;
use crate::run::{RunFolder, atomic_write, checkpoint, interrupt, progress};
use crate::teacher::torchscript::export::export;
use crate::teacher::training::{Ending, Progress, Trainer};
use crate::teacher::{PixelTeacher, Teacher, TeacherConfig, TorchScript, VqVae, VqVaeConfig};

const TEACHER: &str = "teacher.safetensors";
/// A teacher that was made here, for other programs.
const EXPORTED: &str = "teacher.pt";
const CODEBOOK: &str = "codebook.safetensors";
const ASSIGNMENTS: &str = "assignments.safetensors";
const CONTRACT: &str = "contract.json";
const CACHE: &str = "features.npy";
const RECORD: &str = "record";

/// Stage `teacher`.
///
/// # Errors
/// [`Interrupted`] when the user stops it, with everything saved; whatever stops the training.
pub fn train(
    config: &Config,
    data: &DataSet,
    device: Device,
    stage: &StageFolder,
    metrics: &mut Metrics,
) -> Result<Value> {
    match &config.teacher {
        TeacherConfig::VqVae(vqvae) => train_vqvae(vqvae, config.seed, data, device, stage, metrics),
        TeacherConfig::Pixel(pixel) => {
            let teacher = PixelTeacher::fit(pixel, &data.train, config.seed, device)?;
            checkpoint::save(&stage.path(TEACHER), &teacher.to_tensors(), &BTreeMap::new())?;
            let teacher = PixelTeacher::from_tensors(pixel, data.train.shape(), teacher.to_tensors(), Device::Cpu)?;
            export(&teacher, data.train.shape(), &stage.path(EXPORTED))?;
            Ok(json!({"teacher": teacher.name()}))
        }
        TeacherConfig::TorchScript(torchscript) => {
            let teacher = TorchScript::open(torchscript, data.train.shape(), device)?;
            require_clusters(&teacher, config.latents.clusters)?;
            let record = json!({"sha256": torchscript.sha256, "contract": teacher.contract()});
            atomic_write(&stage.path(CONTRACT), serde_json::to_vec_pretty(&record)?)?;
            Ok(json!({"teacher": teacher.name(), "features": teacher.width()}))
        }
    }
}

/// Codes are latents as they are: there must be as many as clusters.
fn require_clusters(teacher: &TorchScript, clusters: usize) -> Result<()> {
    let codes = teacher.code_count().unwrap_or(clusters);
    require!(
        codes == clusters,
        "latents.clusters: expected {codes}, as many as the teacher's codes, found {clusters}: codes are latents as they \
         are, without k-means"
    );
    Ok(())
}

/// The experiment with the hash of the module of its teacher filled in, if it has one.
///
/// # Errors
/// A refusal where there is no such file, or not the one that the experiment names.
pub fn pinned(mut config: Config) -> Result<Config> {
    if let TeacherConfig::TorchScript(torchscript) = &mut config.teacher {
        *torchscript = torchscript.pinned()?;
    }
    Ok(config)
}

fn train_vqvae(
    config: &VqVaeConfig,
    seed: u64,
    data: &DataSet,
    device: Device,
    stage: &StageFolder,
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
    let tensors = trainer.best_model()?.to_tensors();
    checkpoint::save(&stage.path(TEACHER), &tensors, &BTreeMap::new())?;
    let teacher = VqVae::from_tensors(config, shape, tensors, Device::Cpu)?;
    export(&teacher, shape, &stage.path(EXPORTED))?;
    Ok(json!({"teacher": "vqvae", "steps": trainer.steps()}))
}

fn save_partial(trainer: &Trainer, stage: &StageFolder) -> Result<()> {
    let (tensors, record) = trainer.state()?;
    checkpoint::save(&stage.partial(), &tensors, &BTreeMap::from([(RECORD.to_owned(), record.to_string())]))
}

/// The teacher that stage `teacher` left.
///
/// # Errors
/// When its file cannot be read or does not fit.
pub fn load(config: &Config, run: &RunFolder, shape: PictureShape, device: Device) -> Result<Box<dyn Teacher>> {
    let path = run.stage("teacher").path(TEACHER);
    let saved = || Ok::<_, anyhow::Error>(checkpoint::load(&path, device)?.tensors.into_iter().collect());
    let teacher: Result<Box<dyn Teacher>> = match &config.teacher {
        TeacherConfig::VqVae(vqvae) => VqVae::from_tensors(vqvae, shape, saved()?, device).map(|t| Box::new(t) as _),
        TeacherConfig::Pixel(pixel) => {
            PixelTeacher::from_tensors(pixel, shape, saved()?, device).map(|t| Box::new(t) as _)
        }
        TeacherConfig::TorchScript(torchscript) => {
            return Ok(Box::new(TorchScript::open(torchscript, shape, device)?));
        }
    };
    teacher.with_context(|| path.display().to_string())
}

/// Write the features of a part of the data as a `.npy` array; returns its shape.
///
/// # Errors
/// When the teacher refuses pictures or the file cannot be written.
pub fn write_features(runner: &Runner, split: Split, path: &Path) -> Result<Vec<usize>> {
    let pictures = runner.data.part(split);
    let teacher = load(runner.config, runner.run, pictures.shape(), runner.device)?;
    Features::new(&*teacher, pictures, &runner.view, runner.device).write(path)
}

/// Stage `latents`: k-means on the teacher's features, or the codes of a teacher of codes as they are.
///
/// # Errors
/// Refusals of k-means (too few patches, constant or non-finite features); faults of data and disk.
pub fn assign(config: &Config, run: &RunFolder, data: &DataSet, device: Device, stage: &StageFolder) -> Result<Value> {
    let shape = data.train.shape();
    let view = super::models::view(config, shape)?;
    let teacher = load(config, run, shape, device)?;
    let cache = caches(&config.teacher).then(|| stage.path(CACHE));
    let features = Features::new(&*teacher, &data.train, &view, device).cached(cache.clone());
    let (assignments, inertia) = if teacher.code_count().is_some() {
        (features.codes()?, None)
    } else {
        let codebook = config.latents.fit(&features, config.seed)?;
        checkpoint::save(&stage.path(CODEBOOK), &codebook.to_tensors(), &BTreeMap::new())?;
        (codebook.assign_all(&features)?, codebook.inertia.last().copied())
    };
    if let Some(cache) = cache.filter(|cache| cache.exists()) {
        std::fs::remove_file(&cache).with_context(|| format!("{}: cannot be removed", cache.display()))?;
    }
    let named = [("assignments".to_owned(), assignments.to_tensor())];
    checkpoint::save(&stage.path(ASSIGNMENTS), &named, &BTreeMap::new())?;
    let counts = assignments.counts(config.latents.clusters);
    Ok(json!({
        "clusters": config.latents.clusters,
        "inertia": inertia,
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
    look(&Features::new(&*teacher, &data.train, &view, device))
}

/// Whether features are kept between the passes of k-means.
fn caches(teacher: &TeacherConfig) -> bool {
    matches!(teacher, TeacherConfig::TorchScript(config) if config.cache)
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

/// The teacher's own bound on the test pictures; none for teachers without one, nor under a protocol that counts other
/// numbers than the stored ones.
///
/// # Errors
/// When the teacher or pictures cannot be read.
pub fn bound_row(runner: &Runner) -> Result<Option<Row>> {
    let test = &runner.data.test;
    let shape = test.shape();
    if runner.config.protocol != Protocol::Lossless {
        tracing::info!("teacher: its bound is of whole pictures as they are stored, protocol lossless: left out");
        return Ok(None);
    }
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
    let (label, reading) = match &runner.config.teacher {
        TeacherConfig::TorchScript(_) => ("teacher's own log_likelihood", "own"),
        _ => (rows::label("teacher"), "bound"),
    };
    Ok(Some(Row {
        stage: "teacher".to_owned(),
        label: label.to_owned(),
        protocol: runner.config.protocol.name().to_owned(),
        reading: reading.to_owned(),
        score: Score::of(&total, dimensions),
        latent_bpd: per_dimension(codes),
        conditional_bpd: per_dimension(decoder),
        parameters: None,
        seconds: rows::seconds(runner, "teacher")?,
    }))
}
