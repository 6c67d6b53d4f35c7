//! Mixtures of discretised logistics with channel-autoregressive means (`PixelCNN++`, Salimans et al. 2017).
//!
//! A pixel's value v in `0..levels` stands for the interval of width `2 h`, `h = 1 / (levels - 1)`, around
//! `x = 2 v h - 1`; the outermost intervals reach to infinity, so the probabilities sum to 1 exactly. With
//! `a = (x - h - mean) / s` and `b = (x + h - mean) / s`,
//!
//! ```text
//! sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^-(b - a)),    b - a = 2 h / s
//! ```
//!
//! whose logarithm is a sum of three terms without cancellation: no thresholds, no special cases in float32.

use tch::{Kind, Tensor};

/// Log scales are kept within ± this: from far below one level to far beyond the whole range.
const LOG_SCALE_LIMIT: f64 = 7.0;

/// The family of one pixel's distribution; its parameters come with every call.
#[derive(Clone, Copy, Debug)]
pub struct LogisticMixture {
    /// Numbers a pixel.
    pub channels: i64,
    /// Values a number can take, at least 2.
    pub levels: i64,
    /// Components of the mixture, shared by the channels of a pixel.
    pub mixtures: i64,
}

impl LogisticMixture {
    /// Groups of `mixtures` parameters: weights, means, log scales and a coefficient per pair of channels.
    fn groups(self) -> i64 {
        1 + 2 * self.channels + self.channels * (self.channels - 1) / 2
    }

    /// Parameters a pixel.
    #[must_use]
    pub fn parameters(self) -> i64 {
        self.groups() * self.mixtures
    }

    /// Log-probability in nats, `[N]`, of pixels `[N, C]` (integers of any kind) under parameters `[N, parameters()]`.
    pub fn log_probability(self, parameters: &Tensor, pixels: &Tensor) -> Tensor {
        let channels = self.channels as usize;
        // groups, each [N, M]; x: [N, C] in [-1, 1]
        let groups = parameters.reshape([-1, self.groups(), self.mixtures]).unbind(1);
        let (means, log_scales) = (&groups[1..], &groups[1 + channels..]);
        let mut coefficients = groups[1 + 2 * channels..].iter();
        let x = pixels.to_kind(parameters.kind()) * (2.0 / (self.levels - 1) as f64) - 1.0;
        let x = x.split(1, 1);
        let channel_mass = |channel: usize| {
            let mean = x[..channel]
                .iter()
                .zip(coefficients.by_ref())
                .fold(means[channel].shallow_clone(), |mean, (earlier, coefficient)| {
                    mean + coefficient.tanh() * earlier
                });
            self.log_mass(&x[channel], &mean, &log_scales[channel])
        };
        // No sum in place: the gradient needs the terms.
        let joint = (0..channels).map(channel_mass).fold(groups[0].log_softmax(-1, None), |joint, mass| joint + mass);
        joint.logsumexp(-1, false)
    }

    /// Log-mass of the intervals around `x` `[N, 1]` under each component `[N, M]`.
    fn log_mass(self, x: &Tensor, mean: &Tensor, log_scale: &Tensor) -> Tensor {
        let half = 1.0 / (self.levels - 1) as f64;
        let inverse = (-log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)).exp();
        let (centre, width) = ((x - mean) * &inverse, inverse * (2.0 * half));
        let below = (&centre + &width * 0.5).log_sigmoid(); // log sigmoid(b)
        let above = (&width * 0.5 - centre).log_sigmoid(); // log sigmoid(-a)
        let inside = &below + &above + (-width).expm1().neg().log();
        let upper = inside.where_self(&x.lt(1.0 - half), &above);
        upper.where_self(&x.gt(half - 1.0), &below)
    }

    /// `-log p` summed over the pixels of a picture, f64 `[B]`: parameters `[B, .., parameters()]`, pixels `[B, .., C]`.
    pub fn nats(self, parameters: &Tensor, pixels: &Tensor) -> Tensor {
        let batch = pixels.size()[0];
        let flat = pixels.reshape([-1, self.channels]);
        let log_probability = self.log_probability(&parameters.reshape([-1, self.parameters()]), &flat);
        -log_probability.reshape([batch, -1]).sum_dim_intlist(-1, false, Kind::Double)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use rand::RngExt;
    use tch::Device;

    /// Every pixel of `channels` numbers in `0..levels`, `[levels^channels, channels]`.
    fn all_pixels(channels: i64, levels: i64) -> Tensor {
        let values = Tensor::arange(levels, (Kind::Int64, Device::Cpu));
        let axes = vec![&values; channels as usize];
        let grids: Vec<Tensor> = Tensor::meshgrid_indexing(&axes, "ij").iter().map(|t| t.flatten(0, -1)).collect();
        Tensor::stack(&grids, 1)
    }

    fn sum_over_all(family: LogisticMixture, parameters: &Tensor) -> f64 {
        let pixels = all_pixels(family.channels, family.levels);
        let rows = parameters.reshape([1, -1]).expand([pixels.size()[0], -1], false);
        f64::try_from(family.log_probability(&rows, &pixels).to_kind(Kind::Double).exp().sum(None)).unwrap()
    }

    fn random_parameters(family: LogisticMixture, scale: f32, seed: u64) -> Tensor {
        let mut rng = random::rng(seed, "test", 0);
        let values: Vec<f32> = (0..family.parameters()).map(|_| rng.random_range(-scale..scale)).collect();
        Tensor::from_slice(&values)
    }

    #[test]
    fn probabilities_sum_to_one_over_all_pixels() {
        for (channels, levels) in [(1, 2), (1, 17), (1, 256), (3, 2), (3, 6), (2, 9)] {
            let family = LogisticMixture { channels, levels, mixtures: 3 };
            for (seed, scale) in [(1, 1.0), (2, 5.0), (3, 20.0)] {
                let total = sum_over_all(family, &random_parameters(family, scale, seed));
                assert!((total - 1.0).abs() < 2e-5, "{family:?} at scale {scale}: {total}");
            }
        }
    }

    #[test]
    fn one_component_is_a_difference_of_sigmoids() {
        // Three levels at -1, 0, 1, half width 1/2; mean 0.25, log scale ln 0.5.
        let family = LogisticMixture { channels: 1, levels: 3, mixtures: 1 };
        let parameters = Tensor::from_slice(&[0.7f64, 0.25, 0.5f64.ln()]).expand([3, 3], false);
        let pixels = Tensor::from_slice(&[0u8, 1, 2]).reshape([3, 1]);
        let found: Vec<f64> = Vec::try_from(family.log_probability(&parameters, &pixels).exp()).unwrap();
        let sigmoid = |t: f64| 1.0 / (1.0 + (-t).exp());
        let (low, high) = (sigmoid((-0.5 - 0.25) / 0.5), sigmoid((0.5 - 0.25) / 0.5));
        for (found, expected) in found.iter().zip([low, high - low, 1.0 - high]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn later_channels_see_earlier_ones() {
        // Narrow components whose second mean is tanh(large) times the first value: the second channel copies.
        let family = LogisticMixture { channels: 2, levels: 5, mixtures: 1 };
        let parameters = Tensor::from_slice(&[0f32, 0.0, 0.0, 3.0, -6.0, 20.0]).expand([2, 6], false);
        let pixels = Tensor::from_slice(&[3u8, 3, 3, 1]).reshape([2, 2]);
        let found: Vec<f32> = Vec::try_from(family.log_probability(&parameters, &pixels)).unwrap();
        // The first channel is nearly flat: about 1/2 e^-3 / 4 per level; the copy is certain.
        assert!(found[0] > -6.0 && found[1] < -100.0, "{found:?}");
    }

    #[test]
    fn extreme_parameters_stay_finite_with_finite_gradients() {
        let family = LogisticMixture { channels: 3, levels: 256, mixtures: 3 };
        let pixels = Tensor::from_slice(&[0u8, 128, 255, 255, 0, 7]).reshape([2, 3]);
        for size in [1e2, 1e4, 1e8, 1e20] {
            for sign in [-1.0, 1.0] {
                let alternating = Tensor::from_slice(&[size, sign * size, -size]).repeat([family.parameters() / 3]);
                for values in [Tensor::full(family.parameters(), sign * size, (Kind::Float, Device::Cpu)), alternating]
                {
                    let parameters = values.to_kind(Kind::Float).reshape([1, -1]).set_requires_grad(true);
                    let nats = family.nats(&parameters.expand([2, -1], false), &pixels);
                    assert!(bool::try_from(nats.isfinite().all()).unwrap(), "nats at {size}");
                    let gradient = &Tensor::run_backward(&[nats.sum(None)], &[&parameters], false, false)[0];
                    assert!(bool::try_from(gradient.isfinite().all()).unwrap(), "gradient at {size}");
                }
            }
        }
    }

    #[test]
    fn a_picture_is_the_sum_of_its_pixels() {
        let family = LogisticMixture { channels: 1, levels: 17, mixtures: 2 };
        let parameters = random_parameters(family, 1.0, 5).reshape([1, 1, -1]);
        let pixels = Tensor::from_slice(&[3u8, 16, 0, 3]).reshape([2, 2, 1]);
        let nats: Vec<f64> = Vec::try_from(family.nats(&parameters.expand([2, 2, -1], false), &pixels)).unwrap();
        let single: Vec<f32> = Vec::try_from(
            family.log_probability(&parameters.expand([4, 1, -1], false).reshape([4, -1]), &pixels.reshape([4, 1])),
        )
        .unwrap();
        assert!((nats[0] + f64::from(single[0] + single[1])).abs() < 1e-5);
        assert!((nats[1] + f64::from(single[2] + single[3])).abs() < 1e-5);
    }
}
