//! Gaussian scale mixtures as a patch model: likelihoods, learning, growing.

use std::sync::Mutex;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::component::{Component, Moments};
use super::conditional::{conditional_maximiser, conditional_maximum, conditional_moments, conditional_sample};
use super::low_rank::LowRank;
use super::mixtures::{GaussianPatches, lock, reordered};
use super::partial;
use super::start;
use crate::em::EmConfig;
use crate::group::{Sum, sum_number};
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::model::{Grow, Infer, Learn, Marginals, Part, PatchModel, same_family};
use crate::run::checkpoint::Named;
use crate::{device, refusal, require};

/// Names of the parameters in a checkpoint.
const NAMES: [&str; 4] = ["mean", "shape", "log_weights", "share"];
/// Names of the decayed statistics in a checkpoint, in the order of the fields of moments.
const MEMORY: [&str; 4] = ["memory.scales", "memory.weight", "memory.first", "memory.second"];

/// Weights of components below this change no moment: float64 has 16 digits.
const LEAST_WEIGHT: f64 = 1e-16;

impl Infer for GaussianPatches {
    fn clusters(&self) -> usize {
        self.components.len()
    }

    fn device(&self) -> Device {
        self.centre.device()
    }

    fn readings(&self) -> Vec<Reading> {
        vec![Reading::Density, Reading::Ordered]
    }

    fn marginals(&self, reading: Reading) -> Marginals {
        if reading == Reading::Density { Marginals::Any } else { Marginals::Whole }
    }

    fn parameter_count(&self) -> usize {
        self.components.len() * self.config.parameters(self.ranges.len())
    }

    fn log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        match (patches.reading(), patches.observed()) {
            (Reading::Density, None) => Ok(self.log_density(&self.centred(patches.values())?)),
            (Reading::Density, Some(_)) => {
                let (x, observed) = self.partly_observed(patches)?;
                Ok(self.log_marginal(&x, &observed))
            }
            (Reading::Ordered, None) => self.log_mass(patches.values()),
            (Reading::Ordered, Some(observed)) => self.log_mass_of_whole(patches.values(), observed),
            (Reading::Exact, _) => Err(refusal!("Gaussians have no reading exact")),
        }
    }

    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let component = lock(&self.components[cluster]);
        let d = self.ranges.len();
        let normal = start::normal(count * d, rng).view([count as i64, d as i64]).to_device(self.device());
        let weights = Vec::<f64>::try_from(component.log_weights.exp()).expect("weights are a vector");
        let chosen = (0..count).map(|_| {
            let mut left = rng.random::<f64>();
            let chosen = weights
                .iter()
                .position(|w| {
                    left -= w;
                    left < 0.0
                })
                .unwrap_or(weights.len() - 1);
            chosen as i64
        });
        let chosen = Tensor::from_slice(&chosen.collect::<Vec<_>>()).to_device(self.device());
        let scale = self.common.scales.index_select(0, &chosen).index_select(1, &self.common.group_of());
        let x = normal.matmul(&component.shape.linalg_cholesky(false).tr()) * scale + &component.mean;
        let x = x.index_select(1, &self.order.argsort(0, false)) + &self.centre;
        let values = x.floor().to_kind(Kind::Int64);
        let bounds =
            self.ranges.iter().enumerate().map(|(v, (low, high))| values.select(1, v as i64).clamp(*low, *high));
        Tensor::stack(&bounds.collect::<Vec<_>>(), 1)
    }

    fn sample_given(&self, patches: &PatchEvidence, clusters: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        self.by_cluster(patches, clusters, |x, observed, component| conditional_sample(x, observed, component, rng))
    }

    fn maximum(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (x, observed) = self.partly_observed(patches)?;
        let of = |component| conditional_maximum(&x, &observed, &lock(component));
        Ok(Tensor::stack(&self.components.iter().map(of).collect::<Vec<_>>(), 1))
    }

    fn maximiser(&self, patches: &PatchEvidence, clusters: &Tensor) -> Result<Tensor> {
        self.by_cluster(patches, clusters, conditional_maximiser)
    }

    fn expectation(&self, patches: &PatchEvidence, weights: &Tensor) -> Result<[Tensor; 2]> {
        let _guard = tch::no_grad_guard();
        let (x, observed) = self.partly_observed(patches)?;
        let weights = weights.to_device(self.device()).to_kind(Kind::Double);
        let [first, second] = [x.zeros_like(), x.zeros_like()];
        for (k, component) in self.components.iter().enumerate() {
            let weight = weights.narrow(1, k as i64, 1);
            let rows = weight.gt(LEAST_WEIGHT).nonzero().select(1, 0);
            let [x, observed, weight] = [&x, &observed, &weight].map(|tensor| tensor.index_select(0, &rows));
            let moments = conditional_moments(&x, &observed, &lock(component));
            for (sum, moment) in [&first, &second].into_iter().zip(moments) {
                let _ = sum.shallow_clone().index_add_(0, &rows, &(moment * &weight));
            }
        }
        let total = weights.sum_dim_intlist(1, true, Kind::Double);
        let [first, second] = [first, second].map(|moment| moment.index_select(1, &self.order.argsort(0, false)));
        let about_zero = second + &first * &self.centre * 2.0 + self.centre.square() * &total;
        Ok([first + &self.centre * total, about_zero])
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let share = |c: &Component| Tensor::from(c.share).to_device(c.mean.device());
        let own = [
            self.stacked(|c| c.mean.shallow_clone()),
            self.stacked(|c| c.shape.shallow_clone()),
            self.stacked(|c| c.log_weights.shallow_clone()),
            self.stacked(share),
        ];
        let all = [
            ("centre", self.centre.shallow_clone()),
            ("covariance", self.covariance.shallow_clone()),
            ("order", self.order.shallow_clone()),
            ("group", self.common.group_of()),
            ("scales", self.common.scales.shallow_clone()),
        ];
        let low_rank = |part: fn(&LowRank) -> &Tensor| {
            self.stacked(|c| part(c.low_rank.as_ref().expect("looked at before")).shallow_clone())
        };
        let factored = self.components.iter().all(|c| lock(c).low_rank.is_some());
        let factors = factored.then(|| [("loadings", low_rank(|l| &l.loadings)), ("noise", low_rank(|l| &l.noise))]);
        all.into_iter()
            .chain(NAMES.into_iter().zip(own))
            .chain(factors.into_iter().flatten())
            .map(|(name, t)| (name.to_owned(), t))
            .collect()
    }
}

impl Learn for GaussianPatches {
    fn begin(&mut self, config: &EmConfig, examples: f64) {
        (self.pseudocount, self.examples, self.batch) = (config.pseudocount, examples, 0.0);
        for component in &mut self.components {
            let component = component.get_mut().expect("no thread panics");
            (component.batch, component.memory) = (None, None);
        }
    }

    fn accumulate(&mut self, patches: &PatchEvidence, weights: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (x, observed) = match patches.observed() {
            None => (self.centred(patches.values())?, None),
            Some(_) => self.partly_observed(patches).map(|(x, observed)| (x, Some(observed)))?,
        };
        self.batch += weights.sum(Kind::Double).double_value(&[]);
        let threshold = self.config.truncate_posterior;
        let work: Vec<_> = self
            .components
            .iter()
            .enumerate()
            .map(|(k, c)| {
                let observed = observed.as_ref().map(Tensor::shallow_clone);
                (c, x.shallow_clone(), observed, weights.select(1, k as i64))
            })
            .collect();
        device::spread(self.device(), work, |(c, x, observed, weights): (_, Tensor, Option<Tensor>, Tensor)| {
            let rows = weights.ge(threshold).nonzero().squeeze_dim(1);
            if rows.numel() == 0 {
                return;
            }
            let [x, weights] = [x, weights].map(|tensor| tensor.index_select(0, &rows));
            match observed {
                None => lock(c).accumulate(&x, &weights),
                Some(observed) => partial::accumulate(&mut lock(c), &x, &observed.index_select(0, &rows), &weights),
            }
        });
        Ok(())
    }

    fn truncation(&self) -> f64 {
        self.config.truncate_posterior
    }

    fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        for component in &self.components {
            let mut component = lock(component);
            let batch = component.batch.take();
            let batch = batch.unwrap_or_else(|| Moments::zeros(&component.common));
            batch.parts().into_iter().try_for_each(&mut *sum)?;
            component.batch = Some(batch);
        }
        sum_number(&mut self.batch, sum)
    }

    fn step(&mut self, eta: f64) {
        let _guard = tch::no_grad_guard();
        let batch = std::mem::take(&mut self.batch);
        if batch <= 0.0 {
            return;
        }
        self.marginal.forget();
        let (examples, pseudocount) = (self.examples, self.pseudocount);
        device::spread(self.device(), self.components.iter().collect(), |c: &Mutex<Component>| {
            lock(c).step(eta, batch, examples, pseudocount);
        });
    }

    fn learning_state(&self) -> Vec<(String, Tensor)> {
        let part = |i: usize| self.stacked(|c| c.remembered(self.examples).parts()[i].shallow_clone());
        MEMORY.into_iter().enumerate().map(|(i, name)| (name.to_owned(), part(i))).collect()
    }

    fn restore(&mut self, saved: &Named) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let d = self.ranges.len() as i64;
        let scales = self.common.count();
        let own = &self.common.scales;
        let same = saved.doubles("scales", &own.size())? == own;
        require!(same, "tensor {} of the checkpoint holds other scales than the configuration", saved.name("scales"));
        let mean = saved.doubles("mean", &[-1, d])?;
        let clusters = mean.size()[0];
        let shape = saved.doubles("shape", &[clusters, d, d])?;
        let log_weights = saved.doubles("log_weights", &[clusters, scales])?;
        let share = saved.doubles("share", &[clusters])?;
        let factors = match self.common.rank {
            None => None,
            Some(_) => Some((saved.doubles("loadings", &[clusters, d, -1])?, saved.doubles("noise", &[clusters, d])?)),
        };
        self.marginal.forget();
        let numbers: Vec<i64> = (0..clusters).collect();
        let one = |k: i64| {
            let share = share.double_value(&[k]);
            let mut new = Component::new(&mean.get(k), &shape.get(k), &log_weights.get(k), share, &self.common);
            if let Some((loadings, noise)) = factors {
                let [loadings, noise] = [loadings, noise].map(|t| t.get(k).copy());
                new.low_rank = Some(LowRank { loadings, noise });
            }
            Mutex::new(new)
        };
        self.components = numbers.into_iter().map(one).collect();
        Ok(())
    }

    fn restore_learning(&mut self, saved: &Named) -> Result<()> {
        let (k, d) = (self.components.len() as i64, self.ranges.len() as i64);
        let (s, g) = (self.common.count(), self.common.groups.len() as i64);
        let shapes: [&[i64]; 4] = [&[k, s], &[k, g, g], &[k, g, d], &[k, d, d]];
        let [scales, weight, first, second] = [0, 1, 2, 3].map(|i| saved.doubles(MEMORY[i], shapes[i]));
        let (scales, weight, first, second) = (scales?, weight?, first?, second?);
        for (component, k) in self.components.iter().zip(0..) {
            let [scales, weight, first, second] = [scales, weight, first, second].map(|t| t.get(k).copy());
            lock(component).memory = Some(Moments { scales, weight, first, second });
        }
        Ok(())
    }
}

impl Grow for GaussianPatches {
    fn reseed(&mut self, from: usize, to: usize, _: &mut ChaCha8Rng) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.marginal.forget();
        let other = start::split(&mut lock(&self.components[from]));
        *lock(&self.components[to]) = other;
        Ok(())
    }

    fn gather(&self, parts: &[Part]) -> Result<Box<dyn PatchModel>> {
        let _guard = tch::no_grad_guard();
        let mut model = Self::empty(&self.config, &self.ranges, &self.centre, &self.covariance);
        for part in parts {
            let mut copy = lock(&same_family::<Self>(part.model)?.components[part.cluster]).copy();
            copy.share = part.share;
            model.components.push(Mutex::new(copy));
        }
        Ok(Box::new(model))
    }

    fn refit(&self, cluster: usize, groups: &[Tensor], _: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>> {
        let all: i64 = groups.iter().map(|g| g.size()[0]).sum();
        let part = |group: &Tensor| Part { model: self, cluster, share: group.size()[0] as f64 / all.max(1) as f64 };
        self.gather(&groups.iter().map(part).collect::<Vec<_>>())
    }

    fn randomise(&mut self, rng: &mut ChaCha8Rng) {
        let _guard = tch::no_grad_guard();
        self.marginal.forget();
        let even = 1.0 / self.components.len() as f64;
        let eye = Tensor::eye(self.ranges.len() as i64, (Kind::Double, self.device()));
        let shape = reordered(&self.covariance, &self.order) + eye * self.config.floor;
        let lower = shape.linalg_cholesky(false);
        for component in &self.components {
            let mean = lower.mv(&start::normal(self.ranges.len(), rng).to_device(self.device()));
            *lock(component) = Component::from_covariance(&mean, &shape, 1e9, even, &self.common);
        }
    }
}
