//! The trees of a model, shared out over forests.

use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::forest::{Forest, Width};
use super::saved::{read_structure, read_width};
use crate::circuit::tree_tables::TreeTables;
use crate::em::back_off::BackOff;
use crate::em::{self, EmConfig, Learner};
use crate::patch::config::HcltConfig;
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::model::{Infer, Learn};
use crate::run::checkpoint::Named;
use crate::structure::chow_liu::Parents;

/// How far the tables of a re-seeded tree are moved: every entry by up to this share of itself.
const RESEEDED: f64 = 0.2;

/// HCLTs, each for one cluster or, with several heads, for as many.
pub struct HcltPatches {
    pub(super) config: HcltConfig,
    pub(super) trees: Vec<Parents>,
    pub(super) width: Width,
    /// Behind locks so that the CPU's threads can share them out.
    pub(super) forests: Vec<Mutex<Forest>>,
    pub(super) ranges: Vec<(i64, i64)>,
    pub(super) lows: Tensor,
    /// The distribution that the pseudocounts of each input follow: `[trees, D, most categories]`, zeros behind the range.
    pub(super) marginals: Tensor,
    /// Patches accumulated since the last step.
    pub(super) batch: f64,
    /// How it learns: settings, and patches in the data set; none before a training begins.
    pub(super) learning: Option<(EmConfig, f64)>,
}

impl HcltPatches {
    /// Uniform circuits on the given trees; `ranges` are inclusive and per variable; `marginals` `[trees, D, most
    /// categories]` hold the distribution over each range that pseudocounts follow.
    ///
    /// # Errors
    /// When a tree does not fit the number of variables.
    pub fn uniform(
        config: &HcltConfig,
        trees: Vec<Parents>,
        width: Width,
        ranges: &[(i64, i64)],
        marginals: &Tensor,
    ) -> Result<Self> {
        let lows: Vec<i64> = ranges.iter().map(|r| r.0).collect();
        let device = marginals.device();
        let mut model = Self {
            config: config.clone(),
            trees,
            width,
            forests: Vec::new(),
            ranges: ranges.to_vec(),
            lows: Tensor::from_slice(&lows).to_device(device),
            marginals: marginals.to_kind(Kind::Double),
            batch: 0.0,
            learning: None,
        };
        let size = Forest::size(config.forest, model.trees.len(), device);
        for start in (0..model.trees.len()).step_by(size) {
            let forest = model.forest(start..(start + size).min(model.trees.len()))?;
            model.forests.push(Mutex::new(forest));
        }
        Ok(model)
    }

    /// From [`Infer::tensors`].
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn from_tensors(config: &HcltConfig, ranges: &[(i64, i64)], saved: &Named) -> Result<Self> {
        let (trees, marginals) = read_structure(saved, ranges)?;
        let width = read_width(saved, trees.len())?;
        let mut model = Self::uniform(config, trees, width, ranges, marginals)?;
        model.restore(saved)?;
        Ok(model)
    }

    pub(super) fn forest(&self, trees: std::ops::Range<usize>) -> Result<Forest> {
        Forest::uniform(trees.clone(), &self.trees[trees], self.width, &self.ranges, self.device())
    }

    /// The parents of a tree's regions.
    #[must_use]
    pub fn tree(&self, tree: usize) -> &Parents {
        &self.trees[tree]
    }

    /// Replace the tables of one tree.
    pub fn set_tables(&mut self, tree: usize, tables: &TreeTables, noise: f64, rng: &mut ChaCha8Rng) {
        let mut forest = self.forest_of(tree).1;
        let own = tree - forest.trees.start;
        forest.circuit.set_tree_tables(own, tables, noise, rng);
    }

    /// A copy of the tables of one tree.
    #[must_use]
    pub fn tables(&self, tree: usize) -> TreeTables {
        let forest = self.forest_of(tree).1;
        forest.circuit.tree_tables(tree - forest.trees.start)
    }

    /// The forest that a tree belongs to, and its number.
    pub(super) fn forest_of(&self, tree: usize) -> (usize, MutexGuard<'_, Forest>) {
        let forests = self.forests.iter().map(lock).enumerate();
        forests.into_iter().find(|(_, f)| f.trees.contains(&tree)).expect("a tree of this model")
    }

    /// Make the forest of a tree that has changed anew, with these tables for it; other trees in it keep their tables and
    /// what they remember.
    pub(super) fn rebuild(&mut self, changed: usize, tables: &TreeTables, rng: &mut ChaCha8Rng) -> Result<()> {
        let number = self.forest_of(changed).0;
        let old = lock(&self.forests[number]);
        let trees = old.trees.clone();
        let mut new = self.forest(trees.clone())?;
        let kept = || (0..trees.len()).filter(|t| trees.start + t != changed);
        for tree in kept() {
            new.circuit.put_tree_tables(tree, &old.circuit.tree_tables(tree));
        }
        new.circuit.set_tree_tables(changed - trees.start, tables, RESEEDED, rng);
        new.learner = self.learner_for(&new);
        if let (Some(from), Some(to)) = (&old.learner, &mut new.learner) {
            kept().for_each(|tree| to.take_over(&new.circuit, from, &old.circuit, tree));
        }
        drop(old);
        self.forests[number] = Mutex::new(new);
        Ok(())
    }

    /// A learner for a forest of this model, where it learns.
    pub(super) fn learner_for(&self, forest: &Forest) -> Option<Learner> {
        self.learning.as_ref().map(|(config, examples)| self.new_learner(forest, config, *examples))
    }

    /// The same patches with values that count from 0, those that were observed: `value - low`.
    pub(super) fn values(&self, patches: &PatchEvidence) -> Result<PatchEvidence> {
        let (_, variables) = patches.values().size2()?;
        let reading = patches.reading();
        crate::require!(reading == Reading::Exact, "HCLTs have no reading {}", reading.name());
        let expected = self.ranges.len() as i64;
        crate::require!(
            variables == expected,
            "the patches have {variables} numbers each, the circuits expect {expected}"
        );
        let values = patches.values().to_device(self.device()).to_kind(Kind::Int64);
        let rows: Tensor = values - &self.lows;
        let observed = patches.observed().map(|observed| observed.to_device(self.device()));
        let known = observed.as_ref().map_or_else(|| rows.shallow_clone(), |o| rows.masked_fill(&o.logical_not(), 0));
        let below = bool::try_from(known.lt(0).any())?;
        crate::require!(!below, "the patches hold a value below the range of its variable");
        Ok(patches.with_values(&known))
    }

    pub(super) fn new_learner(&self, forest: &Forest, config: &EmConfig, examples: f64) -> Learner {
        let marginals = em::input_marginals(forest.circuit.plan(), &forest.circuit, |variable, tree, categories| {
            let own = (forest.trees.start + tree) as i64;
            self.marginals.get(own).get(variable as i64).narrow(0, 0, categories)
        });
        let back_off = config.back_off.map(|b| BackOff::new(b, &forest.circuit, &marginals));
        Learner::new(config, self.config.inputs, examples, &forest.circuit, marginals).with_back_off(back_off)
    }

    pub(super) fn trees_tensor(&self) -> Tensor {
        let flat: Vec<i64> = self.trees.iter().flatten().map(|p| p.map_or(-1, |p| p as i64)).collect();
        Tensor::from_slice(&flat).view([self.trees.len() as i64, -1])
    }
}

pub(super) fn lock(forest: &Mutex<Forest>) -> MutexGuard<'_, Forest> {
    forest.lock().expect("a thread that held this forest has panicked")
}
