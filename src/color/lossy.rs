//! Two lossy colour transforms, kept to repeat published protocols: both merge colours and have no inverse.
//!
//! The usual programs use floating point; these are the same formulas as exact fractions, so that no device or
//! machine moves a value over a rounding border.

use tch::{Kind, Tensor};

use super::channels::channels;

/// Weights of R, G, B and offset of each BT.709 channel, in ten-thousandths.
const BT709: [[i64; 4]; 3] =
    [[2_126, 7_152, 722, 0], [-1_146, -3_854, 5_000, 1_280_000], [5_000, -4_542, -458, 1_280_000]];

/// u8 `[.., 3]` -> i16 `[.., 3]`: `Y = .2126R+.7152G+.0722B`, `Cb = -.1146R-.3854G+.5B+128`,
/// `Cr = .5R-.4542G-.0458B+128`, rounded to the nearest integer (ties up) and clamped to 0..=255.
pub(super) fn bt709(pixels: &Tensor) -> Tensor {
    let rgb = channels(pixels, Kind::Int);
    let rounded = BT709.map(|[r, g, b, offset]| {
        (&rgb[0] * r + &rgb[1] * g + &rgb[2] * b + (offset + 5_000)).floor_divide_scalar(10_000)
    });
    Tensor::stack(&rounded, -1).clamp(0, 255).to_kind(Kind::Int16)
}

/// u8 `[.., 3]` -> i16 `[.., 3]`: with R, G, B in 0..=1, `Co = R-B`, `Cg = G-(R+B)/2` and `Y = (R+2G+B)/4` are cut
/// into 256 equal steps over their ranges (`[-1, 1]`, `[-1, 1]`, `[0, 1]`): chroma is halved, the top step is closed.
pub(super) fn ycocg(pixels: &Tensor) -> Tensor {
    let [red, green, blue] = channels(pixels, Kind::Int);
    let luma = (&red + &green * 2 + &blue) * 64; // 256 / 4
    let orange = (&red - &blue) * 128;
    let chroma = (&green * 2 - &red - &blue) * 64;
    let step = |x: Tensor, zero: i64| x.floor_divide_scalar(255) + zero;
    Tensor::stack(&[step(luma, 0), step(orange, 128), step(chroma, 128)], -1).clamp(0, 255).to_kind(Kind::Int16)
}

/// Float pixels `[.., 3]`, about 0 to 255, in the middle of what [`bt709`] takes to these values: to look at, no inverse.
pub(super) fn bt709_undone(values: &Tensor) -> Tensor {
    let [luma, first, second] = middles(values);
    let rgb = [&luma + &second * 1.5748, &luma - &first * 0.1873 - &second * 0.4681, &luma + &first * 1.8556];
    Tensor::stack(&rgb, -1).round()
}

/// The same for [`ycocg`].
pub(super) fn ycocg_undone(values: &Tensor) -> Tensor {
    let [luma, first, second] = middles(values);
    let side = &luma - &second;
    Tensor::stack(&[&side + &first, &luma + &second, &side - &first], -1).round()
}

/// Luma, and both chroma channels around zero.
fn middles(values: &Tensor) -> [Tensor; 3] {
    let [luma, first, second] = channels(values, Kind::Float);
    [luma, first - 128.0, second - 128.0]
}
