//! The gate network in plain loops, in a fixed order.

use anyhow::Result;

use crate::codec::tables::{doubles, inner};
use crate::data::view::View;
use crate::data::windows::WindowShape;
use crate::patch::context::gate::SPREAD;
use crate::run::checkpoint::Named;

/// A network over contexts, see [`crate::patch::context`].
#[derive(Debug)]
pub struct Gate {
    window: WindowShape,
    experts: usize,
    /// Weights `[out, in]` and biases of the layers.
    layers: Vec<(Vec<f64>, Vec<f64>)>,
    /// Pixels of the context that touch the patch.
    near: Vec<usize>,
}

impl Gate {
    /// From a model's tensors.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn from_tensors(saved: &Named, view: &View, experts: usize, scales: usize) -> Result<Self> {
        let window = WindowShape { patch: view.grid.patch, context: view.context, channels: view.grid.channels };
        let (mut layers, mut inputs) = (Vec::new(), window.features() as i64);
        for layer in 1..=3 {
            let outputs = if layer == 3 { (experts + scales) as i64 } else { -1 };
            let (weights, sizes) = doubles(saved, &format!("gate.w{layer}"), &[outputs, inputs])?;
            let (bias, _) = doubles(saved, &format!("gate.b{layer}"), &[sizes[0] as i64])?;
            inputs = sizes[0] as i64;
            layers.push((weights, bias));
        }
        let near = Vec::<i64>::try_from(window.ring(1))?.into_iter().map(|pixel| pixel as usize).collect();
        Ok(Self { window, experts, layers, near })
    }

    /// ln `g_k(c)` `[K]`, and what is added to the logarithms of every expert's scales `[S]`, for a context about the centre
    /// of which some numbers are there, in the order of windows.
    #[must_use]
    pub fn tilt(&self, context: &[Option<f64>]) -> (Vec<f64>, Vec<f64>) {
        let mut values = self.features(context);
        for (number, (weights, bias)) in self.layers.iter().enumerate() {
            let rows = weights.chunks_exact(values.len());
            let sums = rows.zip(bias).map(|(row, b)| inner(row, &values) + b);
            values = if number < 2 { sums.map(|sum| sum.max(0.0)).collect() } else { sums.collect() };
        }
        let scales = values.split_off(self.experts);
        normalise_logarithms(&mut values);
        (values, scales)
    }

    fn features(&self, context: &[Option<f64>]) -> Vec<f64> {
        let channels = self.window.channels;
        let pixels: Vec<usize> = (0..self.window.context_pixels()).collect();
        let (mut about, mut contrasts, mut near, mut means) =
            (vec![0.0; context.len()], Vec::new(), Vec::new(), Vec::new());
        for c in 0..channels {
            let present = |&pixel: &usize| context[pixel * channels + c].map(|value| (pixel, value));
            let there: Vec<(usize, f64)> = pixels.iter().filter_map(present).collect();
            let count = (there.len() as f64).max(1.0);
            let mean = there.iter().map(|(_, value)| value).sum::<f64>() / count;
            let square = |(_, value): &(usize, f64)| (value - mean) * (value - mean);
            let contrast = (there.iter().map(square).sum::<f64>() / count + 1.0).sqrt();
            for &(pixel, value) in &there {
                about[pixel * channels + c] = (value - mean) / contrast;
            }
            let close: Vec<(usize, f64)> = self.near.iter().filter_map(present).collect();
            let around = close.iter().map(square).sum::<f64>() / (close.len() as f64).max(1.0);
            contrasts.push(libm::log(contrast));
            near.push(libm::log(around + 1.0) * 0.5);
            means.push(mean / SPREAD);
        }
        let there = pixels.iter().map(|pixel| f64::from(u8::from(context[pixel * channels].is_some())));
        about.into_iter().chain(contrasts).chain(near).chain(means).chain(there).collect()
    }
}

/// Subtract the logarithm of the sum of exponentials.
pub fn normalise_logarithms(values: &mut [f64]) {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = libm::log(values.iter().map(|value| libm::exp(value - most)).sum::<f64>()) + most;
    for value in values {
        *value -= total;
    }
}
