//! Parameters out of tensors, once: everything after that is plain numbers.

use anyhow::Result;
use tch::Kind;

use super::filter::Tree;
use crate::refusal;
use crate::run::checkpoint::Named;

/// A tensor of numbers of any kind as f64, row by row, and its shape.
///
/// # Errors
/// When it is missing, of another shape (-1 for any size), or not finite; the message names it.
pub fn doubles(saved: &Named, name: &str, shape: &[i64]) -> Result<(Vec<f64>, Vec<usize>)> {
    let tensor = saved.tensor(name, shape)?;
    let sizes = tensor.size().iter().map(|&n| n as usize).collect();
    Ok((Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1))?, sizes))
}

/// The same as f32, for tables that are saved so.
///
/// # Errors
/// As [`doubles`].
pub fn floats(saved: &Named, name: &str, shape: &[i64]) -> Result<(Vec<f32>, Vec<usize>)> {
    let tensor = saved.tensor(name, shape)?;
    let sizes = tensor.size().iter().map(|&n| n as usize).collect();
    Ok((Vec::try_from(tensor.to_kind(Kind::Float).contiguous().view(-1))?, sizes))
}

/// A tree of saved parents (-1 at the root) and edges.
///
/// # Errors
/// A refusal where the parents are no tree with one root.
pub fn tree(parents: &[i64], states: usize, edges: Vec<f32>) -> Result<Tree> {
    let parents = parents.iter().map(|&parent| usize::try_from(parent).ok()).collect();
    Tree::new(parents, states, edges).ok_or_else(|| refusal!("the parents of the checkpoint are no tree with one root"))
}

/// The inverse of the lower Cholesky factor of a symmetric matrix `[D, D]`: the lower triangle, row by row. None where the
/// matrix is not positive definite.
#[must_use]
pub fn inverse_cholesky(matrix: &[f64], d: usize) -> Option<Vec<f64>> {
    let mut lower = matrix.to_vec();
    for i in 0..d {
        for j in 0..=i {
            let inner: f64 = (0..j).map(|m| lower[i * d + m] * lower[j * d + m]).sum();
            let rest = lower[i * d + j] - inner;
            if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                lower[i * d + i] = rest.sqrt();
            } else {
                lower[i * d + j] = rest / lower[j * d + j];
            }
        }
    }
    // Row by row: L inv = 1, so inv_ij = -(sum_{j<=m<i} L_im inv_mj) / L_ii below the diagonal.
    let mut inverse = vec![0.0; d * (d + 1) / 2];
    let mut row = vec![0.0; d];
    for i in 0..d {
        row[..i].fill(0.0);
        for m in 0..i {
            let factor = lower[i * d + m];
            let above = &inverse[triangle(m)..=triangle(m) + m];
            row.iter_mut().zip(above).for_each(|(sum, value)| *sum += factor * value);
        }
        let pivot = lower[i * d + i];
        let out = &mut inverse[triangle(i)..=triangle(i) + i];
        out.iter_mut().zip(&row).for_each(|(out, sum)| *out = -sum / pivot);
        out[i] = 1.0 / pivot;
    }
    Some(inverse)
}

/// The sum of products in eight parts, so that a compiler may take them side by side: the order is written here.
#[must_use]
pub fn inner(a: &[f64], b: &[f64]) -> f64 {
    let mut parts = [0.0f64; 8];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            parts[i] += a[i] * b[i];
        }
    }
    let tail: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7])) + tail
}

/// Where row `i` of a lower triangle begins.
#[must_use]
pub fn triangle(i: usize) -> usize {
    i * (i + 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_factor_whitens() {
        let matrix = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let inverse = inverse_cholesky(&matrix, 3).unwrap();
        let at = |i: usize, j: usize| if j <= i { inverse[triangle(i) + j] } else { 0.0 };
        for i in 0..3 {
            for j in 0..3 {
                let pairs = (0..3).flat_map(|a| (0..3).map(move |b| (a, b)));
                let sum: f64 = pairs.map(|(a, b)| at(i, a) * matrix[a * 3 + b] * at(j, b)).sum();
                assert!((sum - f64::from(u8::from(i == j))).abs() < 1e-12, "{i} {j}: {sum}");
            }
        }
        assert!(inverse_cholesky(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
    }
}
