//! How a circuit sees pictures: colour space, region, patches.

use anyhow::Result;
use tch::Tensor;

use super::patches::{PatchGrid, Region};
use super::pictures::PictureShape;
use crate::color::ColorSpace;

/// From pixels to patches of integers.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Colour space of the integers.
    pub color: ColorSpace,
    /// How pictures are cut.
    pub grid: PatchGrid,
    shape: PictureShape,
}

impl View {
    /// A view of pictures of this shape.
    ///
    /// # Errors
    /// When the colour space does not fit the channels or the patch does not divide the picture.
    pub fn new(shape: PictureShape, color: ColorSpace, region: Region, patch: usize) -> Result<Self> {
        if let Some(problem) = color.channels_problem(shape.channels, shape.levels) {
            return Err(crate::refusal!("color: {problem}"));
        }
        Ok(Self { color, grid: PatchGrid::new(shape, patch, region)?, shape })
    }

    /// Shape of the pictures.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// Patches of a picture: L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.grid.rows * self.grid.cols
    }

    /// Numbers of a patch: D.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.grid.patch * self.grid.patch * self.grid.channels
    }

    /// Numbers of the part of a picture that is modelled: the denominator of bits per dimension.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.patches() * self.variables()
    }

    /// Smallest and largest value of every variable of a patch.
    #[must_use]
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        let channels = self.color.ranges(self.shape.channels, self.shape.levels);
        let ranges: Vec<(i64, i64)> = channels.iter().map(|&(low, high)| (i64::from(low), i64::from(high))).collect();
        ranges.into_iter().cycle().take(self.variables()).collect()
    }

    /// Pixels u8 `[B, H, W, C]` to patches int16 `[B, L, D]`.
    pub fn patches_of(&self, pixels: &Tensor) -> Tensor {
        self.grid.cut(&self.color.forward(pixels))
    }
}
