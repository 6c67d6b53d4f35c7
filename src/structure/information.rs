//! Mutual information of all pairs of variables, by joint counts of binned values.
//!
//! ```text
//! I(u; v) = sum_ab p(a, b) ln( p(a, b) / (p(a) p(b)) )      nats, with a pseudocount shared out over the cells
//! ```
//!
//! On the CPU the pairs are counted one by one, with u fixed and the examples sorted by its value a: what then has to be counted is
//! how often every other variable takes which value, in a table of V * B numbers that stays in the cache. That is V^2 / 2 steps an
//! example. With `g(c) = (c + e) ln(c + e)`, e a cell's share of the pseudocount, and M examples with the pseudocount,
//!
//! ```text
//! I(u; v) = ( sum_ab g(c_ab) - sum_a g(c_a) - sum_b g(c_b) + M ln M ) / M
//! ```
//!
//! On a GPU the joint counts of all pairs are one product `J = sum_n E_n E_n^T` of one-hot rows `E_n` of length V * B: V^2 B^2 / 2
//! multiplications an example.

use tch::{Device, Kind, Tensor};

use crate::device;

/// Examples in one go, at most.
const CHUNK: i64 = 1024;
/// Numbers of a table of joint counts, or of one-hot rows, in memory at once.
const TABLE: i64 = 1 << 24;

/// Pairwise mutual information in nats, `[V, V]` float64 on the CPU, of binned values `[N, V]` in `0..bins`; memory stays
/// below [`memory`].
///
/// `pseudocount` is spread evenly over the `bins * bins` cells of every pair.
pub fn mutual_information(binned: &Tensor, bins: i64, pseudocount: f64) -> Tensor {
    if binned.device() == Device::Cpu && bins <= 1 << 16 {
        counted(binned, bins as usize, pseudocount)
    } else {
        by_products(binned, bins, pseudocount)
    }
}

/// Bytes that [`mutual_information`] takes at most: those of products, a block of joint counts in both precisions and their terms.
/// Counting takes less.
#[must_use]
pub fn memory(variables: usize, bins: usize) -> f64 {
    let (v, bins) = (variables as f64, bins as f64);
    let block = block(variables as i64, bins as i64) as f64;
    block * bins * v * bins * (4.0 + 4.0 * 8.0) + (TABLE as f64).min(CHUNK as f64 * v * bins) * 12.0
}

/// [`mutual_information`] by counts, pair by pair.
fn counted(binned: &Tensor, bins: usize, pseudocount: f64) -> Tensor {
    let (n, v) = binned.size2().expect("binned values are [N, V]");
    let (n, v) = (n as usize, v as usize);
    let flat: Vec<i64> = Vec::try_from(binned.to_kind(Kind::Int64).contiguous().view(-1)).expect("integers on the CPU");
    let examples = Examples { values: flat.iter().map(|&value| value as u16).collect(), variables: v, bins };
    let cells = Terms::new(n, pseudocount / (bins * bins) as f64);
    let marginals = Terms::new(n, pseudocount / bins as f64);
    let all = (n as f64 + pseudocount) * (n as f64 + pseudocount).ln();
    let single: Vec<f64> =
        (0..v).map(|u| examples.count(u).into_iter().map(|count| marginals.of(count)).sum()).collect();
    let rows = device::spread(Device::Cpu, (0..v).collect(), |u| examples.joint(u, &cells));
    let mut found = vec![0.0; v * v];
    for (u, row) in rows.into_iter().enumerate() {
        for (w, joint) in (u..v).zip(row) {
            let nats = (joint - single[u] - single[w] + all) / (n as f64 + pseudocount);
            found[u * v + w] = nats;
            found[w * v + u] = nats;
        }
    }
    Tensor::from_slice(&found).view([v as i64, v as i64])
}

/// `(c + e) ln(c + e)` of every count that can occur; 0 for nothing.
struct Terms(Vec<f64>);

impl Terms {
    fn new(most: usize, share: f64) -> Self {
        let term = |count: usize| {
            let mass = count as f64 + share;
            if mass > 0.0 { mass * mass.ln() } else { 0.0 }
        };
        Self((0..=most).map(term).collect())
    }

    fn of(&self, count: u32) -> f64 {
        self.0[count as usize]
    }
}

/// Binned values, example by example.
struct Examples {
    values: Vec<u16>,
    variables: usize,
    bins: usize,
}

impl Examples {
    fn count(&self, u: usize) -> Vec<u32> {
        let mut counts = vec![0; self.bins];
        self.values.iter().skip(u).step_by(self.variables).for_each(|&value| counts[value as usize] += 1);
        counts
    }

    /// The terms of all cells of u and every variable from u on, summed: `[V - u]`.
    fn joint(&self, u: usize, terms: &Terms) -> Vec<f64> {
        let (bins, width) = (self.bins, self.variables);
        let at = |example: usize| self.values[example * width + u];
        let mut order: Vec<usize> = (0..self.values.len() / width).collect();
        order.sort_unstable_by_key(|&example| at(example));
        let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| at(a) == at(b)).collect();
        // Cells of the values that u never takes are all empty.
        let empty = bins - groups.len();
        let mut sums = vec![(empty * bins) as f64 * terms.of(0); width - u];
        let mut counts = vec![0u32; (width - u) * bins];
        for group in groups {
            for &example in group {
                let values = &self.values[example * width + u..(example + 1) * width];
                for (cells, &value) in counts.chunks_exact_mut(bins).zip(values) {
                    cells[value as usize] += 1;
                }
            }
            for (sum, cells) in sums.iter_mut().zip(counts.chunks_exact_mut(bins)) {
                *sum += cells.iter().map(|&count| terms.of(count)).sum::<f64>();
                cells.fill(0);
            }
        }
        sums
    }
}

/// [`mutual_information`] by products of one-hot rows, for some variables at a time with all others.
fn by_products(binned: &Tensor, bins: i64, pseudocount: f64) -> Tensor {
    let (_, v) = binned.size2().expect("binned values are [N, V]");
    let block = block(v, bins);
    let rows = (0..v).step_by(block as usize).map(|first| {
        let joint = joint_counts(binned, bins, first, block.min(v - first));
        information(&joint, bins, pseudocount, binned.size()[0]).to_device(Device::Cpu)
    });
    Tensor::cat(&rows.collect::<Vec<_>>(), 0)
}

/// How many variables are looked at together.
fn block(variables: i64, bins: i64) -> i64 {
    (TABLE / (bins * bins * variables).max(1)).clamp(1, variables.max(1))
}

/// Joint counts of `count` variables from `first` on with all variables: float32 `[count * bins, V * bins]`.
fn joint_counts(binned: &Tensor, bins: i64, first: i64, count: i64) -> Tensor {
    let (n, v) = binned.size2().expect("binned values are [N, V]");
    let chunk = (TABLE / (v * bins).max(1)).clamp(16, CHUNK);
    let mut joint = Tensor::zeros([count * bins, v * bins], (Kind::Float, binned.device()));
    for start in (0..n).step_by(chunk as usize) {
        let some = binned.narrow(0, start, chunk.min(n - start)).to_kind(Kind::Int64);
        let hot = some.one_hot(bins).to_kind(Kind::Float).reshape([-1, v * bins]);
        let mine = hot.narrow(1, first * bins, count * bins);
        let _ = joint.addmm_(&mine.transpose(0, 1), &hot);
    }
    joint
}

/// Mutual information `[A, V]` from joint counts `[A * bins, V * bins]` of `n` examples.
fn information(joint: &Tensor, bins: i64, pseudocount: f64, n: i64) -> Tensor {
    let (rows, columns) = joint.size2().expect("joint counts are a matrix");
    let cells = (bins * bins) as f64;
    let joint = joint.to_kind(Kind::Double).view([rows / bins, bins, columns / bins, bins]).permute([0, 2, 1, 3]);
    let p = (joint + pseudocount / cells) / (n as f64 + pseudocount);
    let rows = p.sum_dim_intlist(3, true, Kind::Double);
    let columns = p.sum_dim_intlist(2, true, Kind::Double);
    let terms = &p * (&p / (rows * columns)).log();
    terms.nan_to_num(0.0, None, None).sum_dim_intlist([2, 3].as_slice(), false, Kind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutual_information_of_a_copy_is_its_entropy_and_of_strangers_zero() {
        let rows = [0i64, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1]; // columns 0 and 1 are equal, column 2 is independent of both
        let information = mutual_information(&Tensor::from_slice(&rows).view([4, 3]), 2, 0.0);
        assert!((information.double_value(&[0, 1]) - 2f64.ln()).abs() < 1e-6);
        assert!(information.double_value(&[0, 2]).abs() < 1e-6);
    }

    #[test]
    fn counts_and_products_agree() {
        for (n, v, bins, pseudocount) in [(1, 1, 2, 0.0), (40, 5, 3, 0.0), (200, 7, 16, 1.5), (30, 4, 100, 0.3)] {
            let values: Vec<i64> = (0..n * v).map(|i| i * i * 7919 % 10_007 % (bins - 1)).collect();
            let binned = Tensor::from_slice(&values).view([n, v]);
            let [counts, products] =
                [counted(&binned, bins as usize, pseudocount), by_products(&binned, bins, pseudocount)];
            assert!(counts.allclose(&products, 0.0, 1e-10, false), "{n} {v} {bins}");
        }
    }
}
