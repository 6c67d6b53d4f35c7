//! Training pictures shifted and mirrored afresh every time they are seen.
//!
//! A shift cuts a picture that is one patch smaller out of it, so that patches of every offset are seen and nothing is
//! made up at its borders.

use std::collections::BTreeMap;

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::view::View;
use crate::random::Draws;

/// What is done to training pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Patches at every offset, along each axis for half of the pictures; only while latents are independent over
    /// positions (a latent tree knows whole pictures).
    pub shifts: bool,
    /// Left and right exchanged, for half of the pictures.
    pub mirrors: bool,
}

/// Pictures of a batch that have one size after augmentation.
#[derive(Debug)]
pub struct Seen {
    /// How pictures of this size are seen.
    pub view: View,
    /// u8 `[B', H', W', C]`.
    pub pixels: Tensor,
    /// Their numbers in their set.
    pub pictures: Vec<usize>,
}

/// What is done to one picture: mirrored, and where it begins along each axis if it is cut.
struct Change {
    mirrored: bool,
    starts: [Option<i64>; 2],
}

impl Augment {
    /// A batch of pictures `[B, H, W, C]` as they are seen this time, those of one size together. What becomes of a picture
    /// depends on its own stream alone.
    #[must_use]
    pub fn apply(&self, view: &View, pixels: &Tensor, draws: &Draws) -> Vec<Seen> {
        let sizes = [pixels.size()[1], pixels.size()[2]];
        let patch = view.grid.patch as i64;
        let mut groups: BTreeMap<[bool; 2], (Vec<Tensor>, Vec<usize>)> = BTreeMap::new();
        if !self.shifts && !self.mirrors {
            return vec![Seen { view: *view, pixels: pixels.shallow_clone(), pictures: draws.pictures.to_vec() }];
        }
        for (i, &picture) in draws.pictures.iter().enumerate() {
            let change = self.change(sizes, patch, draws, i);
            let mut own = pixels.get(i as i64);
            if change.mirrored {
                own = own.flip([1]);
            }
            for (axis, start) in change.starts.iter().enumerate() {
                own = start.map_or(own.shallow_clone(), |start| own.narrow(axis as i64, start, sizes[axis] - patch));
            }
            let group = groups.entry(change.starts.map(|start| start.is_some())).or_default();
            group.0.push(own);
            group.1.push(picture);
        }
        let seen = groups.into_values().map(|(pixels, pictures)| {
            let pixels = Tensor::stack(&pixels, 0);
            let view = view.resized(pixels.size()[1] as usize, pixels.size()[2] as usize);
            Seen { view, pixels, pictures }
        });
        seen.collect()
    }

    fn change(self, sizes: [i64; 2], patch: i64, draws: &Draws, i: usize) -> Change {
        let mut rng = draws.of(i);
        let mirrored = self.mirrors && rng.random_bool(0.5);
        let starts = sizes.map(|size| {
            let cut = self.shifts && size > patch && patch > 1 && rng.random_bool(0.5);
            cut.then(|| rng.random_range(1..patch))
        });
        Change { mirrored, starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::ColorSpace;
    use crate::data::patches::Region;
    use crate::data::pictures::PictureShape;
    use std::collections::BTreeSet;
    use tch::{Device, Kind};

    fn draws(pass: u64, pictures: &[usize]) -> Draws<'_> {
        Draws { seed: 1, purpose: "test", pass, pictures }
    }

    #[test]
    fn a_picture_is_changed_in_the_same_way_in_every_batch() {
        let shape = PictureShape { height: 8, width: 8, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
        let pixels = Tensor::randint(256, [12, 8, 8, 1], (Kind::Uint8, Device::Cpu));
        let augment = Augment { shifts: true, mirrors: true };
        let changed = |batch: usize| {
            let numbers: Vec<usize> = (0..12).collect();
            let mut all: Vec<(usize, Tensor, Tensor)> = Vec::new();
            for some in numbers.chunks(batch) {
                let rows: Vec<i64> = some.iter().map(|&i| i as i64).collect();
                let pixels = pixels.index_select(0, &Tensor::from_slice(&rows));
                for seen in augment.apply(&view, &pixels, &draws(3, some)) {
                    let noisy = seen.view.dequantised(&seen.pixels, &draws(4, &seen.pictures));
                    for (i, &picture) in seen.pictures.iter().enumerate() {
                        all.push((picture, seen.pixels.get(i as i64), noisy.get(i as i64)));
                    }
                }
            }
            all.sort_by_key(|(picture, ..)| *picture);
            all
        };
        let one = changed(1);
        assert!(one.iter().any(|(_, pixels, _)| pixels.size() == [4, 8, 1]));
        assert_eq!(one, changed(5));
        assert_eq!(one, changed(12));
    }

    #[test]
    fn all_offsets_and_both_sides_are_seen() {
        let shape = PictureShape { height: 8, width: 12, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
        let pixels = Tensor::arange(96, (Kind::Uint8, Device::Cpu)).view([1, 8, 12, 1]);
        let mut corners = BTreeSet::new();
        let augment = Augment { shifts: true, mirrors: true };
        for pass in 0..4000 {
            let seen = augment.apply(&view, &pixels, &draws(pass, &[0]));
            let Seen { view, pixels, .. } = &seen[0];
            assert_eq!([view.grid.rows as i64 * 4, view.grid.cols as i64 * 4], [pixels.size()[1], pixels.size()[2]]);
            assert_eq!(view.integers(pixels).unwrap().size()[1], (view.grid.rows * view.grid.cols) as i64);
            corners.insert(pixels.int64_value(&[0, 0, 0, 0]));
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
        let Seen { view: same, pixels: seen, .. } =
            Augment::default().apply(&view, &pixels, &draws(0, &[0, 1])).remove(0);
        assert_eq!((same.patches(), same.dimensions()), (4, 64));
        assert_eq!(same.integers(&seen).unwrap(), view.integers(&pixels).unwrap());
    }

    #[test]
    fn nothing_changes_unless_asked_for() {
        let shape = PictureShape { height: 4, width: 4, channels: 1, levels: 256 };
        let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
        let pixels = Tensor::randint(256, [2, 4, 4, 1], (Kind::Uint8, Device::Cpu));
        assert!(Augment::default().apply(&view, &pixels, &draws(0, &[0, 1]))[0].pixels == pixels);
        // A picture of one patch has no other offsets.
        let shifts = Augment { shifts: true, mirrors: false };
        assert!(shifts.apply(&view, &pixels, &draws(0, &[0, 1]))[0].pixels == pixels);
    }
}
