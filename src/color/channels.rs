//! Taking pictures apart by channel.

use tch::{Kind, Tensor};

/// The three channels of `[.., 3]`, each `[..]`, as integers of `kind`.
pub(super) fn channels(pixels: &Tensor, kind: Kind) -> [Tensor; 3] {
    [0, 1, 2].map(|c| pixels.select(-1, c).to_kind(kind))
}
