//! Reversible `YCoCg` lifting (Malvar and Sullivan): `Co = R - B`, `t = B + (Co >> 1)`, `Cg = G - t`,
//! `Y = t + (Cg >> 1)`, arithmetic shifts; and the same steps with every result taken modulo 256.

use tch::{Kind, Tensor};

use super::channels::channels;

/// u8 `[.., 3]` -> i16 `[.., 3]`: Y in 0..=255, Co and Cg in -255..=255.
pub(super) fn forward(pixels: &Tensor) -> Tensor {
    let [red, green, blue] = channels(pixels, Kind::Int16);
    let orange = red - &blue;
    let middle = blue + half(&orange);
    let chroma = green - &middle;
    Tensor::stack(&[middle + half(&chroma), orange, chroma], -1)
}

/// Undo [`forward`]; what comes from no picture leaves 0..=255.
pub(super) fn inverse(values: &Tensor) -> Tensor {
    let [luma, orange, chroma] = channels(values, Kind::Int16);
    let middle = luma - half(&chroma);
    let blue = &middle - half(&orange);
    Tensor::stack(&[orange + &blue, chroma + middle, blue], -1)
}

/// u8 `[.., 3]` -> i16 `[.., 3]`, all in 0..=255.
pub(super) fn forward_modulo(pixels: &Tensor) -> Tensor {
    let [red, green, blue] = channels(pixels, Kind::Int16);
    let orange = byte(&(red - &blue));
    let middle = byte(&(blue + half(&orange)));
    let chroma = byte(&(green - &middle));
    Tensor::stack(&[byte(&(middle + half(&chroma))), orange, chroma], -1)
}

/// Undo [`forward_modulo`].
pub(super) fn inverse_modulo(values: &Tensor) -> Tensor {
    let [luma, orange, chroma] = channels(values, Kind::Int16);
    let middle = byte(&(luma - half(&chroma)));
    let blue = byte(&(&middle - half(&orange)));
    Tensor::stack(&[byte(&(orange + &blue)), byte(&(chroma + middle)), blue], -1)
}

/// Half, rounded down.
fn half(x: &Tensor) -> Tensor {
    x.bitwise_right_shift_tensor_scalar(1)
}

/// Modulo 256, in 0..=255.
fn byte(x: &Tensor) -> Tensor {
    x.bitwise_and(255)
}
