//! What an experiment says about its teacher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::given::GivenConfig;
use super::pixel::PixelConfig;
use super::torchscript::TorchScriptConfig;
use super::vqvae::VqVaeConfig;
use crate::refusal::Problems;

/// Which teacher, and how it is made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TeacherConfig {
    /// A VQ-VAE-2 whose decoder treats patches as independent given their codes.
    VqVae(VqVaeConfig),
    /// The patch's own pixels: the baseline that needs no training.
    Pixel(PixelConfig),
    /// A model made elsewhere and exported as TorchScript.
    TorchScript(TorchScriptConfig),
    /// Features that were made elsewhere, in a file: no code runs.
    Features(GivenConfig),
}

impl TeacherConfig {
    /// Side of a patch in pixels.
    #[must_use]
    pub fn patch(&self) -> usize {
        match self {
            Self::VqVae(config) => config.patch,
            Self::Pixel(config) => config.patch,
            Self::TorchScript(config) => config.patch,
            Self::Features(config) => config.patch,
        }
    }

    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        match self {
            Self::VqVae(config) => config.check(path, problems),
            Self::Pixel(config) => config.check(path, problems),
            Self::TorchScript(config) => config.check(path, problems),
            Self::Features(config) => config.check(path, problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_chooses_the_teacher_and_unknown_keys_are_refused() {
        let read = |text: &str| serde_yaml::from_str::<TeacherConfig>(text);
        assert!(matches!(read("kind: vqvae\npatch: 8\n").unwrap(), TeacherConfig::VqVae(c) if c.patch == 8));
        assert!(matches!(read("kind: pixel\n").unwrap(), TeacherConfig::Pixel(_)));
        let error = read("kind: pixel\nnormalize_dc: true\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `normalize_dc`"), "{error}");
        let error = read("kind: oracle\n").unwrap_err().to_string();
        assert!(
            error.contains("unknown variant `oracle`, expected one of `vqvae`, `pixel`, `torchscript`, `features`"),
            "{error}"
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = "kind: vqvae\npatch: 3\nepochs: 0\nlearning_rate: -1.0\n";
        let config: TeacherConfig = serde_yaml::from_str(text).unwrap();
        let mut problems = Problems::default();
        config.check("teacher", &mut problems);
        assert_eq!(
            problems.into_result("experiment").unwrap_err().to_string(),
            "experiment: 3 problems\n  teacher.patch: must be a power of two from 2 on, found 3\n  \
             teacher.epochs: must be at least 1\n  teacher.learning_rate: must be a positive number, found -1"
        );
    }
}
