//! The experts of a model, and both readings of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::bank::Bank;
use super::common::Common;
use super::expert::Expert;
use super::factor::Factor;
use super::gate::Gate;
use super::ordered::Case;
use super::ring::Ring;
use super::weights::{Tilt, Weights};
use crate::device::{self, Read};
use crate::patch::config::{ContextConfig, GateConfig, GaussianConfig};
use crate::patch::evidence::PatchEvidence;
use crate::patch::gaussian::marginal::{Group, groups};
use crate::patch::gaussian::ordered::Integers;
use crate::require;
use crate::run::checkpoint::Named;

/// Numbers that kept banks may hold together.
const MOST: usize = 1 << 27;

/// Conditional Gaussian scale mixtures of patches given their contexts, one for every cluster.
pub struct ContextPatches {
    pub(super) config: GaussianConfig,
    pub(super) ranges: Vec<(i64, i64)>,
    pub(super) common: Common,
    /// Covariance of all windows `[W, W]` and what they are taken about `[W]`, float64, in the order of windows.
    pub(super) covariance: Tensor,
    pub(super) centre: Tensor,
    /// Numbers of a window in the order of the experts: the context, then the patch group by group; int64 `[W]`.
    pub(super) order: Tensor,
    pub(super) experts: Vec<Expert>,
    /// All experts side by side, by what is observed of a window, and of a ring, which has fewer numbers.
    pub(super) banks: RefCell<HashMap<Vec<bool>, Rc<Bank>>>,
    pub(super) around: ContextConfig,
    /// A network, or a ring: not both.
    pub(super) gate: Option<Gate>,
    pub(super) ring: Option<Ring>,
    /// Steps since the training began.
    pub(super) steps: u64,
    pub(super) pseudocount: f64,
    /// Windows in the data set, and accumulated since the last step.
    pub(super) examples: f64,
    pub(super) batch: f64,
}

/// Windows about the centre, in the experts' order; zero where nothing is observed.
pub(super) struct Centred {
    pub(super) windows: Tensor,
    pub(super) observed: Option<Tensor>,
}

impl ContextPatches {
    /// A model without experts whose prior follows the moments of all windows: `centre` `[W]`, `covariance` `[W, W]`.
    pub(super) fn empty(
        config: &GaussianConfig,
        around: &ContextConfig,
        ranges: &[(i64, i64)],
        centre: &Tensor,
        covariance: &Tensor,
    ) -> Self {
        let device = centre.device();
        let window = around.window(ranges.len());
        let (given, own) = (window.context_numbers() as i64, window.patch_numbers() as i64);
        let (order, groups) = config.scale_groups.order(own);
        let context = Tensor::arange(given, (Kind::Int64, Device::Cpu));
        let order = Tensor::cat(&[context, order + given], 0).to_device(device);
        let covariance = covariance.to_kind(Kind::Double);
        let eye = Tensor::eye(given + own, (Kind::Double, device));
        let common = Common {
            scales: config.scale_grid(groups.len()).to_device(device),
            given,
            groups,
            prior_shape: covariance.index_select(0, &order).index_select(1, &order) * config.prior_scale + eye / 12.0,
            prior_strength: config.prior_strength,
            floor: config.floor,
            kind: if config.double { Kind::Double } else { Kind::Float },
        };
        let ring = match around.gate {
            GateConfig::Ring(ring) => Some(Ring::new(ring, window, config.scale_groups, &common)),
            GateConfig::None | GateConfig::Network(_) => None,
        };
        Self {
            config: config.clone(),
            ranges: ranges.to_vec(),
            common,
            covariance,
            centre: centre.to_kind(Kind::Double),
            order,
            around: *around,
            gate: None,
            ring,
            steps: 0,
            experts: Vec::new(),
            banks: RefCell::default(),
            pseudocount: 1.0,
            examples: 1.0,
            batch: 0.0,
        }
    }

    /// From [`Infer::tensors`](crate::patch::Infer::tensors).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn from_tensors(
        config: &GaussianConfig,
        context: &ContextConfig,
        ranges: &[(i64, i64)],
        saved: &Named,
    ) -> Result<Self> {
        let w = ranges.len() as i64;
        let (centre, covariance) = (saved.doubles("centre", &[w])?, saved.doubles("covariance", &[w, w])?);
        let mut model = Self::empty(config, context, ranges, centre, covariance);
        model.take(saved)?;
        Ok(model)
    }

    /// What all experts share.
    #[must_use]
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The experts.
    #[must_use]
    pub fn experts(&self) -> &[Expert] {
        &self.experts
    }

    /// Windows `[N, W]` about the centre, of the kind that passes compute in; `half` is added to the values.
    pub(super) fn centred(&self, patches: &PatchEvidence, half: f64) -> Result<Centred> {
        let (_, numbers) = patches.values().size2()?;
        let expected = self.ranges.len() as i64;
        require!(numbers == expected, "the windows have {numbers} numbers each, the experts expect {expected}");
        let device = self.centre.device();
        let values = patches.values().to_device(device).to_kind(Kind::Double) + (half - &self.centre);
        let observed = patches.observed().map(|observed| observed.to_device(device));
        let values = match &observed {
            Some(observed) => values.masked_fill(&observed.logical_not(), 0.0),
            None => values,
        };
        Ok(Centred {
            windows: values.to_kind(self.common.kind).index_select(1, &self.order),
            observed: observed.map(|observed| observed.index_select(1, &self.order)),
        })
    }

    /// The weights of experts and scales.
    pub(super) fn weights(&self, windows: &Centred) -> Weights {
        let network = || self.gate.as_ref().map(|gate| gate.tilt(&windows.windows, windows.observed.as_ref()));
        let ring = |ring: &Ring| {
            let part = |numbers: &Tensor| numbers.index_select(1, ring.places());
            let observed = windows.observed.as_ref().map(part);
            let rings = Centred { windows: part(&windows.windows), observed };
            let parts = self.by_mask(&rings).into_iter().map(|(rows, bank)| {
                let tilt = ring.tilt(&self.experts, &bank, &rings.windows.index_select(0, &rows));
                (rows, tilt)
            });
            Tilt::joined(&parts.collect::<Vec<_>>())
        };
        Weights::new(self.ring.as_ref().map(ring).or_else(network))
    }

    /// Add the statistics of windows with posteriors `[N, K]` of the experts.
    pub(super) fn learn(&mut self, windows: &Centred, posterior: &Tensor) {
        let (tilt, device) = (self.weights(windows), self.centre.device());
        let threshold = self.config.truncate_posterior;
        let by_expert = posterior.tr().contiguous(); // [K, N]
        let rows = |k: usize| by_expert.get(k as i64).ge(threshold).nonzero().squeeze_dim(1);
        let rows: Vec<Tensor> = (0..self.experts.len()).map(rows).collect();
        let work = self.experts.iter_mut().zip(&rows).enumerate().map(|(k, (expert, rows))| {
            let weights = by_expert.get(k as i64).index_select(0, rows);
            let log_weights = tilt.of_scales(k, expert, rows);
            (expert, Read(&self.common), windows.windows.index_select(0, rows), weights, log_weights)
        });
        let scales = device::spread(
            device,
            work.collect(),
            |(expert, common, windows, weights, log_weights): (&mut Expert, Read<Common>, Tensor, Tensor, Tensor)| {
                (weights.numel() > 0).then(|| expert.accumulate(&windows, &weights, &log_weights, common.0))
            },
        );
        let Some(gate) = &mut self.gate else { return };
        let experts = &self.experts;
        gate.learn(&windows.windows, &posterior.to_kind(Kind::Float), |shown| {
            let total = shown.scales.squeeze_dim(2).tr().zeros_like();
            for (k, (rows, found)) in rows.iter().zip(&scales).enumerate() {
                if let Some(found) = found {
                    let expected = shown.of_scales(k, &experts[k], rows).exp();
                    let weights = by_expert.get(k as i64).index_select(0, rows);
                    let _ =
                        total.shallow_clone().index_add_(1, rows, &(found - expected * weights).to_kind(Kind::Float));
                }
            }
            total
        });
    }

    /// Windows, or rings, by what of them is observed: their numbers, and all experts for them.
    pub(super) fn by_mask(&self, windows: &Centred) -> Vec<(Tensor, Rc<Bank>)> {
        let (count, numbers) = (windows.windows.size()[0], windows.windows.size()[1]);
        let all = || Tensor::arange(count, (Kind::Int64, windows.windows.device()));
        let Some(observed) = windows.observed.as_ref().filter(|_| count > 0) else {
            return vec![(all(), self.bank_for(&vec![true; numbers as usize]))];
        };
        let found = groups(observed).into_iter();
        found.map(|Group { mask, rows, .. }| (rows, self.bank_for(&mask))).collect()
    }

    fn bank_for(&self, mask: &[bool]) -> Rc<Bank> {
        let mut kept = self.banks.borrow_mut();
        if let Some(bank) = kept.get(mask) {
            return Rc::clone(bank);
        }
        let each = self.common.numbers() * (self.common.numbers() - self.common.given);
        if (kept.len() + 1) * each as usize * self.experts.len() > MOST {
            kept.clear();
        }
        let bank = Rc::new(match &self.ring {
            Some(ring) if mask.len() == ring.places().numel() => ring.bank(&self.experts, mask),
            _ => Bank::new(&self.experts, self.factors(mask), &self.common),
        });
        kept.insert(mask.to_vec(), Rc::clone(&bank));
        bank
    }

    /// The factors of all experts for windows of which this is observed.
    fn factors(&self, mask: &[bool]) -> Vec<Factor> {
        if mask.iter().all(|observed| *observed) {
            return self.experts.iter().map(|expert| expert.factor().share()).collect();
        }
        let work = self.experts.iter().map(|expert| (Read(expert), Read(&self.common))).collect();
        device::spread(self.centre.device(), work, |(expert, common): (Read<Expert>, Read<Common>)| {
            Factor::new(&expert.0.regressions, mask, common.0)
        })
    }

    /// ln p(x | c, k) of the density `[N, K]`, with the gate's weight of the expert where there is one.
    pub(super) fn log_density(&self, windows: &Centred) -> Tensor {
        let weights = self.weights(windows);
        self.put_together(windows, &weights, |rows, bank| {
            bank.log_likelihood(&windows.windows.index_select(0, rows), &weights.rows(rows))
        })
    }

    /// ln P(x | c, k) of the ordered reading `[N, K]`; minus infinity where the density of an expert is more than the window
    /// of nats below that of the best one.
    pub(super) fn log_mass(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let windows = self.centred(patches, 0.5)?;
        let (lowest, highest) = self.ends(patches)?;
        let weights = self.weights(&windows);
        Ok(self.put_together(&windows, &weights, |rows, bank| {
            let own = bank.own();
            let [lowest, highest] = [&lowest, &highest].map(|t| t.index_select(0, rows).index_select(1, own));
            let integers = Integers { middle: windows.windows.index_select(0, rows), lowest, highest };
            self.mass(&integers, bank, &weights.rows(rows))
        }))
    }

    /// `[N, K]` from what `of` says of the windows of which the same is observed; where nothing of a patch is, nothing but the
    /// gate's weights.
    fn put_together(&self, windows: &Centred, weights: &Weights, of: impl Fn(&Tensor, &Bank) -> Tensor) -> Tensor {
        let size = [windows.windows.size()[0], self.experts.len() as i64];
        let all = weights.with_experts(Tensor::zeros(size, (self.common.kind, self.centre.device())));
        for (rows, bank) in self.by_mask(windows) {
            if bank.own().numel() > 0 {
                let _ = all.shallow_clone().index_copy_(0, &rows, &of(&rows, &bank));
            }
        }
        all
    }

    fn mass(&self, integers: &Integers, bank: &Bank, weights: &Weights) -> Tensor {
        let density = bank.log_likelihood(&integers.middle, weights);
        let window = self.config.ordered_window;
        let kept = density.ge_tensor(&(density.amax([1i64].as_slice(), true) - window));
        let work = self.experts.iter().zip(&bank.factors).enumerate().map(|(k, (expert, factor))| {
            let rows = kept.select(1, k as i64).nonzero().squeeze_dim(1);
            let case =
                Case { integers: integers.rows(&rows), log_weights: weights.of_scales(k, expert, &rows), window };
            (Read(factor), Read(&self.common), case, rows)
        });
        let n = density.size()[0];
        let parts = device::spread(
            self.centre.device(),
            work.collect(),
            |(factor, common, case, rows): (Read<Factor>, Read<Common>, Case, Tensor)| {
                let mass = case.log_mass(factor.0, &common.0.scales);
                Tensor::full([n], f64::NEG_INFINITY, (mass.kind(), mass.device())).index_copy(0, &rows, &mass)
            },
        );
        weights.with_experts(Tensor::stack(&parts, 1))
    }

    /// Where the numbers of patches, in the experts' order, are at the ends of their ranges: bool `[N, D]` each.
    fn ends(&self, patches: &PatchEvidence) -> Result<(Tensor, Tensor)> {
        let device = self.centre.device();
        let values = patches.values().to_device(device).to_kind(Kind::Int64);
        let [low, high] = [|r: &(i64, i64)| r.0, |r: &(i64, i64)| r.1]
            .map(|end| Tensor::from_slice(&self.ranges.iter().map(end).collect::<Vec<_>>()).to_device(device));
        let mut outside = values.lt_tensor(&low).logical_or(&values.gt_tensor(&high));
        if let Some(observed) = patches.observed() {
            outside = outside.logical_and(&observed.to_device(device));
        }
        require!(outside.any().int64_value(&[]) == 0, "the patches hold a value outside the range of its variable");
        let given = self.common.given;
        let own = |t: Tensor| t.index_select(1, &self.order).narrow(1, given, self.common.numbers() - given);
        Ok((own(values.eq_tensor(&low)), own(values.eq_tensor(&high))))
    }
}
