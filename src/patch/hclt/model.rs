//! HCLTs as patch models: likelihoods, learning, growing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::forest::Forest;
use super::heads;
use super::saved::read_structure;
use super::start::from_members;
use super::trees::{HcltPatches, lock};
use crate::circuit::flows::Statistics;
use crate::circuit::parameters::Parameters;
use crate::device::{self, Read};
use crate::em::EmConfig;
use crate::group::{Sum, sum_number};
use crate::patch::config::Start;
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::model::{Grow, Infer, Learn, Marginals, Part, PatchModel};
use crate::run::checkpoint::{Named, prefixed};

impl Infer for HcltPatches {
    fn clusters(&self) -> usize {
        self.trees.len() * self.width.heads
    }

    fn device(&self) -> Device {
        self.lows.device()
    }

    fn readings(&self) -> Vec<Reading> {
        vec![Reading::Exact]
    }

    fn marginals(&self, _: Reading) -> Marginals {
        Marginals::Any
    }

    fn parameter_count(&self) -> usize {
        let count = |forest: &Forest| Parameters::count(forest.circuit.plan()) - forest.circuit.cut_edges();
        self.forests.iter().map(|f| count(&lock(f))).sum()
    }

    fn log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let values = self.values(patches)?;
        let forests: Vec<_> = self.forests.iter().map(lock).collect();
        let work = forests.iter().map(|forest| (Read(&**forest), values.map(Tensor::shallow_clone)));
        let done = device::spread(self.device(), work.collect(), |(forest, values): (Read<Forest>, PatchEvidence)| {
            forest.0.log_likelihood(&values)
        });
        Ok(Tensor::cat(&done.into_iter().collect::<Result<Vec<_>>>()?, 1))
    }

    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let forest = self.forest_of(cluster / self.width.heads).1;
        forest.circuit.sample(cluster - forest.trees.start * self.width.heads, count, None, rng) + &self.lows
    }

    fn sample_given(&self, patches: &PatchEvidence, clusters: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        self.by_cluster(patches, clusters, |forest, some, head| forest.sample_given(some, head, rng))
    }

    fn maximum(&self, patches: &PatchEvidence) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let values = self.values(patches)?;
        let parts = self.forests.iter().map(|forest| lock(forest).maximum(&values)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 1))
    }

    fn maximiser(&self, patches: &PatchEvidence, clusters: &Tensor) -> Result<Tensor> {
        self.by_cluster(patches, clusters, Forest::maximiser)
    }

    fn expectation(&self, patches: &PatchEvidence, weights: &Tensor) -> Result<[Tensor; 2]> {
        let values = self.values(patches)?;
        let lows = self.lows.to_kind(Kind::Double);
        let size = values.values().size();
        let [first, second] = [1, 2].map(|_| Tensor::zeros(&size, (Kind::Double, self.device())));
        for forest in self.forests.iter().map(lock) {
            let heads = self.width.heads as i64;
            let weights = weights.narrow(1, forest.trees.start as i64 * heads, forest.trees.len() as i64 * heads);
            for (sum, part) in [&first, &second].into_iter().zip(forest.moments(&values, &weights)?) {
                let _ = sum.shallow_clone().g_add_(&part);
            }
        }
        let total = weights.sum_dim_intlist(1, true, Kind::Double);
        let shifted = second + &first * &lows * 2.0 + lows.square() * &total;
        Ok([first + lows * total, shifted])
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        let fixed = [("trees", self.trees_tensor()), ("marginals", self.marginals.shallow_clone())];
        let mut all: Vec<_> = fixed.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        all.extend(self.joined(|forest| forest.circuit.by_variable(forest.circuit.parameters())));
        all
    }
}

impl Learn for HcltPatches {
    fn begin(&mut self, config: &EmConfig, examples: f64) {
        self.batch = 0.0;
        self.learning = Some((config.clone(), examples));
        for forest in &self.forests {
            let mut forest = lock(forest);
            forest.learner = self.learner_for(&forest);
            forest.statistics = None;
        }
    }

    fn accumulate(&mut self, patches: &PatchEvidence, weights: &Tensor) -> Result<()> {
        let values = self.values(patches)?;
        let weights = weights.to_kind(Kind::Float);
        self.batch += weights.sum(Kind::Double).double_value(&[]);
        let threshold = self.config.truncate_posterior;
        let mut forests: Vec<_> = self.forests.iter().map(lock).collect();
        let begun = |forest: &mut Forest| forest.statistics.take().unwrap_or_else(|| Statistics::new(&forest.circuit));
        let begun: Vec<_> = forests.iter_mut().map(|forest| begun(forest)).collect();
        let work = forests.iter().zip(begun).map(|(forest, statistics)| {
            (Read(&**forest), values.map(Tensor::shallow_clone), weights.shallow_clone(), statistics)
        });
        let add = |(forest, values, weights, mut statistics): (Read<Forest>, PatchEvidence, Tensor, Statistics)| {
            forest.0.accumulate(&values, &weights, threshold, &mut statistics).map(|()| statistics)
        };
        let done = device::spread(self.device(), work.collect(), add);
        for (forest, statistics) in forests.iter_mut().zip(done) {
            forest.statistics = Some(statistics?);
        }
        Ok(())
    }

    fn truncation(&self) -> f64 {
        self.config.truncate_posterior
    }

    fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        for mut forest in self.forests.iter().map(lock) {
            let forest = &mut *forest;
            forest.statistics.get_or_insert_with(|| Statistics::new(&forest.circuit)).hand_out(sum)?;
        }
        sum_number(&mut self.batch, sum)
    }

    fn step(&mut self, eta: f64) {
        let batch = std::mem::take(&mut self.batch);
        device::spread(self.device(), self.forests.iter().collect(), |forest: &Mutex<Forest>| {
            lock(forest).step(batch, eta);
        });
    }

    fn learning_state(&self) -> Vec<(String, Tensor)> {
        let state = |forest: &Forest| forest.learner.as_ref().map(|l| l.state(&forest.circuit)).unwrap_or_default();
        prefixed("learner", self.joined(state))
    }

    fn restore(&mut self, saved: &Named) -> Result<()> {
        let (trees, marginals) = read_structure(saved, &self.ranges)?;
        if trees != self.trees || *marginals != self.marginals {
            let new = Self::uniform(&self.config, trees, self.width, &self.ranges, marginals)?;
            (self.trees, self.forests, self.marginals) = (new.trees, new.forests, new.marginals);
            for forest in &self.forests {
                let mut forest = lock(forest);
                forest.learner = self.learner_for(&forest);
            }
        }
        for mut forest in self.forests.iter().map(lock) {
            let new = Parameters::uniform(forest.circuit.plan(), forest.circuit.kind(), forest.circuit.device());
            forest.circuit.put_by_variable(&new, saved, &forest.trees)?;
            forest.circuit.update(|parameters, _| parameters.assign(&new));
        }
        Ok(())
    }

    fn restore_learning(&mut self, saved: &Named) -> Result<()> {
        let saved = saved.under("learner");
        for mut forest in self.forests.iter().map(lock) {
            let Forest { circuit, learner, trees, .. } = &mut *forest;
            if let Some(learner) = learner {
                learner.restore(circuit, &saved, trees)?;
            }
        }
        Ok(())
    }
}

impl Grow for HcltPatches {
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

    fn refit(&self, _: usize, groups: &[Tensor], rng: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>> {
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
}

impl HcltPatches {
    /// Patches `[N, D]` with the values that `answer` finds for those of every cluster, given its forest and head.
    fn by_cluster(
        &self,
        patches: &PatchEvidence,
        clusters: &Tensor,
        mut answer: impl FnMut(&Forest, &PatchEvidence, usize) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let values = self.values(patches)?;
        let found = values.values().copy();
        for cluster in 0..self.clusters() {
            let rows = clusters.eq(cluster as i64).nonzero().squeeze_dim(1).to_device(self.device());
            if rows.numel() > 0 {
                let (_, forest) = self.forest_of(cluster / self.width.heads);
                let head = cluster - forest.trees.start * self.width.heads;
                let _ = found.shallow_clone().index_copy_(0, &rows, &answer(&forest, &values.rows(&rows), head)?);
            }
        }
        Ok(found + &self.lows)
    }

    /// Tensors of all forests, tree after tree.
    fn joined(&self, of: impl Fn(&Forest) -> Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
        let mut by_name: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for forest in self.forests.iter().map(lock) {
            for (name, tensor) in of(&forest) {
                by_name.entry(name).or_default().push(tensor);
            }
        }
        by_name.into_iter().map(|(name, parts)| (name, Tensor::cat(&parts, 0))).collect()
    }
}
