//! Stage `latents`: every patch of the training pictures gets its cluster.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::passes::Passes;
use super::stage::Stage;
use super::teaching;
use crate::group::Alone;
use crate::latents::Assignments;
use crate::run::checkpoint;
use crate::run::stage::StageFolder;
use crate::teacher::TeacherConfig;
use crate::teacher::features::Features;

const CODEBOOK: &str = "codebook.safetensors";
const ASSIGNMENTS: &str = "assignments.safetensors";
const CACHE: &str = "features.npy";

/// Stage `latents`: k-means on the teacher's features, or the codes of a teacher of codes as they are.
///
/// # Errors
/// Refusals of k-means (too few patches, constant or non-finite features); faults of data and disk.
pub fn assign(context: &Context, stage: &StageFolder) -> Result<Value> {
    let Context { config, data, device, view, .. } = *context;
    let (assignments, inertia) = if let Some(given) = teaching::given(context)? {
        if given.are_codes() {
            (Assignments::new(given.codes(config.latents.clusters)?, given.patches())?, None)
        } else {
            cluster(context, stage, &Passes::given(given, device))?
        }
    } else {
        let teacher = teaching::load(context)?;
        let features = Features::new(&*teacher, &data.train, &view, device);
        if teacher.code_count().is_some() {
            (Assignments::new(features.codes()?, features.patches())?, None)
        } else {
            let keeps = matches!(&config.teacher, TeacherConfig::TorchScript(module) if module.cache);
            let passes = if keeps { Passes::kept_in(features, stage.state(CACHE)) } else { Passes::new(features) };
            cluster(context, stage, &passes)?
        }
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

/// k-means on features: the assignments, and the inertia that it ended with.
fn cluster(context: &Context, stage: &StageFolder, passes: &Passes) -> Result<(Assignments, Option<f64>)> {
    let codebook = context.config.latents.fit(passes, context.config.seed, &Alone)?;
    checkpoint::save(&stage.path(CODEBOOK), &codebook.to_tensors(), &BTreeMap::new())?;
    Ok((codebook.assign_all(passes)?, codebook.inertia.last().copied()))
}

/// The clusters of the training patches: int64 `[N, L]` on the CPU.
///
/// # Errors
/// When the file of stage `latents` cannot be read or does not fit the data.
pub fn codes(context: &Context) -> Result<Tensor> {
    let saved = checkpoint::load(&context.folder(Stage::Latents).finished(ASSIGNMENTS)?, Device::Cpu)?;
    let tensor =
        saved.named().tensor("assignments", &[context.data.train.len() as i64, context.view.patches() as i64])?;
    Ok(Assignments::from_tensor(tensor, context.config.latents.clusters)?.to_tensor().to_kind(Kind::Int64))
}
