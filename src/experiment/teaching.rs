//! The teacher's two stages, training and assigning latents, and its own row in the table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::config::Config;
use super::context::Context;
use super::features::{BATCH, Features};
use super::protocol::Protocol;
use super::stage::Stage;
use crate::data::{DataSet, Split};
use crate::evaluate::bits_per_dimension;
use crate::group::Alone;
use crate::latents::Assignments;
use crate::refusal::Interrupted;
use crate::require;
use crate::run::metrics::Metrics;
use crate::run::stage::StageFolder;
use crate::run::{atomic_write, checkpoint, interrupt, progress};
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
pub fn train(context: &Context, folder: &StageFolder, metrics: &mut Metrics) -> Result<Value> {
    let Context { config, data, device, .. } = *context;
    match &config.teacher {
        TeacherConfig::VqVae(vqvae) => train_vqvae(vqvae, config.seed, data, device, folder, metrics),
        TeacherConfig::Pixel(pixel) => {
            let teacher = PixelTeacher::fit(pixel, &data.train, config.seed, device)?;
            checkpoint::save(&folder.path(TEACHER), &teacher.to_tensors(), &BTreeMap::new())?;
            let teacher = PixelTeacher::from_tensors(pixel, data.train.shape(), teacher.to_tensors(), Device::Cpu)?;
            export(&teacher, data.train.shape(), &folder.path(EXPORTED))?;
            Ok(json!({"kind": teacher.name()}))
        }
        TeacherConfig::TorchScript(torchscript) => {
            let teacher = TorchScript::open(torchscript, data.train.shape(), device)?;
            require_clusters(&teacher, config.latents.clusters)?;
            let record = json!({"sha256": torchscript.sha256, "contract": teacher.contract()});
            atomic_write(&folder.path(CONTRACT), serde_json::to_vec_pretty(&record)?)?;
            Ok(json!({"kind": teacher.name(), "features": teacher.width()}))
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
        metrics.rewind(Stage::Teacher.name(), trainer.epochs_done() as u64)?;
    }
    let shape = data.train.shape();
    let bar = progress::bar(Stage::Teacher.name(), trainer.steps());
    let mut observe = |trainer: &Trainer, step: &Progress| {
        bar.set_position(step.step);
        if let Some(report) = &step.epoch_end {
            let dimensions = shape.height * shape.width * shape.channels;
            let mut values = json!(report);
            let nats = report.valid_decoder_nats + report.valid_code_nats;
            values["valid_bpd"] = json!(bits_per_dimension(nats, dimensions));
            bar.set_message(format!("valid {:.4} bpd", bits_per_dimension(nats, dimensions)));
            tracing::info!("teacher: epoch {} of {}: {values}", step.epoch, config.epochs);
            metrics.write(Stage::Teacher.name(), step.epoch as u64, &values)?;
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
    Ok(json!({"kind": "vqvae", "steps": trainer.steps()}))
}

fn save_partial(trainer: &Trainer, stage: &StageFolder) -> Result<()> {
    let (tensors, record) = trainer.state()?;
    checkpoint::save(&stage.partial(), &tensors, &BTreeMap::from([(RECORD.to_owned(), record.to_string())]))
}

/// The teacher that stage `teacher` left.
///
/// # Errors
/// When its file cannot be read or does not fit.
pub fn load(context: &Context) -> Result<Box<dyn Teacher>> {
    let Context { config, device, .. } = *context;
    let shape = context.data.train.shape();
    let path = context.folder(Stage::Teacher).path(TEACHER);
    let finished = || context.folder(Stage::Teacher).finished(TEACHER);
    let saved = || Ok::<_, anyhow::Error>(checkpoint::load(&finished()?, device)?.tensors.into_iter().collect());
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
pub fn write_features(context: &Context, split: Split, path: &Path) -> Result<Vec<usize>> {
    let teacher = load(context)?;
    Features::new(&*teacher, context.data.part(split), &context.view, context.device).write(path)
}

/// Stage `latents`: k-means on the teacher's features, or the codes of a teacher of codes as they are.
///
/// # Errors
/// Refusals of k-means (too few patches, constant or non-finite features); faults of data and disk.
pub fn assign(context: &Context, stage: &StageFolder) -> Result<Value> {
    let Context { config, data, device, view, .. } = *context;
    let teacher = load(context)?;
    let cache = caches(&config.teacher).then(|| stage.state(CACHE));
    let features = Features::new(&*teacher, &data.train, &view, device).cached(cache);
    let (assignments, inertia) = if teacher.code_count().is_some() {
        (features.codes()?, None)
    } else {
        let codebook = config.latents.fit(&features, config.seed, &Alone)?;
        checkpoint::save(&stage.path(CODEBOOK), &codebook.to_tensors(), &BTreeMap::new())?;
        (codebook.assign_all(&features)?, codebook.inertia.last().copied())
    };
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

/// Whether features are kept between the passes of k-means.
fn caches(teacher: &TeacherConfig) -> bool {
    matches!(teacher, TeacherConfig::TorchScript(config) if config.cache)
}

/// The clusters of the training patches: int64 `[N, L]` on the CPU.
///
/// # Errors
/// When the file of stage `latents` cannot be read or does not fit the data.
pub fn codes(context: &Context) -> Result<Tensor> {
    let saved = checkpoint::load(&context.folder(Stage::Latents).finished(ASSIGNMENTS)?, Device::Cpu)?;
    let tensor =
        saved.named().tensor("assignments", &[context.data.train.len() as i64, context.view.patches() as i64])?;
    Ok(Assignments::from_tensor(tensor, context.config.latents.clusters)?.to_tensor().to_kind(tch::Kind::Int64))
}

/// The teacher's own code lengths of the test pictures; none for teachers without a bound, nor under a protocol that
/// counts other numbers than the stored ones.
///
/// # Errors
/// When the teacher or pictures cannot be read.
pub fn bound(context: &Context) -> Result<Option<Bound>> {
    let test = &context.data.test;
    if context.config.protocol != Protocol::Lossless {
        tracing::info!("teacher: its bound is of whole pictures as they are stored, protocol lossless: left out");
        return Ok(None);
    }
    let teacher = load(context)?;
    let mut all = Bound::default();
    let _guard = tch::no_grad_guard();
    for batch in test.batches(0..test.len(), BATCH) {
        let Some(bound) = teacher.bound(&batch?.pixels.to_device(context.device))? else { return Ok(None) };
        all.total.extend(Vec::<f64>::try_from(bound.total())?);
        all.codes += bound.codes.sum(tch::Kind::Double).double_value(&[]);
        all.decoder += bound.decoder.sum(tch::Kind::Double).double_value(&[]);
        interrupt::check()?;
    }
    Ok(Some(all))
}

/// A teacher's own code lengths of some pictures, in nats.
#[derive(Debug, Default)]
pub struct Bound {
    /// By picture.
    pub total: Vec<f64>,
    /// Of all codes together.
    pub codes: f64,
    /// Of all pictures given their codes.
    pub decoder: f64,
}
