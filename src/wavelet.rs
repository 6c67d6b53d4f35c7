//! The 5/3 lifting of JPEG 2000 over whole pictures (Le Gall and Tabatabai; Calderbank et al. for integers).
//!
//! ```text
//! d[n] = x[2n+1] - (x[2n] + x[2n+2]) / 2             s[n] = x[2n] + (d[n-1] + d[n]) / 4
//! d[n] = x[2n+1] - floor((x[2n] + x[2n+2]) / 2)      s[n] = x[2n] + floor((d[n-1] + d[n] + 2) / 4)       in integers
//! ```
//!
//! along rows and columns, again on the s of both, `levels` times; at its borders a picture is mirrored. Coefficients stay
//! where their pixel was, so a square of `2^levels` pixels holds the coefficients of all scales that belong to it. Every
//! lifting step has determinant 1, so densities carry over unchanged; the integer form is a bijection. Basis functions
//! reach beyond their square (the transform is lapped), which carries information across the borders of patches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What is done to a picture before it is cut into patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// The linear 5/3 lifting of dequantised pixels: for the density reading.
    Cdf53,
    /// The reversible 5/3 lifting of integers: for every reading and family.
    Cdf53Integer,
}

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Linear,
    Integer,
}

/// Linear 5/3 coefficients of pictures `[B, H, W, C]`, floats; H and W are multiples of `2^levels`.
pub fn forward(pictures: &Tensor, levels: u32) -> Tensor {
    analyse(pictures, levels, Form::Linear)
}

/// Undo [`forward`].
pub fn inverse(coefficients: &Tensor, levels: u32) -> Tensor {
    synthesise(coefficients, levels, Form::Linear)
}

/// Integer 5/3 coefficients of integer pictures `[B, H, W, C]`, int32.
pub fn forward_integers(pictures: &Tensor, levels: u32) -> Tensor {
    analyse(&pictures.to_kind(Kind::Int), levels, Form::Integer)
}

/// Undo [`forward_integers`], exactly.
pub fn inverse_integers(coefficients: &Tensor, levels: u32) -> Tensor {
    synthesise(&coefficients.to_kind(Kind::Int), levels, Form::Integer)
}

/// Bounds of the integer coefficients of a square of `2^levels` pixels with values from `low` to `high`: by row, column.
///
/// The linear coefficients are linear in the pixels, so their bounds are sums over taps; rounding moves a coefficient by
/// less than 2 per level.
#[must_use]
pub fn ranges(low: i64, high: i64, levels: u32) -> Vec<(i64, i64)> {
    let side = 1i64 << levels;
    let width = 5 * side; // as far as the taps reach, on both sides
    let impulses = Tensor::eye(width, (Kind::Double, tch::Device::Cpu)).view([width, 1, width, 1]);
    let line = line(&impulses, 2, Form::Linear, levels).view([width, width]).narrow(1, 2 * side, side);
    let slack = 2 * i64::from(levels);
    let taps = |i: i64, j: i64| line.select(1, i).outer(&line.select(1, j));
    let bound = |index: i64| {
        let taps = taps(index / side, index % side);
        let (up, down) = (taps.clamp_min(0.0).sum(Kind::Double), taps.clamp_max(0.0).sum(Kind::Double));
        let [up, down] = [up, down].map(|sum| sum.double_value(&[]));
        let (low, high) = (low as f64, high as f64);
        ((up * low + down * high).floor() as i64 - slack, (up * high + down * low).ceil() as i64 + slack)
    };
    (0..side * side).map(bound).collect()
}

/// All levels along one dimension only.
fn line(x: &Tensor, dim: i64, form: Form, levels: u32) -> Tensor {
    let out = x.copy();
    (0..levels).for_each(|level| lift(&subsampled(&out, dim, level), dim, form));
    out
}

fn analyse(pictures: &Tensor, levels: u32, form: Form) -> Tensor {
    let out = pictures.copy();
    for level in 0..levels {
        let coarse = subsampled(&subsampled(&out, 1, level), 2, level);
        lift(&coarse, 1, form);
        lift(&coarse, 2, form);
    }
    out
}

fn synthesise(coefficients: &Tensor, levels: u32, form: Form) -> Tensor {
    let out = coefficients.copy();
    for level in (0..levels).rev() {
        let coarse = subsampled(&subsampled(&out, 1, level), 2, level);
        unlift(&coarse, 2, form);
        unlift(&coarse, 1, form);
    }
    out
}

/// Every `2^level`-th entry, as a view.
fn subsampled(x: &Tensor, dim: i64, level: u32) -> Tensor {
    x.slice(dim, 0, x.size()[dim as usize], 1 << level)
}

/// The even and odd entries, as views.
fn parts(x: &Tensor, dim: i64) -> (Tensor, Tensor) {
    let n = x.size()[dim as usize];
    (x.slice(dim, 0, n, 2), x.slice(dim, 1, n, 2))
}

/// One step forward, in place.
fn lift(x: &Tensor, dim: i64, form: Form) {
    let (mut even, mut odd) = parts(x, dim);
    odd -= prediction(&even, dim, form);
    even += update(&odd, dim, form);
}

/// One step back, in place.
fn unlift(x: &Tensor, dim: i64, form: Form) {
    let (mut even, mut odd) = parts(x, dim);
    even -= update(&odd, dim, form);
    odd += prediction(&even, dim, form);
}

/// What the even entries say about the odd ones: the mean of both neighbours.
fn prediction(even: &Tensor, dim: i64, form: Form) -> Tensor {
    let n = even.size()[dim as usize];
    let right = Tensor::cat(&[even.narrow(dim, 1, n - 1), even.narrow(dim, n - 1, 1)], dim);
    let sum = even + right;
    match form {
        Form::Linear => sum * 0.5,
        Form::Integer => sum.bitwise_right_shift_tensor_scalar(1),
    }
}

/// What the details add to the even entries: a quarter of both neighbours.
fn update(odd: &Tensor, dim: i64, form: Form) -> Tensor {
    let n = odd.size()[dim as usize];
    let left = Tensor::cat(&[odd.narrow(dim, 0, 1), odd.narrow(dim, 0, n - 1)], dim);
    let sum = odd + left;
    match form {
        Form::Linear => sum * 0.25,
        Form::Integer => (sum + 2).bitwise_right_shift_tensor_scalar(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_line_by_hand() {
        let x = Tensor::from_slice(&[1f64, 5.0, 3.0, 2.0]).view([1, 1, 4, 1]);
        // d = (5 - 2, 2 - 3) = (3, -1), s = (1 + 6 / 4, 3 + 2 / 4).
        let found = Vec::<f64>::try_from(line(&x, 2, Form::Linear, 1).view(-1)).unwrap();
        assert_eq!(found, [2.5, 3.0, 3.5, -1.0]);
        let whole = Vec::<i32>::try_from(line(&x.to_kind(Kind::Int), 2, Form::Integer, 1).view(-1)).unwrap();
        assert_eq!(whole, [3, 3, 4, -1]); // 1 + floor(8 / 4), 3 + floor(4 / 4)
    }

    #[test]
    fn random_and_extreme_pictures_come_back_and_stay_in_range() {
        for levels in 0..4u32 {
            let ranges = ranges(0, 255, levels);
            let side = 1i64 << levels;
            let random = Tensor::randint(256, [64, 24, 16, 3], (Kind::Int, Device::Cpu));
            let extreme = Tensor::randint(2, [512, 24, 16, 3], (Kind::Int, Device::Cpu)) * 255;
            for pictures in [random, extreme] {
                let coefficients = forward_integers(&pictures, levels);
                assert!(inverse_integers(&coefficients, levels) == pictures);
                for (i, &(low, high)) in ranges.iter().enumerate() {
                    let (row, column) = (i as i64 / side, i as i64 % side);
                    let own = coefficients.slice(1, row, 24, side).slice(2, column, 16, side);
                    assert!(own.min().int64_value(&[]) >= low && own.max().int64_value(&[]) <= high);
                }
            }
        }
    }

    #[test]
    fn the_linear_form_is_inverted_and_keeps_volumes() {
        let pictures = Tensor::rand([3, 8, 16, 2], (Kind::Double, Device::Cpu));
        let back = inverse(&forward(&pictures, 3), 3);
        assert!((back - &pictures).abs().max().double_value(&[]) < 1e-12);
        // The matrix of the transform of 8 x 8 pictures has determinant 1.
        let impulses = Tensor::eye(64, (Kind::Double, Device::Cpu)).view([64, 8, 8, 1]);
        let determinant = forward(&impulses, 3).view([64, 64]).det().double_value(&[]);
        assert!((determinant.abs() - 1.0).abs() < 1e-9, "{determinant}");
    }

    #[test]
    fn a_constant_picture_has_no_details() {
        let pictures = Tensor::full([1, 16, 16, 1], 7, (Kind::Int, Device::Cpu));
        let coefficients = forward_integers(&pictures, 3);
        assert_eq!(coefficients.ne(0).sum(Kind::Int64).int64_value(&[]), 4);
        assert_eq!(coefficients.slice(1, 0, 16, 8).slice(2, 0, 16, 8).eq(7).all().int64_value(&[]), 1);
    }
}
