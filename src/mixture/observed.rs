//! The masks that `lvd eval` has words for.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Mixture;
use super::mask::Mask;
use crate::patch::PatchEvidence;

/// The pixels of which the probability is asked; the others are summed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// All of them.
    #[default]
    All,
    /// The upper half.
    Top,
    /// The left half.
    Left,
    /// Every other pixel, as on a chessboard.
    Chessboard,
}

impl Observed {
    /// Patches `[B, L, D]` of which only these pixels were observed.
    ///
    /// # Errors
    /// As [`Mixture::observe`].
    pub fn of(self, model: &Mixture, patches: PatchEvidence) -> Result<PatchEvidence> {
        match self.mask(model) {
            Some(mask) => model.observe(patches, &mask),
            None => Ok(patches),
        }
    }

    /// Numbers of a picture that are observed.
    #[must_use]
    pub fn dimensions(self, model: &Mixture) -> usize {
        self.mask(model).map_or(model.view.dimensions(), |mask| mask.pixels() * model.view.grid.channels)
    }

    /// None for all pixels.
    fn mask(self, model: &Mixture) -> Option<Mask> {
        let [height, width] = model.view.size().map(|n| n as i64);
        match self {
            Self::All => None,
            Self::Top => Some(Mask::top(height, width)),
            Self::Left => Some(Mask::left(height, width)),
            Self::Chessboard => Some(Mask::chessboard(height, width)),
        }
    }
}
