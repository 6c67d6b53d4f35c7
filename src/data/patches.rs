//! Cut pictures into square patches that do not overlap, and put them together again.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::pictures::PictureShape;
use crate::require;

/// Which part of a picture is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// All of it.
    #[default]
    Whole,
    /// The top left quarter, `H/2 x W/2`, as in the paper's released code.
    Quadrant,
}

impl Region {
    /// In how many parts the region cuts each side of a picture.
    #[must_use]
    pub fn parts(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Quadrant => 2,
        }
    }
}

/// How pictures of one size are cut. Patches are counted row by row; within a patch the order of variables is row,
/// column, channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PatchGrid {
    /// Which part of a picture is cut.
    pub region: Region,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub cols: usize,
    /// Numbers a pixel.
    pub channels: usize,
}

impl PatchGrid {
    /// The grid of patches of `patch x patch` pixels over a region of pictures of this shape.
    ///
    /// # Errors
    /// A refusal where the region is no whole number of patches high and wide.
    pub fn new(shape: PictureShape, patch: usize, region: Region) -> Result<Self> {
        let PictureShape { height, width, channels, .. } = shape;
        require!(patch > 0, "the patch size must be at least 1, found 0");
        let (h, w) = match region {
            Region::Whole => (height, width),
            Region::Quadrant => {
                require!(
                    height % 2 == 0 && width % 2 == 0,
                    "pictures of {height}x{width} have no top left quadrant: height and width must be even"
                );
                (height / 2, width / 2)
            }
        };
        require!(
            h > 0 && w > 0 && h % patch == 0 && w % patch == 0,
            "a region of {h}x{w} pixels cannot be cut into patches of {patch}x{patch}: choose a patch size that divides both"
        );
        Ok(Self { region, patch, rows: h / patch, cols: w / patch, channels })
    }

    /// The grid of patches that covers pictures of this shape; those at the right and the lower edge may stick out.
    ///
    /// # Errors
    /// A refusal where the picture or the patch is empty, or only a part of the picture is looked at.
    pub fn covering(shape: PictureShape, patch: usize, region: Region) -> Result<Self> {
        let PictureShape { height, width, channels, .. } = shape;
        require!(region == Region::Whole, "context needs whole pictures, found a quadrant of them");
        require!(patch > 0 && height > 0 && width > 0, "pictures and patches must be at least 1 pixel high and wide");
        Ok(Self { region, patch, rows: height.div_ceil(patch), cols: width.div_ceil(patch), channels })
    }

    /// Patches a picture, `L`.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.rows * self.cols
    }

    /// Variables a patch, `D = patch * patch * channels`.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// `[B, H, W, C]` -> `[B, L, D]`, any kind and device.
    pub fn cut(&self, pictures: &Tensor) -> Tensor {
        let [rows, cols, patch, channels] = self.sizes();
        let region = pictures.narrow(1, 0, rows * patch).narrow(2, 0, cols * patch);
        self.by_patch(&region).reshape([region.size()[0], rows * cols, patch * patch * channels])
    }

    /// The region, `[B, rows * patch, cols * patch, C]` -> `[B, rows, cols, patch, patch, C]`. It asks for no size, so that a
    /// trace of it serves any batch.
    pub fn by_patch(&self, region: &Tensor) -> Tensor {
        let [rows, cols, patch, channels] = self.sizes();
        region.reshape([-1, rows, patch, cols, patch, channels]).permute([0, 1, 3, 2, 4, 5])
    }

    /// `[B, L, D]` -> the region, `[B, rows * patch, cols * patch, C]`: undoes [`cut`](Self::cut) for whole pictures.
    pub fn assemble(&self, patches: &Tensor) -> Tensor {
        let [rows, cols, patch, channels] = self.sizes();
        let split = patches.reshape([-1, rows, cols, patch, patch, channels]);
        split.permute([0, 1, 3, 2, 4, 5]).reshape([patches.size()[0], rows * patch, cols * patch, channels])
    }

    fn sizes(&self) -> [i64; 4] {
        [self.rows, self.cols, self.patch, self.channels].map(|n| n as i64)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn shape(height: usize, width: usize, channels: usize) -> PictureShape {
        PictureShape { height, width, channels, levels: 256 }
    }

    #[test]
    fn variables_are_in_the_stated_order() {
        // Value of a pixel's channel: 100 * row + 10 * column + channel.
        let axis = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu));
        let picture = axis(4).reshape([4, 1, 1]) * 100 + axis(6).reshape([6, 1]) * 10 + axis(3);
        let grid = PatchGrid::new(shape(4, 6, 3), 2, Region::Whole).unwrap();
        assert_eq!((grid.rows, grid.cols, grid.patches(), grid.variables()), (2, 3, 6, 12));
        let patches = grid.cut(&picture.unsqueeze(0));
        assert_eq!(patches.size(), [1, 6, 12]);
        let fifth = Vec::<i64>::try_from(patches.get(0).get(4)).unwrap(); // rows 2 and 3, columns 2 and 3
        assert_eq!(fifth, [220, 221, 222, 230, 231, 232, 320, 321, 322, 330, 331, 332]);
    }

    #[test]
    fn whole_pictures_come_back() {
        for (patch, kind) in [(1, Kind::Uint8), (2, Kind::Int16), (4, Kind::Double)] {
            let pictures = Tensor::randint(256, [3, 8, 4, 3], (kind, Device::Cpu));
            let grid = PatchGrid::new(shape(8, 4, 3), patch, Region::Whole).unwrap();
            assert!(grid.assemble(&grid.cut(&pictures)) == pictures);
        }
        let none = Tensor::zeros([0, 8, 4, 3], (Kind::Uint8, Device::Cpu));
        let grid = PatchGrid::new(shape(8, 4, 3), 2, Region::Whole).unwrap();
        assert_eq!(grid.assemble(&grid.cut(&none)).size(), [0, 8, 4, 3]);
    }

    #[test]
    fn the_quadrant_is_the_top_left() {
        let pictures = Tensor::randint(256, [2, 8, 8, 1], (Kind::Uint8, Device::Cpu));
        let grid = PatchGrid::new(shape(8, 8, 1), 2, Region::Quadrant).unwrap();
        assert_eq!(grid.patches(), 4);
        assert!(grid.assemble(&grid.cut(&pictures)) == pictures.narrow(1, 0, 4).narrow(2, 0, 4));
    }

    #[test]
    fn sizes_that_do_not_divide_are_refused() {
        let message = |s, patch, region| PatchGrid::new(s, patch, region).unwrap_err().to_string();
        let expected =
            "a region of 28x28 pixels cannot be cut into patches of 8x8: choose a patch size that divides both";
        assert_eq!(message(shape(28, 28, 1), 8, Region::Whole), expected);
        let quadrant =
            "a region of 14x14 pixels cannot be cut into patches of 4x4: choose a patch size that divides both";
        assert_eq!(message(shape(28, 28, 1), 4, Region::Quadrant), quadrant);
        let odd = "pictures of 7x8 have no top left quadrant: height and width must be even";
        assert_eq!(message(shape(7, 8, 1), 1, Region::Quadrant), odd);
        assert_eq!(message(shape(7, 8, 1), 0, Region::Whole), "the patch size must be at least 1, found 0");
    }
}
