//! VQ-VAE-2 (Razavi et al. 2019) with an independent decoder (Liu et al. 2023): the deep teacher.
//!
//! A patch has a bottom code; a square of 2 x 2 patches shares a top code. Given both, the patch's pixels are
//! independent of the rest of the picture. This file is the model; `training` fits it.

pub mod config;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::frame::Frame;
use super::layers::Widths;
use super::logistic::LogisticMixture;
use super::quantiser::{Quantised, Quantiser};
use super::weights::{NamedTensors, Weights};
use super::{Bound, Teacher};
use crate::data::pictures::PictureShape;
use crate::refusal::Problems;
use crate::require;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

pub use config::{CodePrior, FeatureChoice, VqVaeConfig};

/// A VQ-VAE-2 for pictures of one shape.
pub struct VqVae {
    config: VqVaeConfig,
    frame: Frame,
    device: Device,
    named: NamedTensors,
    encoder: Encoder,
    pub(super) top: Quantiser,
    pub(super) bottom: Quantiser,
    decoder: Decoder,
    pixel: LogisticMixture,
}

/// Both levels of a batch of pictures.
pub(super) struct Levels {
    pub bottom: Quantised,
    pub top: Quantised,
}

impl VqVae {
    /// An untrained model with weights drawn from the seed.
    ///
    /// # Errors
    /// When the patch does not divide the picture.
    pub fn fresh(config: &VqVaeConfig, shape: PictureShape, seed: u64, device: Device) -> Result<Self> {
        Self::build(config, shape, Weights::fresh(seed, device), device)
    }

    /// The model whose tensors [`Self::to_tensors`] gave.
    ///
    /// # Errors
    /// When the patch does not divide the picture, or a tensor is missing, unknown, of another size or not finite.
    pub fn from_tensors(
        config: &VqVaeConfig,
        shape: PictureShape,
        tensors: NamedTensors,
        device: Device,
    ) -> Result<Self> {
        Self::build(config, shape, Weights::given(tensors, device), device)
    }

    /// All tensors by name, contiguous copies on the CPU, detached.
    #[must_use]
    pub fn to_tensors(&self) -> NamedTensors {
        self.named.iter().map(|(name, tensor)| (name.clone(), super::weights::saved(tensor))).collect()
    }

    fn build(config: &VqVaeConfig, shape: PictureShape, mut weights: Weights, device: Device) -> Result<Self> {
        let mut problems = Problems::default();
        config.check("teacher", &mut problems);
        problems.into_result("VQ-VAE-2")?;
        let frame = Frame::new(shape, config.patch)?;
        require!(shape.levels >= 2, "teacher: expected pictures of at least 2 levels, found {}", shape.levels);
        let w = &mut weights;
        let [hidden, residual, embedding] = [config.hidden, config.residual, config.embedding].map(|n| n as i64);
        let widths = Widths { hidden, residual, blocks: config.residual_blocks };
        let [channels, levels, mixtures] = [shape.channels, shape.levels, config.mixtures].map(|n| n as i64);
        let pixel = LogisticMixture { channels, levels, mixtures };
        let outputs = pixel.parameters() * (config.patch * config.patch) as i64;
        let prior = config.code_prior.name();
        let encoder = Encoder::new(w, channels, config.halvings(), widths, embedding)?;
        let bottom = Quantiser::new(w, "bottom", prior, [config.codes_bottom as i64, embedding])?;
        let top = Quantiser::new(w, "top", prior, [config.codes_top as i64, embedding])?;
        let decoder = Decoder::new(w, 2 * embedding, &config.decoder, outputs)?;
        let named = weights.finish()?;
        Ok(Self { config: config.clone(), frame, device, named, encoder, top, bottom, decoder, pixel })
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &VqVaeConfig {
        &self.config
    }

    /// The pictures that it is for, and their patches.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// The tensors that gradients move; the priors are not among them.
    pub(super) fn parameters(&self) -> NamedTensors {
        let moved = self.named.iter().filter(|(_, tensor)| tensor.kind() == Kind::Float);
        moved.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// All tensors by name, sharing their memory with the model.
    pub(super) fn shared(&self) -> NamedTensors {
        self.named.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Check pixels and bring them to the model's device.
    pub(super) fn receive(&self, pixels: &Tensor) -> Result<Tensor> {
        self.frame.check(pixels)?;
        Ok(pixels.f_to_device(self.device)?)
    }

    /// Bottom features `[B, hidden, h, w]` and top vectors `[B, E, h', w']` of pixels u8 `[B, H, W, C]`.
    pub(super) fn encode_up(&self, pixels: &Tensor) -> (Tensor, Tensor) {
        let scale = 2.0 / (self.frame.shape().levels - 1).max(1) as f64;
        self.encoder.up(&(pixels.permute([0, 3, 1, 2]).to_kind(Kind::Float) * scale - 1.0))
    }

    /// Bottom vectors `[B, E, h, w]` from bottom features and quantised top vectors.
    pub(super) fn encode_down(&self, bottom: &Tensor, top: &Tensor) -> Tensor {
        self.encoder.down(bottom, top)
    }

    /// Encode and quantise both levels.
    pub(super) fn encode(&self, pixels: &Tensor) -> Levels {
        let (features, top) = self.encode_up(pixels);
        let top = self.top.quantise(&top);
        let bottom = self.bottom.quantise(&self.encode_down(&features, &top.embedded));
        Levels { bottom, top }
    }

    /// `-log p(pixels | codes)` of each picture in nats, f64 `[B]`.
    pub(super) fn decoder_nats(&self, levels: &Levels, pixels: &Tensor) -> Tensor {
        let inputs = self.join(&levels.bottom.embedded, &levels.top.embedded);
        let (batch, patches, _) = inputs.size3().expect("three dimensions");
        let parameters = self.decoder.forward(&inputs).reshape([batch, patches, -1, self.pixel.parameters()]);
        self.pixel.nats(&parameters, &self.frame.patches_of(pixels))
    }

    /// Each patch's bottom vector and the top vector above it, `[B, L, bottom + top]`, of `[B, .., h, w]` and
    /// `[B, .., h', w']`.
    fn join(&self, bottom: &Tensor, top: &Tensor) -> Tensor {
        let (rows, columns) = (self.frame.rows() as i64, self.frame.columns() as i64);
        let top = top.repeat_interleave_self_int(2, 2, None).repeat_interleave_self_int(2, 3, None);
        let top = top.narrow(2, 0, rows).narrow(3, 0, columns);
        Tensor::cat(&[bottom, &top], 1).flatten(2, 3).transpose(1, 2).contiguous()
    }
}

impl Teacher for VqVae {
    fn name(&self) -> &'static str {
        "vqvae"
    }

    fn grid(&self) -> (usize, usize) {
        (self.frame.rows(), self.frame.columns())
    }

    fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let Levels { bottom, top } = self.encode(&self.receive(pixels)?);
        let one_hot = |codes: &Tensor, count: i64| {
            codes.one_hot(count).permute([0, 3, 1, 2]).to_kind(Kind::Float) * std::f64::consts::FRAC_1_SQRT_2
        };
        Ok(match self.config.features {
            FeatureChoice::Quantised => self.join(&bottom.embedded, &top.embedded),
            FeatureChoice::Continuous => self.join(&bottom.continuous, &top.continuous),
            FeatureChoice::Codes => {
                self.join(&one_hot(&bottom.codes, self.bottom.codes()), &one_hot(&top.codes, self.top.codes()))
            }
        })
    }

    fn bound(&self, pixels: &Tensor) -> Result<Option<Bound>> {
        let _guard = tch::no_grad_guard();
        let pixels = self.receive(pixels)?;
        let levels = self.encode(&pixels);
        let codes = self.bottom.code_nats(&levels.bottom.codes) + self.top.code_nats(&levels.top.codes);
        Ok(Some(Bound { decoder: self.decoder_nats(&levels, &pixels), codes }))
    }
}
