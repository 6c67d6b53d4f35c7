//! The ring gate: weights of experts and scales by how well each of them knows the pixels next to the patch.
//!
//! ```text
//! g_k(c) h_ks(c) = w_k h_ks p(ring(c) | k, s) / sum_jt w_j h_jt p(ring(c) | j, t)
//! p(ring | k, s) = prod_g N(ring_g; A_g ring_<g + b_g, s_g^2 R_g)
//! ```
//!
//! ring(c) are the context's pixels at most so many rows and columns away from the patch, `ring_g` their numbers of the
//! colours of group g of the patch, and `A_g, b_g, R_g` come from the window moments `m_g, S_g` that the patch's own
//! regressions come from ([`super::expert`]): with one group p(ring | k, s) is the marginal `N(ring; m, s^2 S)`. As in the
//! patch, a scale of a later group is that of its innovations. Pixels that are not there are summed out, and the weights add
//! up to 1 for every context.
//!
//! EM: the posteriors of experts and scales given the patch and its context are those of the joint density
//! `sum_ks w_k h_ks p(ring | k, s) p(x | c, k, s)` of ring and patch, and shares and moments weighted by them are its
//! M-step in closed form. A full step (without the prior of the moments) therefore never lowers `ln p(ring, x | the rest of
//! c)`. That is not ln p(x | c), which is less by ln p(ring): **the likelihood of patches given their contexts may fall**.

use tch::{Kind, Tensor};

use super::bank::Bank;
use super::common::{Common, Regression};
use super::expert::Expert;
use super::factor::Factor;
use super::weights::Tilt;
use crate::data::windows::WindowShape;
use crate::patch::config::{RingConfig, ScaleGroups};

/// Least share of all windows that an expert's weight stands for.
pub const LEAST_SHARE: f64 = 1e-9;

/// Rings as windows by themselves, of which nothing is given.
#[derive(Debug)]
pub struct Ring {
    width: usize,
    /// The window's number at each place of the ring, group by group: int64 `[R]`.
    places: Tensor,
    common: Common,
}

impl Ring {
    /// Of windows whose experts share this.
    #[must_use]
    pub fn new(config: RingConfig, window: WindowShape, groups: ScaleGroups, common: &Common) -> Self {
        let places = places(config.width, window, groups).to_device(common.scales.device());
        let (_, groups) = groups.order(places.numel() as i64);
        let common = Common {
            scales: common.scales.shallow_clone(),
            given: 0,
            groups,
            prior_shape: common.prior_shape.index_select(0, &places).index_select(1, &places),
            prior_strength: common.prior_strength,
            floor: common.floor,
            kind: common.kind,
        };
        Self { width: config.width, places, common }
    }

    /// The window's number at each place of the ring, group by group: int64 `[R]`.
    pub fn places(&self) -> &Tensor {
        &self.places
    }

    /// All experts for rings of which this is observed (R flags).
    #[must_use]
    pub fn bank(&self, experts: &[Expert], observed: &[bool]) -> Bank {
        let factor = |expert: &Expert| Factor::new(&self.regressions(expert), observed, &self.common);
        Bank::new(experts, experts.iter().map(factor).collect(), &self.common)
    }

    /// The moments of the ring: rows and columns of those of the window.
    fn regressions(&self, expert: &Expert) -> Vec<Regression> {
        let part = |(regression, (start, width)): (&Regression, (i64, i64))| {
            let seen = self.places.narrow(0, 0, start + width);
            Regression {
                mean: regression.mean.index_select(0, &seen),
                shape: regression.shape.index_select(0, &seen).index_select(1, &seen),
            }
        };
        expert.regressions.iter().zip(self.common.spans()).map(part).collect()
    }

    /// What rings `[N, R]` say, all of whose observed numbers are those of the bank.
    #[must_use]
    pub fn tilt(&self, experts: &[Expert], bank: &Bank, rings: &Tensor) -> Tilt {
        let shares: Vec<f64> = experts.iter().map(|expert| expert.share.max(LEAST_SHARE).ln()).collect();
        bank.tilt(rings, &Tensor::from_slice(&shares).to_device(rings.device()))
    }

    /// What a file says of it.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        vec![("gate.width".to_owned(), Tensor::from(self.width as i64))]
    }
}

/// The window's number at each place of its ring, group by group: int64 `[R]`.
pub fn places(width: usize, window: WindowShape, groups: ScaleGroups) -> Tensor {
    let (pixels, channels) = (window.ring(width), window.channels as i64);
    let channel = Tensor::arange(channels, (Kind::Int64, pixels.device()));
    let numbers = (pixels.unsqueeze(1) * channels + channel).flatten(0, 1);
    numbers.index_select(0, &groups.order(numbers.numel() as i64).0)
}
