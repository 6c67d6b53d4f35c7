//! Statistics of a mixture and its M-step: which parts move, and what is remembered between steps.

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::{Mixture, Prior};
use crate::circuit::evidence::Evidence;
use crate::circuit::flows::Statistics;
use crate::em::{self, EmConfig, InputFamily, Learner};
use crate::group::{Group, Sum, sum_number};
use crate::patch::PatchEvidence;
use crate::run::checkpoint::{Named, prefixed};

/// Which parts of a mixture learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearningParts {
    /// The patch circuits.
    pub patches: bool,
    /// p(z).
    pub prior: bool,
}

/// A cluster below this share of the even share has lost its data.
const LOST: f64 = 0.01;

/// A mixture while it learns.
pub struct Training<'a> {
    /// The model; its parameters move with every [`Training::step`].
    pub model: &'a mut Mixture,
    parts: LearningParts,
    config: EmConfig,
    tree: Option<(Learner, Statistics)>,
    /// Posterior weight of every cluster since the last step `[K]`, and up to there since the last look at lost clusters.
    weights: Tensor,
    usage: Tensor,
    /// Posterior weight left out of the patch circuits' statistics, and all of it, since the last step; and up to there
    /// since the last look.
    left_out: (f64, f64),
    truncated: (f64, f64),
}

impl<'a> Training<'a> {
    /// Begin a training on `pictures` pictures.
    #[must_use]
    pub fn new(model: &'a mut Mixture, parts: LearningParts, config: &EmConfig, pictures: usize) -> Self {
        let patches = (pictures * model.view.patches()) as f64;
        if parts.patches {
            model.patches.begin(config, patches);
        }
        let tree = match &model.prior {
            Prior::Tree(tree) if parts.prior => {
                let marginals = em::uniform_marginals(tree.plan(), tree);
                let learner = Learner::new(config, InputFamily::Categorical, pictures as f64, tree, marginals);
                Some((learner, Statistics::new(tree)))
            }
            _ => None,
        };
        let zeros = Tensor::zeros([model.patches.clusters() as i64], (Kind::Double, model.patches.device()));
        Self {
            model,
            parts,
            config: config.clone(),
            tree,
            weights: zeros.copy(),
            usage: zeros,
            left_out: (0.0, 0.0),
            truncated: (0.0, 0.0),
        }
    }

    /// Statistics of patches `[B, L, D]`, weighted by the posterior of their clusters; returns log p(x) `[B]` of the
    /// model before the step.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn accumulate(&mut self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (total, posterior) = self.accumulate_prior(&self.model.patch_log_likelihood(patches)?)?;
        self.add(patches, &posterior)?;
        Ok(total)
    }

    /// Statistics of p(z) from log p(patch | cluster) `[B, L, K]`, where patch circuits do not learn; log p(x) `[B]`.
    ///
    /// # Errors
    /// When the shape does not fit the prior.
    pub fn accumulate_likelihoods(&mut self, log_likelihood: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (total, posterior) = self.accumulate_prior(log_likelihood)?;
        let _ = self.count_weights(&posterior);
        Ok(total)
    }

    /// Statistics of a latent tree that learns; log p(x) `[B]` and the posterior of the clusters `[B, L, K]`.
    fn accumulate_prior(&mut self, log_likelihood: &Tensor) -> Result<(Tensor, Tensor)> {
        match (&self.model.prior, &mut self.tree) {
            (Prior::Tree(tree), Some((_, statistics))) => {
                let messages = tree.forward(&Evidence::soft(log_likelihood, tree.plan())?, true)?;
                let ones = messages.log_likelihood.ones_like();
                let posterior =
                    tree.flows(&messages, &ones, statistics).context("a latent tree reads soft evidence")?;
                Ok((messages.log_likelihood.squeeze_dim(-1), posterior))
            }
            _ => self.model.posterior(log_likelihood),
        }
    }

    /// Statistics of patches `[B, L, D]` whose clusters `[B, L]` are given.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn accumulate_assigned(&mut self, patches: &PatchEvidence, codes: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let device = self.model.patches.device();
        let clusters = self.model.patches.clusters() as i64;
        self.add(patches, &codes.to_device(device).to_kind(Kind::Int64).one_hot(clusters).to_kind(Kind::Float))
    }

    fn add(&mut self, patches: &PatchEvidence, posterior: &Tensor) -> Result<()> {
        let (b, l, _) = patches.values().size3()?;
        let posterior = self.count_weights(posterior);
        if self.parts.patches {
            let threshold = self.model.patches.truncation();
            let left_out = (&posterior * posterior.lt(threshold)).sum(Kind::Double).double_value(&[]);
            self.left_out = (self.left_out.0 + left_out, self.left_out.1 + (b * l) as f64);
            self.model.patches.accumulate(&patches.flat(), &posterior)?;
        }
        Ok(())
    }

    /// Add to the clusters' weights; the posterior by patch `[B * L, K]`.
    fn count_weights(&mut self, posterior: &Tensor) -> Tensor {
        let posterior = posterior.reshape([-1, self.model.patches.clusters() as i64]);
        self.weights += &posterior.sum_dim_intlist(0, false, Kind::Double);
        posterior
    }

    /// Hand out every tensor that has to be summed over all parts of the data before the next step: of the patch circuits,
    /// the latent tree and the clusters' weights; always in the same order, zeros where this part saw nothing.
    ///
    /// # Errors
    /// Those of `sum`.
    pub fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if self.parts.patches {
            self.model.patches.statistics(sum)?;
        }
        if let Some((_, statistics)) = &mut self.tree {
            statistics.hand_out(sum)?;
        }
        sum(&self.weights)?;
        sum_number(&mut self.left_out.0, sum)?;
        sum_number(&mut self.left_out.1, sum)
    }

    /// [`Training::statistics`] summed over the processes of a group.
    ///
    /// # Errors
    /// When one of them cannot be reached.
    pub fn sum_over(&mut self, group: &dyn Group) -> Result<()> {
        if group.size() == 1 {
            return Ok(());
        }
        self.statistics(&mut |tensor| group.sum(tensor))
    }

    /// M-step of size `eta` from what was accumulated.
    pub fn step(&mut self, eta: f64) {
        let _guard = tch::no_grad_guard();
        if self.parts.patches {
            self.model.patches.step(eta);
        }
        let weights = std::mem::replace(&mut self.weights, self.usage.zeros_like());
        self.usage += &weights;
        let left_out = std::mem::take(&mut self.left_out);
        self.truncated = (self.truncated.0 + left_out.0, self.truncated.1 + left_out.1);
        if !self.parts.prior {
            return;
        }
        match (&mut self.model.prior, &mut self.tree) {
            (Prior::Tree(tree), Some((learner, statistics))) => {
                let full = std::mem::replace(statistics, Statistics::new(tree));
                learner.step(tree, full, eta);
            }
            (Prior::Independent(log_weights), _) => {
                let share: Tensor = (weights + self.config.pseudocount).clamp_min(f64::MIN_POSITIVE);
                let new = &share / share.sum(Kind::Double);
                *log_weights = (log_weights.exp() * (1.0 - eta) + new * eta).log();
            }
            (Prior::Tree(_), None) | (Prior::Given, _) => {}
        }
    }

    /// Replace clusters that have lost their data since the last call by perturbed copies of the largest ones, where
    /// p(z) is independent over positions; returns pairs (lost, copied from).
    ///
    /// # Errors
    /// When the patch model cannot be rebuilt.
    pub fn reseed(&mut self, rng: &mut ChaCha8Rng) -> Result<Vec<(usize, usize)>> {
        let usage: Vec<f64> = Vec::try_from(&self.usage)?;
        let _ = self.usage.zero_();
        let even = usage.iter().sum::<f64>() / usage.len() as f64;
        let Prior::Independent(log_weights) = &mut self.model.prior else { return Ok(Vec::new()) };
        if !self.model.patches.can_reseed() {
            return Ok(Vec::new());
        }
        let mut order: Vec<usize> = (0..usage.len()).collect();
        order.sort_by(|&a, &b| usage[b].total_cmp(&usage[a]).then(a.cmp(&b)));
        let lost: Vec<usize> = order.iter().copied().filter(|&k| usage[k] < LOST * even).collect();
        let pairs: Vec<(usize, usize)> = lost.into_iter().zip(order).filter(|(to, from)| to != from).collect();
        for &(to, from) in &pairs {
            self.model.patches.reseed(from, to, rng)?;
            // The two share what both of them had, so that the weights go on summing to 1.
            let both = [from, to].map(|k| log_weights.double_value(&[k as i64]).exp()).iter().sum::<f64>();
            for k in [from, to] {
                let _ = log_weights.get(k as i64).fill_((both / 2.0).ln());
            }
        }
        Ok(pairs)
    }

    /// Share of the posterior weight that was left out of the patch circuits' statistics since the last call.
    pub fn truncated_share(&mut self) -> f64 {
        let (left_out, all) = std::mem::take(&mut self.truncated);
        if all > 0.0 { left_out / all } else { 0.0 }
    }

    /// What a later [`Training::restore`] needs beside the model, to go on as if nothing had happened.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let patches = if self.parts.patches { self.model.patches.learning_state() } else { Vec::new() };
        let mut named = prefixed("patch", patches);
        named.push(("training.usage".to_owned(), self.usage.copy()));
        if let (Prior::Tree(tree), Some((learner, _))) = (&self.model.prior, &self.tree) {
            named.extend(prefixed("prior.learner", learner.state(tree)));
        }
        named
    }

    /// Take up model and learning state, saved between steps.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit.
    pub fn restore(&mut self, saved: &Named) -> Result<()> {
        self.model.restore(saved)?;
        if self.parts.patches {
            self.model.patches.restore_learning(&saved.under("patch"))?;
        }
        self.usage.copy_(saved.doubles("training.usage", &self.usage.size())?);
        if let (Prior::Tree(tree), Some((learner, _))) = (&self.model.prior, &mut self.tree) {
            learner.restore(tree, &saved.under("prior").under("learner"), &(0..1))?;
        }
        Ok(())
    }
}
