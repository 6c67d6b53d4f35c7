//! The stages of an experiment: what each needs, runs and leaves behind. A stage that is done is not done again.
//!
//! ```text
//! teacher -> latents -> hard -> soft (-> growing) -> tree -> joint      pixel_hclt
//!                                                   `-> em_only
//! ```

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::config::Config;
use super::models;
use super::teaching;
use crate::data::DataSet;
use crate::data::view::View;
use crate::distill::Session;
use crate::distill::growing::{Given, grow};
use crate::distill::lvd;
use crate::distill::training::{Clusters, train, watch};
use crate::em::EmConfig;
use crate::latent_tree::Codes;
use crate::mixture::Mixture;
use crate::mixture::train::Parts;
use crate::patch::config::{PatchConfig, Start};
use crate::run::RunFolder;
use crate::run::metrics::Metrics;
use crate::run::stage::{StageFolder, fingerprint};

/// All stages, in order.
pub const STAGES: [&str; 9] =
    ["teacher", "latents", "hard", "soft", "growing", "tree", "joint", "em_only", "pixel_hclt"];

const PATCHES: Parts = Parts { patches: true, prior: false };
const PRIOR: Parts = Parts { patches: false, prior: true };
const BOTH: Parts = Parts { patches: true, prior: true };

/// An experiment while it runs.
pub struct Runner<'a> {
    /// What to do.
    pub config: &'a Config,
    /// Where results go.
    pub run: &'a RunFolder,
    /// Pictures.
    pub data: &'a DataSet,
    /// Where it is computed.
    pub device: Device,
    /// How circuits see pictures.
    pub view: View,
    metrics: Metrics,
}

impl<'a> Runner<'a> {
    /// Ready to run stages.
    ///
    /// # Errors
    /// When the configuration does not fit the pictures or metrics cannot be written.
    pub fn new(config: &'a Config, run: &'a RunFolder, data: &'a DataSet, device: Device) -> Result<Self> {
        let view = models::view(config, data.train.shape())?;
        Ok(Self { config, run, data, device, view, metrics: run.metrics()? })
    }

    /// The stages that this experiment has, in order.
    #[must_use]
    pub fn wanted(config: &Config) -> Vec<&'static str> {
        let has = |stage: &&str| match *stage {
            "growing" => config.distill.growing.is_some(),
            "em_only" => config.baselines.em_only.is_some(),
            "pixel_hclt" => config.baselines.pixel_hclt.is_some(),
            _ => true,
        };
        STAGES.into_iter().filter(has).collect()
    }

    /// Run a stage and those it builds on, but for what is done already.
    ///
    /// # Errors
    /// Whatever stops the stage.
    pub fn ensure(&mut self, name: &str) -> Result<()> {
        if let Some(before) = before(self.config, name) {
            self.ensure(before)?;
        }
        let mark = stage_fingerprint(self.config, self.data, name)?;
        let stage = self.run.stage(name);
        if stage.is_done(&mark)? {
            tracing::info!("{name}: done before, reused");
            return Ok(());
        }
        let resumed = stage.begin(&mark)?;
        tracing::info!("{name}: {}", if resumed { "resumed" } else { "started" });
        let started = Instant::now();
        let mut summary = self.execute(name, &stage)?;
        summary["seconds"] = json!(started.elapsed().as_secs_f64());
        tracing::info!("{name}: finished: {summary}");
        stage.finish(&mark, summary)
    }

    fn execute(&mut self, name: &str, stage: &StageFolder) -> Result<Value> {
        match name {
            "teacher" => teaching::train(self.config, self.data, self.device, stage, &mut self.metrics),
            "latents" => teaching::assign(self.config, self.run, self.data, self.device, stage),
            "hard" => self.hard(stage),
            "soft" => self.refine(stage, "soft", "hard", &self.config.distill.soft, BOTH),
            "growing" => self.growing(stage),
            "tree" => self.tree(stage),
            "joint" => self.refine(stage, "joint", "tree", &self.config.distill.joint, BOTH),
            "em_only" => self.em_only(stage),
            "pixel_hclt" => self.pixel_hclt(stage),
            _ => anyhow::bail!("there is no stage {name}"),
        }
    }

    /// Patch circuits on the patches of the teacher's clusters.
    fn hard(&mut self, stage: &StageFolder) -> Result<Value> {
        let codes = teaching::codes(self.config, self.run, self.data, &self.view)?;
        let (config, view, device, clusters) = (self.config, self.view, self.device, self.config.latents.clusters);
        let mut session = self.session("hard", stage);
        let mut model = lvd::start(&session, view, &config.patch, &codes, clusters, Start::Quantile, device)?;
        train(&mut session, &mut model, BOTH, &config.distill.hard, &Clusters::Given(&codes))?;
        finish(&session, &model)
    }

    /// EM on log p(x) of what an earlier stage left.
    fn refine(&mut self, stage: &StageFolder, name: &str, before: &str, em: &EmConfig, parts: Parts) -> Result<Value> {
        let mut model = models::load(self.run, self.config, before, self.device)?;
        let mut session = self.session(name, stage);
        train(&mut session, &mut model, parts, em, &Clusters::Posterior)?;
        finish(&session, &model)
    }

    /// More clusters, where the circuits need them.
    fn growing(&mut self, stage: &StageFolder) -> Result<Value> {
        let (config, run, data, device) = (self.config, self.run, self.data, self.device);
        let growing = config.distill.growing.as_ref().context("the experiment has no distill.growing")?;
        let model = models::load(run, config, "soft", device)?;
        let codes = teaching::codes(config, run, data, &self.view)?;
        let mut session = self.session("growing", stage);
        let model = teaching::with_features(config, run, data, device, |features| {
            let given = Given { patch: &config.patch, codes: &codes, features };
            grow(&mut session, model, growing, &given)
        })?;
        finish(&session, &model)
    }

    /// The latent tree, by co-occurrence, then by EM with soft evidence.
    fn tree(&mut self, stage: &StageFolder) -> Result<Value> {
        let patches = before(self.config, "tree").context("a tree joins patches")?;
        let model = models::load(self.run, self.config, patches, self.device)?;
        let config = &self.config.distill.tree;
        let teachers = match config.codes {
            Codes::Teacher => Some(teaching::codes(self.config, self.run, self.data, &self.view)?),
            Codes::Posterior => None,
        };
        let mut session = self.session("tree", stage);
        let mut model = lvd::add_tree(&session, model, config, teachers.as_ref())?;
        train(&mut session, &mut model, PRIOR, &config.em, &Clusters::Posterior)?;
        finish(&session, &model)
    }

    /// The same circuit from tables at random: patch circuits and tree learn together from the start.
    fn em_only(&mut self, stage: &StageFolder) -> Result<Value> {
        let em = self.config.baselines.em_only.as_ref().context("the experiment has no baselines.em_only")?;
        let mut model = models::load(self.run, self.config, "tree", self.device)?;
        let mut session = self.session("em_only", stage);
        lvd::randomise(&session, &mut model);
        train(&mut session, &mut model, BOTH, em, &Clusters::Posterior)?;
        finish(&session, &model)
    }

    /// One HCLT over all numbers of a picture.
    fn pixel_hclt(&mut self, stage: &StageFolder) -> Result<Value> {
        let shape = self.data.train.shape();
        let (config, device) = (self.config, self.device);
        let pixel = config.baselines.pixel_hclt.as_ref().context("the experiment has no baselines.pixel_hclt")?;
        let patch: PatchConfig = models::patch_config(config, "pixel_hclt", shape)?;
        let view = models::stage_view(config, "pixel_hclt", shape)?;
        let mut session = Session { micro_batch: pixel.micro_batch, ..self.session("pixel_hclt", stage) };
        let codes = Tensor::zeros([session.train.len() as i64, 1], (Kind::Int64, Device::Cpu));
        let mut model = lvd::start(&session, view, &patch, &codes, 1, pixel.start, device)?;
        train(&mut session, &mut model, PATCHES, &pixel.em, &Clusters::Posterior)?;
        finish(&session, &model)
    }

    fn session<'s>(&'s mut self, name: &'s str, stage: &'s StageFolder) -> Session<'s> {
        Session {
            name,
            stage,
            metrics: &mut self.metrics,
            train: &self.data.train,
            valid: &self.data.valid,
            augment: self.config.distill.augment,
            seed: self.config.seed,
            micro_batch: self.config.compute.micro_batch,
            watched: self.config.compute.watched,
        }
    }
}

/// The stage that a stage builds on.
#[must_use]
pub fn before(config: &Config, name: &str) -> Option<&'static str> {
    match name {
        "latents" => Some("teacher"),
        "hard" => Some("latents"),
        "soft" => Some("hard"),
        "tree" if config.distill.growing.is_some() => Some("growing"),
        "growing" | "tree" => Some("soft"),
        "joint" | "em_only" => Some("tree"),
        _ => None,
    }
}

/// Save the model and say how it does.
fn finish(session: &Session, model: &Mixture) -> Result<Value> {
    models::save(session.stage, model)?;
    let valid = watch(session, model)?;
    let (bpd, error) = (valid.bits_per_dimension, valid.standard_error);
    Ok(json!({"valid_bpd": bpd, "valid_se": error, "parameters": model.parameter_count()}))
}

/// What a stage is made from, with all stages before it.
///
/// # Errors
/// When pictures cannot be read.
pub fn stage_fingerprint(config: &Config, data: &DataSet, name: &str) -> Result<String> {
    let own = match name {
        "teacher" => json!(config.teacher),
        "latents" => json!(config.latents),
        "hard" => json!([config.distill.hard, config.patch, config.color, config.transform, config.protocol]),
        "soft" => json!([config.distill.soft, config.distill.augment]),
        "growing" => json!([config.distill.growing, config.distill.augment]),
        "tree" => json!(config.distill.tree),
        "joint" => json!(config.distill.joint),
        "em_only" => json!(config.baselines.em_only),
        _ => json!([config.baselines.pixel_hclt, config.color, config.protocol]),
    };
    let earlier = match before(config, name) {
        Some(before) => json!(stage_fingerprint(config, data, before)?),
        None => json!([config.seed, data.train.sha256(), data.valid.sha256()]),
    };
    fingerprint(&json!([name, own, earlier]))
}
