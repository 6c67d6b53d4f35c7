//! Trees on the CPU: likelihoods and flows in one walk, a block of examples at a time.
//!
//! [`super::forward`] and [`super::flows`] evaluate many regions at once, and every step of theirs moves a tensor `[regions,
//! examples, states]` through memory: on a CPU that takes longer than its arithmetic. Here the messages of `BLOCK` examples go
//! from region to region while they are in the caches. The equations are the same; sums are made in another order.
//!
//! For float32 on the CPU and discrete inputs. Circuits on a GPU, in float64 or with soft evidence, and questions that need
//! every message, have libtorch's passes.

// The loops must be compiled anew for each set of instructions that the machine may have, into the functions that choose one.
#![allow(clippy::inline_always)]

pub mod kernels;
pub mod program;
pub mod memory;
pub mod tables;
pub mod alone;
pub mod upward;
pub mod counts;
pub mod downward;

use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::evidence::{Evidence, Observed};
use super::parameters::Parameters;
use super::plan::{EdgePool, Plan};
use crate::device;
use crate::structure::region_graph::RegionGraph;
use counts::Counts;
use memory::{numbers, numbers_mut};
use program::Program;
use tables::{Packed, Tables};
use upward::{Messages, Seen};

/// Examples that are walked together: few enough for the caches, enough to make use of a table that was read.
const BLOCK: usize = 64;
const _: () = assert!(BLOCK <= alone::MOST, "the values of a block's examples are numbered in a byte");

/// A circuit's trees, ready to be walked.
#[derive(Debug)]
pub struct Walk {
    program: Program,
    packed: Packed,
    pools: Vec<EdgePool>,
    heads: usize,
}

/// Some examples of one tree.
struct Block {
    tree: usize,
    /// Its number among those of the tree.
    number: usize,
    /// The examples, the first one repeated up to a multiple of [`kernels::ROWS`].
    chosen: Vec<usize>,
    /// How many there are.
    count: usize,
}

/// Weights `[B, T * heads]` and sums that a walk adds flows to.
struct Counting<'a> {
    weights: &'a [f32],
    counts: Counts<'a>,
}

impl Walk {
    /// For circuits that can be walked.
    #[must_use]
    pub fn new(graph: &RegionGraph, plan: &Plan, kind: Kind, device: Device) -> Option<Self> {
        if kind != Kind::Float || device != Device::Cpu {
            return None;
        }
        let program = Program::new(graph, plan)?;
        let packed = Packed::new(&plan.edge_pools);
        Some(Self { program, packed, pools: plan.edge_pools.clone(), heads: graph.heads() })
    }

    /// Take new tables.
    pub fn update(&mut self, parameters: &Parameters) {
        self.packed.update(parameters, &self.pools);
    }

    /// log p(evidence) in nats under every head of every tree: float64 `[B, T * heads]`; none for soft evidence.
    #[must_use]
    pub fn log_likelihood(&self, evidence: &Evidence, parameters: &Parameters) -> Option<Tensor> {
        let all: Vec<usize> = (0..evidence.examples as usize).collect();
        let blocks: Vec<Block> = (0..self.program.trees.len()).flat_map(|tree| blocks(tree, &all)).collect();
        self.run(evidence, parameters, &blocks, None)
    }

    /// Add the flows of a batch with `weights` `[B, T * heads]` to `sums`; returns what [`Walk::log_likelihood`] does, but not
    /// a number for trees in which an example has no weight.
    pub fn count(
        &self,
        evidence: &Evidence,
        parameters: &Parameters,
        weights: &Tensor,
        sums: &mut Parameters,
    ) -> Option<Tensor> {
        let weights = weights.to_kind(Kind::Float).contiguous();
        let weights = numbers::<f32>(&weights);
        let stride = self.program.trees.len() * self.heads;
        let weighty = |tree: usize| {
            let rows = weights.chunks_exact(stride).enumerate();
            let mine = rows.map(|(b, row)| (b, &row[tree * self.heads..][..self.heads]));
            mine.filter(|(_, weights)| weights.iter().any(|w| *w != 0.0)).map(|(b, _)| b).collect::<Vec<_>>()
        };
        let blocks: Vec<Block> = (0..self.program.trees.len()).flat_map(|tree| blocks(tree, &weighty(tree))).collect();
        let slices = sums.edges.iter_mut().chain(&mut sums.inputs).map(numbers_mut::<f32>);
        let counting = Counting { weights, counts: Counts::new(slices, &self.program.tables) };
        self.run(evidence, parameters, &blocks, Some(&counting))
    }

    /// Walk all blocks, shared out over threads in their order.
    fn run(
        &self,
        evidence: &Evidence,
        parameters: &Parameters,
        blocks: &[Block],
        counting: Option<&Counting>,
    ) -> Option<Tensor> {
        let (values, per_tree) = match &evidence.input {
            Observed::Shared(values) => (numbers::<i64>(values), false),
            Observed::PerTree(values) => (numbers::<i64>(values), true),
            Observed::Soft(_) => return None,
        };
        let tables = Tables::new(&self.packed, parameters);
        let examples = evidence.examples as usize;
        let next = AtomicUsize::new(0);
        let worker = |_| {
            let (mut messages, mut done) = (Messages::default(), Vec::new());
            while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let seen = Seen { values, examples, per_tree, chosen: &block.chosen };
                let mut work = || self.walk(block, &tables, &seen, counting, &mut messages);
                let found = match counting {
                    Some(counting) => counting.counts.guard(work),
                    None => work(),
                };
                done.push((block, found));
            }
            done
        };
        let workers = device::parts(Device::Cpu).min(blocks.len());
        let done = device::spread(Device::Cpu, (0..workers).collect(), worker);
        let stride = self.program.trees.len() * self.heads;
        let mut all = vec![f64::NAN; examples * stride];
        for (block, found) in done.into_iter().flatten() {
            for (example, found) in block.chosen[..block.count].iter().zip(found.chunks_exact(self.heads)) {
                all[example * stride + block.tree * self.heads..][..self.heads].copy_from_slice(found);
            }
        }
        Some(Tensor::from_slice(&all).view([evidence.examples, stride as i64]))
    }

    /// Walk one block; log p by example and head.
    fn walk(
        &self,
        block: &Block,
        tables: &Tables,
        seen: &Seen,
        counting: Option<&Counting>,
        messages: &mut Messages,
    ) -> Vec<f64> {
        let tree = &self.program.trees[block.tree];
        messages.begin(tree, counting.is_some(), block.chosen.len());
        upward::upward(tree, counting.is_some(), tables, seen, messages);
        let found = self.heads_of(block, tree, counting.is_some(), messages);
        if let Some(Counting { weights, counts }) = counting {
            let stride = self.program.trees.len() * self.heads;
            let of = |b: &usize| &weights[b * stride + block.tree * self.heads..][..self.heads];
            let mut mine = block.chosen.iter().flat_map(of).copied().collect::<Vec<_>>();
            mine[block.count * self.heads..].fill(0.0);
            downward::downward(tree, tables, seen, &mine, messages, (counts, block.number));
        }
        found
    }

    /// ln S of the root for every example and head, with the logarithm of what messages were divided by.
    fn heads_of(&self, block: &Block, tree: &program::Tree, keep: bool, messages: &Messages) -> Vec<f64> {
        let root = tree.steps.last().expect("a tree has a root");
        let place = if keep { root.kept } else { root.passing };
        let sums = messages.sums[place.sums * block.chosen.len()..].chunks_exact(kernels::padded(self.heads));
        let ln = |(sums, exponent): (&[f32], &i32)| {
            let scale = f64::from(*exponent) * std::f64::consts::LN_2;
            sums[..self.heads].iter().map(|s| f64::from(*s).ln() + scale).collect::<Vec<_>>()
        };
        sums.zip(&messages.exponents).take(block.count).flat_map(ln).collect()
    }
}

/// Cut examples of a tree into blocks.
fn blocks(tree: usize, examples: &[usize]) -> Vec<Block> {
    let block = |(number, some): (usize, &[usize])| {
        let mut chosen = some.to_vec();
        chosen.resize(some.len().next_multiple_of(kernels::ROWS), some[0]);
        Block { tree, number, chosen, count: some.len() }
    };
    examples.chunks(BLOCK).enumerate().map(block).collect()
}
