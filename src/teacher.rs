//! Teachers: deep or plain models that give features per patch, and some of them a likelihood bound of their own.
//!
//! Section 3 of the method. A teacher knows nothing of clusters or circuits.

mod decoder;
mod encoder;
mod frame;
mod layers;
mod quantiser;
mod weights;
mod pin;
mod config;
pub mod given;
pub mod features;
pub mod logistic;
pub mod pixel;
pub mod score;
pub mod torchscript;
pub mod training;
pub mod vqvae;

use anyhow::Result;
use tch::Tensor;

pub use config::TeacherConfig;
pub use frame::Frame;
pub use given::{GivenConfig, GivenFeatures};
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
