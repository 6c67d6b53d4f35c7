//! Training pictures shifted and mirrored afresh every time they are seen.
//!
//! A shift cuts a picture that is one patch smaller out of it, so that patches of every offset are seen and nothing is
//! made up at its borders.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::view::View;

/// What is done to training pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Patches at every offset, along each axis for half of the batches; only while latents are independent over
    /// positions (a latent tree knows whole pictures).
    pub shifts: bool,
    /// Left and right exchanged, for half of the batches.
    pub mirrors: bool,
}

impl Augment {
    /// A batch of pictures `[B, H, W, C]` as it is seen this time, and the view of pictures of its size.
    pub fn apply(&self, view: &View, pixels: &Tensor, rng: &mut ChaCha8Rng) -> (View, Tensor) {
        let mut pixels = pixels.shallow_clone();
        if self.mirrors && rng.random_bool(0.5) {
            pixels = pixels.flip([2]);
        }
        let patch = view.grid.patch as i64;
        for dim in [1, 2] {
            let size = pixels.size()[dim as usize];
            if self.shifts && size > patch && patch > 1 && rng.random_bool(0.5) {
                pixels = pixels.narrow(dim, rng.random_range(1..patch), size - patch);
            }
        }
        let (height, width) = (pixels.size()[1] as usize, pixels.size()[2] as usize);
        (view.resized(height, width), pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::ColorSpace;
    use crate::data::patches::Region;
    use crate::data::pictures::PictureShape;
    use crate::random::rng;
    use std::collections::BTreeSet;
    use tch::{Device, Kind};

    #[test]
    fn all_offsets_and_both_sides_are_seen() {
        let shape = PictureShape { height: 8, width: 12, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
        let pixels = Tensor::arange(96, (Kind::Uint8, Device::Cpu)).view([1, 8, 12, 1]);
        let mut rng = rng(1, "test", 0);
        let mut corners = BTreeSet::new();
        let augment = Augment { shifts: true, mirrors: true };
        for _ in 0..4000 {
            let (view, seen) = augment.apply(&view, &pixels, &mut rng);
            assert_eq!([view.grid.rows as i64 * 4, view.grid.cols as i64 * 4], [seen.size()[1], seen.size()[2]]);
            assert_eq!(view.integers(&seen).unwrap().size()[1], (view.grid.rows * view.grid.cols) as i64);
            corners.insert(seen.int64_value(&[0, 0, 0, 0]));
        }
        // Four rows (0 to 3) and, from either side, four columns.
        let columns = [0, 1, 2, 3, 11, 10, 9, 8];
        let expected: BTreeSet<i64> = (0..4).flat_map(|row| columns.map(|column| 12 * row + column)).collect();
        assert_eq!(corners, expected);
    }

    #[test]
    fn a_quadrant_stays_one() {
        let shape = PictureShape { height: 16, width: 16, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Quadrant, 4).unwrap();
        let pixels = Tensor::randint(256, [2, 16, 16, 1], (Kind::Uint8, Device::Cpu));
        let (same, seen) = Augment::default().apply(&view, &pixels, &mut rng(1, "test", 0));
        assert_eq!((same.patches(), same.dimensions()), (4, 64));
        assert_eq!(same.integers(&seen).unwrap(), view.integers(&pixels).unwrap());
    }

    #[test]
    fn nothing_changes_unless_asked_for() {
        let shape = PictureShape { height: 4, width: 4, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
        let pixels = Tensor::randint(256, [2, 4, 4, 1], (Kind::Uint8, Device::Cpu));
        assert!(Augment::default().apply(&view, &pixels, &mut rng(1, "test", 0)).1 == pixels);
        // A picture of one patch has no other offsets.
        let shifts = Augment { shifts: true, mirrors: false };
        assert!(shifts.apply(&view, &pixels, &mut rng(1, "test", 0)).1 == pixels);
    }
}
