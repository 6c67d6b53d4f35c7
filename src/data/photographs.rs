//! The built-in set of colour: 1,626 tiles of 16x16 pixels cut from four photographs, natural pictures with nothing to fetch.
//! Sources and licences: `embedded/SOURCE.md`.

use std::ops::Range;

use anyhow::{Context, Result};
use image::ImageFormat;
use rand::seq::SliceRandom;

use super::pictures::{PictureShape, Pictures};
use super::split::Split;
use crate::random;

const PHOTOGRAPHS: [&[u8]; 4] = [
    include_bytes!("embedded/astronaut.png"),
    include_bytes!("embedded/chelsea.png"),
    include_bytes!("embedded/coffee.png"),
    include_bytes!("embedded/rocket.png"),
];
/// Side of a tile.
const SIDE: u32 = 16;

/// Tiles of one part. They are shuffled first, always in the same way (stream `photographs split` of seed 0); then 1,306
/// are for training, 160 for validation and 160 for the test.
///
/// # Errors
/// None but bugs: the data are part of the program.
pub fn photographs(split: Split) -> Result<Pictures> {
    let all = all_tiles()?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.shuffle(&mut random::rng(0, "photographs split", 0));
    Ok(all.pick(&order[part(split)]))
}

/// Places of a part in the shuffled order.
fn part(split: Split) -> Range<usize> {
    match split {
        Split::Train => 0..1_306,
        Split::Valid => 1_306..1_466,
        Split::Test => 1_466..1_626,
    }
}

/// All whole tiles, photograph by photograph, row by row.
fn all_tiles() -> Result<Pictures> {
    let mut pixels = Vec::new();
    for bytes in PHOTOGRAPHS {
        let photograph = image::load_from_memory_with_format(bytes, ImageFormat::Png);
        let photograph = photograph.context("an embedded photograph is damaged")?.into_rgb8();
        let (width, height) = photograph.dimensions();
        for top in (0..height / SIDE).map(|row| row * SIDE) {
            for left in (0..width / SIDE).map(|column| column * SIDE) {
                let rows = (top..top + SIDE).flat_map(|y| (left..left + SIDE).map(move |x| (x, y)));
                pixels.extend(rows.flat_map(|(x, y)| photograph.get_pixel(x, y).0));
            }
        }
    }
    let side = SIDE as usize;
    Pictures::from_bytes(pixels, PictureShape { height: side, width: side, channels: 3, levels: 256 })
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn tiles_are_those_of_the_photographs() {
        let all = all_tiles().unwrap();
        // Tiles and sums by numpy: sum of a[:h // 16 * 16, :w // 16 * 16] over the four PNG files.
        let pixels = all.batch(&(0..all.len()).collect::<Vec<_>>()).unwrap();
        assert_eq!(pixels.size(), [1_626, 16, 16, 3]);
        assert_eq!(pixels.sum(Kind::Int64).int64_value(&[]), 130_686_721);
        // Row 3, column 5 of the second tile of the first photograph.
        let pixel = all.batch(&[1]).unwrap().get(0).get(3).get(5).to_kind(Kind::Int64);
        assert_eq!(Vec::<i64>::try_from(pixel).unwrap(), [16, 5, 39]);
    }

    /// Published numbers are about this very split: a change of a random library must not move it unnoticed.
    #[test]
    fn the_split_is_frozen() {
        let parts = [Split::Train, Split::Valid, Split::Test].map(|s| photographs(s).unwrap());
        assert_eq!(parts.each_ref().map(Pictures::len), [1_306, 160, 160]);
        assert_eq!(
            parts.map(|part| part.sha256()[..16].to_owned()),
            ["64db00acb878cf30", "420e21d69c1a8513", "c93359538a67c9cb"]
        );
    }
}
