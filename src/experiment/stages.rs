//! The conductor: every stage's work, done where it was not done before from the same inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::config::Config;
use super::context::{Context, stage_fingerprint};
use super::models;
use super::passes::Passes;
use super::stage::Stage;
use super::{assigning, taken, teaching};
use crate::distill::Session;
use crate::distill::growing::{Given, grow};
use crate::distill::lvd;
use crate::distill::training::{Clusters, likelihoods, train, watch};
use crate::em::EmConfig;
use crate::group::Alone;
use crate::latent_tree::Codes;
use crate::mixture::train::LearningParts;
use crate::mixture::{Mixture, Prior};
use crate::patch::config::Start;
use crate::run::metrics::Metrics;
use crate::run::{RunFolder, StageFolder};
use crate::run::{told, whole};
use crate::teacher::features::Features;

const PATCHES: LearningParts = LearningParts { patches: true, prior: false };
const PRIOR: LearningParts = LearningParts { patches: false, prior: true };
const BOTH: LearningParts = LearningParts { patches: true, prior: true };

/// An experiment while it runs.
pub struct Conductor<'a> {
    /// What every stage works with.
    pub context: Context<'a>,
    /// SHA-256 of each split's pictures.
    pictures: &'a BTreeMap<String, String>,
    metrics: Metrics,
    /// Stages that are known to be done.
    done: BTreeSet<Stage>,
    /// Those that were done before, until it is said.
    reused: Vec<Stage>,
    /// Run folders whose stages are taken over where they were made from the same inputs.
    others: Vec<RunFolder>,
}

impl<'a> Conductor<'a> {
    /// Ready to run stages on pictures of these hashes.
    ///
    /// # Errors
    /// When metrics cannot be read or written.
    pub fn new(context: Context<'a>, pictures: &'a BTreeMap<String, String>) -> Result<Self> {
        let metrics = context.run.metrics()?;
        Ok(Self { context, pictures, metrics, done: BTreeSet::new(), reused: Vec::new(), others: Vec::new() })
    }

    /// SHA-256 of each split's pictures.
    #[must_use]
    pub fn pictures(&self) -> &'a BTreeMap<String, String> {
        self.pictures
    }

    /// Take over stages of other runs, where they were made from the same inputs.
    pub fn share(&mut self, others: Vec<RunFolder>) {
        self.others = others;
    }

    /// The runs whose stages are taken over.
    #[must_use]
    pub fn others(&self) -> &[RunFolder] {
        &self.others
    }

    /// Run a stage and those it builds on, but for what is done already.
    ///
    /// # Errors
    /// Whatever stops the stage.
    pub fn ensure(&mut self, stage: Stage) -> Result<()> {
        if self.done.contains(&stage) {
            return Ok(());
        }
        stage.check_wanted(self.context.config, &self.context.run.root().display().to_string())?;
        if let Some(before) = stage.before(self.context.config) {
            self.ensure(before)?;
        }
        let mark = stage_fingerprint(self.context.config, self.context.run, self.pictures, stage)?;
        let mark = mark.context("the stage before has just been done")?;
        let folder = self.context.folder(stage);
        if folder.is_done(&mark)? || self.take_over(stage, &folder, &mark)? {
            self.reused.push(stage);
            whole::passed(stage.name());
            folder.clean()?;
        } else {
            self.tell_reused();
            self.context.run.reopen()?;
            let resumed = folder.begin(&mark)?;
            if !resumed {
                self.metrics.forget_all(stage.name())?;
            }
            tracing::info!("{stage}: {}", if resumed { "resumed" } else { "started" });
            whole::enter(stage.name());
            let started = Instant::now();
            let mut summary = self.execute(stage, &folder)?;
            whole::passed(stage.name());
            summary["seconds"] = json!(started.elapsed().as_secs_f64());
            tracing::info!("{stage}: finished: {}", told::line(&summary));
            folder.finish(&mark, summary)?;
        }
        self.done.insert(stage);
        Ok(())
    }

    /// Take a stage from another run, where one has it.
    fn take_over(&mut self, stage: Stage, folder: &StageFolder, mark: &str) -> Result<bool> {
        for other in &self.others {
            let theirs = other.stage(stage.name());
            if theirs.is_done(mark)? {
                tracing::info!("{stage}: taken from {}", other.root().display());
                self.context.run.reopen()?;
                self.metrics.forget_all(stage.name())?;
                for line in other.read_metrics()?.iter().filter(|line| line.is_of(stage.name())) {
                    self.metrics.write(&line.stage, line.step, &Value::Object(line.values.clone()))?;
                }
                folder.take(&theirs)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Say once which stages were done before.
    pub fn tell_reused(&mut self) {
        let reused = std::mem::take(&mut self.reused);
        if !reused.is_empty() {
            let names: Vec<&str> = reused.iter().map(|stage| stage.name()).collect();
            tracing::info!("done before, reused: {}", names.join(", "));
        }
    }

    fn execute(&mut self, stage: Stage, folder: &StageFolder) -> Result<Value> {
        let config = self.context.config;
        match stage {
            Stage::Taken => self.taken(folder),
            Stage::Teacher => teaching::train(&self.context, folder, &mut self.metrics),
            Stage::Latents => assigning::assign(&self.context, folder),
            Stage::Hard => self.hard(folder),
            Stage::Soft => self.refine(folder, stage, &config.distill.soft),
            Stage::Growing => self.growing(folder),
            Stage::Tree => self.tree(folder),
            Stage::Joint => self.refine(folder, stage, &config.distill.joint),
            Stage::EmOnly => self.em_only(folder),
            Stage::PixelHclt => self.pixel_hclt(folder),
        }
    }

    /// The model of another run, as it is.
    fn taken(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let model = taken::model(whole, self.context.data.train.shape(), self.context.device)?;
        let session = self.session(Stage::Taken, folder);
        finish(whole, Stage::Taken, &session, &model)
    }

    /// Patch circuits on the patches of the teacher's clusters.
    fn hard(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let codes = assigning::codes(&self.context)?;
        let Context { config, view, device, .. } = self.context;
        let mut session = self.session(Stage::Hard, folder);
        let start = lvd::start(&session, view, &config.patch, &codes, config.latents.clusters, Start::Quantile, device);
        let mut model = start?;
        train(&mut session, &mut model, BOTH, &config.distill.hard, &Clusters::Given(&codes))?;
        finish(whole, Stage::Hard, &session, &model)
    }

    /// EM on log p(x) of what the stage before left.
    fn refine(&mut self, folder: &StageFolder, stage: Stage, em: &EmConfig) -> Result<Value> {
        let whole = self.context.config;
        let mut model = self.model_before(stage)?;
        let mut session = self.session(stage, folder);
        train(&mut session, &mut model, BOTH, em, &Clusters::Posterior)?;
        finish(whole, stage, &session, &model)
    }

    /// More clusters, where the circuits need them.
    fn growing(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let Context { config, data, view, device, .. } = self.context;
        let growing = config.distill.growing.as_ref().context("the experiment has no distill.growing")?;
        let model = self.model_before(Stage::Growing)?;
        let codes = assigning::codes(&self.context)?;
        let teacher;
        let features = if let Some(given) = teaching::given(&self.context)? {
            Passes::given(given, device)
        } else {
            teacher = teaching::load(&self.context)?;
            Passes::new(Features::new(&*teacher, &data.train, &view, device))
        };
        let given = Given { patch: &config.patch, codes: &codes, features: &features };
        let mut session = self.session(Stage::Growing, folder);
        let model = grow(&mut session, model, growing, &given)?;
        finish(whole, Stage::Growing, &session, &model)
    }

    /// The latent tree, by co-occurrence where the model has none yet, then by EM with soft evidence.
    fn tree(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let mut model = self.model_before(Stage::Tree)?;
        let config = &self.context.config.distill.tree;
        let has_tree = matches!(model.prior(), Prior::Tree(_));
        let teachers = match config.codes {
            Codes::Teacher if !has_tree => Some(assigning::codes(&self.context)?),
            Codes::Teacher | Codes::Posterior => None,
        };
        let mut session = self.session(Stage::Tree, folder);
        let known = if config.cache { Some(likelihoods(&session, &model)?) } else { None };
        if !has_tree {
            model = lvd::add_tree(&session, model, config, teachers.as_ref(), known.as_ref())?;
        }
        let clusters = known.as_ref().map_or(Clusters::Posterior, Clusters::Kept);
        train(&mut session, &mut model, PRIOR, &config.em, &clusters)?;
        finish(whole, Stage::Tree, &session, &model)
    }

    /// The same circuit from tables at random: patch circuits and tree learn together from the start.
    fn em_only(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let em = self.context.config.baselines.em_only.as_ref().context("the experiment has no baselines.em_only")?;
        let mut model = self.model_before(Stage::EmOnly)?;
        let mut session = self.session(Stage::EmOnly, folder);
        lvd::randomise(&session, &mut model);
        train(&mut session, &mut model, BOTH, em, &Clusters::Posterior)?;
        finish(whole, Stage::EmOnly, &session, &model)
    }

    /// One HCLT over all numbers of a picture.
    fn pixel_hclt(&mut self, folder: &StageFolder) -> Result<Value> {
        let whole = self.context.config;
        let Context { config, device, data, .. } = self.context;
        let pixel = config.baselines.pixel_hclt.as_ref().context("the experiment has no baselines.pixel_hclt")?;
        let shape = data.train.shape();
        let patch = Stage::PixelHclt.patch_config(config, shape)?;
        let view = models::stage_view(config, Stage::PixelHclt, shape)?;
        let mut session = self.session(Stage::PixelHclt, folder);
        let codes = Tensor::zeros([session.train.len() as i64, 1], (Kind::Int64, Device::Cpu));
        let mut model = lvd::start(&session, view, &patch, &codes, 1, pixel.start, device)?;
        train(&mut session, &mut model, PATCHES, &pixel.em, &Clusters::Posterior)?;
        finish(whole, Stage::PixelHclt, &session, &model)
    }

    /// The model of the stage that a stage builds on.
    fn model_before(&self, stage: Stage) -> Result<Mixture> {
        let Context { config, run, device, .. } = self.context;
        let before = stage.before(config).context("the stage builds on no other")?;
        models::load(run, config, before, device)
    }

    fn session<'s>(&'s mut self, stage: Stage, folder: &'s StageFolder) -> Session<'s> {
        let Context { config, data, .. } = self.context;
        Session {
            group: &Alone,
            name: stage.name(),
            stage: folder,
            metrics: &mut self.metrics,
            train: &data.train,
            valid: &data.valid,
            augment: config.distill.augment,
            seed: config.seed,
            micro_batch: stage.micro_batch(config),
            watched: config.compute.watched,
        }
    }
}

/// Save the model and say how it does.
fn finish(config: &Config, stage: Stage, session: &Session, model: &Mixture) -> Result<Value> {
    models::save(session.stage, config, stage, model)?;
    let valid = watch(session, model)?;
    let (bpd, error) = (valid.bits_per_dimension, valid.standard_error);
    Ok(json!({"valid_bpd": bpd, "valid_se": error, "parameters": model.parameter_count()}))
}
