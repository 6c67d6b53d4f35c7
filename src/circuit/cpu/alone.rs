//! Leaves that stand alone: regions with an input and no children, as the pixels of a quad tree are. Their message depends on
//! an example's value x only, so that one row for each of the different values of a block serves all of its examples:
//!
//! ```text
//! M[x, k] = p(x | k)     S[x, j] = sum_k W[j, k] M[x, k]     Q[x, j] = sum_{b: x_b = x} F_parent[b, j] / S[x, j]
//! ```
//!
//! and the flows of edges and inputs are those of the rows x with these Q.

use super::kernels::ROWS;

/// Nothing was found yet.
const NONE: u8 = u8::MAX;
/// The most examples of a block whose values can be numbered.
pub const MOST: usize = NONE as usize;

/// The different values of a block's examples by step of the tree, those of leaves that stand alone.
#[derive(Default)]
pub struct Different {
    examples: usize,
    /// Number of every example's value among the different ones: `[steps, examples]`.
    numbers: Vec<u8>,
    /// The first example with the value of every number, the first one repeated up to a multiple of [`ROWS`].
    firsts: Vec<u8>,
    /// How many numbers there are, with those repeated.
    counts: Vec<u8>,
    /// The number of a value.
    of_value: Vec<u8>,
}

impl Different {
    /// Make room.
    pub fn begin(&mut self, steps: usize, examples: usize) {
        self.examples = examples;
        self.numbers.resize(steps * examples, 0);
        self.firsts.resize(steps * examples, 0);
        self.counts.resize(steps, 0);
    }

    /// Number the values that a block's examples have at a leaf: rows of its pool, of which the leaf's table begins at `table`.
    pub fn find(&mut self, step: usize, table: usize, rows: impl Iterator<Item = usize> + Clone) {
        let (start, end) = (step * self.examples, (step + 1) * self.examples);
        let (numbers, firsts) = (&mut self.numbers[start..end], &mut self.firsts[start..end]);
        let mut count = 0;
        for (b, (number, row)) in numbers.iter_mut().zip(rows.clone()).enumerate() {
            let value = row - table;
            if value >= self.of_value.len() {
                self.of_value.resize(value + 1, NONE);
            }
            if self.of_value[value] == NONE {
                self.of_value[value] = count as u8;
                firsts[count] = b as u8;
                count += 1;
            }
            *number = self.of_value[value];
        }
        for row in rows {
            self.of_value[row - table] = NONE;
        }
        let padded = count.next_multiple_of(ROWS);
        let first = firsts[0];
        firsts[count..padded].fill(first);
        self.counts[step] = padded as u8;
    }

    /// The number of every example's value.
    #[must_use]
    pub fn numbers(&self, step: usize) -> &[u8] {
        &self.numbers[step * self.examples..][..self.examples]
    }

    /// An example for every number, of all examples: those in `chosen` are the block's.
    pub fn examples(&self, step: usize, chosen: &[usize], out: &mut Vec<usize>) {
        let firsts = &self.firsts[step * self.examples..][..usize::from(self.counts[step])];
        out.clear();
        out.extend(firsts.iter().map(|&first| chosen[usize::from(first)]));
    }
}

/// Multiply every example's row of a message by the row of its number.
#[inline(always)]
pub fn multiply(message: &mut [f32], width: usize, rows: &[f32], numbers: &[u8]) {
    for (message, &number) in message.chunks_exact_mut(width).zip(numbers) {
        let row = &rows[usize::from(number) * width..][..width];
        message.iter_mut().zip(row).for_each(|(m, s)| *m *= s);
    }
}

/// Q of every number, in place of its S: the flows of the parent's states, added up over examples, divided by S.
#[inline(always)]
pub fn ratio(sums: &mut [f32], width: usize, flows: &[f32], numbers: &[u8], added: &mut Vec<f32>) {
    added.clear();
    added.resize(sums.len(), 0.0);
    for (flow, &number) in flows.chunks_exact(width).zip(numbers) {
        let row = &mut added[usize::from(number) * width..][..width];
        row.iter_mut().zip(flow).for_each(|(sum, flow)| *sum += flow);
    }
    sums.iter_mut().zip(added.iter()).for_each(|(s, flow)| *s = flow / s.max(f32::MIN_POSITIVE));
}
