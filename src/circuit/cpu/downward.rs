//! The downward pass over one tree for a block of examples: the flows of [`crate::circuit::flows`], region by region, in place
//! of the messages.

use multiversion::multiversion;

use super::alone;
use super::counts::Counts;
use super::kernels::{self, padded};
use super::program::{Leaf, Step, Tree};
use super::tables::Tables;
use super::upward::{Messages, Seen};

/// Add the flows of the block-th block of a tree to the counts; `weights` `[examples, heads]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn downward(
    tree: &Tree,
    tables: &Tables<'_>,
    seen: &Seen<'_>,
    weights: &[f32],
    messages: &mut Messages,
    (counts, block): (&Counts<'_>, usize),
) {
    let examples = seen.chosen.len();
    let Messages { regions, sums, different, .. } = messages;
    let (mut few, mut added) = (Vec::new(), Vec::new());
    for (number, step) in tree.steps.iter().enumerate().rev() {
        let (width, above) = (padded(step.states), padded(step.above));
        let mut seen = *seen;
        if step.alone {
            different.examples(number, seen.chosen, &mut few);
            seen.chosen = &few;
        }
        let rows = seen.chosen.len();
        let ratio = &mut sums[step.kept.sums * examples..][..above * rows];
        match step.parent {
            Some(parent) => {
                let flow = &regions[tree.steps[parent].kept.message * examples..][..above * examples];
                if step.alone {
                    alone::ratio(ratio, above, flow, different.numbers(number), &mut added);
                } else {
                    divide(ratio, flow);
                }
            }
            None => begin(step, weights, ratio),
        }
        let message = &mut regions[step.kept.message * examples..][..width * rows];
        let mut edges = counts.turn(&step.table, block);
        kernels::add_outer((ratio, above), (message, width), (edges.sums(), step.states));
        drop(edges);
        let table = (tables.downward(step.table.table), step.above);
        kernels::multiply((ratio, above), table, (message, width));
        if let Some(leaf) = &step.leaf {
            add_inputs(step, leaf, &seen, message, counts.turn(&leaf.table, block).sums());
        }
    }
}

/// Q: the flow of the parent's state over S.
#[inline(always)]
fn divide(sums: &mut [f32], flow: &[f32]) {
    sums.iter_mut().zip(flow).for_each(|(s, flow)| *s = flow / s.max(f32::MIN_POSITIVE));
}

/// Q of a root: the weight over S; nothing where a root without likelihood (hard zeros) has no flow.
#[inline(always)]
fn begin(step: &Step, weights: &[f32], ratio: &mut [f32]) {
    for (sums, weights) in ratio.chunks_exact_mut(padded(step.above)).zip(weights.chunks_exact(step.above)) {
        for (s, weight) in sums.iter_mut().zip(weights) {
            *s = if *s > 0.0 { weight / s.max(f32::MIN_POSITIVE) } else { 0.0 };
        }
    }
}

/// Add the flow of every example to the row that it read.
#[inline(always)]
fn add_inputs(step: &Step, leaf: &Leaf, seen: &Seen<'_>, flows: &[f32], counts: &mut [f32]) {
    let rows = seen.rows(leaf).map(|row| row - leaf.first);
    match step.states {
        8 => add::<8>(flows, rows, counts),
        16 => add::<16>(flows, rows, counts),
        32 => add::<32>(flows, rows, counts),
        64 => add::<64>(flows, rows, counts),
        128 => add::<128>(flows, rows, counts),
        states => {
            for (flow, row) in flows.chunks_exact(padded(states)).zip(rows) {
                counts[row * states..][..states].iter_mut().zip(flow).for_each(|(count, flow)| *count += flow);
            }
        }
    }
}

/// The same for a number of states that is known to the compiler.
#[inline(always)]
fn add<const STATES: usize>(flows: &[f32], rows: impl Iterator<Item = usize>, counts: &mut [f32]) {
    let counts = counts.as_chunks_mut::<STATES>().0;
    for (flow, row) in flows.as_chunks::<STATES>().0.iter().zip(rows) {
        let count = counts[row];
        counts[row] = std::array::from_fn(|k| count[k] + flow[k]);
    }
}
