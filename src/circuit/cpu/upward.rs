//! The upward pass over one tree for a block of examples: the messages of [`crate::circuit::forward`], region by region.
//!
//! Input tables are read as they are: an input is one more factor that a message shrinks by, and a message is rescaled where
//! the next factor could make it too small ([`super::program`]). Divisors are powers of two, so that their logarithms add up
//! as integers.

use multiversion::multiversion;

use super::alone::{self, Different};
use super::kernels::{self, padded};
use super::program::{Leaf, Step, Tree};
use super::tables::Tables;

/// What a block of examples sees.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Row of the value in its input table, `[variables, all examples]`, of all trees one after the other where every tree
    /// has its own.
    pub values: &'a [i64],
    /// All examples.
    pub examples: usize,
    /// Every tree has its own.
    pub per_tree: bool,
    /// Those of the block, a multiple of [`kernels::ROWS`].
    pub chosen: &'a [usize],
}

/// The messages of a block of examples.
#[derive(Default)]
pub struct Messages {
    /// M by region, `[examples, padded states]` each.
    pub regions: Vec<f32>,
    /// S by region, `[examples, padded parent states]` each.
    pub sums: Vec<f32>,
    /// How often every example's messages were halved.
    pub exponents: Vec<i32>,
    /// The different values of the examples at leaves that stand alone.
    pub different: Different,
}

impl Seen<'_> {
    /// The row of an input's pool that every example reads.
    pub fn rows(&self, leaf: &Leaf) -> impl Iterator<Item = usize> + Clone {
        let variable = if self.per_tree { leaf.own } else { leaf.variable };
        let values = &self.values[variable * self.examples..][..self.examples];
        self.chosen.iter().map(move |&example| leaf.first + values[example] as usize)
    }
}

impl Messages {
    /// Make room for a tree and a number of examples, where all messages are kept or not.
    pub fn begin(&mut self, tree: &Tree, keep: bool, examples: usize) {
        let size = if keep { tree.kept } else { tree.passing };
        self.regions.resize(self.regions.len().max(size.message * examples), 0.0);
        self.sums.resize(self.sums.len().max(size.sums * examples), 0.0);
        self.exponents.clear();
        self.exponents.resize(examples, 0);
        self.different.begin(tree.steps.len(), examples);
    }
}

/// Fill in the messages; where they are not kept, only the root's S is left.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn upward(tree: &Tree, keep: bool, tables: &Tables<'_>, seen: &Seen<'_>, messages: &mut Messages) {
    let examples = seen.chosen.len();
    let Messages { regions, sums, exponents, different } = messages;
    let mut few = Vec::new();
    for (number, step) in tree.steps.iter().enumerate() {
        let place = |step: &Step| if keep { step.kept } else { step.passing };
        let (width, above) = (padded(step.states), padded(step.above));
        let mut seen = *seen;
        if let Some(leaf) = step.leaf.as_ref().filter(|_| step.alone) {
            different.find(number, leaf.first, seen.rows(leaf));
            different.examples(number, seen.chosen, &mut few);
            seen.chosen = &few;
        }
        let rows = seen.chosen.len();
        let message = &mut regions[place(step).message * examples..][..width * rows];
        begin(step, tables, &seen, message);
        for &(child, rescale) in &step.children {
            if rescale {
                kernels::rescale(message, width, exponents);
            }
            let factors = &sums[place(&tree.steps[child]).sums * examples..][..width * examples];
            if tree.steps[child].alone {
                alone::multiply(message, width, factors, different.numbers(child));
            } else {
                message.iter_mut().zip(factors).for_each(|(m, s)| *m *= s);
            }
        }
        if step.rescale {
            kernels::rescale(message, width, exponents);
        }
        let out = &mut sums[place(step).sums * examples..][..above * rows];
        let table = (tables.upward(step.table.table), step.states);
        kernels::product((message, width), table, (out, above));
    }
}

/// The input's part of a message, or ones.
#[inline(always)]
fn begin(step: &Step, tables: &Tables<'_>, seen: &Seen<'_>, message: &mut [f32]) {
    let Some(leaf) = &step.leaf else {
        for message in message.chunks_exact_mut(padded(step.states)) {
            message[..step.states].fill(1.0);
            message[step.states..].fill(0.0);
        }
        return;
    };
    let (pool, rows) = (tables.inputs[leaf.pool], seen.rows(leaf));
    match step.states {
        8 => read::<8>(pool, rows, message),
        16 => read::<16>(pool, rows, message),
        32 => read::<32>(pool, rows, message),
        64 => read::<64>(pool, rows, message),
        128 => read::<128>(pool, rows, message),
        states => {
            for (message, row) in message.chunks_exact_mut(padded(states)).zip(rows) {
                message[..states].copy_from_slice(&pool[row * states..][..states]);
                message[states..].fill(0.0);
            }
        }
    }
}

/// Copy rows of a pool of so many states: several times faster where their number is known to the compiler.
#[inline(always)]
fn read<const STATES: usize>(pool: &[f32], rows: impl Iterator<Item = usize>, message: &mut [f32]) {
    let pool = pool.as_chunks::<STATES>().0;
    for (message, row) in message.as_chunks_mut::<STATES>().0.iter_mut().zip(rows) {
        *message = pool[row];
    }
}
