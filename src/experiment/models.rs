//! Models in a run folder: which stage made them, how they are read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tch::Device;

use super::config::Config;
use crate::data::pictures::PictureShape;
use crate::data::view::View;
use crate::latent_tree;
use crate::mixture::checkpoint::saved_parents;
use crate::mixture::{Mixture, Prior, even_weights};
use crate::patch;
use crate::patch::config::{FamilyConfig, PatchConfig};
use crate::run::{RunFolder, StageFolder, checkpoint};

/// Name of the model file of a stage.
pub const MODEL: &str = "model.safetensors";

const SHAPE: &str = "shape";

/// Save the model of a stage.
///
/// # Errors
/// When the file cannot be written.
pub fn save(stage: &StageFolder, model: &Mixture) -> Result<()> {
    let metadata = BTreeMap::from([(SHAPE.to_owned(), serde_json::to_string(&model.view.shape())?)]);
    checkpoint::save(&stage.path(MODEL), &model.tensors(), &metadata)
}

/// How circuits of this experiment see pictures.
///
/// # Errors
/// When colour or patch do not fit the pictures.
pub fn view(config: &Config, shape: PictureShape) -> Result<View> {
    stage_view(config, "", shape)
}

/// How the circuit of a stage sees pictures: that of the whole-picture baseline sees pixels.
///
/// # Errors
/// As [`view`].
pub fn stage_view(config: &Config, stage: &str, shape: PictureShape) -> Result<View> {
    let size = patch_config(config, stage, shape)?.size;
    let view = View::new(shape, config.color, config.protocol.region(), size)?;
    if stage == "pixel_hclt" { Ok(view) } else { view.transformed(config.transform) }
}

/// The configuration of the patches that a stage's model has: those of the whole-picture baseline differ.
///
/// # Errors
/// When the stage is the baseline and the experiment has none.
pub fn patch_config(config: &Config, stage: &str, shape: PictureShape) -> Result<PatchConfig> {
    if stage != "pixel_hclt" {
        return Ok(config.patch.clone());
    }
    let pixel = config.baselines.pixel_hclt.as_ref().context("the experiment has no baselines.pixel_hclt")?;
    crate::require!(
        shape.height == shape.width,
        "baselines.pixel_hclt: expected square pictures, found {} x {}",
        shape.height,
        shape.width
    );
    let parts = config.protocol.region().parts();
    Ok(PatchConfig { size: shape.height / parts, family: FamilyConfig::Hclt(pixel.circuit.clone()) })
}

/// Read the model of a stage.
///
/// # Errors
/// When the stage is not done or its file does not fit.
pub fn load(run: &RunFolder, config: &Config, stage: &str, device: Device) -> Result<Mixture> {
    let path = run.stage(stage).path(MODEL);
    let saved = checkpoint::load(&path, device)?;
    let shape: PictureShape = serde_json::from_str(saved.entry(SHAPE)?).with_context(|| path.display().to_string())?;
    let tensors = saved.tensors;
    let patch_config = patch_config(config, stage, shape)?;
    let view = stage_view(config, stage, shape)?;
    let patches =
        patch::from_tensors(&patch_config, &view.ranges(), &tensors).with_context(|| path.display().to_string())?;
    let clusters = patches.clusters();
    let prior = match saved_parents(&tensors)? {
        None => Prior::Independent(even_weights(clusters, device)),
        Some(parents) => Prior::Tree(Box::new(latent_tree::uniform(
            &config.distill.tree,
            &parents,
            view.grid.cols,
            clusters,
            device,
        )?)),
    };
    let mut model = Mixture { view, patches, prior };
    model.restore(&tensors).with_context(|| path.display().to_string())?;
    Ok(model)
}

/// Pictures evaluated in one go by a stage's model.
#[must_use]
pub fn micro_batch(config: &Config, stage: &str) -> usize {
    match &config.baselines.pixel_hclt {
        Some(pixel) if stage == "pixel_hclt" => pixel.micro_batch,
        _ => config.compute.micro_batch,
    }
}
