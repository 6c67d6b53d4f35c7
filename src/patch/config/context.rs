//! What an experiment says about the pixels around patches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::gaussian::GaussianConfig;
use crate::refusal::Problems;

/// Who weighs the experts of a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GateConfig {
    /// Constants.
    #[default]
    None,
    /// A small network that looks at the context.
    Network(NetworkConfig),
}

/// A gate network with two hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Units of a hidden layer.
    pub units: usize,
    /// Adam's learning rate, times the step size of EM.
    pub rate: f64,
    /// The experts move with every so many steps of the network.
    pub experts_every: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { units: 128, rate: 2e-3, experts_every: 4 }
    }
}

impl GateConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if let Self::Network(network) = self {
            problems.check(network.units > 0, format!("{path}.units"), "expected at least 1, found 0");
            problems.check(network.experts_every > 0, format!("{path}.experts_every"), "expected at least 1, found 0");
            let fine = network.rate > 0.0 && network.rate <= 1.0;
            let message = format!("expected more than 0 and at most 1, found {}", network.rate);
            problems.check(fine, format!("{path}.rate"), message);
        }
    }
}

/// Patches of a side with a context, and the gate over them.
#[derive(Clone, Copy, Debug)]
pub struct ContextConfig {
    /// Side of a patch.
    pub patch: usize,
    /// Pixels around it.
    pub context: usize,
    /// The gate.
    pub gate: GateConfig,
}

impl ContextConfig {
    /// Free numbers of so many experts with so many groups of scales, and of their gate.
    #[must_use]
    pub fn parameters(&self, gaussian: &GaussianConfig, channels: usize, experts: usize) -> usize {
        let window = self.window(channels * self.pixels());
        let (_, groups) = gaussian.scale_groups.order(window.patch_numbers() as i64);
        let scales = gaussian.scales.pow(groups.len() as u32);
        let (mut before, mut each) = (window.context_numbers(), scales - 1);
        for width in groups.into_iter().map(|width| width as usize) {
            each += width * before + width * (width + 3) / 2;
            before += width;
        }
        let gate = match self.gate {
            GateConfig::None => 0,
            GateConfig::Network(network) => {
                let (units, outputs) = (network.units, experts + scales);
                units * (window.features() + 1) + units * (units + 1) + outputs * (units + 1)
            }
        };
        experts * each + gate
    }

    /// Pixels of a window.
    fn pixels(&self) -> usize {
        let (t, p) = (self.context, self.patch);
        t * (2 * t + p) + t * p + p * p
    }

    /// The window of so many numbers.
    #[must_use]
    pub fn window(&self, numbers: usize) -> WindowShape {
        WindowShape { patch: self.patch, context: self.context, channels: numbers / self.pixels() }
    }
}

/// What a window is made of: the order of its numbers is that of [`crate::data::windows::Windows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    /// Side of the patch in pixels.
    pub patch: usize,
    /// Pixels around it.
    pub context: usize,
    /// Numbers a pixel.
    pub channels: usize,
}

impl WindowShape {
    /// Pixels of the context.
    #[must_use]
    pub fn context_pixels(&self) -> usize {
        self.context * (2 * self.context + self.patch) + self.context * self.patch
    }

    /// Numbers of the context.
    #[must_use]
    pub fn context_numbers(&self) -> usize {
        self.context_pixels() * self.channels
    }

    /// What a gate looks at: the numbers, three more for every channel, and which pixels are there.
    #[must_use]
    pub fn features(&self) -> usize {
        self.context_numbers() + 3 * self.channels + self.context_pixels()
    }

    /// Numbers of the patch.
    #[must_use]
    pub fn patch_numbers(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// Row and column of every pixel of the context, from the patch's first pixel.
    fn places(&self) -> Vec<(i64, i64)> {
        let (t, p) = (self.context as i64, self.patch as i64);
        let all = (-t..p).flat_map(|row| (-t..p + t).map(move |col| (row, col)));
        all.filter(|&(row, col)| row < 0 || col < 0).collect()
    }

    /// Numbers of the context's pixels that touch the patch: int64 `[n]`.
    pub fn near(&self) -> Tensor {
        let p = self.patch as i64;
        let touches = |&(row, col): &(i64, i64)| row >= -1 && col >= -1 && col <= p;
        let numbers = self.places().into_iter().zip(0i64..).filter(|(place, _)| touches(place)).map(|(_, i)| i);
        Tensor::from_slice(&numbers.collect::<Vec<_>>())
    }

    /// What of a context's numbers is there beside each kind of border: above, to the left, to the right, above and to the
    /// left; bool `[context numbers]` each.
    pub fn borders(&self) -> [Tensor; 4] {
        let p = self.patch as i64;
        let visible = |seen: &dyn Fn(i64, i64) -> bool| {
            let by_pixel: Vec<bool> = self.places().into_iter().map(|(row, col)| seen(row, col)).collect();
            let by_pixel = Tensor::from_slice(&by_pixel).unsqueeze(1);
            by_pixel.expand([-1, self.channels as i64], false).reshape([-1]).to_kind(Kind::Bool).to_device(Device::Cpu)
        };
        [
            visible(&|row, _| row >= 0),
            visible(&|_, col| col >= 0),
            visible(&|_, col| col < p),
            visible(&|row, col| row >= 0 && col >= 0),
        ]
    }
}
