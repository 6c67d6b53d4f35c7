//! `init_from`: the last model of another run is the start of this one, in place of teacher, latents and hard EM.
//!
//! Its parameters are taken over as they are, its latent tree too; EM goes on with them on the pictures of this experiment.
//! Nothing here changes a structure: what differs between the two experiments is refused.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::config::Config;
use super::models::{self, MODEL};
use super::stage::Stage;
use super::subject::{check_current, check_shape};
use super::{read, teaching};
use crate::data::pictures::PictureShape;
use crate::distill::growing::config::GrowingConfig;
use crate::mixture::Mixture;
use crate::refusal::Problems;
use crate::require;
use crate::run::RunFolder;

/// Keys that say which parameters a model has and what they mean. The others say how a start is made and how it learns.
const STRUCTURE: [&str; 20] = [
    "/protocol",
    "/color",
    "/transform",
    "/patch/size",
    "/patch/context",
    "/patch/gate/kind",
    "/patch/gate/units",
    "/patch/gate/width",
    "/patch/family/kind",
    "/patch/family/states",
    "/patch/family/inputs",
    "/patch/family/tree/kind",
    "/patch/family/tree/parents",
    "/patch/family/covariance",
    "/patch/family/scales",
    "/patch/family/scale_groups",
    "/patch/family/span",
    "/distill/tree/tying",
    "/distill/tree/hidden",
    "/distill/tree/tree/parents",
];
/// Where the key `kind` differs, the other keys beside it say nothing.
const WITH_KIND: [&str; 2] = ["/patch/gate/", "/patch/family/"];

/// A run whose last model another one begins with.
pub struct Source {
    run: RunFolder,
    config: Config,
    /// Stage of the model.
    pub stage: Stage,
    /// SHA-256 of its file.
    pub sha256: String,
}

impl Source {
    /// Look into the run folder.
    ///
    /// # Errors
    /// A refusal where it is none, its last stage is not done or out of date, or the model's file is not what that left.
    pub fn open(path: &Path) -> Result<Self> {
        let run = RunFolder::read(path)?;
        let config = read::of_run(&run)?;
        let stage = Stage::last(&config);
        check_current(&run, &config, stage)?;
        let folder = run.stage(stage.name());
        folder.finished(MODEL)?;
        let record = folder.record()?.context("a stage that is done has a record")?;
        let sha256 = record.files.get(MODEL).cloned().context("a finished file is in the record")?;
        Ok(Self { run, config, stage, sha256 })
    }

    /// The run's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.run.root()
    }

    /// Refuse another structure, with both values of every key.
    fn check(&self, config: &Config) -> Result<()> {
        let place = self.run.root().display();
        let paper = matches!(self.config.distill.growing, Some(GrowingConfig::Paper(_)));
        require!(
            !paper,
            "{place}: its circuits were grown by criterion paper (distill.growing), which gives them other states than an \
             experiment says\n  name a run without it"
        );
        let [theirs, ours] = [&self.config, config].map(|config| json!(config));
        let differs = |pointer: &str| theirs.pointer(pointer) != ours.pointer(pointer);
        let of_other_kind = |pointer: &str| {
            WITH_KIND.iter().any(|part| {
                let kind = format!("{part}kind");
                pointer.starts_with(part) && pointer != kind && differs(&kind)
            })
        };
        let mut problems = Problems::default();
        for pointer in STRUCTURE.into_iter().filter(|pointer| !of_other_kind(pointer)) {
            let [expected, found] = [&theirs, &ours].map(|config| shown(config.pointer(pointer)));
            let key = pointer[1..].replace('/', ".");
            problems.check(expected == found, key, format!("expected {expected} as in {place}, found {found}"));
        }
        let (clusters, found) = (self.sizes()?.1, config.latents.clusters);
        let message = format!("expected {clusters} as in {place}, found {found}");
        problems.check(clusters == found, "latents.clusters", message);
        problems.into_result(format!("the model of {place} is of another structure"))
    }

    /// Shape of its pictures, and its clusters.
    fn sizes(&self) -> Result<(PictureShape, usize)> {
        models::sizes(&self.run.stage(self.stage.name()).path(MODEL))
    }
}

/// A value in a line.
fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What is said before a mistake of the key.
const KEY: &str = "init_from";

/// The experiment with the hashes of all that it is made of filled in: of the model that it begins with, else of the teacher's
/// weights.
///
/// # Errors
/// A refusal where there is no such run or file, not the one that the experiment names, or a model of another structure.
pub fn pinned(config: Config) -> Result<Config> {
    let Some(path) = &config.init_from else { return teaching::pinned(config) };
    let source = Source::open(path).context(KEY)?;
    source.check(&config).context(KEY)?;
    let expected = config.init_sha256.as_ref().unwrap_or(&source.sha256);
    require!(
        source.sha256 == *expected,
        "{KEY}: {}: the SHA-256 of its model is {}, expected {expected} as in init_sha256: name the right run or leave that \
         key out",
        path.display(),
        source.sha256
    );
    Ok(Config { init_sha256: Some(source.sha256), ..config })
}

/// See that a run in this folder, on pictures of this shape, can begin with the model of another run, if it is to; the model's
/// run and stage.
///
/// # Errors
/// A refusal where the folder is that of the other run, or the pictures do not fit.
pub fn check(config: &Config, run_dir: &Path, shape: PictureShape) -> Result<Option<Source>> {
    let Some(path) = &config.init_from else { return Ok(None) };
    let real = |path: &Path| path.canonicalize().ok();
    require!(
        real(path).is_none() || real(path) != real(run_dir),
        "{KEY}: {} is the folder of this run itself, whose stages would be done again\n  give another folder by --run-dir, or \
         another name",
        path.display()
    );
    let source = Source::open(path).context(KEY)?;
    let expected = source.sizes().context(KEY)?.0;
    // Patches that see the pixels around them go with pictures of any size.
    let found = if config.patch.context > 0 {
        PictureShape { height: expected.height, width: expected.width, ..shape }
    } else {
        shape
    };
    check_shape(expected, found).with_context(|| format!("{KEY}: {}", path.display()))?;
    Ok(Some(source))
}

/// The model that an experiment on pictures of this shape begins with.
///
/// # Errors
/// When it cannot be read, or is not the one that the experiment was pinned to.
pub fn model(config: &Config, shape: PictureShape, device: Device) -> Result<Mixture> {
    let source = Source::open(config.init_from.as_ref().context("the experiment has no init_from")?).context(KEY)?;
    let place = source.run.root().display();
    let same = config.init_sha256.as_ref() == Some(&source.sha256);
    require!(same, "{KEY}: {place}: its model has changed just now: wait until that run is done, then start again");
    Ok(models::load(&source.run, config, source.stage, device).context(KEY)?.fitted(shape))
}
