//! Settings of the VQ-VAE-2 teacher and of its training.

use crate::refusal::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A VQ-VAE-2 with an independent decoder. The defaults suit small pictures; the paper used hidden 128, embedding 64,
/// 1024 codes a level, decoder [256, 512, 512], 51 epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VqVaeConfig {
    /// Side of a patch in pixels: a power of two from 2 on.
    pub patch: usize,
    /// Channels of the convolutions.
    pub hidden: usize,
    /// Channels inside a residual block.
    pub residual: usize,
    /// Residual blocks of each convolutional part.
    pub residual_blocks: usize,
    /// Numbers of a code's embedding, on both levels.
    pub embedding: usize,
    /// Codes of the bottom level (one code a patch).
    pub codes_bottom: usize,
    /// Codes of the top level (one code a square of 2 x 2 patches).
    pub codes_top: usize,
    /// Widths of the decoder's hidden layers.
    pub decoder: Vec<usize>,
    /// Components of each pixel's mixture of discretised logistics.
    pub mixtures: usize,
    /// What is handed on as features of a patch.
    pub features: FeatureChoice,
    /// By which distribution the teacher pays for its codes in its own bound.
    pub code_prior: CodePrior,
    /// Passes over the training pictures at most.
    pub epochs: usize,
    /// Pictures a gradient step.
    pub batch: usize,
    /// Peak of the one-cycle learning rate of Adam.
    pub learning_rate: f64,
    /// Weight of the decoder's nats per dimension against the quantisers' losses. (The paper's 1e-6 on the sum over 64
    /// pictures of 32 x 32 x 3 is 0.2 in this unit.)
    pub nll_weight: f64,
    /// Epochs without a better validation bound after which training stops. The bound often rises in the middle of the
    /// cycle, while codes come into use before the decoder has learned them: be patient.
    pub patience: usize,
    /// Steps after which a code that no vector chose is moved onto a vector of the batch. Small values keep a codebook
    /// from collapsing while the encoder still moves fast.
    pub restart_after: usize,
}

/// Features of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureChoice {
    /// The embeddings of the patch's bottom code and of the top code above it.
    Quantised,
    /// The vectors of both levels before quantisation.
    Continuous,
    /// The two codes, one-hot over sqrt 2: the squared distance of two patches is how many of their codes differ. As
    /// wide as both codebooks are long: for small codebooks.
    Codes,
}

/// Distribution of the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CodePrior {
    /// Every code of a level is as probable as any other.
    Uniform,
    /// A level's code frequencies in the last epoch of training, each code counted once more.
    Empirical,
}

impl CodePrior {
    /// Its name in tensors and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Empirical => "empirical",
        }
    }
}

impl Default for VqVaeConfig {
    fn default() -> Self {
        Self {
            patch: 4,
            hidden: 64,
            residual: 32,
            residual_blocks: 2,
            embedding: 32,
            codes_bottom: 256,
            codes_top: 256,
            decoder: vec![128, 256],
            mixtures: 3,
            features: FeatureChoice::Quantised,
            code_prior: CodePrior::Empirical,
            epochs: 50,
            batch: 64,
            learning_rate: 1e-3,
            nll_weight: 1.0,
            patience: 20,
            restart_after: 20,
        }
    }
}

impl VqVaeConfig {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let patch = self.patch;
        problems.check(
            patch >= 2 && patch.is_power_of_two(),
            format!("{path}.patch"),
            format!("must be a power of two from 2 on, found {patch}"),
        );
        let at_least_one = [
            ("hidden", self.hidden),
            ("residual", self.residual),
            ("embedding", self.embedding),
            ("codes_bottom", self.codes_bottom),
            ("codes_top", self.codes_top),
            ("mixtures", self.mixtures),
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("patience", self.patience),
            ("restart_after", self.restart_after),
            ("decoder", self.decoder.iter().copied().min().unwrap_or(1)),
        ];
        for (key, value) in at_least_one {
            problems.check(value > 0, format!("{path}.{key}"), "must be at least 1");
        }
        for (key, value) in [("learning_rate", self.learning_rate), ("nll_weight", self.nll_weight)] {
            let positive = value > 0.0 && value.is_finite();
            problems.check(positive, format!("{path}.{key}"), format!("must be a positive number, found {value}"));
        }
    }

    /// How often the encoder halves a picture's sides before the bottom level.
    pub(in crate::teacher) fn halvings(&self) -> usize {
        self.patch.ilog2() as usize
    }
}
