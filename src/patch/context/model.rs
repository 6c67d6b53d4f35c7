//! Experts as a patch model: likelihoods, learning, and what of growing they can do.

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::common::{Common, Regression};
use super::expert::{Expert, Step};
use super::experts::ContextPatches;
use super::gate::Gate;
use super::moments::{self, Moments};
use super::ring::Ring;
use super::sample;
use crate::em::EmConfig;
use crate::group::{Sum, sum_number};
use crate::patch::config::GateConfig;
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::gaussian::start::normal;
use crate::patch::model::{Grow, Infer, Learn, Marginals, Part as ModelPart, PatchModel};
use crate::random::rng;
use crate::run::checkpoint::Named;
use crate::{device, refusal, require};

impl Infer for ContextPatches {
    fn clusters(&self) -> usize {
        self.experts.len()
    }

    fn device(&self) -> Device {
        self.centre.device()
    }

    fn readings(&self) -> Vec<Reading> {
        vec![Reading::Density, Reading::Ordered]
    }

    fn marginals(&self, _: Reading) -> Marginals {
        Marginals::Whole
    }

    fn parameter_count(&self) -> usize {
        let channels = self.around.window(self.ranges.len()).channels;
        self.around.parameters(&self.config, channels, self.experts.len())
    }

    fn log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        match patches.reading() {
            Reading::Density => Ok(self.log_density(&self.centred(patches, 0.0)?)),
            Reading::Ordered => self.log_mass(patches),
            Reading::Exact => Err(refusal!("Gaussians have no reading exact")),
        }
    }

    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        // Without a context there is nothing around the patch.
        let numbers = self.common.numbers();
        let windows = Tensor::zeros([count as i64, numbers], (Kind::Double, self.device()));
        let nothing = PatchEvidence::new(&windows, Reading::Density).with_observed(&windows.ne(0.0));
        let clusters = Tensor::full([count as i64], cluster as i64, (Kind::Int64, self.device()));
        let drawn = self.sample_given(&nothing, &clusters, rng).expect("windows of the model");
        let values = drawn.narrow(1, self.common.given, numbers - self.common.given).floor().to_kind(Kind::Int64);
        let ranges = &self.ranges[self.common.given as usize..];
        let bounded = ranges.iter().zip(0..).map(|((low, high), v)| values.select(1, v).clamp(*low, *high));
        Tensor::stack(&bounded.collect::<Vec<_>>(), 1)
    }

    fn sample_given(&self, patches: &PatchEvidence, clusters: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        sample::patches(self, patches, clusters, rng)
    }

    fn expectation(&self, _: &PatchEvidence, _: &Tensor) -> Result<[Tensor; 2]> {
        Err(refusal!(
            "patches with context have no moments in closed form: a picture's pixels are known only in the order of its patches"
        ))
    }

    fn maximum(&self, _: &PatchEvidence) -> Result<Tensor> {
        Err(refusal!(
            "patches with context have no most probable picture in closed form: each patch changes what the next ones see"
        ))
    }

    fn maximiser(&self, patches: &PatchEvidence, _: &Tensor) -> Result<Tensor> {
        self.maximum(patches)
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let stacked =
            |of: &dyn Fn(&Expert) -> Tensor| Tensor::stack(&self.experts.iter().map(of).collect::<Vec<_>>(), 0);
        let mut all = vec![
            ("centre".to_owned(), self.centre.shallow_clone()),
            ("covariance".to_owned(), self.covariance.shallow_clone()),
            ("order".to_owned(), self.order.shallow_clone()),
            ("scales".to_owned(), self.common.scales.shallow_clone()),
            ("log_weights".to_owned(), stacked(&|e| e.log_weights.shallow_clone())),
            ("share".to_owned(), stacked(&|e| Tensor::from(e.share).to_device(self.device()))),
        ];
        for g in 0..self.common.groups.len() {
            all.push((format!("mean.{g}"), stacked(&|e| e.regressions[g].mean.shallow_clone())));
            all.push((format!("shape.{g}"), stacked(&|e| e.regressions[g].shape.shallow_clone())));
        }
        all.extend(self.gate.iter().flat_map(Gate::tensors));
        all.extend(self.ring.iter().flat_map(Ring::tensors));
        all
    }

    fn own_weights(&self) -> bool {
        self.gate.is_some() || self.ring.is_some()
    }

    fn weights(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let windows = self.centred(patches, 0.0)?;
        let weights = Self::weights(self, &windows);
        weights.experts().map(Tensor::shallow_clone).context("the experts have constant weights")
    }
}

impl Learn for ContextPatches {
    fn begin(&mut self, config: &EmConfig, examples: f64) {
        (self.pseudocount, self.examples, self.batch, self.steps) = (config.pseudocount, examples, 0.0, 0);
        for expert in &mut self.experts {
            (expert.batch, expert.memory) = (None, None);
        }
        if let Some(gate) = &mut self.gate {
            gate.begin();
        }
    }

    fn accumulate(&mut self, patches: &PatchEvidence, weights: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (patches, weights) = whole_windows(patches, weights);
        let windows = self.centred(&patches, 0.0)?;
        self.batch += weights.sum(Kind::Double).double_value(&[]);
        self.learn(&windows, &weights);
        Ok(())
    }

    fn truncation(&self) -> f64 {
        self.config.truncate_posterior
    }

    fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        if let Some(gate) = &mut self.gate {
            gate.statistics(sum)?;
        }
        // What the experts will not move by yet goes on being added up.
        if !self.experts_move() {
            return Ok(());
        }
        for expert in &mut self.experts {
            let batch = expert.batch.take().unwrap_or_else(|| Moments::zeros(&self.common));
            batch.tensors().into_iter().try_for_each(&mut *sum)?;
            expert.batch = Some(batch);
        }
        sum_number(&mut self.batch, sum)
    }

    fn step(&mut self, eta: f64) {
        let _guard = tch::no_grad_guard();
        if let Some(gate) = &mut self.gate {
            gate.step(eta);
        }
        let experts_move = self.experts_move();
        self.steps += 1;
        if self.batch <= 0.0 || !experts_move {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.banks.get_mut().clear();
        let (examples, pseudocount, common) = (self.examples, self.pseudocount, &self.common);
        let step = Step { eta, batch, examples, pseudocount, gated: self.gate.is_some() };
        let work = self.experts.iter_mut().map(|expert| (expert, device::Read(common))).collect();
        device::spread(self.centre.device(), work, |(expert, common): (&mut Expert, device::Read<Common>)| {
            expert.step(&step, common.0);
        });
    }

    fn learning_state(&self) -> Vec<(String, Tensor)> {
        let remembered = self.experts.iter().map(|expert| expert.remembered(self.examples, &self.common));
        let mut all = moments::stacked("memory", &remembered.collect::<Vec<_>>());
        if self.experts.iter().any(|expert| expert.batch.is_some()) {
            let zeros = || Moments::zeros(&self.common);
            let pending = self.experts.iter().map(|expert| expert.batch.as_ref().map_or_else(zeros, Moments::copy));
            all.extend(moments::stacked("pending", &pending.collect::<Vec<_>>()));
        }
        all.extend(self.gate.iter().flat_map(Gate::learning_state));
        all.push(("memory.steps".to_owned(), Tensor::from(self.steps as f64)));
        all.push(("memory.batch".to_owned(), Tensor::from(self.batch)));
        all
    }

    fn restore(&mut self, saved: &Named) -> Result<()> {
        self.take(saved)
    }

    fn restore_learning(&mut self, saved: &Named) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let remembered = moments::unstacked("memory", saved, self.experts.len(), &self.common)?;
        for (expert, moments) in self.experts.iter_mut().zip(remembered) {
            expert.memory = Some(moments);
        }
        if saved.has("pending.scales") {
            let pending = moments::unstacked("pending", saved, self.experts.len(), &self.common)?;
            for (expert, moments) in self.experts.iter_mut().zip(pending) {
                expert.batch = Some(moments);
            }
        }
        self.batch = saved.doubles("memory.batch", &[])?.double_value(&[]);
        self.steps = saved.doubles("memory.steps", &[])?.double_value(&[]) as u64;
        match &mut self.gate {
            Some(gate) => gate.restore_learning(saved),
            None => Ok(()),
        }
    }
}

/// Windows of which everything is observed, with their weights.
fn whole_windows(patches: &PatchEvidence, weights: &Tensor) -> (PatchEvidence, Tensor) {
    match patches.observed() {
        Some(observed) => {
            let rows = observed.all_dim(1, false).nonzero().squeeze_dim(1);
            let whole = PatchEvidence::new(&patches.values().index_select(0, &rows), patches.reading());
            (whole, weights.index_select(0, &rows.to_device(weights.device())))
        }
        None => (PatchEvidence::new(patches.values(), patches.reading()), weights.shallow_clone()),
    }
}

impl Grow for ContextPatches {
    fn reseed(&mut self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let largest = &mut self.experts[from];
        (largest.share, largest.memory) = (largest.share / 2.0, None);
        let perturbed = |regression: &Regression| {
            let noise = normal(regression.mean.numel(), rng).to_device(regression.mean.device());
            let mean = &regression.mean + regression.shape.linalg_cholesky(false).mv(&noise) * 0.1;
            Regression { mean, shape: regression.shape.copy() }
        };
        let regressions = largest.regressions.iter().map(perturbed).collect();
        self.experts[to] = Expert::new(regressions, largest.log_weights.copy(), largest.share, &self.common);
        self.banks.get_mut().clear();
        Ok(())
    }

    fn gather(&self, _: &[ModelPart]) -> Result<Box<dyn PatchModel>> {
        Err(refusal!("patches with context do not grow: leave out distill.growing"))
    }

    fn refit(&self, _: usize, _: &[Tensor], _: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>> {
        Err(refusal!("patches with context do not grow: leave out distill.growing"))
    }

    fn randomise(&mut self, rng: &mut ChaCha8Rng) {
        let _guard = tch::no_grad_guard();
        let covariance = self.covariance.index_select(0, &self.order).index_select(1, &self.order);
        let lower = covariance.linalg_cholesky(false);
        let even = 1.0 / self.experts.len() as f64;
        for expert in &mut self.experts {
            let mean = lower.mv(&normal(self.ranges.len(), rng).to_device(self.centre.device()));
            *expert = Expert::from_covariance(&mean, &covariance, self.examples * even, even, &self.common);
        }
        self.banks.get_mut().clear();
    }
}

impl ContextPatches {
    /// Whether the next step moves the experts: where there is a gate, they move with some of its steps only.
    fn experts_move(&self) -> bool {
        (self.steps + 1).is_multiple_of(self.gate.as_ref().map_or(1, Gate::experts_every))
    }

    /// Take up the parameters of [`tensors`](Infer::tensors).
    pub(super) fn take(&mut self, saved: &Named) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let own = &self.common.scales;
        let same = saved.doubles("scales", &own.size())? == own;
        require!(same, "tensor {} of the checkpoint holds other scales than the configuration", saved.name("scales"));
        let log_weights = saved.doubles("log_weights", &[-1, self.common.count()])?;
        let k = log_weights.size()[0];
        let share = saved.doubles("share", &[k])?;
        let mut moments = Vec::new();
        for (g, (start, width)) in self.common.spans().enumerate() {
            let end = start + width;
            let mean = saved.doubles(&format!("mean.{g}"), &[k, end])?;
            moments.push((mean, saved.doubles(&format!("shape.{g}"), &[k, end, end])?));
        }
        self.experts = (0..k)
            .map(|k| {
                let regression = |(mean, shape): &(&Tensor, &Tensor)| Regression {
                    mean: mean.get(k).copy(),
                    shape: shape.get(k).copy(),
                };
                let regressions = moments.iter().map(regression).collect();
                Expert::new(regressions, log_weights.get(k).copy(), share.double_value(&[k]), &self.common)
            })
            .collect();
        self.banks.get_mut().clear();
        self.gate = match self.around.gate {
            GateConfig::None => None,
            GateConfig::Ring(ring) => {
                let width = saved.integers("gate.width", &[])?;
                require!(
                    width == [ring.width as i64],
                    "tensor {} of the checkpoint is {}, the configuration's ring has width {}",
                    saved.name("gate.width"),
                    width[0],
                    ring.width
                );
                None
            }
            GateConfig::Network(config) => {
                let shares = Tensor::ones([k], (Kind::Double, self.device()));
                let window = self.around.window(self.ranges.len());
                let mut gate = Gate::new(config, window, &shares, self.common.count(), &mut rng(0, "gate", 0));
                gate.restore(saved)?;
                Some(gate)
            }
        };
        Ok(())
    }
}
