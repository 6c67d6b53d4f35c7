//! The stages of an experiment: their names, their order, what each is made from and what its model looks like. A further
//! stage is a further variant here, and its work in `stages`.
//!
//! ```text
//! teacher -> latents -> hard -> soft (-> growing) -> tree -> joint      pixel_hclt
//!                      taken ---^                      `-> em_only
//! ```
//!
//! With `init_from` stage `taken` stands in place of `teacher`, `latents` and `hard`.

use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::Config;
use crate::data::pictures::PictureShape;
use crate::em::EmConfig;
use crate::patch::config::{FamilyConfig, GateConfig, PatchConfig};
use crate::run::results::Role;

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// The last model of another run, in place of teacher, latents and hard EM.
    Taken,
    /// The teacher.
    Teacher,
    /// Clusters of its features.
    Latents,
    /// Patch circuits on the teacher's clusters.
    Hard,
    /// Soft EM of the mixture of patch circuits.
    Soft,
    /// More clusters where the circuits need them.
    Growing,
    /// The tree over the patches' latents.
    Tree,
    /// EM of tree and patch circuits together.
    Joint,
    /// Baseline: the same circuit without a teacher.
    EmOnly,
    /// Baseline: one HCLT over all numbers of a picture.
    PixelHclt,
}

impl Stage {
    /// All stages, in the order in which they are done.
    pub const ALL: [Self; 10] = [
        Self::Taken,
        Self::Teacher,
        Self::Latents,
        Self::Hard,
        Self::Soft,
        Self::Growing,
        Self::Tree,
        Self::Joint,
        Self::EmOnly,
        Self::PixelHclt,
    ];

    /// Stages with a circuit, those that are looked for first where none is named: the last of distillation, then the
    /// baselines.
    pub const BY_INTEREST: [Self; 8] =
        [Self::Joint, Self::Tree, Self::Growing, Self::Soft, Self::Hard, Self::Taken, Self::EmOnly, Self::PixelHclt];

    /// Its name in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Teacher => "teacher",
            Self::Latents => "latents",
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Growing => "growing",
            Self::Tree => "tree",
            Self::Joint => "joint",
            Self::EmOnly => "em_only",
            Self::PixelHclt => "pixel_hclt",
        }
    }

    /// What its model is called in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Taken => "model of another run (init_from)",
            Self::Teacher => "teacher's bound (decoder + codes)",
            Self::Latents => "clusters of the teacher's features",
            Self::Hard => "patch circuits on the teacher's clusters",
            Self::Soft => "+ soft EM of the mixture",
            Self::Growing => "+ progressive growing",
            Self::Tree => "+ latent tree (LVD)",
            Self::Joint => "+ joint EM (LVD + joint)",
            Self::EmOnly => "same circuit, EM only",
            Self::PixelHclt => "HCLT over pixels",
        }
    }

    /// What its model is in a comparison.
    #[must_use]
    pub fn role(self, config: &Config) -> Role {
        let student = Self::wanted(config).into_iter().rfind(|stage| {
            !matches!(stage, Self::EmOnly | Self::PixelHclt | Self::Teacher) && !stage.changes_nothing(config)
        });
        match self {
            Self::Teacher => Role::Teacher,
            Self::EmOnly | Self::PixelHclt => Role::Baseline,
            _ if Some(self) == student => Role::Student,
            _ => Role::Step,
        }
    }

    /// Whether its model is that of the stage before: EM of no epochs on what that left.
    #[must_use]
    pub fn changes_nothing(self, config: &Config) -> bool {
        matches!(self, Self::Soft | Self::Joint) && self.em(config).is_some_and(|em| em.epochs == 0)
    }

    /// Whether it leaves a circuit.
    #[must_use]
    pub fn has_circuit(self) -> bool {
        !matches!(self, Self::Teacher | Self::Latents)
    }

    /// Whether its circuit has a latent tree: a model that is taken over has one from the start.
    #[must_use]
    pub fn has_tree(self, config: &Config) -> bool {
        let from_the_start = config.init_from.is_some() && config.patch.context == 0;
        let of_tree = matches!(self, Self::Tree | Self::Joint | Self::EmOnly);
        of_tree || (from_the_start && matches!(self, Self::Taken | Self::Soft))
    }

    /// The stages that an experiment has, in order.
    #[must_use]
    pub fn wanted(config: &Config) -> Vec<Self> {
        let has = |stage: &Self| match stage {
            Self::Taken => config.init_from.is_some(),
            Self::Teacher | Self::Latents | Self::Hard => config.init_from.is_none(),
            Self::Growing => config.distill.growing.is_some(),
            Self::Tree | Self::Joint if config.patch.context > 0 => false,
            Self::EmOnly => config.baselines.em_only.is_some(),
            Self::PixelHclt => config.baselines.pixel_hclt.is_some(),
            _ => true,
        };
        Self::ALL.into_iter().filter(has).collect()
    }

    /// Refuse a stage that an experiment does not have; `place` is what is told to lack it.
    ///
    /// # Errors
    /// A refusal that lists those that it has.
    pub fn check_wanted(self, config: &Config, place: &str) -> Result<()> {
        let stages = Self::wanted(config);
        crate::require!(
            stages.contains(&self),
            "{place}: the experiment has no stage {self}\n  it has the stages {}",
            stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }

    /// The last stage of distillation: patches that see others have no latent tree.
    #[must_use]
    pub fn last(config: &Config) -> Self {
        if config.patch.context > 0 { Self::Soft } else { Self::Joint }
    }

    /// The stage that it builds on.
    #[must_use]
    pub fn before(self, config: &Config) -> Option<Self> {
        match self {
            Self::Taken | Self::Teacher | Self::PixelHclt => None,
            Self::Latents => Some(Self::Teacher),
            Self::Hard => Some(Self::Latents),
            Self::Soft if config.init_from.is_some() => Some(Self::Taken),
            Self::Soft => Some(Self::Hard),
            Self::Tree if config.distill.growing.is_some() => Some(Self::Growing),
            Self::Growing | Self::Tree => Some(Self::Soft),
            Self::Joint | Self::EmOnly => Some(Self::Tree),
        }
    }

    /// Its own part of the configuration: all that it depends on beside pictures, seed and the stages before it.
    #[must_use]
    pub fn own_config(self, config: &Config) -> Value {
        let distill = &config.distill;
        let seen = json!([config.protocol, config.color, config.transform, config.patch]);
        let watched = config.compute.watched;
        match self {
            Self::Taken => json!([config.init_sha256, seen, distill.tree.tying, distill.tree.hidden, watched]),
            Self::Teacher => json!(config.teacher),
            Self::Latents => json!([config.latents, config.protocol, config.patch.size]),
            Self::Hard => json!([distill.hard, seen, watched]),
            Self::Soft => json!([distill.soft, distill.augment, watched]),
            Self::Growing => json!([distill.growing, distill.augment, watched]),
            Self::Tree => json!([distill.tree, distill.augment, watched]),
            Self::Joint => json!([distill.joint, distill.augment, watched]),
            Self::EmOnly => json!([config.baselines.em_only, distill.augment, watched]),
            Self::PixelHclt => {
                json!([config.baselines.pixel_hclt, distill.augment, config.protocol, config.color, watched])
            }
        }
    }

    /// Its EM, where it is nothing else.
    #[must_use]
    pub fn em(self, config: &Config) -> Option<&EmConfig> {
        match self {
            Self::Taken | Self::Teacher | Self::Latents | Self::Growing => None,
            Self::Hard => Some(&config.distill.hard),
            Self::Soft => Some(&config.distill.soft),
            Self::Tree => Some(&config.distill.tree.em),
            Self::Joint => Some(&config.distill.joint),
            Self::EmOnly => config.baselines.em_only.as_ref(),
            Self::PixelHclt => config.baselines.pixel_hclt.as_ref().map(|pixel| &pixel.em),
        }
    }

    /// The configuration of its model's patches: those of the whole-picture baseline differ.
    ///
    /// # Errors
    /// When it is the baseline and the experiment has none, or pictures are not square.
    pub fn patch_config(self, config: &Config, shape: PictureShape) -> Result<PatchConfig> {
        if self != Self::PixelHclt {
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
        Ok(PatchConfig {
            size: shape.height / parts,
            context: 0,
            gate: GateConfig::None,
            family: FamilyConfig::Hclt(pixel.circuit.clone()),
        })
    }

    /// Pictures that its model looks at in one go.
    #[must_use]
    pub fn micro_batch(self, config: &Config) -> usize {
        match &config.baselines.pixel_hclt {
            Some(pixel) if self == Self::PixelHclt => pixel.micro_batch,
            _ => config.compute.micro_batch,
        }
    }

    /// Clusters of its model.
    #[must_use]
    pub fn clusters(self, config: &Config) -> usize {
        match (self, &config.distill.growing) {
            (Self::PixelHclt, _) => 1,
            (Self::Growing | Self::Tree | Self::Joint | Self::EmOnly, Some(growing)) => growing.final_clusters(),
            _ => config.latents.clusters,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
