//! A trained model of a run, and the pictures that it is asked about.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Device;

use super::config::Config;
use super::context::stage_fingerprint;
use super::protocol::Protocol;
use super::stage::Stage;
use super::{models, read};
use crate::data::folder::Resize;
use crate::data::pictures::{PictureShape, Pictures};
use crate::data::{self, DataConfig, Format, PictureOptions, Split, folder};
use crate::mixture::Mixture;
use crate::run::RunFolder;
use crate::{device, refusal, require};

/// Which model of a run, and which pictures.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Stage whose model is meant; where none is named, the last one of distillation that has a model, else a baseline.
    pub stage: Option<Stage>,
    /// Pictures of the user's own instead of a split of the experiment's data.
    pub data: Option<(PathBuf, Format)>,
    /// Whether those pictures have 256 levels and are to be brought to the model's.
    pub requantise: bool,
    /// Split of the experiment's data.
    pub split: Split,
    /// The protocol that the user expects.
    pub protocol: Option<Protocol>,
    /// Where the root of the data sets is, if not where the run found it.
    pub root: Option<PathBuf>,
}

/// A model and pictures of its shape.
pub struct Subject {
    /// The run's configuration.
    pub config: Config,
    /// Stage of the model.
    pub stage: Stage,
    /// The model.
    pub model: Mixture,
    /// The pictures.
    pub pictures: Pictures,
    /// What the pictures are called.
    pub source: String,
    /// Names of the pictures' files, where each has one.
    pub files: Vec<String>,
}

impl Subject {
    /// Read a model and open pictures.
    ///
    /// # Errors
    /// Refusals when the folder holds no such model, or the pictures are none or do not fit.
    pub fn open(run: &Path, wanted: &Wanted, device: Device) -> Result<Self> {
        let (run, config, stage) = trained(run, wanted.stage, wanted.root.as_deref())?;
        if let Some(expected) = wanted.protocol {
            check_protocol(&run, config.protocol, expected)?;
        }
        let (pictures, source) = pictures(&run, &config, wanted)?;
        require!(!pictures.is_empty(), "{source}: there are no pictures");
        let model = models::load(&run, &config, stage, device)?.fitted(pictures.shape());
        check_shape(model.view().shape(), pictures.shape())?;
        let files = match &wanted.data {
            Some((path, Format::Folder)) => folder::paths(path)?.iter().map(|file| name(path, file)).collect(),
            _ => Vec::new(),
        };
        Ok(Self { config, stage, model, pictures, source, files })
    }
}

fn check_protocol(run: &RunFolder, found: Protocol, expected: Protocol) -> Result<()> {
    require!(
        found == expected,
        "{}: its model counts bits under protocol {}, you ask for {}\n  a model must be trained for a protocol; numbers of different protocols cannot be compared",
        run.root().display(),
        found.name(),
        expected.name()
    );
    Ok(())
}

/// A file's path below a folder.
fn name(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

/// The model of a run alone: its configuration, the stage, and the model.
///
/// # Errors
/// Refusals when the folder holds no such model.
pub fn model(run: &Path, stage: Option<Stage>, device: Device) -> Result<(Config, Stage, Mixture)> {
    let (run, config, stage) = trained(run, stage, None)?;
    let model = models::load(&run, &config, stage, device)?;
    Ok((config, stage, model))
}

/// A run folder, its configuration (with another root of the data sets, if one is given), and the stage whose model is meant.
/// The threads are set.
pub(super) fn trained(run: &Path, stage: Option<Stage>, root: Option<&Path>) -> Result<(RunFolder, Config, Stage)> {
    let folder = RunFolder::read(run)?;
    let mut config = read::of_run(&folder)?;
    device::set_threads(config.compute.threads)?;
    if let Some(root) = root {
        config.data.root = Some(root.to_owned());
    }
    let stage = stage.map_or_else(|| last_stage(&folder), Ok)?;
    check_current(&folder, &config, stage)?;
    Ok((folder, config, stage))
}

fn last_stage(folder: &RunFolder) -> Result<Stage> {
    for stage in Stage::BY_INTEREST {
        // A stage with a record whose model is gone is not passed over: reading it says what to do.
        if folder.stage(stage.name()).record()?.is_some() {
            return Ok(stage);
        }
    }
    Err(refusal!("{}: no circuit has been trained here yet", folder.root().display()))
}

/// Refuse a stage that is not done, or was made from another configuration or from other stages than the folder holds.
pub(super) fn check_current(folder: &RunFolder, config: &Config, stage: Stage) -> Result<()> {
    require!(
        stage.has_circuit(),
        "stage {stage} leaves no circuit\n  circuits come from the stages {}",
        with_circuits()
    );
    let root = folder.root().display();
    stage.check_wanted(config, &root.to_string())?;
    let record = folder.stage(stage.name()).record()?;
    let record = record.ok_or_else(|| refusal!("{root}: stage {stage} is not done\n  finish it by `lvd run`"))?;
    let now = stage_fingerprint(config, folder, &folder.manifest()?.data, stage)?;
    require!(
        now.is_some_and(|now| now == record.fingerprint),
        "{root}: stage {stage} was made from another configuration than config.yaml holds now, or from an earlier state of \
         the stages before it\n  bring it up to date by `lvd run`"
    );
    Ok(())
}

fn with_circuits() -> String {
    Stage::ALL.iter().filter(|s| s.has_circuit()).map(|s| s.name()).collect::<Vec<_>>().join(", ")
}

fn pictures(folder: &RunFolder, config: &Config, wanted: &Wanted) -> Result<(Pictures, String)> {
    if let Some((path, format)) = &wanted.data {
        let levels = config.data.levels;
        require!(
            !format.is_built_in(),
            "{}: pictures of this --format are part of the program, in no file: leave out --format, or name that of the file",
            path.display()
        );
        if config.data.resize != Resize::Exact && *format == Format::Folder {
            tracing::info!("pictures of another size than the model's are brought to it, as in the run (data.resize)");
        }
        let name = path.display().to_string();
        if wanted.requantise {
            let pictures = data::open_pictures(*format, path, PictureOptions { levels: 256, ..config.data.options() })?;
            return Ok((pictures.requantised(levels)?, format!("{name}, {levels} of 256 levels")));
        }
        return Ok((data::open_pictures(*format, path, PictureOptions { levels, ..config.data.options() })?, name));
    }
    // Pixels are missing in training pictures alone.
    let mask = config.data.mask.clone().filter(|_| wanted.split == Split::Train);
    let set = data::open(&DataConfig { mask, ..config.data.clone() }, config.seed)?;
    let pictures = set.part(wanted.split).clone();
    check_same(folder, wanted.split, &pictures)?;
    Ok((pictures, wanted.split.to_string()))
}

/// A split of the run's own data must be the one that the run was made with.
pub(super) fn check_same(folder: &RunFolder, split: Split, pictures: &Pictures) -> Result<()> {
    require!(
        !pictures.has_missing(),
        "{}: pixels of the {split} pictures are missing (data.mask)\n  ask for valid or test, or name whole pictures by --data",
        folder.root().display()
    );
    let Some(expected) = folder.manifest()?.data.remove(&split.to_string()) else { return Ok(()) };
    let found = pictures.sha256();
    require!(
        found == expected,
        "{}: the {split} pictures are not those of the run (SHA-256)\n  expected {expected}\n  found    {found}\n  bring the files \
         back, or name pictures of your own by --data",
        folder.root().display()
    );
    Ok(())
}

/// Pictures of another shape than the model was trained for are refused.
pub(super) fn check_shape(expected: PictureShape, found: PictureShape) -> Result<()> {
    require!(
        found == expected,
        "the pictures are {} x {} x {} with {} levels, the model was trained for {} x {} x {} with {}{}",
        found.height,
        found.width,
        found.channels,
        found.levels,
        expected.height,
        expected.width,
        expected.channels,
        expected.levels,
        if found.levels == 256 && expected.levels < 256 {
            "\n  --requantise brings 256 levels to the model's"
        } else {
            ""
        }
    );
    Ok(())
}
