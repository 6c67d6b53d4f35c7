//! Growing by the paper's rule, as its released code does it.
//!
//! Every global cluster has a circuit whose heads share everything below the root. They start as two, from k-means of the
//! cluster's features; then, until there are enough of them: (a) EM with every patch in its own head, (b) edges with next
//! to no flow are cut, (c) patches choose the best head again, with a bonus for staying, (d) the worst heads that hold 40 %
//! of the patches are refined: (e) the tree gets a head, the states with most flow on the worst head's patches are doubled,
//! (f) k-means of the affected patches' features, from the old centres and a new one, shares them out.
//!
//! Clusters do not meet until the end, so they are shared out over the threads, and every finished one is a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, IndexOp, Kind, Tensor};

use super::Given;
use super::config::PaperGrowing;
use crate::device;
use crate::distill::Session;
use crate::latents::KMeansConfig;
use crate::mixture::Mixture;
use crate::patch::hclt::HcltPatches;
use crate::patch::hclt::heads::{NewHead, grown};
use crate::patch::{Infer, Learn, Part, PatchModel, same_family};
use crate::random::rng;
use crate::refusal::{Interrupted, Refusal};
use crate::run::{checkpoint, interrupt, progress};

/// Patches in one go where nothing is learned.
const ROWS: i64 = 4096;
/// Steps of k-means inside a cluster.
const ITERATIONS: usize = 20;

/// Give the circuit of every cluster its heads.
///
/// # Errors
/// See [`super::grow`].
pub fn grow(session: &mut Session, model: &Mixture, config: &PaperGrowing, given: &Given) -> Result<Mixture> {
    let _guard = tch::no_grad_guard();
    let trees: &HcltPatches = same_family(model.patches()).context("criterion paper is for HCLTs")?;
    let clusters = trees.clusters();
    let data = collect(session, model, config, given)?;
    let bar = progress::bar(session.name, clusters as u64);
    let mut noise = rng(session.seed, "equal heads", 0);
    let starts = (0..clusters).map(|k| {
        let start = trees.of_tables(k, &trees.with_equal_heads(k, 2), &mut noise)?;
        Ok((k, start, data.shared()))
    });
    let starts = starts.collect::<Result<Vec<_>>>()?;
    let (seed, name, heads) = (session.seed, session.name, config.final_clusters / clusters);
    let files: Vec<PathBuf> =
        (0..clusters).map(|k| session.stage.state(&format!("cluster-{k:05}.safetensors"))).collect();
    let grown = device::spread(trees.device(), starts, |(k, start, data): (usize, HcltPatches, Data)| {
        if !files[k].exists() {
            if interrupt::requested() {
                return Err(Interrupted.into());
            }
            let mut grower = Grower::new(config, start, data.cluster(k), rng(seed, name, k as u64));
            grower.run(heads)?;
            grower.save(&files[k])?;
        }
        bar.inc(1);
        Ok(())
    });
    grown.into_iter().collect::<Result<()>>()?;
    bar.finish_and_clear();
    session.metrics.rewind(name, 0)?;
    let grown = files.iter().map(|file| read(file, session, given, model)).collect::<Result<Vec<_>>>()?;
    join(model, &grown, &data.counts)
}

/// One model of all clusters' trees and heads; a head's weight is the share of the patches that ended in it.
fn join(model: &Mixture, grown: &[(Box<dyn PatchModel>, Vec<f64>)], counts: &[f64]) -> Result<Mixture> {
    let all = counts.iter().sum::<f64>();
    let parts: Vec<Part> = grown
        .iter()
        .zip(counts)
        .flat_map(|((model, shares), count)| {
            let part =
                move |(cluster, share): (usize, &f64)| Part { model: &**model, cluster, share: share * count / all };
            shares.iter().enumerate().map(part)
        })
        .collect();
    let weights: Vec<f64> = parts.iter().map(|p| p.share.ln()).collect();
    let weights = Tensor::from_slice(&weights).to_device(model.patches().device());
    Ok(Mixture::independent(*model.view(), model.patches().gather(&parts)?, weights))
}

/// Patches of all clusters, some of each, in memory.
struct Data {
    /// Integers `[S, D]`.
    patches: Tensor,
    /// The teacher's features `[S, F]`.
    features: Tensor,
    /// int64 `[S]`.
    clusters: Tensor,
    /// Patches of every cluster, those that are not looked at included.
    counts: Vec<f64>,
}

impl Data {
    /// The same tensors for another thread.
    fn shared(&self) -> Self {
        let [patches, features, clusters] = [&self.patches, &self.features, &self.clusters].map(Tensor::shallow_clone);
        Self { patches, features, clusters, counts: self.counts.clone() }
    }

    /// Patches and features of one cluster.
    fn cluster(&self, k: usize) -> (Tensor, Tensor) {
        let rows = self.clusters.eq(k as i64).nonzero().squeeze_dim(1);
        (self.patches.index_select(0, &rows), self.features.index_select(0, &rows))
    }
}

/// Read up to so many patches of every cluster, drawn evenly, and their features.
fn collect(session: &Session, model: &Mixture, config: &PaperGrowing, given: &Given) -> Result<Data> {
    let flat = given.codes.reshape([-1]);
    let clusters = model.patches().clusters() as i64;
    let counts = Vec::try_from(flat.bincount(None::<Tensor>, clusters).to_kind(Kind::Double))?;
    let mut rows: Vec<i64> = Vec::new();
    for k in 0..clusters {
        let mut mine: Vec<i64> = Vec::try_from(flat.eq(k).nonzero().squeeze_dim(1))?;
        mine.shuffle(&mut rng(session.seed, "patches of a cluster", k as u64));
        mine.truncate(config.examples);
        rows.extend(mine);
    }
    rows.sort_unstable();
    let (mut features, mut first) = (Vec::new(), 0);
    given.features.for_each(&mut |chunk| {
        let n = chunk.size()[0];
        features.push(chunk.to_device(Device::Cpu).index_select(0, &between(&rows, first, first + n)));
        first += n;
        Ok(())
    })?;
    let (mut patches, mut first) = (Vec::new(), 0);
    for batch in session.train.batches(0..session.train.len(), session.micro_batch) {
        interrupt::check()?;
        let all = model.view().integers(&batch?.pixels)?.reshape([-1, model.view().variables() as i64]);
        let end = first + all.size()[0];
        patches.push(all.index_select(0, &between(&rows, first, end)));
        first = end;
    }
    let clusters = flat.index_select(0, &Tensor::from_slice(&rows));
    Ok(Data { patches: Tensor::cat(&patches, 0), features: Tensor::cat(&features, 0), clusters, counts })
}

/// The sorted rows in `start..end`, counted from `start`.
fn between(rows: &[i64], start: i64, end: i64) -> Tensor {
    let inside = &rows[rows.partition_point(|&r| r < start)..rows.partition_point(|&r| r < end)];
    Tensor::from_slice(&inside.iter().map(|r| r - start).collect::<Vec<_>>())
}

/// One global cluster while its heads grow.
struct Grower<'a> {
    config: &'a PaperGrowing,
    model: HcltPatches,
    patches: Tensor,
    features: Tensor,
    /// The head of every patch, int64 `[n]`.
    heads: Tensor,
    rng: ChaCha8Rng,
    /// What was done, a line a round.
    lines: Vec<Value>,
}

impl<'a> Grower<'a> {
    fn new(
        config: &'a PaperGrowing,
        model: HcltPatches,
        (patches, features): (Tensor, Tensor),
        rng: ChaCha8Rng,
    ) -> Self {
        let heads = Tensor::zeros([patches.size()[0]], (Kind::Int64, Device::Cpu));
        Self { config, model, patches, features, heads, rng, lines: Vec::new() }
    }

    fn run(&mut self, heads: usize) -> Result<()> {
        let everything = Tensor::arange(self.patches.size()[0], (Kind::Int64, Device::Cpu));
        let halves = self.cut(&everything, &self.features.narrow(0, 0, 0), 2)?;
        self.heads = halves;
        loop {
            self.learn()?;
            if self.model.clusters() == heads {
                let _ = self.choose()?;
                return Ok(());
            }
            let cut = self.prune()?;
            let likelihood = self.choose()?;
            self.refine(&likelihood, cut)?;
        }
    }

    /// (a) Mini-batch EM with every patch in its own head.
    fn learn(&mut self) -> Result<()> {
        let n = self.patches.size()[0] as usize;
        let em = &self.config.em;
        let steps = (n.div_ceil(em.batch) * em.epochs - 1).max(1);
        self.model.begin(em, n as f64);
        let weights = self.one_hot();
        let mut order: Vec<i64> = (0..n as i64).collect();
        let mut step = 0;
        for _ in 0..em.epochs {
            if interrupt::requested() {
                return Err(Interrupted.into());
            }
            order.shuffle(&mut self.rng);
            for rows in order.chunks(em.batch) {
                let rows = Tensor::from_slice(rows);
                let some = self.model.complete(&self.patches.index_select(0, &rows));
                self.model.accumulate(&some, &weights.index_select(0, &rows))?;
                self.model.step(em.step.at(step as f64 / steps as f64));
                step += 1;
            }
        }
        Ok(())
    }

    /// (b) Cut edges with next to no flow; says how many.
    fn prune(&mut self) -> Result<usize> {
        let counts = self.model.edge_counts(&self.patches, &self.one_hot())?;
        let mut tables = self.model.tables(0);
        let cut = tables.prune(&counts, self.config.prune * self.patches.size()[0] as f64);
        self.model.set_tables(0, &tables, 0.0, &mut self.rng);
        Ok(cut)
    }

    /// (c) Every patch goes to the head that likes it best, its own ahead by the bonus; returns log p(x | own head) `[n]`.
    fn choose(&mut self) -> Result<Tensor> {
        let parts =
            self.patches.split(ROWS, 0).into_iter().map(|some| self.model.log_likelihood(&self.model.complete(&some)));
        let all = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0).to_device(Device::Cpu); // [n, heads]
        self.heads = (&all + self.one_hot() * self.config.bonus).argmax(1, false);
        Ok(all.gather(1, &self.heads.unsqueeze(1), false).squeeze_dim(1))
    }

    /// (d) to (f): another head for the worst ones.
    fn refine(&mut self, likelihood: &Tensor, cut: usize) -> Result<()> {
        let n = self.patches.size()[0] as f64;
        let heads = self.model.clusters() as i64;
        let sum = |values: &Tensor| {
            Vec::<f64>::try_from(Tensor::zeros([heads], (Kind::Double, Device::Cpu)).index_add(0, &self.heads, values))
        };
        let counts = sum(&likelihood.ones_like())?;
        let means: Vec<f64> = sum(likelihood)?.iter().zip(&counts).map(|(sum, n)| sum / n).collect();
        let affected = worst(&means, &counts, self.config.worst * n);
        let chosen = affected.iter().fold(self.heads.eq(-1), |some, &h| some.logical_or(&self.heads.eq(h)));
        let rows = chosen.nonzero().squeeze_dim(1);
        self.add_head(affected[0])?;
        let centres = affected.iter().map(|&h| self.mean_feature(h)).collect::<Vec<_>>();
        let parts = self.cut(&rows, &Tensor::stack(&centres, 0), affected.len() + 1)?;
        let named: Vec<i64> = affected.iter().copied().chain([heads]).collect();
        self.heads = self.heads.index_copy(0, &rows, &Tensor::from_slice(&named).index_select(0, &parts));
        self.lines.push(json!({
            "heads": heads, "nats_mean": likelihood.mean(Kind::Double).double_value(&[]), "worst_head": affected[0],
            "worst_nats_mean": means[affected[0] as usize], "affected_heads": affected.len(),
            "affected_patches": rows.numel(), "cut_edges": cut,
        }));
        Ok(())
    }

    /// (e) The tree with a double of this head, and of the states that its patches use most.
    fn add_head(&mut self, head: i64) -> Result<()> {
        let old = self.model.clusters();
        let rows = self.heads.eq(head).nonzero().squeeze_dim(1);
        let weights = self.one_hot().index_select(0, &rows);
        let counts = self.model.edge_counts(&self.patches.index_select(0, &rows), &weights)?;
        let share = self.config.share(old);
        let new = NewHead { of: head as usize, share, cross: self.config.cross, noise: self.config.noise };
        let tables = grown(&self.model.tables(0), self.model.tree(0), &counts, new, &mut self.rng);
        self.model = self.model.of_tables(0, &tables, &mut self.rng)?;
        Ok(())
    }

    /// (f) Which of so many parts the patches named belong to, by k-means of their features from these centres and further
    /// ones. Features that are too much alike to be told apart leave it to the pixels, then to chance.
    fn cut(&mut self, rows: &Tensor, centres: &Tensor, parts: usize) -> Result<Tensor> {
        let kmeans = KMeansConfig { clusters: parts, iterations: ITERATIONS, ..KMeansConfig::default() };
        let features = self.features.index_select(0, rows);
        let pixels = self.patches.index_select(0, rows).to_kind(Kind::Float);
        for (points, centres) in [(features, centres.shallow_clone()), (pixels.shallow_clone(), pixels.narrow(0, 0, 0))]
        {
            let centres =
                if centres.size()[0] > 0 { centres } else { points.mean_dim([0i64].as_slice(), true, Kind::Float) };
            let found = kmeans.fit_from(&points, centres, &mut self.rng).and_then(|book| book.assign(&points));
            match found {
                Err(error) if error.is::<Refusal>() => {}
                other => return other,
            }
        }
        Ok(Tensor::arange(rows.numel() as i64, (Kind::Int64, Device::Cpu)).remainder(parts as i64))
    }

    /// The head of every patch as weights `[n, heads]`.
    fn one_hot(&self) -> Tensor {
        self.heads.one_hot(self.model.clusters() as i64).to_kind(Kind::Float)
    }

    fn mean_feature(&self, head: i64) -> Tensor {
        let rows = self.heads.eq(head).nonzero().squeeze_dim(1);
        self.features.i(&rows).mean_dim([0i64].as_slice(), false, Kind::Float)
    }

    /// Tables, the shares of the heads, and what was done.
    fn save(&self, file: &std::path::Path) -> Result<()> {
        let heads = self.model.clusters() as f64;
        let counts = self.one_hot().sum_dim_intlist(0, false, Kind::Double) + 1.0;
        let mut tensors = self.model.tensors();
        tensors.push(("shares".to_owned(), counts / (self.patches.size()[0] as f64 + heads)));
        let lines = serde_json::to_string(&self.lines)?;
        checkpoint::save(file, &tensors, &BTreeMap::from([("lines".to_owned(), lines)]))
    }
}

/// The worst heads, worst first, until they hold so many patches; heads without patches are not looked at.
fn worst(means: &[f64], counts: &[f64], enough: f64) -> Vec<i64> {
    let mut order: Vec<usize> = (0..means.len()).filter(|&h| counts[h] > 0.0).collect();
    order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
    let mut held = 0.0;
    let needed = |h: &usize| {
        let more = held < enough || held == 0.0;
        held += counts[*h];
        more
    };
    order.into_iter().take_while(needed).map(|h| h as i64).collect()
}

/// A finished cluster: its tree, and the shares of its heads; its lines go to the metrics.
fn read(
    file: &std::path::Path,
    session: &mut Session,
    given: &Given,
    model: &Mixture,
) -> Result<(Box<dyn PatchModel>, Vec<f64>)> {
    let saved = checkpoint::load(file, model.patches().device())?;
    let name = session.name;
    let cluster = file.file_stem().map(|s| s.to_string_lossy().into_owned());
    for (round, mut line) in serde_json::from_str::<Vec<Value>>(saved.entry("lines")?)?.into_iter().enumerate() {
        line["global_cluster"] = json!(cluster);
        session.metrics.write(name, round as u64 + 1, &line)?;
    }
    let shares = Vec::try_from(saved.named().doubles("shares", &[-1])?.to_device(Device::Cpu))?;
    Ok((crate::patch::from_tensors(given.patch, &model.view().ranges(), &saved.named())?, shares))
}

#[cfg(test)]
mod tests {
    use super::worst;

    #[test]
    fn the_worst_heads_are_those_that_hold_enough_patches() {
        assert_eq!(worst(&[-5.0, -9.0, -7.0], &[50.0, 10.0, 40.0], 40.0), [1, 2]);
        assert_eq!(worst(&[-5.0, -9.0, -7.0], &[50.0, 45.0, 5.0], 40.0), [1]);
        assert_eq!(worst(&[-5.0, f64::NAN, -7.0], &[50.0, 0.0, 5.0], 40.0), [2, 0]);
        assert_eq!(worst(&[-5.0, -7.0], &[50.0, 5.0], 0.0), [1]);
    }
}
