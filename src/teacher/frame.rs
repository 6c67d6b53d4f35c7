//! What pictures a teacher is made for, and how it parts them.

use crate::data::patches::{PatchGrid, Region};
use crate::data::pictures::PictureShape;
use crate::require;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Pictures of one shape with the grid of patches over the whole of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    shape: PictureShape,
    grid: PatchGrid,
}

impl Frame {
    /// Patches of `patch` x `patch` pixels on pictures of this shape.
    ///
    /// # Errors
    /// When a side of the picture is not divisible by the patch.
    pub fn new(shape: PictureShape, patch: usize) -> Result<Self> {
        require!(
            patch > 0 && shape.height.is_multiple_of(patch) && shape.width.is_multiple_of(patch),
            "teacher.patch: pictures of {} x {} pixels cannot be cut into patches of {patch} x {patch}: choose a patch \
             that divides both sides",
            shape.height,
            shape.width
        );
        Ok(Self { shape, grid: PatchGrid::new(shape, patch, Region::Whole)? })
    }

    /// Shape of a picture.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// Rows of patches.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.grid.rows
    }

    /// Columns of patches.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.grid.cols
    }

    /// Patches of a picture, L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.grid.patches()
    }

    /// Numbers of a picture, H * W * C.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.shape.dimensions()
    }

    /// Refuse pixels that are not u8 `[B, H, W, C]` of this shape.
    pub(super) fn check(&self, pixels: &Tensor) -> Result<()> {
        let PictureShape { height, width, channels, .. } = self.shape;
        let (kind, size) = (pixels.kind(), pixels.size());
        require!(
            kind == Kind::Uint8 && size.len() == 4 && size[1..] == [height, width, channels].map(|n| n as i64),
            "teacher: expected pixels Uint8 [B, {height}, {width}, {channels}], found {kind:?} {size:?}: use pictures \
             of the size the teacher was made for"
        );
        Ok(())
    }

    /// Cut pixels `[B, H, W, C]` into `[B, L, patch * patch, C]`, all in row-major order.
    pub(super) fn patches_of(&self, pixels: &Tensor) -> Tensor {
        let PatchGrid { patch, channels, .. } = self.grid;
        let [patches, pixels_each, channels] = [self.patches(), patch * patch, channels].map(|n| n as i64);
        self.grid.by_patch(pixels).reshape([-1, patches, pixels_each, channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_cut_in_row_major_order() {
        let shape = PictureShape { height: 2, width: 4, channels: 1, levels: 256 };
        let pixels = Tensor::from_slice(&[0u8, 1, 2, 3, 10, 11, 12, 13]).reshape([1, 2, 4, 1]);
        let patches = Frame::new(shape, 2).unwrap().patches_of(&pixels);
        assert_eq!(patches.size(), [1, 2, 4, 1]);
        let values: Vec<u8> = Vec::try_from(patches.flatten(0, -1)).unwrap();
        assert_eq!(values, [0, 1, 10, 11, 2, 3, 12, 13]);
    }

    #[test]
    fn wrong_sizes_are_refused_by_name() {
        let shape = PictureShape { height: 28, width: 28, channels: 1, levels: 256 };
        let error = Frame::new(shape, 8).unwrap_err().to_string();
        assert_eq!(
            error,
            "teacher.patch: pictures of 28 x 28 pixels cannot be cut into patches of 8 x 8: choose a patch that \
             divides both sides"
        );
        let pixels = Tensor::zeros([1, 28, 28, 3], (Kind::Uint8, tch::Device::Cpu));
        let error = Frame::new(shape, 4).unwrap().check(&pixels).unwrap_err().to_string();
        assert_eq!(
            error,
            "teacher: expected pixels Uint8 [B, 28, 28, 1], found Uint8 [1, 28, 28, 3]: use pictures of the size the \
             teacher was made for"
        );
    }
}
