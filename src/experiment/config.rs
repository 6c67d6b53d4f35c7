//! The experiment file: one YAML, every key typed, checked once.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baselines::BaselinesConfig;
use super::protocol::Protocol;
use crate::color::ColorSpace;
use crate::data::DataConfig;
use crate::data::augment::Augment;
use crate::distill::config::DistillConfig;
use crate::distill::growing::config::GrowingConfig;
use crate::em::Rule;
use crate::latents::KMeansConfig;
use crate::patch::config::{Covariance, FamilyConfig, GaussianConfig, GaussianStart, PatchConfig, ScaleGroups};
use crate::refusal::Problems;
use crate::teacher::TeacherConfig;
use crate::wavelet::Transform;

/// An experiment: data, a teacher, its latents, the circuit they are distilled into, baselines.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the experiment; its run folder is runs/NAME unless told otherwise.
    pub name: String,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Evaluation protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Colour space of the circuit's integers.
    pub color: ColorSpace,
    /// What is done to whole pictures before they are cut into patches.
    #[serde(default)]
    pub transform: Transform,
    /// Pictures.
    pub data: DataConfig,
    /// Patches and their circuits.
    pub patch: PatchConfig,
    /// Who says which patches are alike.
    pub teacher: TeacherConfig,
    /// Clusters of the teacher's features: the latents.
    pub latents: KMeansConfig,
    /// Run folder whose last model is the start in place of teacher, latents and hard EM; soft EM, tree and joint EM train it
    /// on the pictures of this experiment. Its structure must be that of this experiment.
    #[serde(default)]
    pub init_from: Option<PathBuf>,
    /// Expected SHA-256 of that model.
    #[serde(default)]
    pub init_sha256: Option<String>,
    /// Stages of distillation.
    #[serde(default)]
    pub distill: DistillConfig,
    /// What distillation is compared with.
    #[serde(default)]
    pub baselines: BaselinesConfig,
    /// How it is computed; none of this changes results but for rounding, and `watched`, which chooses the best epoch.
    #[serde(default)]
    pub compute: ComputeConfig,
}

/// How it is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// Pictures evaluated in one go.
    pub micro_batch: usize,
    /// Validation pictures looked at after every epoch (the last evaluation takes all).
    pub watched: usize,
    /// CPU threads; without a number libtorch decides.
    pub threads: Option<usize>,
}

impl Default for ComputeConfig {
    fn default() -> Self {
        Self { micro_batch: 16, watched: 1000, threads: None }
    }
}

/// Keys that say where pictures and weights come from: where they are as they were, other hashes mean changed files.
///
/// A run that another one begins with is no such source: when it was trained on, what began with it begins anew.
pub const SOURCES: [(&str, &[&str]); 2] = [
    ("data", &["data", "seed"]),
    ("weights", &["teacher.kind", "teacher.module", "teacher.train", "init_from", "init_sha256"]),
];

impl Config {
    /// Note everything that is wrong with the values.
    pub fn check(&self, problems: &mut Problems) {
        self.check_name(problems);
        if let Some(problem) = self.protocol.color_problem(self.color) {
            problems.check(false, "color", problem);
        }
        self.data.check("data", problems);
        self.patch.check("patch", problems);
        self.teacher.check("teacher", problems);
        let (mine, teachers) = (self.patch.size, self.teacher.patch());
        problems.check(
            mine == teachers,
            "teacher.patch",
            format!("expected {mine} as in patch.size, found {teachers}"),
        );
        self.latents.check("latents", problems);
        self.distill.check("distill", self.latents.clusters, problems);
        self.baselines.check("baselines", mine, problems);
        self.check_batches(problems);
        self.check_family(problems);
        self.check_start(problems);
        if self.data.mask.is_some() {
            self.check_missing(problems);
        }
        let same = self.distill.augment == Augment::default() || !self.distill.tree.cache;
        let message = "expected false where distill.augment changes pictures: they are other pictures in every epoch";
        problems.check(same, "distill.tree.cache", message);
        for (name, value) in [("micro_batch", self.compute.micro_batch), ("watched", self.compute.watched)] {
            problems.check(value > 0, format!("compute.{name}"), "expected at least 1, found 0");
        }
        problems.check(self.compute.threads != Some(0), "compute.threads", "expected at least 1, found 0");
    }

    /// The name becomes a folder in `runs/`.
    fn check_name(&self, problems: &mut Problems) {
        let wrong = |c: char| c == '/' || c == '\\' || c.is_control();
        let fine = !self.name.is_empty()
            && self.name.len() <= 100
            && !self.name.starts_with('.')
            && !self.name.contains(wrong);
        let message = format!(
            "expected 1 to 100 bytes without slashes, control characters or a dot in front, found {:?}: it names the run folder",
            self.name
        );
        problems.check(fine, "name", message);
    }

    /// What the family of patch circuits does not go with.
    fn check_family(&self, problems: &mut Problems) {
        let FamilyConfig::Gaussian(gaussian) = &self.patch.family else {
            let message = "expected none or cdf53_integer for circuits over integers, found cdf53";
            problems.check(self.transform != Transform::Cdf53, "transform", message);
            let message = "expected 0 where patch.family.kind is hclt: only Gaussians see the pixels around a patch";
            return problems.check(self.patch.context == 0, "patch.context", message);
        };
        if self.patch.context > 0 {
            self.check_context(gaussian, problems);
        }
        let message = "expected false where patch.family.kind is gaussian: patches get other noise in every epoch";
        problems.check(!self.distill.tree.cache, "distill.tree.cache", message);
        let (d, b) = (&self.distill, &self.baselines);
        let mut trained = vec![("distill.hard", &d.hard), ("distill.soft", &d.soft), ("distill.joint", &d.joint)];
        trained.extend(d.growing.iter().map(|growing| ("distill.growing.em", growing.em())));
        let paper = matches!(d.growing, Some(GrowingConfig::Paper(_)));
        let message =
            "expected gain where patch.family.kind is gaussian: the paper's circuits with several heads are HCLTs";
        problems.check(!paper, "distill.growing.criterion", message);
        trained.extend(b.em_only.as_ref().map(|em| ("baselines.em_only", em)));
        for (path, em) in trained {
            let message = "expected kind decayed: Gaussians learn from decayed statistics only";
            problems.check(em.rule == Rule::Decayed, format!("{path}.rule"), message);
        }
        let apart = !matches!(self.color, ColorSpace::Grey | ColorSpace::Rgb | ColorSpace::YcocgRMod);
        problems.check(
            gaussian.scale_groups == ScaleGroups::One || apart,
            "patch.family.scale_groups",
            "expected one: this color does not keep luma and chroma apart, ycocg_r does",
        );
        problems.check(
            gaussian.scale_groups != ScaleGroups::LumaChromaLevels || self.transform != Transform::None,
            "patch.family.scale_groups",
            "expected one or luma_chroma: without a transform there are no levels",
        );
        problems.check(
            gaussian.start == GaussianStart::Clusters || d.hard.epochs == 0,
            "distill.hard.epochs",
            format!("expected 0 where patch.family.start is splitting, found {}", d.hard.epochs),
        );
    }

    /// What patches that see others do not go with.
    fn check_context(&self, gaussian: &GaussianConfig, problems: &mut Problems) {
        let none = "expected none where patch.context is more than 0";
        let whole = self.protocol == Protocol::Lossless;
        problems.check(
            whole,
            "protocol",
            "expected lossless where patch.context is more than 0: windows need whole pictures",
        );
        problems.check(self.transform == Transform::None, "transform", none);
        problems.check(self.distill.growing.is_none(), "distill.growing", none);
        problems.check(self.baselines.em_only.is_none(), "baselines.em_only", none);
        // A configuration that is read back has them, as they are where nothing is set.
        let (usual, unused) =
            (DistillConfig::default(), "has no meaning where patch.context is more than 0: leave it out");
        problems.check(self.distill.tree == usual.tree, "distill.tree", unused);
        problems.check(self.distill.joint == usual.joint, "distill.joint", unused);
        let full = gaussian.covariance == Covariance::Full;
        problems.check(full, "patch.family.covariance", "expected full where patch.context is more than 0");
        let clusters = gaussian.start == GaussianStart::Clusters;
        problems.check(clusters, "patch.family.start", "expected clusters where patch.context is more than 0");
    }

    /// What a model of another run does not go with.
    fn check_start(&self, problems: &mut Problems) {
        let taken = self.init_from.is_some();
        problems.check(
            !taken || self.distill.growing.is_none(),
            "distill.growing",
            "expected none where init_from names a run: the clusters are those of its model",
        );
        problems.check(
            taken || self.init_sha256.is_none(),
            "init_sha256",
            "has no meaning without init_from: leave it out, or name the run",
        );
    }

    /// What pictures with missing pixels do not go with.
    fn check_missing(&self, problems: &mut Problems) {
        let none = "expected none where data.mask says that pixels are missing";
        problems.check(self.transform == Transform::None, "transform", format!("{none}: coefficients mix many pixels"));
        problems.check(
            self.patch.context == 0,
            "patch.context",
            "expected 0 where data.mask says that pixels are missing: a patch is known given whole pixels around it",
        );
        problems.check(self.distill.growing.is_none(), "distill.growing", none);
    }

    /// A step's batch is made of whole micro-batches.
    fn check_batches(&self, problems: &mut Problems) {
        let (d, b) = (&self.distill, &self.baselines);
        let mine = self.compute.micro_batch;
        let mut batches = vec![("distill.hard", d.hard.batch, mine), ("distill.soft", d.soft.batch, mine)];
        if self.patch.context == 0 {
            batches.extend([("distill.tree.em", d.tree.em.batch, mine), ("distill.joint", d.joint.batch, mine)]);
        }
        if let Some(GrowingConfig::Gain(gain)) = &d.growing {
            batches.push(("distill.growing.em", gain.em.batch, mine));
        }
        batches.extend(b.em_only.as_ref().map(|em| ("baselines.em_only", em.batch, mine)));
        batches.extend(b.pixel_hclt.as_ref().map(|p| ("baselines.pixel_hclt.em", p.em.batch, p.micro_batch)));
        for (path, batch, micro) in batches.into_iter().filter(|(_, _, micro)| *micro > 0) {
            let message = format!("expected a multiple of the micro-batch of {micro} pictures, found {batch}");
            problems.check(batch % micro == 0, format!("{path}.batch"), message);
        }
    }
}
