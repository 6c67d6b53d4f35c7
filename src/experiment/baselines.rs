//! What an experiment says about its baselines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::em::EmConfig;
use crate::patch::config::{HcltConfig, Start};
use crate::refusal::Problems;
use crate::teacher::PixelConfig;

/// What distillation is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BaselinesConfig {
    /// The same circuit, trained on log p(x) from tables at random; the teacher is not asked.
    pub em_only: Option<EmConfig>,
    /// One HCLT over all numbers of a picture.
    pub pixel_hclt: Option<PixelHcltConfig>,
    /// The same distillation with the patches' own pixels as the teacher: what a deep teacher adds to it.
    pub pixel_teacher: Option<PixelConfig>,
}

/// An HCLT over all numbers of a picture: a patch as large as the picture, one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelHcltConfig {
    /// The circuit.
    pub circuit: HcltConfig,
    /// First tables: quantile bins of the data, or random.
    #[serde(default)]
    pub start: Start,
    /// Its training.
    pub em: EmConfig,
    /// Pictures evaluated in one go.
    pub micro_batch: usize,
}

impl BaselinesConfig {
    /// Note what is wrong with the values; `patch` is the side of the circuit's patches.
    pub fn check(&self, path: &str, patch: usize, problems: &mut Problems) {
        if let Some(em) = &self.em_only {
            em.check(&format!("{path}.em_only"), problems);
        }
        if let Some(pixel) = &self.pixel_hclt {
            let path = format!("{path}.pixel_hclt");
            pixel.circuit.check(&format!("{path}.circuit"), problems);
            pixel.em.check(&format!("{path}.em"), problems);
            problems.check(pixel.micro_batch > 0, format!("{path}.micro_batch"), "expected at least 1, found 0");
        }
        if let Some(pixel) = &self.pixel_teacher {
            let path = format!("{path}.pixel_teacher");
            pixel.check(&path, problems);
            let message = format!("expected {patch} as in patch.size, found {}", pixel.patch);
            problems.check(pixel.patch == patch, format!("{path}.patch"), message);
        }
    }
}
