//! Teachers: deep or plain models that give features per patch, and some of them a likelihood bound of their own.
//!
//! Section 3 of the method. A teacher knows nothing of clusters or circuits.

mod decoder;
mod encoder;
mod grid;
mod layers;
mod quantiser;
mod weights;
pub mod adam;
pub mod logistic;
pub mod pixel;
pub mod torchscript;
pub mod training;
pub mod vqvae;

use crate::data::pictures::PictureShape;
use crate::refusal::Problems;
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub use grid::PatchGrid;
pub use pixel::{PixelConfig, PixelTeacher};
pub use torchscript::{TorchScript, TorchScriptConfig};
pub use vqvae::{VqVae, VqVaeConfig};

/// Something that looks at pictures and says what it sees in each patch.
pub trait Teacher {
    /// Short name for logs and tables.
    fn name(&self) -> &str;

    /// Rows and columns of patches.
    fn grid(&self) -> (usize, usize);

    /// How many values the codes of a teacher take that gives codes in place of features: they are the latents as they
    /// are.
    fn code_count(&self) -> Option<usize> {
        None
    }

    /// Features of each patch, f32 `[B, L, F]` with `L = rows * columns` in row-major order, of pixels u8
    /// `[B, H, W, C]`; of a teacher of codes, the codes, i64 `[B, L]`.
    ///
    /// # Errors
    /// When the pixels are not of the teacher's shape.
    fn features(&self, pixels: &Tensor) -> Result<Tensor>;

    /// The teacher's own bound on `-log p(x)` of pixels u8 `[B, H, W, C]`, for teachers that have one.
    ///
    /// # Errors
    /// When the pixels are not of the teacher's shape.
    fn bound(&self, pixels: &Tensor) -> Result<Option<Bound>>;
}

/// An upper bound on `-log p(x)` by the codes z(x): it pays for the pixels given the codes and for the codes.
pub struct Bound {
    /// `-log p(x | z(x))` in nats, f64 `[B]`.
    pub decoder: Tensor,
    /// `-log p(z(x))` in nats under the named code prior, f64 `[B]`.
    pub codes: Tensor,
}

impl Bound {
    /// The bound itself, decoder plus codes, in nats, f64 `[B]`.
    pub fn total(&self) -> Tensor {
        &self.decoder + &self.codes
    }
}

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
}

impl TeacherConfig {
    /// Side of a patch in pixels.
    #[must_use]
    pub fn patch(&self) -> usize {
        match self {
            Self::VqVae(config) => config.patch,
            Self::Pixel(config) => config.patch,
            Self::TorchScript(config) => config.patch,
        }
    }

    /// The grid of patches on pictures of this shape.
    ///
    /// # Errors
    /// When the picture is not divisible by the patch.
    pub fn grid(&self, shape: PictureShape) -> Result<PatchGrid> {
        PatchGrid::new(shape, self.patch())
    }

    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        match self {
            Self::VqVae(config) => config.check(path, problems),
            Self::Pixel(config) => config.check(path, problems),
            Self::TorchScript(config) => config.check(path, problems),
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
        assert!(error.contains("unknown variant `oracle`, expected one of `vqvae`, `pixel`, `torchscript`"), "{error}");
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
