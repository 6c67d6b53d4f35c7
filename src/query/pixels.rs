//! Answers as pictures to look at.

use tch::Tensor;

use crate::data::view::View;
use crate::patch::Reading;

/// Pixels u8 `[N, h, w, C]` of patches `[N, L, D]` as a query draws them: integers, or points of a density, which are rounded
/// down. Values beyond their range are moved to its end, and colours that no picture has to the nearest ones.
pub fn drawn(view: &View, patches: &Tensor) -> Tensor {
    view.display(&view.bounded(&patches.floor()))
}

/// Pixels of means of patches, float64 `[N, L, D]`, rounded. A density is about x + u, u even in [0, 1): half a level more.
pub fn mean(view: &View, patches: &Tensor, reading: Reading) -> Tensor {
    view.display(&view.bounded(&(patches - offset(reading)).round()))
}

/// What a reading's numbers are more than the integers, in the mean.
fn offset(reading: Reading) -> f64 {
    if reading == Reading::Density { 0.5 } else { 0.0 }
}
