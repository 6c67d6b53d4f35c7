//! The M-step on the CPU in one pass: every table's sums, memory and probabilities are read and written once, while they are
//! in the caches.
//!
//! With C = sums * W for edges and the sums themselves for inputs, a q the priors of [`super`] and [`super::back_off`], and n the
//! entries of a row (of inputs: of a state's column),
//!
//! ```text
//! S <- keep S + add C  (decayed),    S = C  (average)
//! theta <- (1 - mix) theta + mix [ (1 - n f) (S + a q) / sum (S + a q) + f ],    f = FLOOR
//! ```
//!
//! Rows without counts and prior keep their probabilities; hard zeros stay. [`super::Learner::step`] has the same equations
//! as passes of libtorch, of which each moves all tables through memory: for other devices and precisions, and for rules and
//! first steps that ask for more than a table and its own counts.

// The loops must be compiled anew for each set of instructions that the machine may have, into the functions that choose one.
#![allow(clippy::inline_always)]

use std::ops::Range;

use multiversion::multiversion;
use tch::{Device, Tensor};

use super::back_off::BackOff;
use crate::circuit::FLOOR;
use crate::circuit::cpu::memory::{numbers, numbers_mut};
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::Plan;
use crate::device;

/// Numbers of a row that are added up side by side.
const LANES: usize = 8;
/// Values in a run where there is no back-off.
const RUN: usize = 16;

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Share of the memory that is kept.
    pub keep: f32,
    /// Factor of the counts that are added to it.
    pub add: f32,
    /// Share of the new probabilities in the tables.
    pub mix: f32,
}

/// What is added to counts before they are normalised.
pub struct Priors<'a> {
    /// Pseudocount of every row of an edge table.
    pub edges: f64,
    /// Pseudocounts of the inputs by row, `[rows, 1]` a pool.
    pub inputs: &'a [Tensor],
    /// Back-off of the inputs.
    pub back_off: Option<&'a BackOff>,
}

/// The numbers of one table, row behind row.
struct Table<'a> {
    sums: &'a mut [f32],
    memory: Option<&'a mut [f32]>,
    probabilities: &'a mut [f32],
    /// Numbers in a row.
    states: usize,
}

/// Pseudocounts of an input table.
struct InputPrior<'a> {
    /// By value.
    own: &'a [f32],
    /// Neighbouring values whose counts are added up before they are added to a total.
    run: usize,
    /// Pseudocount of the back-off.
    pseudocount: f32,
    /// The share of every value in its run; empty without back-off.
    within: &'a [f32],
}

/// Take a step from the sums of a batch, which are lost.
pub fn step(
    rates: Rates,
    priors: &Priors,
    plan: &Plan,
    sums: &mut Parameters,
    memory: Option<&mut Parameters>,
    parameters: &mut Parameters,
) {
    let (edge_memory, input_memory) =
        memory.map_or((None, None), |memory| (Some(&mut memory.edges), Some(&mut memory.inputs)));
    let all = pools(&mut sums.edges, edge_memory, &mut parameters.edges);
    let tables = plan.edge_pools.iter().zip(all).flat_map(|(pool, mut rest)| {
        let prior = (priors.edges / pool.states as f64) as f32;
        (0..pool.tables).map(move |_| (prior, rest.cut_off(pool.parent_states as usize))).collect::<Vec<_>>()
    });
    device::spread(Device::Cpu, tables.collect(), |(prior, table)| edges(rates, prior, table));
    let all = pools(&mut sums.inputs, input_memory, &mut parameters.inputs);
    let tables = plan.input_pools.iter().zip(all).enumerate().flat_map(|(p, (pool, mut rest))| {
        let tables = pool.segments.iter().flat_map(|s| (0..s.tables).map(move |_| s.categories as usize));
        let mut first = 0;
        let table = |categories| {
            let prior = priors.of_input(p, first..first + categories);
            first += categories + 1;
            (prior, rest.cut_off(categories + 1))
        };
        tables.map(table).collect::<Vec<_>>()
    });
    device::spread(Device::Cpu, tables.collect(), |(prior, table)| inputs(rates, &prior, table));
}

/// The numbers of every pool.
fn pools<'a>(
    sums: &'a mut [Tensor],
    memory: Option<&'a mut Vec<Tensor>>,
    probabilities: &'a mut [Tensor],
) -> Vec<Table<'a>> {
    let mut memory = memory.into_iter().flatten();
    let pool = |(sums, probabilities): (&'a mut Tensor, &'a mut Tensor)| Table {
        states: *sums.size().last().expect("tables have columns") as usize,
        sums: numbers_mut(sums),
        memory: memory.next().map(numbers_mut),
        probabilities: numbers_mut(probabilities),
    };
    sums.iter_mut().zip(probabilities).map(pool).collect()
}

impl Table<'_> {
    /// Cut so many rows off the front.
    fn cut_off(&mut self, rows: usize) -> Self {
        const ENOUGH: &str = "rows of a pool";
        let length = rows * self.states;
        Self {
            sums: self.sums.split_off_mut(..length).expect(ENOUGH),
            memory: self.memory.as_mut().map(|memory| memory.split_off_mut(..length).expect(ENOUGH)),
            probabilities: self.probabilities.split_off_mut(..length).expect(ENOUGH),
            states: self.states,
        }
    }
}

impl<'a> Priors<'a> {
    /// That of the table which has these rows of a pool.
    fn of_input(&self, pool: usize, rows: Range<usize>) -> InputPrior<'a> {
        InputPrior {
            own: &numbers(&self.inputs[pool])[rows.clone()],
            run: self.back_off.map_or(RUN, BackOff::run),
            pseudocount: self.back_off.map_or(0.0, |b| b.pseudocount() as f32),
            within: self.back_off.map_or(&[], |b| &numbers(b.within(pool))[rows]),
        }
    }
}

/// Add a row of counts to the memory, where there is one: the row that new probabilities are made of.
#[inline(always)]
fn remember<'a>(rates: Rates, counts: &'a mut [f32], memory: Option<&'a mut [f32]>) -> &'a [f32] {
    let Some(memory) = memory else { return counts };
    memory.iter_mut().zip(counts).for_each(|(memory, count)| *memory = rates.keep * *memory + rates.add * *count);
    memory
}

/// The sum of a row.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let (parts, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for part in parts {
        (0..LANES).for_each(|l| lanes[l] += part[l]);
    }
    lanes.iter().chain(rest).sum()
}

/// What counts of so many entries are multiplied by, for their total; 0 where there is nothing.
#[inline(always)]
fn factor(total: f32, entries: usize) -> f32 {
    if total > 0.0 { (1.0 - entries as f64 * FLOOR) as f32 / total } else { 0.0 }
}

/// A step of an edge table `[parent states, states]`, with so many pseudocounts for every entry.
#[multiversion(targets("x86_64+avx2+fma"))]
fn edges(rates: Rates, prior: f32, table: Table<'_>) {
    // Loops over a number of states that is known to the compiler are several times faster.
    match table.states {
        16 => edges_of(rates, prior, table, 16),
        32 => edges_of(rates, prior, table, 32),
        64 => edges_of(rates, prior, table, 64),
        states => edges_of(rates, prior, table, states),
    }
}

#[inline(always)]
fn edges_of(rates: Rates, prior: f32, table: Table<'_>, states: usize) {
    let Table { sums, memory, probabilities, .. } = table;
    let mut memory = memory.map(|memory| memory.chunks_exact_mut(states));
    for (row, old) in sums.chunks_exact_mut(states).zip(probabilities.chunks_exact_mut(states)) {
        // Where a table holds a hard zero the sum may have overflowed.
        row.iter_mut().zip(&*old).for_each(|(sum, old)| *sum = if *old > 0.0 { *sum * old } else { 0.0 });
        let counts = remember(rates, row, memory.as_mut().and_then(Iterator::next));
        let total = sum(counts) + prior * old.iter().map(|old| f32::from(*old > 0.0)).sum::<f32>();
        let factor = factor(total, states);
        if factor == 0.0 {
            continue;
        }
        for (old, count) in old.iter_mut().zip(counts) {
            let new = (count + prior) * factor + FLOOR as f32;
            *old = if *old > 0.0 { (1.0 - rates.mix) * *old + rates.mix * new } else { 0.0 };
        }
    }
}

/// A step of an input table `[values, states]`, whose last row is that of missing values and stays.
#[multiversion(targets("x86_64+avx2+fma"))]
fn inputs(rates: Rates, prior: &InputPrior<'_>, table: Table<'_>) {
    match table.states {
        16 => inputs_of(rates, prior, table, 16),
        32 => inputs_of(rates, prior, table, 32),
        64 => inputs_of(rates, prior, table, 64),
        states => inputs_of(rates, prior, table, states),
    }
}

#[inline(always)]
fn inputs_of(rates: Rates, prior: &InputPrior<'_>, table: Table<'_>, states: usize) {
    let rows = prior.own.len() * states;
    let counts = remember(rates, &mut table.sums[..rows], table.memory.map(|memory| &mut memory[..rows]));
    let mut runs = vec![0.0; prior.own.len().div_ceil(prior.run) * states]; // [runs, states]
    for (run, counts) in runs.chunks_exact_mut(states).zip(counts.chunks(prior.run * states)) {
        counts.chunks_exact(states).for_each(|counts| add(run, counts));
    }
    let mut totals = vec![0.0; states];
    runs.chunks_exact(states).for_each(|run| add(&mut totals, run));
    // The counts of a run become its pseudocounts: none where a state has no counts.
    let counted = totals.clone();
    for (run, within) in runs.chunks_exact_mut(states).zip(prior.within.chunks(prior.run)) {
        let within = sum(within);
        for ((run, counted), total) in run.iter_mut().zip(&counted).zip(&mut totals) {
            *run = *run * prior.pseudocount / counted.max(f32::MIN_POSITIVE);
            *total += *run * within;
        }
    }
    let own = sum(prior.own);
    let factors = totals.iter().map(|total| factor(total + own, prior.own.len())).collect::<Vec<_>>();
    let rows = table.probabilities.chunks_exact_mut(states).zip(counts.chunks_exact(states));
    let factors = &factors[..states];
    for (v, ((old, counts), own)) in rows.zip(prior.own).enumerate() {
        let (run, within) = (&runs[v / prior.run * states..][..states], prior.within.get(v).copied().unwrap_or(0.0));
        for (((old, count), run), factor) in old.iter_mut().zip(counts).zip(run).zip(factors) {
            let new = (count + own + within * run) * factor + FLOOR as f32;
            *old = if *factor > 0.0 { (1.0 - rates.mix) * *old + rates.mix * new } else { *old };
        }
    }
}

/// `sums <- sums + row`.
#[inline(always)]
fn add(sums: &mut [f32], row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
}
