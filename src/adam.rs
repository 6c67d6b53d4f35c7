//! Adam (Kingma and Ba 2015) over named tensors, and the one-cycle learning rate (Smith 2018).
//!
//! The moments are plain tensors that can be saved, so that a resumed training equals an unbroken one.

use std::f64::consts::PI;

use tch::Tensor;

const FIRST_DECAY: f64 = 0.9;
const SECOND_DECAY: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Share of the steps in which the rate rises.
const RISE: f64 = 0.3;
/// The rate starts at the peak divided by this.
const START_DIVISOR: f64 = 25.0;
/// The rate ends at its start divided by this.
const END_DIVISOR: f64 = 1e4;

/// Parameters with the running means of their gradients and squared gradients.
pub struct Adam {
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    parameter: Tensor,
    first: Tensor,
    second: Tensor,
}

impl Adam {
    /// Updates these tensors in place.
    #[must_use]
    pub fn new(parameters: &[(String, Tensor)]) -> Self {
        let slot = |(name, parameter): &(String, Tensor)| Slot {
            name: name.clone(),
            parameter: parameter.shallow_clone(),
            first: parameter.zeros_like().detach(),
            second: parameter.zeros_like().detach(),
        };
        Self { slots: parameters.iter().map(slot).collect() }
    }

    /// Step number `step` (from 1) down the gradient of `loss` (a scalar) at this learning rate.
    pub fn descend(&mut self, loss: &Tensor, rate: f64, step: u64) {
        let parameters: Vec<&Tensor> = self.slots.iter().map(|slot| &slot.parameter).collect();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        self.descend_along(&gradients, rate, step);
    }

    /// Step number `step` (from 1) down these gradients, one for every parameter in order.
    pub fn descend_along(&mut self, gradients: &[Tensor], rate: f64, step: u64) {
        let _guard = tch::no_grad_guard();
        let correction = |decay: f64| 1.0 - decay.powf(step as f64);
        let (first, second) = (correction(FIRST_DECAY), correction(SECOND_DECAY));
        for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
            let _ = slot.first.lerp_(gradient, 1.0 - FIRST_DECAY);
            let _ = slot.second.lerp_(&gradient.square(), 1.0 - SECOND_DECAY);
            let spread = (&slot.second / second).sqrt() + EPSILON;
            slot.parameter -= &slot.first / spread * (rate / first);
        }
    }

    /// Forget what is known of some rows (i64 `[n]`) of a parameter that were set anew.
    pub fn forget(&mut self, name: &str, rows: &Tensor) {
        for slot in self.slots.iter_mut().filter(|slot| slot.name == name) {
            let _ = slot.first.index_fill_(0, rows, 0.0);
            let _ = slot.second.index_fill_(0, rows, 0.0);
        }
    }

    /// The moments under the names `first.NAME` and `second.NAME`; they share their memory with the optimiser.
    #[must_use]
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        let both = |slot: &Slot| {
            [
                (format!("first.{}", slot.name), slot.first.shallow_clone()),
                (format!("second.{}", slot.name), slot.second.shallow_clone()),
            ]
        };
        self.slots.iter().flat_map(both).collect()
    }
}

/// The learning rate at `step` of `steps` (from 0): a cosine up to `peak`, then a longer one down to almost nothing.
#[must_use]
pub fn one_cycle(peak: f64, step: u64, steps: u64) -> f64 {
    let (start, end) = (peak / START_DIVISOR, peak / START_DIVISOR / END_DIVISOR);
    let cosine = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (PI * share).cos());
    let last = (steps.max(2) - 1) as f64;
    let position = step as f64 / last;
    if position < RISE {
        cosine(start, peak, position / RISE)
    } else {
        cosine(peak, end, (position - RISE) / (1.0 - RISE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn two_steps_by_hand() {
        // Loss 3 x: gradient 3 for ever, so both corrected moments are 3 and 9: each step is the rate.
        let x = Tensor::from_slice(&[1f64]).set_requires_grad(true);
        let mut adam = Adam::new(&[("x".into(), x.shallow_clone())]);
        for step in 1..=2 {
            adam.descend(&(&x * 3.0).sum(Kind::Double), 0.1, step);
        }
        assert!((f64::try_from(&x).unwrap() - 0.8).abs() < 1e-8);
        assert!((f64::try_from(&adam.moments()[0].1).unwrap() - 3.0 * (0.1 + 0.09)).abs() < 1e-12);
        adam.forget("x", &Tensor::from_slice(&[0i64]));
        assert!(adam.moments().iter().all(|(_, moment)| f64::try_from(moment).unwrap() == 0.0));
    }

    #[test]
    fn a_quadratic_is_brought_to_its_minimum() {
        let x = Tensor::from_slice(&[3f64, -2.0]).set_requires_grad(true);
        let mut adam = Adam::new(&[("x".into(), x.shallow_clone())]);
        for step in 0..500 {
            adam.descend(&(&x - 1.0).square().sum(Kind::Double), one_cycle(0.1, step, 500), step + 1);
        }
        assert!(f64::try_from((&x - 1.0).abs().max()).unwrap() < 1e-3);
    }

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_almost_nothing() {
        let rate = |step| one_cycle(3e-4, step, 1001);
        assert!((rate(0) - 1.2e-5).abs() < 1e-15);
        assert!((rate(300) - 3e-4).abs() < 1e-12);
        assert!((rate(650) - 1.500_006e-4).abs() < 1e-12);
        assert!((rate(1000) - 1.2e-9).abs() < 1e-15);
    }
}
