//! The Gaussian scale mixtures of a model, and both readings of them.

use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use tch::{Kind, Tensor};

use super::component::{Common, Component};
use super::marginal::{Marginal, groups};
use super::ordered::Integers;
use super::partial;
use crate::patch::config::GaussianConfig;
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::model::{Infer, Learn};
use crate::run::checkpoint::Named;
use crate::{device, require};

/// Patches that share a mask on average, from which on they are taken mask by mask.
const SHARED: usize = 8;

/// One Gaussian scale mixture per cluster.
pub struct GaussianPatches {
    pub(super) config: GaussianConfig,
    pub(super) ranges: Vec<(i64, i64)>,
    pub(super) common: Common,
    /// Covariance of all patches `[D, D]`, float64.
    pub(super) covariance: Tensor,
    /// What all patches are taken about `[D]`, float64.
    pub(super) centre: Tensor,
    /// The variables in the order of the components, group by group; int64 `[D]`.
    pub(super) order: Tensor,
    /// Behind locks so that the CPU's threads can share them out.
    pub(super) components: Vec<Mutex<Component>>,
    pub(super) marginal: Marginal,
    pub(super) pseudocount: f64,
    /// Patches in the data set, and accumulated since the last step.
    pub(super) examples: f64,
    pub(super) batch: f64,
}

impl GaussianPatches {
    /// A model without components whose prior follows the moments of all patches: `centre` `[D]`, `covariance` `[D, D]`.
    pub(super) fn empty(config: &GaussianConfig, ranges: &[(i64, i64)], centre: &Tensor, covariance: &Tensor) -> Self {
        let device = centre.device();
        let d = ranges.len() as i64;
        let (order, groups) = config.scale_groups.order(d);
        let order = order.to_device(device);
        let eye = Tensor::eye(d, (Kind::Double, device));
        let covariance = covariance.to_kind(Kind::Double);
        let common = Common {
            scales: config.scale_grid(groups.len()).to_device(device),
            groups,
            prior_shape: reordered(&covariance, &order) * config.prior_scale + eye / 12.0,
            prior_strength: config.prior_strength,
            floor: config.floor,
            rank: config.covariance.rank(),
            kind: if config.double { Kind::Double } else { Kind::Float },
        };
        Self {
            config: config.clone(),
            ranges: ranges.to_vec(),
            common,
            covariance,
            centre: centre.to_kind(Kind::Double),
            order,
            components: Vec::new(),
            marginal: Marginal::default(),
            pseudocount: 1.0,
            examples: 1.0,
            batch: 0.0,
        }
    }

    /// From [`Infer::tensors`].
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn from_tensors(config: &GaussianConfig, ranges: &[(i64, i64)], saved: &Named) -> Result<Self> {
        let d = ranges.len() as i64;
        let (centre, covariance) = (saved.doubles("centre", &[d])?, saved.doubles("covariance", &[d, d])?);
        let mut model = Self::empty(config, ranges, centre, covariance);
        model.restore(saved)?;
        Ok(model)
    }

    /// What all components share.
    #[must_use]
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Patches about the centre, in the order of the components and the kind that passes compute in.
    pub(super) fn centred(&self, patches: &Tensor) -> Result<Tensor> {
        let (_, variables) = patches.size2()?;
        let expected = self.ranges.len() as i64;
        require!(variables == expected, "the patches have {variables} numbers each, the Gaussians expect {expected}");
        let centred = patches.to_device(self.device()).to_kind(Kind::Double) - &self.centre;
        Ok(self.in_order(&centred.to_kind(self.common.kind)))
    }

    /// Patches about the centre, in the order of the components, float64, and which of their values were observed,
    /// `[N, D]` each.
    pub(super) fn partly_observed(&self, patches: &PatchEvidence) -> Result<(Tensor, Tensor)> {
        let reading = patches.reading();
        require!(
            reading == Reading::Density,
            "Gaussians have no conditionals in the reading {}\n  ask for the density reading",
            reading.name()
        );
        let values = patches.values().to_device(self.device()).to_kind(Kind::Double);
        let (_, variables) = values.size2()?;
        let expected = self.ranges.len() as i64;
        require!(variables == expected, "the patches have {variables} numbers each, the Gaussians expect {expected}");
        let observed = patches.observed().map_or_else(|| values.eq_tensor(&values), |o| o.to_device(self.device()));
        let x = (values - &self.centre).masked_fill(&observed.logical_not(), 0.0);
        Ok((x.index_select(1, &self.order), observed.index_select(1, &self.order)))
    }

    /// Patches `[N, D]`, float64, with the values that `answer` finds for those of every cluster, int64 `[N]`, given x about the
    /// centre, what of it was observed, and the component.
    pub(super) fn by_cluster(
        &self,
        patches: &PatchEvidence,
        clusters: &Tensor,
        mut answer: impl FnMut(&Tensor, &Tensor, &Component) -> Tensor,
    ) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (x, observed) = self.partly_observed(patches)?;
        let found = x.copy();
        for (cluster, component) in self.components.iter().enumerate() {
            let rows = clusters.to_device(self.device()).eq(cluster as i64).nonzero().squeeze_dim(1);
            if rows.numel() > 0 {
                let [x, observed] = [&x, &observed].map(|tensor| tensor.index_select(0, &rows));
                let new = answer(&x, &observed, &lock(component));
                let _ = found.shallow_clone().index_copy_(0, &rows, &new);
            }
        }
        Ok(found.index_select(1, &self.order.argsort(0, false)) + &self.centre)
    }

    /// The columns of `[N, D]` in the order of the components.
    pub(super) fn in_order(&self, patches: &Tensor) -> Tensor {
        if self.common.groups.len() == 1 { patches.shallow_clone() } else { patches.index_select(1, &self.order) }
    }

    /// ln p(x | k) of the density `[N, K]`.
    pub(super) fn log_density(&self, x: &Tensor) -> Tensor {
        let work: Vec<_> = self.components.iter().map(|c| (c, x.shallow_clone())).collect();
        let parts = device::spread(self.device(), work, |(c, x)| lock(c).log_likelihood(&x));
        Tensor::stack(&parts, 1)
    }

    /// ln p(observed part of x | k) `[N, K]` from [`partly_observed`](Self::partly_observed); 0 where nothing is observed.
    pub(super) fn log_marginal(&self, x: &Tensor, observed: &Tensor) -> Tensor {
        let groups = groups(observed);
        if groups.len() * SHARED < x.size()[0] as usize {
            let components: Vec<_> = self.components.iter().map(lock).collect();
            return self.marginal.log_likelihood(&x.to_kind(self.common.kind), &groups, &components);
        }
        let work: Vec<_> = self.components.iter().map(|c| (c, x.shallow_clone(), observed.shallow_clone())).collect();
        let parts =
            device::spread(self.device(), work, |(c, x, observed)| partial::log_likelihood(&lock(c), &x, &observed));
        Tensor::stack(&parts, 1).to_kind(self.common.kind)
    }

    /// ln P(x | k) of the ordered reading `[N, K]`; minus infinity where the density of a cluster is more than the
    /// window below that of the best one.
    pub(super) fn log_mass(&self, patches: &Tensor) -> Result<Tensor> {
        let values = patches.to_device(self.device()).to_kind(Kind::Int64);
        let [low, high] = [|r: &(i64, i64)| r.0, |r: &(i64, i64)| r.1]
            .map(|end| Tensor::from_slice(&self.ranges.iter().map(end).collect::<Vec<_>>()).to_device(self.device()));
        let outside = values.lt_tensor(&low).logical_or(&values.gt_tensor(&high)).any();
        require!(outside.int64_value(&[]) == 0, "the patches hold a value outside the range of its variable");
        let integers = Integers {
            middle: self.centred(&(values.to_kind(Kind::Double) + 0.5))?,
            lowest: self.in_order(&values.eq_tensor(&low)),
            highest: self.in_order(&values.eq_tensor(&high)),
        };
        let density = self.log_density(&integers.middle);
        let window = self.config.ordered_window;
        let kept = density.ge_tensor(&(density.amax([1i64].as_slice(), true) - window));
        let work = self.components.iter().enumerate().map(|(k, c)| (c, kept.select(1, k as i64), integers.share()));
        let parts = device::spread(
            self.device(),
            work.collect(),
            |(c, kept, integers): (&Mutex<Component>, Tensor, Integers)| {
                let rows = kept.nonzero().squeeze_dim(1);
                let mass = lock(c).log_mass(&integers.rows(&rows), window);
                Tensor::full([kept.size()[0]], f64::NEG_INFINITY, (mass.kind(), mass.device()))
                    .index_copy(0, &rows, &mass)
            },
        );
        Ok(Tensor::stack(&parts, 1))
    }

    /// The same where some patches were not observed at all: 0 for those.
    pub(super) fn log_mass_of_whole(&self, patches: &Tensor, observed: &Tensor) -> Result<Tensor> {
        let observed = observed.to_device(self.device());
        let whole = observed.all_dim(1, true);
        let part = observed.any_dim(1, true).logical_and(&whole.logical_not()).any();
        require!(
            part.int64_value(&[]) == 0,
            "the ordered reading of Gaussians has exact marginals of whole patches only: its sums run over all values of the missing variables\n  ask for the density reading"
        );
        let values = patches.to_device(self.device()).to_kind(Kind::Int64);
        let any: Vec<i64> = self.ranges.iter().map(|range| range.0).collect();
        let any = Tensor::from_slice(&any).to_device(self.device());
        Ok(self.log_mass(&values.where_self(&whole, &any))?.masked_fill(&whole.logical_not(), 0.0))
    }

    pub(super) fn stacked(&self, of: impl Fn(&Component) -> Tensor) -> Tensor {
        Tensor::stack(&self.components.iter().map(|c| of(&lock(c))).collect::<Vec<_>>(), 0)
    }
}

/// Rows and columns of `[D, D]` in another order.
pub(super) fn reordered(matrix: &Tensor, order: &Tensor) -> Tensor {
    matrix.index_select(0, order).index_select(1, order)
}

pub(super) fn lock(component: &Mutex<Component>) -> MutexGuard<'_, Component> {
    component.lock().expect("a thread that held this component has panicked")
}
