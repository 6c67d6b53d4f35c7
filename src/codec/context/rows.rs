//! Rows of whitenings for windows of which the same numbers are there.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::codec::tables::inner;

/// The moments of all experts.
#[derive(Debug)]
pub struct Regressions {
    /// How many experts.
    pub count: usize,
    /// Numbers of the context.
    pub given: usize,
    /// Numbers of the patch in each group.
    pub widths: Vec<usize>,
    /// The window's number at each place of the experts' order `[W]`.
    pub order: Vec<usize>,
    /// Means and shapes of the regression of every group, `[K, E]` and `[K, E, E]`.
    pub moments: Vec<(Vec<f64>, Vec<f64>)>,
}

/// What the numbers of a patch are regressed on, for one kind of border.
#[derive(Debug)]
pub struct Rows {
    /// Places of what is there, in the experts' order: the context's, then the patch's.
    pub places: Vec<usize>,
    /// How many of them are the context's.
    pub context: usize,
    /// The group of each of the patch's.
    pub group: Vec<usize>,
    /// For every expert and number of the patch, over all places up to it: `M_d`. Expert by expert.
    entries: Vec<Vec<f64>>,
    /// For every expert `[D']`.
    biases: Vec<Vec<f64>>,
}

impl Rows {
    /// None where the moments of an expert are not positive definite.
    pub(super) fn new(experts: &Regressions, observed: &[bool]) -> Option<Self> {
        let there: Vec<usize> = (0..experts.order.len()).filter(|&place| observed[experts.order[place]]).collect();
        let context = there.iter().filter(|&&place| place < experts.given).count();
        let (mut ends, mut end) = (Vec::new(), experts.given);
        for width in &experts.widths {
            end += width;
            ends.push(end);
        }
        let group_of = |&place: &usize| ends.iter().position(|&end| place < end).unwrap_or(0);
        let group: Vec<usize> = there[context..].iter().map(group_of).collect();
        let made: Option<Vec<_>> =
            (0..experts.count).into_par_iter().map(|k| of_expert(experts, k, &there, context, &ends)).collect();
        let (entries, biases) = made?.into_iter().unzip();
        Some(Self { places: there, context, group, entries, biases })
    }

    /// Numbers of a patch that are there.
    #[must_use]
    pub fn own(&self) -> usize {
        self.places.len() - self.context
    }

    /// `M_d` of an expert over the numbers before the patch's d-th, its entry for it, and the bias.
    #[must_use]
    pub fn row(&self, expert: usize, d: usize) -> (&[f64], f64, f64) {
        let start = d * self.context + d * (d + 1) / 2;
        let length = self.context + d;
        let row = &self.entries[expert][start..=start + length];
        (&row[..length], row[length], self.biases[expert][d])
    }
}

/// All rows of an expert, one after the other, and its biases.
fn of_expert(
    experts: &Regressions,
    k: usize,
    there: &[usize],
    context: usize,
    ends: &[usize],
) -> Option<(Vec<f64>, Vec<f64>)> {
    let (mut rows, mut biases, mut first) = (Vec::new(), Vec::new(), context);
    for (&end, (means, shapes)) in ends.iter().zip(&experts.moments) {
        let last = there.partition_point(|&place| place < end);
        let seen = &there[..last];
        let shape = &shapes[k * end * end..(k + 1) * end * end];
        let mean = &means[k * end..(k + 1) * end];
        let lower = cholesky(last, |i, j| shape[seen[i] * end + seen[j]])?;
        for d in first..last {
            let row = last_row(&lower, d);
            biases.push(-row.iter().zip(seen).map(|(m, &place)| m * mean[place]).sum::<f64>());
            rows.extend(row);
        }
        first = last;
    }
    Some((rows, biases))
}

/// The lower Cholesky factor, row by row, of a symmetric matrix; none where it is not positive definite.
fn cholesky(n: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Vec<Vec<f64>>> {
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(n);
    for i in 0..n {
        let mut row = Vec::with_capacity(i + 1);
        for j in 0..=i {
            let above = if j < i { &lower[j][..j] } else { &row[..j] };
            let rest = entry(i, j) - inner(&row[..j], above);
            if j < i {
                row.push(rest / lower[j][j]);
            } else if rest > 0.0 {
                row.push(rest.sqrt());
            } else {
                return None;
            }
        }
        lower.push(row);
    }
    Some(lower)
}

/// Row d of the inverse of a lower triangle, by substitution from its end.
fn last_row(lower: &[Vec<f64>], d: usize) -> Vec<f64> {
    let mut row = vec![0.0; d + 1];
    row[d] = 1.0 / lower[d][d];
    // What is left of the unit vector once the entries behind are known: row L = e_d.
    let mut left = vec![0.0; d];
    for i in (0..=d).rev() {
        if i < d {
            row[i] = -left[i] / lower[i][i];
        }
        let value = row[i];
        left[..i].iter_mut().zip(&lower[i]).for_each(|(sum, &entry)| *sum += value * entry);
        left.truncate(i);
    }
    row
}
