//! Exact marginals of Gaussian patches under any mask of pixels, with factors cached per mask.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Mutex;

use tch::Tensor;

use super::component::Component;
use super::factor::Factor;

/// Numbers that kept factors may hold together: half a GB in float32.
const MOST: usize = 1 << 27;

/// Factors of the observed part of every component, by mask. Where they would take too much memory, as with a mask of its
/// own for every picture, all are let go.
#[derive(Debug, Default)]
pub struct Marginal {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    factors: HashMap<Vec<bool>, Vec<Factor>>,
    numbers: usize,
}

impl Kept {
    fn of(&mut self, group: &Group, components: &[impl Deref<Target = Component>]) -> &[Factor] {
        if !self.factors.contains_key(&group.mask) {
            let numbers = group.observed.numel().pow(2) * components.len();
            if self.numbers + numbers > MOST {
                *self = Self::default();
            }
            self.numbers += numbers;
            let factors = components.iter().map(|component| group.factor(component)).collect();
            self.factors.insert(group.mask.clone(), factors);
        }
        &self.factors[&group.mask]
    }
}

/// Patches that have the same variables observed.
pub struct Group {
    pub(in crate::patch) mask: Vec<bool>,
    /// Numbers of the patches.
    pub(in crate::patch) rows: Tensor,
    /// Numbers of the observed variables, and of the missing ones.
    pub(super) observed: Tensor,
    pub(super) missing: Tensor,
}

impl Marginal {
    /// The parameters have changed.
    pub fn forget(&mut self) {
        *self.kept.get_mut().expect("no thread panics") = Kept::default();
    }

    /// ln p(observed part of x | k) `[N, K]` for x `[N, D]` about the centre, in groups by what of it counts; 0 where nothing
    /// does.
    pub fn log_likelihood(
        &self,
        x: &Tensor,
        groups: &[Group],
        components: &[impl Deref<Target = Component>],
    ) -> Tensor {
        let all = Tensor::zeros([x.size()[0], components.len() as i64], (x.kind(), x.device()));
        for group in groups {
            if group.observed.numel() == 0 {
                continue;
            }
            let seen = x.index_select(0, &group.rows).index_select(1, &group.observed);
            let mut kept = self.kept.lock().expect("no thread panics");
            let by_cluster = kept.of(group, components).iter().zip(components).map(|(factor, component)| {
                factor
                    .log_joint(&factor.products(&seen), &component.log_weights, &component.common.scales)
                    .logsumexp(0, false)
            });
            let _ = all.shallow_clone().index_copy_(0, &group.rows, &Tensor::stack(&by_cluster.collect::<Vec<_>>(), 1));
        }
        all
    }
}

impl Group {
    pub(super) fn new(mask: Vec<bool>, rows: Tensor) -> Self {
        let numbers = |wanted: bool| {
            let chosen: Vec<i64> =
                mask.iter().enumerate().filter(|(_, seen)| **seen == wanted).map(|(i, _)| i as i64).collect();
            Tensor::from_slice(&chosen).to_device(rows.device())
        };
        let (observed, missing) = (numbers(true), numbers(false));
        Self { mask, rows, observed, missing }
    }

    /// The factor of what was observed.
    pub(super) fn factor(&self, component: &Component) -> Factor {
        let common = &component.common;
        let shape = component.shape.index_select(0, &self.observed).index_select(1, &self.observed);
        let of =
            common.group_of().index_select(0, &self.observed).bincount(None::<&Tensor>, common.groups.len() as i64);
        let groups: Vec<i64> = Vec::try_from(of).expect("a vector of counts");
        Factor::new(&component.mean.index_select(0, &self.observed), &shape, &groups, common.kind)
    }
}

/// The patches by what of them is observed, `[N, D]`, in a fixed order.
#[must_use]
pub fn groups(observed: &Tensor) -> Vec<Group> {
    let (n, d) = observed.size2().expect("masks of patches are [N, D]");
    let seen: Vec<bool> = Vec::try_from(observed.contiguous().view(-1)).expect("flags");
    let mut by_mask: BTreeMap<&[bool], Vec<i64>> = BTreeMap::new();
    for i in 0..n {
        by_mask.entry(&seen[(i * d) as usize..((i + 1) * d) as usize]).or_default().push(i);
    }
    let group = |(mask, rows): (&[bool], Vec<i64>)| {
        Group::new(mask.to_vec(), Tensor::from_slice(&rows).to_device(observed.device()))
    };
    by_mask.into_iter().map(group).collect()
}
