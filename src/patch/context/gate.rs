//! The gate network: weights of experts and scales from the context, trained inside EM.
//!
//! ```text
//! g(c) = softmax(v(c)),   h_k(c) = softmax(a_k + u(c)),   (v, u) = W3 relu(W2 relu(W1 f(c) + b1) + b2) + b3
//! ```
//!
//! f(c) are the context's numbers about their mean over their contrast, channel by channel; the logarithms of the contrasts,
//! of all of the context and of its pixels next to the patch; the means; and which pixels are there. A step moves the
//! network by Adam along the gradient of the expected log-likelihood, `sum r_k ln g_k + sum r_ks ln h_ks`, and every a by
//! iterative scaling, `a_ks += ln(sum r_ks / sum r_k h_ks)`: where a step does not overshoot, the likelihood rises
//! (generalised EM). So that the gate knows contexts that stick out of a picture, a part of the windows is shown to it as if
//! a border were near, with the posteriors that they have without it; which, and where, follows from the window's own numbers.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::weights::Tilt;
use crate::adam::Adam;
use crate::data::windows::WindowShape;
use crate::group::{Sum, sum_number};
use crate::patch::config::NetworkConfig;
use crate::patch::gaussian::start::normal;
use crate::run::checkpoint::Named;

/// What the mean of a channel is divided by.
pub const SPREAD: f64 = 64.0;
/// Of so many windows, one for each kind of border is shown without what lies behind it.
const IN: i64 = 12;
/// Names of the network's tensors.
const NAMES: [&str; 6] = ["gate.w1", "gate.b1", "gate.w2", "gate.b2", "gate.w3", "gate.b3"];

/// A small network over contexts.
pub struct Gate {
    config: NetworkConfig,
    window: WindowShape,
    experts: i64,
    /// In the order of the names.
    network: Vec<Tensor>,
    adam: Adam,
    steps: u64,
    /// Gradients summed since the last step, and over how many windows.
    gradients: Vec<Tensor>,
    windows: f64,
}

impl Gate {
    /// A network whose outputs are, at first, the logarithms of these shares of the experts `[K]` and even scales.
    #[must_use]
    pub fn new(config: NetworkConfig, window: WindowShape, shares: &Tensor, scales: i64, rng: &mut ChaCha8Rng) -> Self {
        let (device, units, k) = (shares.device(), config.units as i64, shares.size()[0]);
        let features = window.features() as i64;
        let mut layer = |out: i64, inputs: i64| {
            let w = normal((out * inputs) as usize, rng).view([out, inputs]) * (2.0 / inputs as f64).sqrt();
            w.to_kind(Kind::Float).to_device(device)
        };
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, device));
        let bias = Tensor::cat(&[shares.clamp_min(1e-9).log().to_kind(Kind::Float), zeros(&[scales])], 0);
        let (w1, w2) = (layer(units, features), layer(units, units));
        let network = vec![w1, zeros(&[units]), w2, zeros(&[units]), zeros(&[k + scales, units]), bias];
        Self::of(config, window, k, network)
    }

    fn of(config: NetworkConfig, window: WindowShape, experts: i64, network: Vec<Tensor>) -> Self {
        let network: Vec<Tensor> = network.into_iter().map(|t| t.set_requires_grad(true)).collect();
        let named: Vec<_> =
            NAMES.map(str::to_owned).into_iter().zip(network.iter().map(Tensor::shallow_clone)).collect();
        let gradients = network.iter().map(|t| t.detach().zeros_like()).collect();
        Self { config, window, experts, adam: Adam::new(&named), network, steps: 0, gradients, windows: 0.0 }
    }

    /// The experts move with every so many steps of the network.
    #[must_use]
    pub fn experts_every(&self) -> u64 {
        self.config.experts_every as u64
    }

    /// What the gate says of contexts `[N, W or more]` about the centre, of which `observed` is there.
    #[must_use]
    pub fn tilt(&self, windows: &Tensor, observed: Option<&Tensor>) -> Tilt {
        let _guard = tch::no_grad_guard();
        self.split(&self.outputs(&self.features(windows, observed)).to_kind(windows.kind()))
    }

    fn split(&self, outputs: &Tensor) -> Tilt {
        let scales = outputs.size()[1] - self.experts;
        Tilt {
            experts: outputs.narrow(1, 0, self.experts).log_softmax(1, outputs.kind()),
            scales: outputs.narrow(1, self.experts, scales).unsqueeze(2),
        }
    }

    fn outputs(&self, features: &Tensor) -> Tensor {
        let [w1, b1, w2, b2, w3, b3] = [0, 1, 2, 3, 4, 5].map(|i| &self.network[i]);
        let first = features.linear(w1, Some(b1)).relu();
        first.linear(w2, Some(b2)).relu().linear(w3, Some(b3))
    }

    /// f(c) `[N, F]`, float32.
    fn features(&self, windows: &Tensor, observed: Option<&Tensor>) -> Tensor {
        let (n, given) = (windows.size()[0], self.window.context_numbers() as i64);
        let size = [n, self.window.context_pixels() as i64, self.window.channels as i64];
        let context = windows.narrow(1, 0, given).to_kind(Kind::Float).reshape(size);
        let there = match observed {
            Some(observed) => observed.narrow(1, 0, given).reshape(size).select(2, 0).to_kind(Kind::Float),
            None => context.select(2, 0).ones_like(),
        }
        .unsqueeze(2);
        let over = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let count = over(&there).clamp_min(1.0);
        let mean = over(&(&context * &there)) / &count;
        let about = (context - &mean) * &there;
        let contrast = (over(&about.square()) / count + 1.0).sqrt(); // [N, 1, C]
        let near = self.window.ring(1).to_device(windows.device());
        let (about_near, there_near) = (about.index_select(1, &near), there.index_select(1, &near));
        let near = (over(&about_near.square()) / over(&there_near).clamp_min(1.0) + 1.0).log() * 0.5;
        let features = [(about / &contrast), contrast.log(), near, mean / SPREAD, there].map(|part| part.flatten(1, 2));
        Tensor::cat(&features, 1)
    }

    /// What is left of the contexts of windows `[N, W]` that are shown as if a border were near: bool `[N, numbers]`.
    fn shown(&self, windows: &Tensor) -> Tensor {
        let kind = (windows.sum_dim_intlist(1, false, Kind::Double).abs() * 16.0).floor().remainder(IN as f64);
        let beside = |(visible, border): (Tensor, i64)| {
            visible.to_device(windows.device()).logical_or(&kind.ne(border).unsqueeze(1))
        };
        let all = self.window.borders().into_iter().zip(0..).map(beside);
        all.reduce(|shown, more| shown.logical_and(&more)).expect("there are kinds of borders")
    }

    /// Add the gradient of `sum r_k ln g_k + sum r_ks ln h_ks` over windows `[N, W]` with posteriors `[N, K]`; `scales` gives,
    /// for what the gate says, `sum_k (r_ks - r_k h_ks)`, `[S, N]`.
    pub fn learn(&mut self, windows: &Tensor, posterior: &Tensor, scales: impl FnOnce(&Tilt) -> Tensor) {
        let features = self.features(windows, Some(&self.shown(windows)));
        tch::with_grad(|| {
            let outputs = self.outputs(&features);
            let tilt = self.split(&outputs.detach());
            let experts = posterior - tilt.experts.exp() * posterior.sum_dim_intlist(1, true, Kind::Float);
            let rise = Tensor::cat(&[experts, scales(&tilt).tr().to_kind(Kind::Float)], 1);
            let loss = -(outputs * rise).sum(Kind::Float);
            let gradients = Tensor::run_backward(&[loss], &self.network, false, false);
            tch::no_grad(|| {
                for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
                    *sum += gradient;
                }
            });
        });
        self.windows += windows.size()[0] as f64;
    }

    /// Begin a training.
    pub fn begin(&mut self) {
        let network = std::mem::take(&mut self.network).into_iter().map(|t| t.detach()).collect();
        *self = Self::of(self.config, self.window, self.experts, network);
    }

    /// Hand out the sums over windows.
    ///
    /// # Errors
    /// Those of `sum`.
    pub fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        for gradient in &mut self.gradients {
            let double = gradient.to_kind(Kind::Double);
            sum(&double)?;
            *gradient = double.to_kind(Kind::Float);
        }
        sum_number(&mut self.windows, sum)
    }

    /// One step of Adam at the configured rate times `eta`.
    pub fn step(&mut self, eta: f64) {
        if self.windows > 0.0 {
            self.steps += 1;
            let mean: Vec<Tensor> = self.gradients.iter().map(|g| g / self.windows).collect();
            self.adam.descend_along(&mean, self.config.rate * eta, self.steps);
        }
        self.gradients.iter_mut().for_each(|g| drop(g.zero_()));
        self.windows = 0.0;
    }

    /// Parameters by name.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        NAMES.iter().zip(&self.network).map(|(name, t)| ((*name).to_owned(), t.detach())).collect()
    }

    /// Take up [`tensors`](Self::tensors).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn restore(&mut self, saved: &Named) -> Result<()> {
        for (name, tensor) in NAMES.iter().zip(&mut self.network) {
            let new = saved.tensor(name, &tensor.size())?;
            tch::no_grad(|| tensor.copy_(new));
        }
        Ok(())
    }

    /// Adam's moments, number of steps.
    #[must_use]
    pub fn learning_state(&self) -> Vec<(String, Tensor)> {
        let moments = self.adam.moments().into_iter().map(|(name, t)| (format!("memory.{name}"), t));
        moments.chain([("memory.gate.steps".to_owned(), Tensor::from(self.steps as f64))]).collect()
    }

    /// Take up [`learning_state`](Self::learning_state).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn restore_learning(&mut self, saved: &Named) -> Result<()> {
        for (name, mut moment) in self.adam.moments() {
            moment.copy_(saved.tensor(&format!("memory.{name}"), &moment.size())?);
        }
        self.steps = saved.doubles("memory.gate.steps", &[])?.double_value(&[]) as u64;
        Ok(())
    }
}
