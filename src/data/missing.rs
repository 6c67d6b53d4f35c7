//! Training pictures of which some pixels are missing.
//!
//! What is missing is never learned from: the masks travel with the pictures ([`super::batches::Batch`]), and EM counts what was
//! observed. Whoever needs whole pictures all the same (a teacher, the clusters and structures that training starts from)
//! sees missing pixels filled from their surroundings.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::npz;
use super::pictures::Pictures;
use crate::random::Draws;
use crate::refusal::Problems;
use crate::require;

/// Pictures whose missing pixels are filled in one go.
const FILLED: usize = 1024;

/// Which pixels of the training pictures are missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MissingConfig {
    /// Each by itself, drawn once for every picture.
    Random(RandomlyMissing),
    /// A `.npy` array, bool or uint8, `[H, W]` or `[N, H, W]` with N training pictures in order: zero where a pixel is missing.
    Observed(PathBuf),
}

/// Pixels that are missing at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomlyMissing {
    /// The probability of a pixel to be missing, at least 0 and below 1.
    pub share: f64,
    /// Seed of the draw; the experiment's seed where there is none.
    #[serde(default)]
    pub seed: Option<u64>,
}

impl MissingConfig {
    /// Note what is wrong with it.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if let Self::Random(RandomlyMissing { share, .. }) = self {
            let message = format!("expected at least 0 and less than 1, found {share}");
            problems.check((0.0..1.0).contains(share), format!("{path}.random.share"), message);
        }
    }

    /// What is observed of `count` pictures of this height and width: bool `[count, H, W]`.
    ///
    /// # Errors
    /// A refusal where the file cannot be read or does not fit the pictures.
    pub fn observed(&self, count: usize, [height, width]: [usize; 2], seed: u64) -> Result<Tensor> {
        let size = [count, height, width].map(|n| n as i64);
        match self {
            Self::Random(random) => {
                let numbers: Vec<usize> = (0..count).collect();
                let draws =
                    Draws { seed: random.seed.unwrap_or(seed), purpose: "missing", pass: 0, pictures: &numbers };
                Ok(random_masks(1.0 - random.share, &draws, [height, width]))
            }
            Self::Observed(path) => {
                let (found, flags) = npz::read_flags(path).context("data.mask.observed")?;
                let one = found == [height, width];
                require!(
                    one || found == [count, height, width],
                    "{}: shape is {found:?}, expected [{height}, {width}] or [{count}, {height}, {width}], as the training pictures are",
                    path.display()
                );
                require!(
                    flags.contains(&true),
                    "{}: says that no pixel is observed: a pixel is where it is not zero",
                    path.display()
                );
                let flags = Tensor::from_slice(&flags).reshape([-1, size[1], size[2]]);
                Ok(flags.expand(size, false))
            }
        }
    }
}

/// A mask for every picture of a batch: true with probability `share`, pixel by pixel, bool `[B, H, W]`.
pub fn random_masks(share: f64, draws: &Draws, [height, width]: [usize; 2]) -> Tensor {
    let one = |i| {
        let mut rng = draws.of(i);
        (0..height * width).map(move |_| rng.random::<f64>() < share)
    };
    let all: Vec<bool> = (0..draws.pictures.len()).flat_map(one).collect();
    Tensor::from_slice(&all).view([draws.pictures.len() as i64, height as i64, width as i64])
}

/// The same pictures, in memory, of which only what is true in `observed`, bool `[N, H, W]`, counts; missing pixels are
/// filled from their surroundings ([`fill`]).
///
/// # Errors
/// When there are not as many masks as pictures.
pub fn hide(pictures: &Pictures, observed: &Tensor) -> Result<Pictures> {
    let shape = pictures.shape();
    let mut pixels = Vec::with_capacity(pictures.len() * shape.dimensions());
    for batch in pictures.batches(0..pictures.len(), FILLED) {
        let batch = batch?;
        let filled = fill(&batch.pixels, &batch.rows_of(observed), shape.levels);
        pixels.extend(Vec::<u8>::try_from(filled.view(-1))?);
    }
    Pictures::from_bytes(pixels, shape)?.with_observed(observed)
}

/// Pixels u8 `[B, H, W, C]` with those that are not `observed` `[B, H, W]` filled from the outside in: again and again every
/// missing pixel beside known ones becomes the mean of those among its eight neighbours, rounded at the end. A picture
/// of which nothing is known becomes even, half of `levels`.
pub fn fill(pixels: &Tensor, observed: &Tensor, levels: usize) -> Tensor {
    let mut known = observed.to_kind(Kind::Float).unsqueeze(1); // [B, 1, H, W]
    let mut values = pixels.permute([0, 3, 1, 2]).to_kind(Kind::Float) * &known;
    let around = |t: &Tensor| t.avg_pool2d([3, 3], [1, 1], [1, 1], false, true, None::<i64>) * 9.0;
    loop {
        let count = around(&known);
        let next = known.eq(0.0).logical_and(&count.gt(0.5));
        if next.any().int64_value(&[]) == 0 {
            break;
        }
        values = (around(&values) / count.clamp_min(1.0)).where_self(&next, &values);
        known = known.masked_fill(&next, 1.0);
    }
    let half = Tensor::from((levels / 2) as f64).to_kind(Kind::Float);
    half.where_self(&known.eq(0.0), &values).round().to_kind(Kind::Uint8).permute([0, 2, 3, 1]).contiguous()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn missing_pixels_are_filled_from_the_outside_in() {
        let row = Tensor::from_slice(&[10u8, 0, 0, 0, 40]).view([1, 1, 5, 1]);
        let observed = Tensor::from_slice(&[true, false, false, false, true]).view([1, 1, 5]);
        let filled: Vec<u8> = Vec::try_from(fill(&row, &observed, 256).view(-1)).unwrap();
        assert_eq!(filled, [10, 10, 25, 40, 40]);
        let nothing: Vec<u8> = Vec::try_from(fill(&row, &observed.zeros_like(), 17).view(-1)).unwrap();
        assert_eq!(nothing, [8; 5]);
        let colours = Tensor::randint(256, [3, 4, 5, 3], (Kind::Uint8, Device::Cpu));
        let all = Tensor::ones([3, 4, 5], (Kind::Bool, Device::Cpu));
        assert!(fill(&colours, &all, 256) == colours);
    }

    #[test]
    fn what_is_missing_is_drawn_by_picture() {
        let config = MissingConfig::Random(RandomlyMissing { share: 0.25, seed: Some(3) });
        let [few, many] = [10, 400].map(|count| config.observed(count, [8, 8], 1).unwrap());
        assert!(many.narrow(0, 0, 10) == few);
        assert!(many.get(0) != many.get(1));
        let share = many.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.75).abs() < 4.0 * (0.25f64 * 0.75 / (400.0 * 64.0)).sqrt(), "{share}");
    }
}
