//! Hidden Chow-Liu trees over the pixels of a patch, one for each cluster, evaluated in forests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::config::HcltConfig;
use super::{MISSING, Marginals, PatchModel};
use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::flows::Statistics;
use crate::circuit::parameters::Parameters;
use crate::circuit::tree_tables::TreeTables;
use crate::device::{self, Read};
use crate::em::{self, EmConfig, Learner};
use crate::structure::chow_liu::Parents;
use crate::structure::hclt;

/// Examples that a forest of one tree looks at in one go; larger forests take proportionally fewer.
const EXAMPLES: i64 = 1024;
/// Examples that are worth a thread.
const LEAST: i64 = 16;

/// One HCLT per cluster.
pub struct HcltPatches {
    config: HcltConfig,
    trees: Vec<Parents>,
    /// Behind locks so that the CPU's threads can share them out.
    forests: Vec<Mutex<Forest>>,
    ranges: Vec<(i64, i64)>,
    lows: Tensor,
    /// The distribution that the pseudocounts of each input follow: `[K, D, most categories]`, zeros behind the range.
    marginals: Tensor,
    /// Patches accumulated since the last step.
    batch: f64,
}

struct Forest {
    clusters: Range<usize>,
    circuit: Circuit,
    learner: Option<Learner>,
    /// One for each part of the examples.
    statistics: Vec<Statistics>,
}

impl HcltPatches {
    /// Uniform circuits on the given trees (one a cluster); `ranges` are inclusive and per variable; `marginals`
    /// `[K, D, most categories]` hold the distribution over each range that pseudocounts follow.
    ///
    /// # Errors
    /// When a tree does not fit the number of variables.
    pub fn uniform(
        config: &HcltConfig,
        trees: Vec<Parents>,
        ranges: &[(i64, i64)],
        marginals: &Tensor,
    ) -> Result<Self> {
        let lows: Vec<i64> = ranges.iter().map(|r| r.0).collect();
        let device = marginals.device();
        let mut model = Self {
            config: config.clone(),
            trees,
            forests: Vec::new(),
            ranges: ranges.to_vec(),
            lows: Tensor::from_slice(&lows).to_device(device),
            marginals: marginals.to_kind(Kind::Double),
            batch: 0.0,
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
        let named =
            |name: &str| tensors.get(name).with_context(|| format!("tensor {name} is missing from the checkpoint"));
        let trees = read_trees(named("patch.trees")?)?;
        let mut model = Self::uniform(config, trees, ranges, named("patch.marginals")?)?;
        model.restore(tensors)?;
        Ok(model)
    }

    fn forest(&self, clusters: Range<usize>) -> Result<Forest> {
        let _guard = tch::no_grad_guard();
        let categories: Vec<usize> = self.ranges.iter().map(|(low, high)| (high - low + 1) as usize).collect();
        let graph = hclt::forest(&self.trees[clusters.clone()], self.config.states, &categories)?;
        let circuit = Circuit::uniform(graph, Kind::Float, self.lows.device());
        Ok(Forest { clusters, circuit, learner: None, statistics: Vec::new() })
    }

    /// Replace the tables of one cluster.
    pub fn set_tables(&mut self, cluster: usize, tables: &TreeTables, noise: f64, rng: &mut ChaCha8Rng) {
        let mut forest = self.forest_of(cluster).1;
        let tree = cluster - forest.clusters.start;
        forest.circuit.set_tree_tables(tree, tables, noise, rng);
    }

    fn tables(&self, cluster: usize) -> TreeTables {
        let forest = self.forest_of(cluster).1;
        forest.circuit.tree_tables(cluster - forest.clusters.start)
    }

    /// The forest that a cluster belongs to, and its number.
    fn forest_of(&self, cluster: usize) -> (usize, MutexGuard<'_, Forest>) {
        let forests = self.forests.iter().map(lock).enumerate();
        forests.into_iter().find(|(_, f)| f.clusters.contains(&cluster)).expect("a cluster of this model")
    }

    /// Make the forest of a cluster whose tree has changed anew; other clusters in it keep their tables. Learning starts
    /// over for all of them.
    fn rebuild(&mut self, changed: usize, config: &EmConfig, examples: f64, rng: &mut ChaCha8Rng) -> Result<()> {
        let (number, clusters) = {
            let (number, forest) = self.forest_of(changed);
            (number, forest.clusters.clone())
        };
        let mut new = self.forest(clusters.clone())?;
        for cluster in clusters.clone().filter(|&k| k != changed) {
            new.circuit.set_tree_tables(cluster - clusters.start, &self.tables(cluster), 0.0, rng);
        }
        new.learner = Some(self.new_learner(&new, config, examples));
        self.forests[number] = Mutex::new(new);
        Ok(())
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
        Ok((patches - &self.lows).masked_fill(&missing, -1))
    }

    fn new_learner(&self, forest: &Forest, config: &EmConfig, examples: f64) -> Learner {
        let marginals = em::input_marginals(forest.circuit.plan(), &forest.circuit, |variable, tree, categories| {
            let cluster = (forest.clusters.start + tree) as i64;
            self.marginals.get(cluster).get(variable as i64).narrow(0, 0, categories)
        });
        Learner::new(config, self.config.inputs, examples, &forest.circuit, marginals)
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

/// Trees of [`PatchModel::tensors`]: the parent of every variable by cluster.
fn read_trees(tensor: &Tensor) -> Result<Vec<Parents>> {
    let (clusters, variables) = tensor.size2()?;
    let flat: Vec<i64> = Vec::try_from(tensor.to_kind(Kind::Int64).contiguous().view(-1))?;
    let parents = flat.iter().map(|&p| usize::try_from(p).ok()).collect::<Vec<_>>();
    Ok(parents.chunks(variables as usize).take(clusters as usize).map(<[_]>::to_vec).collect())
}

impl PatchModel for HcltPatches {
    fn clusters(&self) -> usize {
        self.trees.len()
    }

    fn device(&self) -> Device {
        self.lows.device()
    }

    fn parameter_count(&self) -> usize {
        self.forests.iter().map(|f| Parameters::count(lock(f).circuit.plan())).sum()
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
        for forest in &self.forests {
            let mut forest = lock(forest);
            forest.learner = Some(self.new_learner(&forest, config, examples));
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

    fn reseed(&mut self, from: usize, to: usize, config: &EmConfig, examples: f64, rng: &mut ChaCha8Rng) -> Result<()> {
        let tables = self.tables(from);
        let tree = self.trees[from].clone();
        self.trees[to] = tree;
        self.rebuild(to, config, examples, rng)?;
        self.set_tables(to, &tables, 0.2, rng);
        Ok(())
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
        let forest = self.forest_of(cluster).1;
        forest.circuit.sample(cluster - forest.clusters.start, count, rng) + &self.lows
    }

    fn marginals(&self) -> Marginals {
        Marginals::Any
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let fixed = [("patch.trees", self.trees_tensor()), ("patch.marginals", self.marginals.shallow_clone())];
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
        let trees =
            read_trees(tensors.get("patch.trees").context("tensor patch.trees is missing from the checkpoint")?)?;
        if trees != self.trees {
            let learners: Vec<Option<Learner>> = self.forests.iter().map(|f| lock(f).learner.take()).collect();
            let new = Self::uniform(&self.config, trees, &self.ranges, &self.marginals)?;
            (self.trees, self.forests) = (new.trees, new.forests);
            self.forests.iter().zip(learners).for_each(|(f, learner)| lock(f).learner = learner);
        }
        for (i, mut forest) in self.forests.iter().map(lock).enumerate() {
            let forest = &mut *forest;
            let prefix = format!("patch.{i}");
            forest.circuit.update(|parameters, _| parameters.restore(&prefix, tensors))?;
            if let Some(learner) = &mut forest.learner {
                let dotted = format!("{prefix}.");
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

impl Forest {
    /// Examples looked at in one go.
    fn chunk(&self) -> i64 {
        (EXAMPLES / self.clusters.len() as i64).max(32)
    }

    /// log p(patch | cluster) of this forest's clusters, float64 `[N, T]`, for table rows `[N, D]`.
    fn log_likelihood(&self, values: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let n = values.size()[0];
        let parts = (0..n).step_by(self.chunk() as usize).map(|start| {
            let some = values.narrow(0, start, self.chunk().min(n - start));
            self.circuit.log_likelihood(&Evidence::shared(&some, self.circuit.plan())?)
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0))
    }

    /// Flows of the pairs of patch and cluster whose weight reaches the threshold. Every tree sees patches of its own;
    /// shorter lists are padded with weight 0.
    fn accumulate(&self, values: &Tensor, weights: &Tensor, threshold: f64, statistics: &mut Statistics) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let kept = |k: usize| weights.select(1, k as i64).ge(threshold).nonzero().squeeze_dim(1);
        let rows: Vec<Tensor> = self.clusters.clone().map(kept).collect();
        let longest = rows.iter().map(|r| r.size()[0]).max().unwrap_or(0);
        let step = (EXAMPLES / rows.len() as i64).max(32);
        for start in (0..longest).step_by(step as usize) {
            let width = step.min(longest - start);
            let (mut evidence, mut weight) = (Vec::new(), Vec::new());
            for (k, rows) in self.clusters.clone().zip(&rows) {
                let len = (rows.size()[0] - start).clamp(0, width);
                let mine = rows.narrow(0, start.min(rows.size()[0]), len);
                let pad = [0, width - len];
                weight.push(weights.select(1, k as i64).index_select(0, &mine).constant_pad_nd(pad));
                evidence.push(values.index_select(0, &mine).constant_pad_nd([0, 0, 0, width - len]));
            }
            let evidence = Evidence::per_tree(&Tensor::stack(&evidence, 0), self.circuit.plan())?;
            let messages = self.circuit.forward(&evidence, true)?;
            let _ = self.circuit.flows(&messages, &Tensor::stack(&weight, 1), statistics);
        }
        Ok(())
    }

    /// M-step from a batch of `batch` patches over all clusters.
    fn step(&mut self, batch: f64, eta: f64) {
        let sum = std::mem::take(&mut self.statistics).into_iter().reduce(|sum, part| sum.plus(&part));
        if let (Some(learner), Some(mut statistics)) = (&mut self.learner, sum) {
            statistics.weight = batch;
            learner.step(&mut self.circuit, statistics, eta);
        }
    }
}
