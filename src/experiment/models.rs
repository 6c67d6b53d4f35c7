//! Models in a run folder: which stage made them, how they are read back.

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
use crate::patch::config::FamilyConfig;
use crate::patch::{self, Reading};
use crate::run::{Checkpoint, RunFolder, StageFolder, checkpoint};
use crate::{refusal, require};

/// Name of the model file of a stage.
pub const MODEL: &str = "model.safetensors";

const SHAPE: &str = "shape";
const CLUSTERS: &str = "clusters";

/// Version of the model files' format.
pub const FORMAT: &str = "2";

/// Save the model of a stage, with what a reader needs to know about it.
///
/// # Errors
/// When the file cannot be written.
pub fn save(folder: &StageFolder, config: &Config, stage: Stage, model: &Mixture) -> Result<()> {
    let view = &model.view();
    let readings: Vec<&str> = model.readings().into_iter().map(Reading::name).collect();
    let family = match stage.patch_config(config, view.shape())?.family {
        FamilyConfig::Hclt(_) => "hclt",
        FamilyConfig::Gaussian(_) => "gaussian",
    };
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("stage", stage.to_string()),
        ("inputs", folder.inputs()?),
        ("family", family.to_owned()),
        ("color", view.color.name().to_owned()),
        ("protocol", config.protocol.name().to_owned()),
        ("transform", serde_json::to_value(view.transform)?.as_str().unwrap_or_default().to_owned()),
        ("patch_size", view.grid.patch.to_string()),
        ("context", view.context.to_string()),
        (CLUSTERS, model.patches().clusters().to_string()),
        ("readings", readings.join(" ")),
        (SHAPE, serde_json::to_string(&view.shape())?),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    checkpoint::save(&folder.path(MODEL), &model.tensors(), &metadata)
}

/// Refuse a file of another format, or one that another run made.
fn check_origin(saved: &Checkpoint, path: &Path, made_from: &str) -> Result<()> {
    let file = path.display();
    let format = saved.metadata.get("format").map_or("0 (lvd 0.1.0)", String::as_str);
    require!(
        format == FORMAT,
        "{file}: has format {format}, this program reads format {FORMAT}: make it again by `lvd run`"
    );
    require!(saved.entry("inputs")? == made_from, "{file}: is the model of another run: make it again by `lvd run`");
    Ok(())
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
    let (patch, region) = (stage.patch_config(config, shape)?, config.protocol.region());
    let view = match patch.context {
        0 => View::new(shape, config.color, region, patch.size)?,
        context => {
            check_context(shape, patch.size, context)?;
            View::windowed(shape, config.color, region, patch.size, context)?
        }
    };
    if stage == Stage::PixelHclt { Ok(view) } else { view.transformed(config.transform) }
}

/// Refuse pictures that have no patch with all of its context: there would be nothing to learn from.
fn check_context(shape: PictureShape, patch: usize, context: usize) -> Result<()> {
    let PictureShape { height, width, .. } = shape;
    let first = context.div_ceil(patch.max(1)) * patch;
    require!(
        first + patch <= height && first + patch + context <= width,
        "patch.context: pictures of {height} x {width} have no patch of {patch} x {patch} with all of its context of {context} \
         pixels\n  choose a smaller patch.context or patch.size"
    );
    Ok(())
}

/// Read the model of a stage.
///
/// # Errors
/// When the stage is not done or its file does not fit.
pub fn load(run: &RunFolder, config: &Config, stage: Stage, device: Device) -> Result<Mixture> {
    let folder = run.stage(stage.name());
    let path = folder.finished(MODEL)?;
    let saved = checkpoint::load(&path, device)?;
    check_origin(&saved, &path, &folder.record()?.map_or_else(String::new, |record| record.fingerprint))?;
    built(&saved, config, stage, device).map_err(|error| misfit(&path, stage, error))
}

/// Shape of the pictures of a model file, and its clusters, as its metadata say.
///
/// # Errors
/// A refusal where they do not.
pub fn sizes(path: &Path) -> Result<(PictureShape, usize)> {
    let metadata = checkpoint::metadata(path)?;
    let entry = |key: &str| {
        let value = metadata.get(key).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        value.ok_or_else(|| refusal!("{}: metadata '{key}' is missing: make it again by `lvd run`", path.display()))
    };
    Ok((serde_json::from_value(entry(SHAPE)?)?, serde_json::from_value(entry(CLUSTERS)?)?))
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
    let tensors = saved.named();
    let patch_config = stage.patch_config(config, shape)?;
    let view = stage_view(config, stage, shape)?;
    let patches = patch::from_tensors(&patch_config, &view.ranges(), &tensors.under("patch"))?;
    let clusters = patches.clusters();
    let prior = match saved_parents(&tensors, view.patches())? {
        None if patches.own_weights() => Prior::Given,
        None => Prior::Independent(even_weights(clusters, device)),
        Some(parents) => Prior::Tree(Box::new(latent_tree::uniform(
            &config.distill.tree,
            &parents,
            view.grid.cols,
            clusters,
            device,
        )?)),
    };
    let mut model = Mixture::new(view, patches, prior);
    model.restore(&tensors)?;
    Ok(model)
}
