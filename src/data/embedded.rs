//! The built-in set: 1,797 handwritten digits of 8x8 pixels with 17 grey levels, so that the default experiment runs
//! on real data with nothing to fetch. Source and licence: `embedded/SOURCE.md`.

use std::ops::Range;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use rand::seq::SliceRandom;

use super::pictures::{PictureShape, Pictures};
use super::split::Split;
use crate::random;

const PACKED: &[u8] = include_bytes!("embedded/digits.csv.gz");
const SIDE: usize = 8;

/// Pictures of one part. The file is ordered by writers, so its rows are shuffled first, always in the same way
/// (stream `digits split` of seed 0); then 1,297 are for training, 200 for validation and 300 for the test.
///
/// # Errors
/// None but bugs: the data are part of the program.
pub fn digits(split: Split) -> Result<Pictures> {
    let all = all_digits()?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.shuffle(&mut random::rng(0, "digits split", 0));
    Ok(all.pick(&order[part(split)]))
}

/// Places of a part in the shuffled order.
fn part(split: Split) -> Range<usize> {
    match split {
        Split::Train => 0..1_297,
        Split::Valid => 1_297..1_497,
        Split::Test => 1_497..1_797,
    }
}

/// All pictures in the order of the file: rows of 64 values 0 to 16 and a label, which is left out.
fn all_digits() -> Result<Pictures> {
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(PACKED));
    let mut pixels = Vec::new();
    for row in rows.records() {
        for value in row?.iter().take(SIDE * SIDE) {
            pixels.push(value.parse().context("the embedded digits are damaged")?);
        }
    }
    Pictures::from_bytes(pixels, PictureShape { height: SIDE, width: SIDE, channels: 1, levels: 17 })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tch::Kind;

    use super::*;

    fn rows(pictures: &Pictures) -> Vec<Vec<u8>> {
        (0..pictures.len()).map(|i| Vec::try_from(pictures.batch(&[i]).unwrap().reshape([-1])).unwrap()).collect()
    }

    #[test]
    fn the_file_holds_the_published_pictures() {
        let all = all_digits().unwrap();
        let pixels = all.batch(&(0..1_797).collect::<Vec<_>>()).unwrap();
        assert_eq!(pixels.size(), [1_797, 8, 8, 1]);
        // First row of the published table: a zero.
        assert_eq!(rows(&all)[0][..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
        // Sum over the table by awk: zcat digits.csv.gz | awk -F, '{for (i = 1; i <= 64; i++) s += $i} END {print s}'
        assert_eq!(pixels.sum(Kind::Int64).int64_value(&[]), 561_718);
        assert_eq!(all.shape().levels, 17);
    }

    #[test]
    fn the_parts_are_all_pictures_once() {
        let parts = [Split::Train, Split::Valid, Split::Test].map(|s| digits(s).unwrap());
        assert_eq!(parts.each_ref().map(Pictures::len), [1_297, 200, 300]);
        let mut left: HashMap<Vec<u8>, i32> = HashMap::new();
        for row in rows(&all_digits().unwrap()) {
            *left.entry(row).or_default() += 1;
        }
        for row in parts.iter().flat_map(rows) {
            *left.entry(row).or_default() -= 1;
        }
        assert!(left.values().all(|&count| count == 0));
    }

    /// Published numbers are about this very split: a change of a random library must not move it unnoticed.
    #[test]
    fn the_split_is_frozen() {
        let hashes = [Split::Train, Split::Valid, Split::Test].map(|s| digits(s).unwrap().sha256()[..16].to_owned());
        assert_eq!(hashes, ["3ae215c1e7200350", "ad2e4c11df4dfa35", "31386ff399649beb"]);
    }
}
