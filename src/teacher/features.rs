//! A teacher's features of the patches that a circuit sees, streamed from pictures.

use std::path::Path;

use anyhow::{Context, Error, Result};
use tch::{Device, Tensor};

use super::Teacher;
use crate::data::batches::Batch;
use crate::data::pictures::Pictures;
use crate::data::view::View;
use crate::refusal::Refusal;
use crate::run::array::ArrayWriter;
use crate::run::{interrupt, progress};
use crate::{refusal, require};

/// Pictures that a teacher looks at in one go.
pub const BATCH: usize = 64;

/// A teacher's features of all patches of some pictures that a circuit sees.
pub struct Features<'a> {
    teacher: &'a dyn Teacher,
    pictures: &'a Pictures,
    device: Device,
    /// Which of the teacher's patches the circuit sees, in the circuit's order, int64 `[L]`.
    seen: Tensor,
}

impl<'a> Features<'a> {
    /// Features of these pictures on this device.
    #[must_use]
    pub fn new(teacher: &'a dyn Teacher, pictures: &'a Pictures, view: &View, device: Device) -> Self {
        Self { teacher, pictures, device, seen: seen_patches(teacher.grid(), view).to_device(device) }
    }

    /// How many pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.pictures.len()
    }

    /// Patches of a picture that the circuit sees, L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.seen.numel()
    }

    /// Where they are computed.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Visit features `[B, L, F]`, or codes `[B, L]`, batch by batch.
    ///
    /// # Errors
    /// Those of the visitor; a refusal where the teacher refuses pictures; an interruption.
    pub fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let bar = progress::bar("features", self.pictures.len() as u64);
        for batch in self.pictures.batches(0..self.pictures.len(), BATCH) {
            let Batch { indices, pixels, .. } = batch?;
            let features = self.teacher.features(&pixels.to_device(self.device));
            visit(features.map_err(|error| placed(error, &indices))?.index_select(1, &self.seen))?;
            bar.inc(indices.len() as u64);
            interrupt::check()?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The codes of a teacher of codes, in the order picture, patch.
    ///
    /// # Errors
    /// A refusal where all are equal or the teacher refuses pictures.
    pub fn codes(&self) -> Result<Vec<u16>> {
        let mut all = Vec::with_capacity(self.pictures() * self.patches());
        self.for_each(&mut |codes| {
            all.extend(Vec::<i64>::try_from(codes.flatten(0, -1))?.into_iter().map(|code| code as u16));
            Ok(())
        })?;
        let same = all.iter().all(|code| *code == all[0]);
        require!(
            !same,
            "latents: all {} patches have the code {}: the teacher tells no patches apart, choose another output",
            all.len(),
            all[0]
        );
        Ok(all)
    }

    /// Write all as a `.npy` array: f32 `[N, L, F]`, or i64 `[N, L]` for codes. Returns its shape.
    ///
    /// # Errors
    /// When the teacher refuses pictures, there are none, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<Vec<usize>> {
        let mut array = ArrayWriter::new(path, self.pictures());
        self.for_each(&mut |features| array.append(&features))?;
        array.finish()?.with_context(|| format!("{}: there are no pictures", path.display()))
    }
}

/// A refusal of the teacher's, with the pictures that it is about.
fn placed(error: Error, pictures: &[usize]) -> Error {
    match (pictures.first(), pictures.last()) {
        (Some(first), Some(last)) if error.is::<Refusal>() => refusal!("pictures {first} to {last}: {error}"),
        _ => error,
    }
}

/// Numbers of the teacher's patches in the part of a picture that the circuit models, its top left corner or all of it.
fn seen_patches((_, columns): (usize, usize), view: &View) -> Tensor {
    let in_row = |row: usize| (0..view.grid.cols).map(move |column| (row * columns + column) as i64);
    let numbers: Vec<i64> = (0..view.grid.rows).flat_map(in_row).collect();
    Tensor::from_slice(&numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::ColorSpace;
    use crate::data::patches::Region;
    use crate::data::pictures::PictureShape;

    #[test]
    fn a_quadrant_sees_the_first_patches_of_the_first_rows() {
        let shape = PictureShape { height: 8, width: 12, channels: 1, levels: 256 };
        let seen = |region| {
            let view = View::new(shape, ColorSpace::Grey, region, 2).unwrap();
            Vec::<i64>::try_from(seen_patches((4, 6), &view)).unwrap()
        };
        assert_eq!(seen(Region::Whole), (0..24).collect::<Vec<_>>());
        assert_eq!(seen(Region::Quadrant), [0, 1, 2, 6, 7, 8]);
    }
}
