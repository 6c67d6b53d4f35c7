//! Models in a run folder: which stage made them, how they are read back.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Error, Result};
use tch::Device;

use super::config::Config;
use super::stage::Stage;
use crate::data::pictures::PictureShape;
use crate::data::view::View;
use crate::device::fault;
use crate::latent_tree;
use crate::mixture::checkpoint::saved_parents;
use crate::mixture::{Mixture, Prior, even_weights};
use crate::patch;
use crate::refusal;
use crate::run::{Checkpoint, RunFolder, StageFolder, checkpoint};

/// Name of the model file of a stage.
pub const MODEL: &str = "model.safetensors";

const SHAPE: &str = "shape";

/// Save the model of a stage.
///
/// # Errors
/// When the file cannot be written.
pub fn save(folder: &StageFolder, model: &Mixture) -> Result<()> {
    let metadata = BTreeMap::from([(SHAPE.to_owned(), serde_json::to_string(&model.view.shape())?)]);
    checkpoint::save(&folder.path(MODEL), &model.tensors(), &metadata)
}

/// How circuits of this experiment see pictures.
///
/// # Errors
/// When colour or patch do not fit the pictures.
pub fn view(config: &Config, shape: PictureShape) -> Result<View> {
    stage_view(config, Stage::Hard, shape)
}

/// How the circuit of a stage sees pictures: that of the whole-picture baseline sees pixels.
///
/// # Errors
/// As [`view`].
pub fn stage_view(config: &Config, stage: Stage, shape: PictureShape) -> Result<View> {
    let size = stage.patch_config(config, shape)?.size;
    let view = View::new(shape, config.color, config.protocol.region(), size)?;
    if stage == Stage::PixelHclt { Ok(view) } else { view.transformed(config.transform) }
}

/// Read the model of a stage.
///
/// # Errors
/// When the stage is not done or its file does not fit.
pub fn load(run: &RunFolder, config: &Config, stage: Stage, device: Device) -> Result<Mixture> {
    let path = run.stage(stage.name()).finished(MODEL)?;
    let saved = checkpoint::load(&path, device)?;
    built(&saved, config, stage, device).map_err(|error| misfit(&path, stage, error))
}

/// A file whose tensors or metadata are not those of the stage's model is the user's to mend; short memory is not.
fn misfit(path: &Path, stage: Stage, error: Error) -> Error {
    let text = format!("{error:#}");
    if fault::is_of_memory(&text) {
        return error.context(path.display().to_string());
    }
    refusal!("{}: is no model of stage {stage}: {}\n  make it again by `lvd run`", path.display(), fault::told(&text))
}

fn built(saved: &Checkpoint, config: &Config, stage: Stage, device: Device) -> Result<Mixture> {
    let shape: PictureShape = serde_json::from_str(saved.entry(SHAPE)?).context("metadata shape")?;
    let tensors = &saved.tensors;
    let patch_config = stage.patch_config(config, shape)?;
    let view = stage_view(config, stage, shape)?;
    let patches = patch::from_tensors(&patch_config, &view.ranges(), tensors)?;
    let clusters = patches.clusters();
    let prior = match saved_parents(tensors)? {
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
    model.restore(tensors)?;
    Ok(model)
}
