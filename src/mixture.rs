//! The picture model: patch circuits joined by latents,
//!
//! ```text
//! p(x) = sum_z p(z) prod_i p(x_i | z_i)
//! ```
//!
//! with p(z) independent over positions (one mixture for all patches) or a latent tree. Exact likelihoods and
//! posteriors; [`train`] adds up statistics, [`score`] streams pictures through.

pub mod mask;
pub mod observed;
pub mod score;
pub mod train;
mod chain;
pub mod checkpoint;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::mixing::mix;
use crate::circuit::parameters::Parameters;
use crate::data::pictures::PictureShape;
use crate::data::view::View;
use crate::latent_tree::certain;
use crate::patch::{PatchEvidence, PatchModel, Reading};
use crate::random::Draws;
use crate::{refusal, require};

/// p(z).
pub enum Prior {
    /// The same mixture weights at every position, as logarithms `[K]` (float64).
    Independent(Tensor),
    /// A circuit over the positions with soft evidence on the clusters.
    Tree(Box<Circuit>),
    /// The patches' own, given the pixels around them: their likelihoods contain it.
    Given,
}

/// A model of whole pictures.
pub struct Mixture {
    view: View,
    patches: Box<dyn PatchModel>,
    prior: Prior,
}

/// Code lengths of a batch of pictures in nats, float64 `[B]` each: `total = latent + conditional - refund`, where z(x)
/// is the most probable cluster of every patch given the whole picture.
#[derive(Debug)]
pub struct Decomposition {
    /// -log p(x).
    pub total: Tensor,
    /// -log p(z(x)).
    pub latent: Tensor,
    /// -log p(x | z(x)).
    pub conditional: Tensor,
    /// The codes z(x): int64 `[B, L]`.
    pub codes: Tensor,
}

impl Mixture {
    /// Patch circuits under a prior over their clusters.
    #[must_use]
    pub fn new(view: View, patches: Box<dyn PatchModel>, prior: Prior) -> Self {
        Self { view, patches, prior }
    }

    /// Patch circuits with the same mixture weights at every position, as logarithms `[K]` (float64).
    #[must_use]
    pub fn independent(view: View, patches: Box<dyn PatchModel>, log_weights: Tensor) -> Self {
        Self::new(view, patches, Prior::Independent(log_weights))
    }

    /// The same patch circuits with their own weights given the pixels around them.
    #[must_use]
    pub fn gated(view: View, patches: Box<dyn PatchModel>) -> Self {
        Self::new(view, patches, Prior::Given)
    }

    /// The same patch circuits under a tree over the positions.
    #[must_use]
    pub fn with_tree(self, tree: Circuit) -> Self {
        Self { prior: Prior::Tree(Box::new(tree)), ..self }
    }

    /// The same model for pictures of this height and width, where patches see the pixels around them: then any size will do.
    #[must_use]
    pub fn fitted(self, shape: PictureShape) -> Self {
        let view = if self.view.context > 0 { self.view.resized(shape.height, shape.width) } else { self.view };
        Self { view, ..self }
    }

    /// How pictures become patches.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// p(patch | cluster).
    #[must_use]
    pub fn patches(&self) -> &dyn PatchModel {
        &*self.patches
    }

    /// p(z).
    #[must_use]
    pub fn prior(&self) -> &Prior {
        &self.prior
    }

    /// Forget what was learned but for the structure: patch circuits and latent tree with tables at random.
    pub fn randomise(&mut self, rng: &mut ChaCha8Rng) {
        self.patches.randomise(rng);
        if let Prior::Tree(tree) = &mut self.prior {
            tree.update(|parameters, plan| {
                *parameters = Parameters::uniform(plan, Kind::Float, parameters.edges[0].device());
                parameters.perturb(plan, 0.5, rng);
            });
        }
    }

    /// log `p(x_i` | k) in nats for patches `[B, L, D]`: `[B, L, K]`.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn patch_log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let (b, l, _) = patches.values().size3()?;
        Ok(self.patches.log_likelihood(&patches.flat())?.view([b, l, self.patches.clusters() as i64]))
    }

    /// log p(x) in nats, float64 `[B]`, from [`Mixture::patch_log_likelihood`].
    ///
    /// # Errors
    /// When the shape does not fit the prior.
    pub fn log_likelihood(&self, patch_log_likelihood: &Tensor) -> Result<Tensor> {
        match &self.prior {
            Prior::Independent(log_weights) => {
                Ok(mix(patch_log_likelihood, log_weights).0.sum_dim_intlist(-1, false, Kind::Double))
            }
            Prior::Tree(tree) => {
                let evidence = Evidence::soft(patch_log_likelihood, tree.plan())?;
                Ok(tree.log_likelihood(&evidence)?.squeeze_dim(-1))
            }
            Prior::Given => {
                Ok(mix(patch_log_likelihood, &self.no_weights()).0.sum_dim_intlist(-1, false, Kind::Double))
            }
        }
    }

    /// log p(x) `[B]` and the posterior `p(z_i` = k | x) `[B, L, K]`.
    ///
    /// # Errors
    /// When the shape does not fit the prior.
    pub fn posterior(&self, patch_log_likelihood: &Tensor) -> Result<(Tensor, Tensor)> {
        match &self.prior {
            Prior::Independent(log_weights) => {
                let (total, posterior) = mix(patch_log_likelihood, log_weights);
                Ok((total.sum_dim_intlist(-1, false, Kind::Double), posterior))
            }
            Prior::Tree(tree) => {
                let messages = tree.forward(&Evidence::soft(patch_log_likelihood, tree.plan())?, true)?;
                let posterior = tree.posterior(&messages).context("a latent tree reads soft evidence")?;
                Ok((messages.log_likelihood.squeeze_dim(-1), posterior))
            }
            Prior::Given => {
                let (total, posterior) = mix(patch_log_likelihood, &self.no_weights());
                Ok((total.sum_dim_intlist(-1, false, Kind::Double), posterior))
            }
        }
    }

    /// Logarithms of weights that are contained in the likelihoods: zeros `[K]`.
    fn no_weights(&self) -> Tensor {
        Tensor::zeros([self.patches.clusters() as i64], (Kind::Double, self.patches.device()))
    }

    /// Where the bits of a batch of patches `[B, L, D]` go.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn decompose(&self, patches: &PatchEvidence) -> Result<Decomposition> {
        let _guard = tch::no_grad_guard();
        let log_likelihood = self.patch_log_likelihood(patches)?;
        let (total, posterior) = self.posterior(&log_likelihood)?;
        let codes = posterior.argmax(-1, false);
        let chosen = log_likelihood.gather(-1, &codes.unsqueeze(-1), false).squeeze_dim(-1);
        let latent = match &self.prior {
            // What a gate says is not told apart from what its experts say.
            Prior::Given => total.zeros_like(),
            _ => self.log_likelihood(&certain(&codes, self.patches.clusters() as i64))?,
        };
        let conditional = chosen.sum_dim_intlist(-1, false, Kind::Double);
        Ok(Decomposition { total: -total, latent: -latent, conditional: -conditional, codes })
    }

    /// Free numbers of the model.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        let prior = match &self.prior {
            Prior::Independent(weights) => weights.numel() - 1,
            Prior::Tree(tree) => Parameters::count(tree.plan()),
            Prior::Given => 0,
        };
        self.patches.parameter_count() + prior
    }

    /// Draw pictures: patches as int64 `[count, L, D]`.
    pub fn sample(&self, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let _guard = tch::no_grad_guard();
        if self.view.context > 0 {
            return self.sample_in_order(count, rng);
        }
        let codes = self.sample_codes(count, rng);
        let shape = [count as i64, self.view.patches() as i64, self.view.variables() as i64];
        let out = Tensor::zeros(shape, (Kind::Int64, self.patches.device()));
        let flat = out.view([-1, shape[2]]);
        let codes = codes.reshape([-1]);
        for k in 0..self.patches.clusters() {
            let rows = codes.eq(k as i64).nonzero().squeeze_dim(1);
            if rows.numel() > 0 {
                let drawn = self.patches.sample(k, rows.numel(), rng);
                let _ = flat.shallow_clone().index_copy_(0, &rows, &drawn);
            }
        }
        out
    }

    fn sample_codes(&self, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        match &self.prior {
            Prior::Tree(tree) => tree.sample(0, count, None, rng),
            Prior::Given => unreachable!("patches that see others are drawn in order"),
            Prior::Independent(log_weights) => {
                let positions = self.view.patches() as i64;
                let probabilities = log_weights.exp().expand([count as i64 * positions, -1], false);
                crate::circuit::sample::draw(&probabilities, rng).view([count as i64, positions])
            }
        }
    }

    /// The readings that this model has; the first is the one that it learns from.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings = self.patches.readings();
        readings.retain(|reading| *reading != Reading::Ordered || self.view.has_integers());
        readings
    }

    /// The patches `[B, L, D]` of pixels u8 `[B, H, W, C]` for a reading, on the model's device; noise for the density
    /// comes from `draws`.
    ///
    /// # Errors
    /// A refusal where the model has no such reading.
    pub fn evidence(&self, pixels: &Tensor, reading: Reading, draws: &Draws) -> Result<PatchEvidence> {
        self.evidence_of(&self.view, pixels, reading, draws)
    }

    /// The same for pictures of another size, by a view of their own.
    ///
    /// # Errors
    /// As [`Mixture::evidence`].
    pub fn evidence_of(&self, view: &View, pixels: &Tensor, reading: Reading, draws: &Draws) -> Result<PatchEvidence> {
        self.check_reading(reading)?;
        let pixels = pixels.to_device(self.patches.device());
        let values = match reading {
            Reading::Density => view.dequantised(&pixels, draws),
            Reading::Exact | Reading::Ordered => view.integers(&pixels)?,
        };
        let evidence = PatchEvidence::new(&values, reading);
        Ok(match view.observed() {
            Some(observed) => evidence.with_observed(&observed),
            None => evidence,
        })
    }

    /// Refuse a reading that this model has not.
    ///
    /// # Errors
    /// A refusal that names those that it has.
    pub fn check_reading(&self, reading: Reading) -> Result<()> {
        let readings = self.readings();
        if reading == Reading::Ordered && readings == [Reading::Density] {
            return Err(refusal!(
                "reading ordered needs integers, and transform cdf53 makes none
  train with transform: cdf53_integer"
            ));
        }
        require!(
            readings.contains(&reading),
            "this model has no reading {}; it has: {}",
            reading.name(),
            readings.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }
}

/// The logarithm of even weights over `clusters` clusters.
pub fn even_weights(clusters: usize, device: tch::Device) -> Tensor {
    Tensor::full([clusters as i64], -(clusters as f64).ln(), (Kind::Double, device))
}
