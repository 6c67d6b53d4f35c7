//! A sequence of pictures of one size (to be written: memory-mapped segments).

use anyhow::Result;
use serde::Serialize;
use tch::Tensor;

/// Size of every picture of a set; values are `0..levels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PictureShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// How many values a number can take: 256 for bytes, 17 for the digits.
    pub levels: usize,
}

/// Pictures of one size.
#[derive(Clone)]
pub struct Pictures {
    bytes: std::sync::Arc<Vec<u8>>,
    shape: PictureShape,
}

impl Pictures {
    /// From bytes in the order picture, row, column, channel.
    ///
    /// # Errors
    /// When the bytes are no whole number of pictures or a value reaches `levels`.
    pub fn from_bytes(bytes: Vec<u8>, shape: PictureShape) -> Result<Self> {
        Ok(Self { bytes: bytes.into(), shape })
    }

    /// How many pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / (self.shape.height * self.shape.width * self.shape.channels)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of every picture.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// The pictures at `indices`: u8 `[B, H, W, C]` on the CPU.
    ///
    /// # Errors
    /// When an index is out of range or a file cannot be read.
    pub fn batch(&self, indices: &[usize]) -> Result<Tensor> {
        let s = self.shape;
        let size = s.height * s.width * s.channels;
        let mut out = Vec::with_capacity(indices.len() * size);
        for &i in indices {
            out.extend_from_slice(&self.bytes[i * size..(i + 1) * size]);
        }
        Ok(Tensor::from_slice(&out).reshape([indices.len() as i64, s.height as i64, s.width as i64, s.channels as i64]))
    }
}
