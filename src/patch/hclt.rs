//! Hidden Chow-Liu trees over the pixels of a patch, one for each cluster, evaluated in forests.
//!
//! A tree with several heads serves as many clusters, which share everything below its root ([`heads`]).

pub mod forest;
pub mod heads;
mod saved;
pub mod start;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::config::{HcltConfig, Start};
use super::{MISSING, Marginals, Part, PatchModel};
use crate::circuit::evidence;
use crate::circuit::flows::Statistics;
use crate::circuit::parameters::Parameters;
use crate::circuit::tree_tables::TreeTables;
use crate::device::{self, Read};
use crate::em::back_off::BackOff;
use crate::em::{self, EmConfig, Learner};
use crate::structure::chow_liu::Parents;
use forest::Forest;
pub use forest::Width;
use saved::{read_structure, read_width};
use start::from_members;

/// Examples that are worth a thread.
const LEAST: i64 = 16;
/// How far the tables of a re-seeded tree are moved: every entry by up to this share of itself.
const RESEEDED: f64 = 0.2;

/// HCLTs, each for one cluster or, with several heads, for as many.
pub struct HcltPatches {
    config: HcltConfig,
    trees: Vec<Parents>,
    width: Width,
    /// Behind locks so that the CPU's threads can share them out.
    forests: Vec<Mutex<Forest>>,
    ranges: Vec<(i64, i64)>,
    lows: Tensor,
    /// The distribution that the pseudocounts of each input follow: `[trees, D, most categories]`, zeros behind the range.
    marginals: Tensor,
    /// Patches accumulated since the last step.
    batch: f64,
    /// How it learns: settings, and patches in the data set; none before a training begins.
    learning: Option<(EmConfig, f64)>,
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
        let size = match config.forest {
            0 if device.is_cuda() => model.trees.len(),
            0 => 1,
            size => size,
        };
        for start in (0..model.trees.len()).step_by(size.max(1)) {
            let forest = model.forest(start..(start + size).min(model.trees.len()))?;
            model.forests.push(Mutex::new(forest));
        }
        Ok(model)
    }

    /// From [`PatchModel::tensors`].
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn from_tensors(
        config: &HcltConfig,
        ranges: &[(i64, i64)],
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let (trees, marginals) = read_structure(tensors, ranges)?;
        let width = read_width(config, tensors)?;
        let mut model = Self::uniform(config, trees, width, ranges, marginals)?;
        model.restore(tensors)?;
        Ok(model)
    }

    fn forest(&self, trees: std::ops::Range<usize>) -> Result<Forest> {
        Forest::uniform(trees.clone(), &self.trees[trees], self.width, &self.ranges, self.device())
    }

    /// The parents of a tree's variables.
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
    fn forest_of(&self, tree: usize) -> (usize, MutexGuard<'_, Forest>) {
        let forests = self.forests.iter().map(lock).enumerate();
        forests.into_iter().find(|(_, f)| f.trees.contains(&tree)).expect("a tree of this model")
    }

    /// Make the forest of a tree that has changed anew, with these tables for it; other trees in it keep their tables and
    /// what they remember.
    fn rebuild(&mut self, changed: usize, tables: &TreeTables, rng: &mut ChaCha8Rng) -> Result<()> {
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
    fn learner_for(&self, forest: &Forest) -> Option<Learner> {
        self.learning.as_ref().map(|(config, examples)| self.new_learner(forest, config, *examples))
    }

    /// Integers to table rows: `value - low`, negative where missing.
    fn values(&self, patches: &Tensor) -> Result<Tensor> {
        let (_, variables) = patches.size2()?;
        let expected = self.ranges.len() as i64;
        crate::require!(
            variables == expected,
            "the patches have {variables} numbers each, the circuits expect {expected}"
        );
        let patches = patches.to_device(self.device()).to_kind(Kind::Int64);
        let missing = patches.eq(MISSING);
        let rows: Tensor = patches - &self.lows;
        let below = rows.lt(0).logical_and(&missing.logical_not()).any();
        crate::require!(below.int64_value(&[]) == 0, "the patches hold a value below the range of its variable");
        Ok(rows.masked_fill(&missing, evidence::MISSING))
    }

    fn new_learner(&self, forest: &Forest, config: &EmConfig, examples: f64) -> Learner {
        let marginals = em::input_marginals(forest.circuit.plan(), &forest.circuit, |variable, tree, categories| {
            let own = (forest.trees.start + tree) as i64;
            self.marginals.get(own).get(variable as i64).narrow(0, 0, categories)
        });
        let back_off = config.back_off.map(|b| BackOff::new(b, &forest.circuit, &marginals));
        Learner::new(config, self.config.inputs, examples, &forest.circuit, marginals).with_back_off(back_off)
    }

    /// Examples `[N, ..]` in as many parts as there are threads without a forest of their own.
    fn parts(&self, examples: &Tensor) -> Vec<Tensor> {
        let parts = if self.forests.len() == 1 { device::parts(self.device()) } else { 1 };
        let parts = parts.min((examples.size()[0] / LEAST).max(1) as usize);
        examples.chunk(parts as i64, 0)
    }

    fn trees_tensor(&self) -> Tensor {
        let flat: Vec<i64> = self.trees.iter().flatten().map(|p| p.map_or(-1, |p| p as i64)).collect();
        Tensor::from_slice(&flat).view([self.trees.len() as i64, self.ranges.len() as i64])
    }
}

impl PatchModel for HcltPatches {
    fn clusters(&self) -> usize {
        self.trees.len() * self.width.heads
    }

    fn device(&self) -> Device {
        self.lows.device()
    }

    fn parameter_count(&self) -> usize {
        let count = |forest: &Forest| Parameters::count(forest.circuit.plan()) - forest.circuit.cut_edges();
        self.forests.iter().map(|f| count(&lock(f))).sum()
    }

    fn log_likelihood(&self, patches: &Tensor) -> Result<Tensor> {
        let values = self.values(patches)?;
        let forests: Vec<_> = self.forests.iter().map(lock).collect();
        let by_part =
            self.parts(&values).into_iter().flat_map(|v| forests.iter().map(move |f| (Read(&**f), v.shallow_clone())));
        let done = device::spread(self.device(), by_part.collect(), |(forest, values): (Read<Forest>, Tensor)| {
            forest.0.log_likelihood(&values)
        });
        let done = done.into_iter().collect::<Result<Vec<_>>>()?;
        let rows: Vec<Tensor> = done.chunks(forests.len()).map(|part| Tensor::cat(part, 1)).collect();
        Ok(Tensor::cat(&rows, 0))
    }

    fn start(&mut self, config: &EmConfig, examples: f64) {
        self.batch = 0.0;
        self.learning = Some((config.clone(), examples));
        for forest in &self.forests {
            let mut forest = lock(forest);
            forest.learner = self.learner_for(&forest);
            forest.statistics.clear();
        }
    }

    fn accumulate(&mut self, patches: &Tensor, weights: &Tensor) -> Result<()> {
        let values = self.values(patches)?;
        let weights = weights.to_kind(Kind::Float);
        self.batch += weights.sum(Kind::Double).double_value(&[]);
        let threshold = self.config.truncate_posterior;
        let mut forests: Vec<_> = self.forests.iter().map(lock).collect();
        let mut kept: Vec<_> = forests.iter_mut().map(|forest| std::mem::take(&mut forest.statistics)).collect();
        let mut work = Vec::new();
        for (part, (values, weights)) in self.parts(&values).into_iter().zip(self.parts(&weights)).enumerate() {
            for (forest, kept) in forests.iter().zip(&mut kept) {
                let statistics = if part < kept.len() { kept.remove(0) } else { Statistics::new(&forest.circuit) };
                work.push((Read(&**forest), values.shallow_clone(), weights.shallow_clone(), statistics));
            }
        }
        let add = |(forest, values, weights, mut statistics): (Read<Forest>, Tensor, Tensor, Statistics)| {
            forest.0.accumulate(&values, &weights, threshold, &mut statistics).map(|()| statistics)
        };
        let done: Result<Vec<Statistics>> = device::spread(self.device(), work, add).into_iter().collect();
        let count = forests.len();
        for (i, statistics) in done?.into_iter().enumerate() {
            forests[i % count].statistics.push(statistics);
        }
        Ok(())
    }

    fn truncation(&self) -> f64 {
        self.config.truncate_posterior
    }

    fn step(&mut self, eta: f64) {
        let batch = std::mem::take(&mut self.batch);
        device::spread(self.device(), self.forests.iter().collect(), |forest: &Mutex<Forest>| {
            lock(forest).step(batch, eta);
        });
    }

    fn can_reseed(&self) -> bool {
        self.width.heads == 1
    }

    fn reseed(&mut self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Result<()> {
        let tables = self.tables(from);
        let tree = self.trees[from].clone();
        self.trees[to] = tree;
        self.marginals.get(to as i64).copy_(&self.marginals.get(from as i64));
        self.rebuild(to, &tables, rng)
    }

    fn gather(&self, parts: &[Part]) -> Result<Box<dyn PatchModel>> {
        Ok(Box::new(heads::gather(self, parts)?))
    }

    fn instead(&self, _: usize, groups: &[Tensor], rng: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>> {
        let new = from_members(&self.config, groups, &self.ranges, Start::Quantile, self.device(), rng)?;
        Ok(Box::new(new))
    }

    fn randomise(&mut self, rng: &mut ChaCha8Rng) {
        for forest in &self.forests {
            lock(forest).circuit.update(|parameters, plan| {
                *parameters = Parameters::uniform(plan, Kind::Float, parameters.edges[0].device());
                parameters.perturb(plan, 0.5, rng);
            });
        }
    }

    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let forest = self.forest_of(cluster / self.width.heads).1;
        forest.circuit.sample(cluster - forest.trees.start * self.width.heads, count, rng) + &self.lows
    }

    fn marginals(&self) -> Marginals {
        Marginals::Any
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let width = Tensor::from_slice(&[self.width.heads as i64, self.width.states as i64]);
        let fixed = [
            ("patch.trees", self.trees_tensor()),
            ("patch.width", width),
            ("patch.marginals", self.marginals.shallow_clone()),
        ];
        let mut all: Vec<_> = fixed.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        for (i, forest) in self.forests.iter().map(lock).enumerate() {
            all.extend(forest.circuit.parameters().named(&format!("patch.{i}")));
        }
        all
    }

    fn learning_state(&self) -> Vec<(String, Tensor)> {
        let mut all = Vec::new();
        for (i, forest) in self.forests.iter().map(lock).enumerate() {
            let state = forest.learner.as_ref().map(Learner::state).unwrap_or_default();
            all.extend(state.into_iter().map(|(name, tensor)| (format!("patch.{i}.{name}"), tensor)));
        }
        all
    }

    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let (trees, marginals) = read_structure(tensors, &self.ranges)?;
        if trees != self.trees || *marginals != self.marginals {
            let new = Self::uniform(&self.config, trees, self.width, &self.ranges, marginals)?;
            (self.trees, self.forests, self.marginals) = (new.trees, new.forests, new.marginals);
            for forest in &self.forests {
                let mut forest = lock(forest);
                forest.learner = self.learner_for(&forest);
            }
        }
        for (i, mut forest) in self.forests.iter().map(lock).enumerate() {
            let forest = &mut *forest;
            let prefix = format!("patch.{i}");
            forest.circuit.update(|parameters, _| parameters.restore(&prefix, tensors))?;
        }
        Ok(())
    }

    fn restore_learning(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (i, mut forest) in self.forests.iter().map(lock).enumerate() {
            let forest = &mut *forest;
            if let Some(learner) = &mut forest.learner {
                let dotted = format!("patch.{i}.");
                let own =
                    tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(&dotted)?.to_owned(), t.shallow_clone())));
                learner.restore(&forest.circuit, &own.collect())?;
            }
        }
        Ok(())
    }
}

fn lock(forest: &Mutex<Forest>) -> MutexGuard<'_, Forest> {
    forest.lock().expect("a thread that held this forest has panicked")
}
