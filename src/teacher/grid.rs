//! Pictures cut into square patches: the geometry that every teacher shares.

use crate::data::pictures::PictureShape;
use crate::require;
use anyhow::Result;
use tch::{Kind, Tensor};

/// A picture's shape together with the side of its patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    shape: PictureShape,
    patch: usize,
}

impl PatchGrid {
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
        Ok(Self { shape, patch })
    }

    /// Shape of a picture.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// Rows of patches.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.height / self.patch
    }

    /// Columns of patches.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.shape.width / self.patch
    }

    /// Patches of a picture, L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.rows() * self.columns()
    }

    /// Numbers of a picture, H * W * C.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.shape.height * self.shape.width * self.shape.channels
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
    pub(super) fn cut(&self, pixels: &Tensor) -> Tensor {
        let [rows, columns, patch, channels] =
            [self.rows(), self.columns(), self.patch, self.shape.channels].map(|n| n as i64);
        pixels.reshape([-1, rows, patch, columns, patch, channels]).permute([0, 1, 3, 2, 4, 5]).reshape([
            -1,
            rows * columns,
            patch * patch,
            channels,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_cut_in_row_major_order() {
        let shape = PictureShape { height: 2, width: 4, channels: 1, levels: 256 };
        let pixels = Tensor::from_slice(&[0u8, 1, 2, 3, 10, 11, 12, 13]).reshape([1, 2, 4, 1]);
        let patches = PatchGrid::new(shape, 2).unwrap().cut(&pixels);
        assert_eq!(patches.size(), [1, 2, 4, 1]);
        let values: Vec<u8> = Vec::try_from(patches.flatten(0, -1)).unwrap();
        assert_eq!(values, [0, 1, 10, 11, 2, 3, 12, 13]);
    }

    #[test]
    fn wrong_sizes_are_refused_by_name() {
        let shape = PictureShape { height: 28, width: 28, channels: 1, levels: 256 };
        let error = PatchGrid::new(shape, 8).unwrap_err().to_string();
        assert_eq!(
            error,
            "teacher.patch: pictures of 28 x 28 pixels cannot be cut into patches of 8 x 8: choose a patch that \
             divides both sides"
        );
        let pixels = Tensor::zeros([1, 28, 28, 3], (Kind::Uint8, tch::Device::Cpu));
        let error = PatchGrid::new(shape, 4).unwrap().check(&pixels).unwrap_err().to_string();
        assert_eq!(
            error,
            "teacher: expected pixels Uint8 [B, 28, 28, 1], found Uint8 [1, 28, 28, 3]: use pictures of the size the \
             teacher was made for"
        );
    }
}
