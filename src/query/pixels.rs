//! Answers as pictures to look at.

use tch::{Kind, Tensor};

use crate::data::view::View;
use crate::patch::Reading;

/// Pixels u8 `[N, h, w, C]` of patches `[N, L, D]` as a query draws them: integers, or points of a density, which are rounded
/// down. Values beyond their range are moved to its end, and colours that no picture has to the nearest ones.
pub fn drawn(view: &View, patches: &Tensor) -> Tensor {
    view.display(&bounded(view, &patches.floor()))
}

/// Pixels of means of patches, float64 `[N, L, D]`, rounded. A density is about x + u, u even in [0, 1): half a level more.
pub fn mean(view: &View, patches: &Tensor, reading: Reading) -> Tensor {
    view.display(&bounded(view, &(patches - offset(reading)).round()))
}

/// What a reading's numbers are more than the integers, in the mean.
#[must_use]
pub fn offset(reading: Reading) -> f64 {
    if reading == Reading::Density { 0.5 } else { 0.0 }
}

/// Patches `[N, L, D]` of integers within their ranges.
fn bounded(view: &View, patches: &Tensor) -> Tensor {
    let ranges = view.ranges();
    let own = &ranges[ranges.len() - view.variables()..];
    let values = patches.to_kind(Kind::Int64);
    let column = |(range, v): (&(i64, i64), i64)| values.select(-1, v).clamp(range.0, range.1);
    Tensor::stack(&own.iter().zip(0..).map(column).collect::<Vec<_>>(), -1)
}
