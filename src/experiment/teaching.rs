//! Stage `teacher`, the teacher that it leaves, and what that gives without a circuit: features for other programs, and its
//! own row in the table.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::config::Config;
use super::context::Context;
use super::protocol::Protocol;
use super::stage::Stage;
use super::vqvae_training;
use crate::data::Split;
use crate::run::metrics::Metrics;
use crate::run::stage::StageFolder;
use crate::run::{atomic_write, checkpoint};
use crate::teacher::features::Features;
use crate::teacher::score::{Bounds, bounds};
use crate::teacher::torchscript::export::export;
use crate::teacher::{GivenFeatures, PixelTeacher, Teacher, TeacherConfig, TorchScript, VqVae};
use crate::{refusal, require};

const TEACHER: &str = "teacher.safetensors";
/// A teacher that was made here, for other programs.
const EXPORTED: &str = "teacher.pt";
const CONTRACT: &str = "contract.json";

/// Stage `teacher`.
///
/// # Errors
/// [`Interrupted`](crate::refusal::Interrupted) when the user stops it, with everything saved; whatever stops the training.
pub fn train(context: &Context, folder: &StageFolder, metrics: &mut Metrics) -> Result<Value> {
    let Context { config, data, device, .. } = *context;
    let shape = data.train.shape();
    match &config.teacher {
        TeacherConfig::VqVae(vqvae) => {
            let trainer = vqvae_training::train(vqvae, config.seed, data, device, folder, metrics)?;
            let tensors = trainer.best_model()?.to_tensors();
            save(&tensors, folder)?;
            export(&VqVae::from_tensors(vqvae, shape, tensors, Device::Cpu)?, shape, &folder.path(EXPORTED))?;
            Ok(json!({"kind": "vqvae", "steps": trainer.steps()}))
        }
        TeacherConfig::Pixel(pixel) => {
            let tensors = PixelTeacher::fit(pixel, &data.train, config.seed, device)?.to_tensors();
            save(&tensors, folder)?;
            export(&PixelTeacher::from_tensors(pixel, shape, tensors, Device::Cpu)?, shape, &folder.path(EXPORTED))?;
            Ok(json!({"kind": "pixel"}))
        }
        TeacherConfig::TorchScript(torchscript) => {
            let teacher = TorchScript::open(torchscript, shape, device)?;
            require_clusters(&teacher, config.latents.clusters)?;
            let record = json!({"sha256": torchscript.sha256, "contract": teacher.contract()});
            atomic_write(&folder.path(CONTRACT), serde_json::to_vec_pretty(&record)?)?;
            Ok(json!({"kind": teacher.name(), "features": teacher.width()}))
        }
        TeacherConfig::Features(given) => {
            let file = given_file(config, data.train.len(), context.view.patches())?.context("it is such a teacher")?;
            atomic_write(&folder.path(CONTRACT), serde_json::to_vec_pretty(&json!({"sha256": given.sha256}))?)?;
            Ok(json!({"kind": if file.are_codes() { "codes" } else { "features" }}))
        }
    }
}

fn save(tensors: &[(String, Tensor)], folder: &StageFolder) -> Result<()> {
    checkpoint::save(&folder.path(TEACHER), tensors, &BTreeMap::new())
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
    if let TeacherConfig::Features(given) = &mut config.teacher {
        *given = given.pinned()?;
    }
    Ok(config)
}

/// The features of the training pictures, where they come from a file.
///
/// # Errors
/// A refusal where the file does not fit the pictures.
pub fn given(context: &Context) -> Result<Option<GivenFeatures>> {
    given_file(context.config, context.data.train.len(), context.view.patches())
}

/// The same for so many training pictures of so many patches.
///
/// # Errors
/// A refusal where the file does not fit them; of codes, where there are others than clusters.
pub fn given_file(config: &Config, pictures: usize, patches: usize) -> Result<Option<GivenFeatures>> {
    let TeacherConfig::Features(given) = &config.teacher else { return Ok(None) };
    let file = GivenFeatures::open(given, pictures, patches)?;
    if file.are_codes() {
        file.codes(config.latents.clusters)?;
    }
    Ok(Some(file))
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
        TeacherConfig::Features(_) => {
            return Err(refusal!(
                "teacher.kind features: the features come from a file, no teacher is there to look at other pictures"
            ));
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

/// The teacher's own code lengths of the test pictures; none for teachers without a bound, nor under a protocol that
/// counts other numbers than the stored ones.
///
/// # Errors
/// When the teacher or pictures cannot be read.
pub fn bound(context: &Context) -> Result<Option<Bounds>> {
    if context.config.protocol != Protocol::Lossless {
        tracing::info!("teacher: its bound is of whole pictures as they are stored, protocol lossless: left out");
        return Ok(None);
    }
    if matches!(context.config.teacher, TeacherConfig::Features(_)) {
        return Ok(None);
    }
    bounds(&*load(context)?, &context.data.test, context.device)
}
