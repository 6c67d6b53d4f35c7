//! The pixel teacher: features that are read off a patch's own pixels, the honest baseline for "does a deep teacher
//! help?". It has no likelihood of its own.
//!
//! Colours are taken as `YCoCg`: `Y = (R + 2G + B) / 4`, `Co = (R - B) / 2`, `Cg = (2G - R - B) / 4`. The DC of a patch is
//! its mean colour; its contrast is `sqrt(v + 1/12)`, v the variance around the DC over all numbers of the patch and
//! 1/12 the variance of rounding to a level.

use super::frame::Frame;
use super::weights::{NamedTensors, given, saved};
use super::{Bound, Teacher};
use crate::data::pictures::{PictureShape, Pictures};
use crate::refusal::Problems;
use crate::{random, require};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// How pixels become features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PixelConfig {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// What is handed on as features of a patch.
    pub features: PixelFeatures,
    /// With `pixels`: leave out the patch's mean colour.
    pub normalise_dc: bool,
    /// With `pixels`: divide the deviations from the mean colour by the patch's contrast.
    pub normalise_contrast: bool,
    /// With `contrast_orientation`: how many principal components.
    pub components: usize,
    /// With `contrast_orientation`: training patches on which the components are fitted.
    pub sample: usize,
}

/// Features of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PixelFeatures {
    /// The pixels (`YCoCg` for colour pictures).
    Pixels,
    /// Log contrast, mean colour, and the absolute projections on the principal components over the contrast, each
    /// scaled to unit deviation on the sample.
    ContrastOrientation,
}

impl Default for PixelConfig {
    fn default() -> Self {
        Self {
            patch: 4,
            features: PixelFeatures::Pixels,
            normalise_dc: false,
            normalise_contrast: false,
            components: 8,
            sample: 65_536,
        }
    }
}

impl PixelConfig {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let counts = [("patch", self.patch), ("components", self.components), ("sample", self.sample)];
        for (key, value) in counts {
            problems.check(value > 0, format!("{path}.{key}"), "must be at least 1");
        }
        let normalises = self.normalise_dc || self.normalise_contrast;
        problems.check(
            !normalises || self.features == PixelFeatures::Pixels,
            format!("{path}.features"),
            "normalise_dc and normalise_contrast go with `pixels`; contrast_orientation normalises by itself",
        );
    }
}

/// Principal components `[P, D]` and the deviations `[1 + C + P]` of the features.
struct Fit {
    components: Tensor,
    deviations: Tensor,
}

/// The pixel teacher for pictures of one shape.
pub struct PixelTeacher {
    config: PixelConfig,
    frame: Frame,
    device: Device,
    /// RGB to `YCoCg`, where there are three channels `[3, 3]`; made beforehand, since a trace does not see numbers.
    color: Option<Tensor>,
    fit: Option<Fit>,
}

/// Patches of a batch: mean colours, deviations and contrasts, for n patches.
struct PatchMoments {
    dc: Tensor,         // [n, 1, C]
    deviations: Tensor, // [n, p * p, C]
    contrast: Tensor,   // [n, 1, 1]
}

impl PixelTeacher {
    /// Made ready on a sample of training pictures, drawn by the seed.
    ///
    /// # Errors
    /// When the patch does not divide the picture, a patch has fewer numbers than there are components, or pictures
    /// cannot be read.
    pub fn fit(config: &PixelConfig, train: &Pictures, seed: u64, device: Device) -> Result<Self> {
        let mut teacher = Self::unfitted(config, train.shape(), device)?;
        if config.features == PixelFeatures::ContrastOrientation {
            teacher.check_components()?;
            require!(!train.is_empty(), "teacher: there are no training pictures: choose a split that has some");
            let wanted = config.sample.div_ceil(teacher.frame.patches()).min(train.len());
            let mut rng = random::rng(seed, "pixel teacher sample", 0);
            let mut chosen = rand::seq::index::sample(&mut rng, train.len(), wanted).into_vec();
            chosen.sort_unstable();
            teacher.fit = Some(teacher.principal(&train.batch(&chosen)?.to_device(device)));
        }
        Ok(teacher)
    }

    /// The teacher whose tensors [`Self::to_tensors`] gave.
    ///
    /// # Errors
    /// When the patch does not divide the picture, or a tensor is missing, of another size or not finite.
    pub fn from_tensors(
        config: &PixelConfig,
        shape: PictureShape,
        tensors: NamedTensors,
        device: Device,
    ) -> Result<Self> {
        let mut teacher = Self::unfitted(config, shape, device)?;
        if config.features == PixelFeatures::ContrastOrientation {
            teacher.check_components()?;
            let mut map: BTreeMap<String, Tensor> = tensors.into_iter().collect();
            let mut read = |name: &str, size: &[i64]| {
                Ok::<_, anyhow::Error>(given(&mut map, name, size, Kind::Float)?.to_device(device))
            };
            let [components, channels] = [config.components, shape.channels].map(|n| n as i64);
            teacher.fit = Some(Fit {
                components: read("pixel.components", &[components, teacher.numbers()])?,
                deviations: read("pixel.deviations", &[1 + channels + components])?,
            });
        }
        Ok(teacher)
    }

    /// What was fitted, by name, contiguous on the CPU; nothing for plain pixels.
    #[must_use]
    pub fn to_tensors(&self) -> NamedTensors {
        self.fit.iter().flat_map(Fit::named).map(|(name, tensor)| (name, saved(&tensor))).collect()
    }

    fn unfitted(config: &PixelConfig, shape: PictureShape, device: Device) -> Result<Self> {
        let ycocg = [0.25f32, 0.5, -0.25, 0.5, 0.0, 0.5, 0.25, -0.5, -0.25]; // columns Y, Co, Cg; rows R, G, B
        let color = (shape.channels == 3).then(|| Tensor::from_slice(&ycocg).reshape([3, 3]).to_device(device));
        Ok(Self { config: config.clone(), frame: Frame::new(shape, config.patch)?, device, color, fit: None })
    }

    /// Numbers of a patch, D.
    fn numbers(&self) -> i64 {
        (self.config.patch * self.config.patch * self.frame.shape().channels) as i64
    }

    fn check_components(&self) -> Result<()> {
        require!(
            self.config.components as i64 <= self.numbers(),
            "teacher.components: a patch has {} numbers, found {} components: ask for at most as many",
            self.numbers(),
            self.config.components
        );
        Ok(())
    }

    /// Patches `[n, p * p, C]` of pixels `[B, H, W, C]`, as `YCoCg` if there are three channels.
    fn patches(&self, pixels: &Tensor) -> Tensor {
        let patches = self.frame.patches_of(pixels).flatten(0, 1).to_kind(Kind::Float);
        match &self.color {
            Some(color) => patches.matmul(color),
            None => patches,
        }
    }

    fn moments(&self, pixels: &Tensor) -> PatchMoments {
        let patches = self.patches(pixels);
        let dc = patches.mean_dim(1, true, Kind::Float);
        let deviations = patches - &dc;
        let contrast = (deviations.square().mean_dim([1i64, 2].as_slice(), true, Kind::Float) + 1.0 / 12.0).sqrt();
        PatchMoments { dc, deviations, contrast }
    }

    fn principal(&self, pixels: &Tensor) -> Fit {
        let moments = self.moments(pixels);
        let flat = moments.deviations.flatten(1, 2).to_kind(Kind::Double);
        let (_, vectors) = flat.tr().matmul(&flat).linalg_eigh("L"); // eigenvalues rise
        let count = self.config.components as i64;
        let components =
            vectors.narrow(1, self.numbers() - count, count).flip([1]).tr().to_kind(Kind::Float).contiguous();
        let deviations = contrast_orientation(&moments, &components).std_dim(0, false, false);
        let deviations = deviations.where_self(&deviations.gt(0.0), &deviations.ones_like());
        Fit { components, deviations }
    }

    /// Features of each patch, `[n, F]`.
    fn describe(&self, pixels: &Tensor) -> Tensor {
        let moments = self.moments(pixels);
        if let Some(fit) = &self.fit {
            return contrast_orientation(&moments, &fit.components) / &fit.deviations;
        }
        let PatchMoments { dc, deviations, contrast } = moments;
        let deviations = if self.config.normalise_contrast { deviations / contrast } else { deviations };
        let pixels = if self.config.normalise_dc { deviations } else { deviations + dc };
        pixels.flatten(1, 2)
    }
}

impl Fit {
    fn named(&self) -> [(String, Tensor); 2] {
        [
            ("pixel.components".into(), self.components.shallow_clone()),
            ("pixel.deviations".into(), self.deviations.shallow_clone()),
        ]
    }
}

/// Log contrast, mean colour and |projections| over contrast, `[n, 1 + C + P]`.
fn contrast_orientation(moments: &PatchMoments, components: &Tensor) -> Tensor {
    let contrast = moments.contrast.flatten(1, 2);
    let projections = moments.deviations.flatten(1, 2).matmul(&components.tr()).abs() / &contrast;
    Tensor::cat(&[contrast.log(), moments.dc.flatten(1, 2), projections], 1)
}

impl Teacher for PixelTeacher {
    fn name(&self) -> &'static str {
        "pixel"
    }

    fn grid(&self) -> (usize, usize) {
        (self.frame.rows(), self.frame.columns())
    }

    fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        self.frame.check(pixels)?;
        let features = self.describe(&pixels.f_to_device(self.device)?);
        // The batch is left open, for traces of it.
        let width = *features.size().last().unwrap_or(&1);
        Ok(features.reshape([-1, self.frame.patches() as i64, width]))
    }

    fn bound(&self, pixels: &Tensor) -> Result<Option<Bound>> {
        self.frame.check(pixels)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.flatten(0, -1)).unwrap()
    }

    fn grey(bytes: &[u8]) -> Pictures {
        let shape = PictureShape { height: 2, width: 2, channels: 1, levels: 256 };
        Pictures::from_bytes(bytes.to_vec(), shape).unwrap()
    }

    fn features(config: &PixelConfig, pictures: &Pictures) -> Tensor {
        let teacher = PixelTeacher::fit(config, pictures, 1, Device::Cpu).unwrap();
        let all: Vec<usize> = (0..pictures.len()).collect();
        teacher.features(&pictures.batch(&all).unwrap()).unwrap()
    }

    #[test]
    fn grey_pixels_by_hand() {
        let pictures = grey(&[1, 2, 3, 6]);
        let config = PixelConfig { patch: 2, ..PixelConfig::default() };
        assert_eq!(values(&features(&config, &pictures)), [1.0, 2.0, 3.0, 6.0]);
        let no_dc = PixelConfig { normalise_dc: true, ..config.clone() };
        assert_eq!(values(&features(&no_dc, &pictures)), [-2.0, -1.0, 0.0, 3.0]);
        // Variance 14 / 4.
        let contrast = (3.5f32 + 1.0 / 12.0).sqrt();
        for (normalise_dc, dc) in [(false, 3.0f32), (true, 0.0)] {
            let both = PixelConfig { normalise_dc, normalise_contrast: true, ..config.clone() };
            for (found, expected) in values(&features(&both, &pictures)).iter().zip([-2f32, -1.0, 0.0, 3.0]) {
                assert!((found - (dc + expected / contrast)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn colours_are_ycocg() {
        let shape = PictureShape { height: 1, width: 2, channels: 3, levels: 256 };
        let pictures = Pictures::from_bytes(vec![10, 20, 30, 200, 200, 200], shape).unwrap();
        let found = features(&PixelConfig { patch: 1, ..PixelConfig::default() }, &pictures);
        assert_eq!(found.size(), [1, 2, 3]);
        assert_eq!(values(&found), [20.0, -10.0, 0.0, 200.0, 0.0, 0.0]);
    }

    #[test]
    fn contrast_and_orientation_by_hand() {
        // All patches vary along (1, 1, -1, -1) / 2 only, by 2 t around the means 10, 20, 30.
        let pictures = grey(&[11, 11, 9, 9, 18, 18, 22, 22, 33, 33, 27, 27]);
        let config = PixelConfig {
            patch: 2,
            features: PixelFeatures::ContrastOrientation,
            components: 1,
            ..PixelConfig::default()
        };
        let found = features(&config, &pictures).squeeze_dim(1);
        let contrasts = [1f64, 2.0, 3.0].map(|t| (t * t + 1.0 / 12.0).sqrt());
        let raw: [[f64; 3]; 3] =
            std::array::from_fn(|i| [contrasts[i].ln(), 10.0 * (i + 1) as f64, 2.0 * (i + 1) as f64 / contrasts[i]]);
        for feature in 0..3 {
            let mean = raw.iter().map(|row| row[feature]).sum::<f64>() / 3.0;
            let deviation = (raw.iter().map(|row| (row[feature] - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
            for (i, row) in raw.iter().enumerate() {
                let found = found.double_value(&[i as i64, feature as i64]);
                assert!((found - row[feature] / deviation).abs() < 1e-4 * found.abs(), "{found} at {i}, {feature}");
            }
        }
    }

    #[test]
    fn what_was_fitted_comes_back() {
        let pictures = grey(&(0..40).map(|i| (i * 37 % 251) as u8).collect::<Vec<_>>());
        let features = PixelFeatures::ContrastOrientation;
        let config = PixelConfig { patch: 2, features, components: 3, ..PixelConfig::default() };
        let teacher = PixelTeacher::fit(&config, &pictures, 1, Device::Cpu).unwrap();
        let again = PixelTeacher::from_tensors(&config, pictures.shape(), teacher.to_tensors(), Device::Cpu).unwrap();
        let pixels = pictures.batch(&[0, 3]).unwrap();
        assert_eq!(teacher.features(&pixels).unwrap(), again.features(&pixels).unwrap());
        let error = PixelTeacher::from_tensors(&config, pictures.shape(), vec![], Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("tensor `pixel.components` is missing"), "{error}");
        let many = PixelConfig { components: 5, ..config };
        let error = PixelTeacher::fit(&many, &pictures, 1, Device::Cpu).err().unwrap();
        let expected = "teacher.components: a patch has 4 numbers, found 5 components: ask for at most as many";
        assert_eq!(error.to_string(), expected);
    }
}
