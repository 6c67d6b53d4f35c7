//! Latents: features per patch made into hard cluster ids by k-means (section 4 of the method).
//!
//! Features are streamed; only a sample of them is ever in memory. Knows no teacher: whoever has features implements
//! [`FeatureChunks`].

mod rows;
pub mod assignments;
pub mod codebook;
pub mod kmeans;

use crate::require;
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

pub use assignments::Assignments;
pub use codebook::Codebook;
pub use kmeans::KMeansConfig;

/// Features of all patches of a sequence of pictures, in order, a chunk at a time.
pub trait FeatureChunks {
    /// Patches of all pictures together.
    fn count(&self) -> usize;

    /// Patches of a picture, L.
    fn patches(&self) -> usize;

    /// Visit all features from the first patch of the first picture on, as f32 `[n, F]` with any n, the same in every
    /// pass.
    ///
    /// # Errors
    /// Those of the visitor, and whatever stops features from being made.
    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()>;
}

/// Visit every chunk with the number of its first patch, after a check of its shape and that it is finite.
fn each_checked(source: &dyn FeatureChunks, visit: &mut dyn FnMut(usize, Tensor) -> Result<()>) -> Result<()> {
    let mut seen = 0;
    source.for_each(&mut |chunk| {
        check(&chunk, seen, source.patches())?;
        let first = seen;
        seen += chunk.size()[0] as usize;
        visit(first, chunk)
    })?;
    ensure!(seen == source.count(), "features: expected {} patches, found {seen}", source.count());
    Ok(())
}

/// Refuse features that are not f32 `[n, F]` or not finite; `first` is the number of the first patch.
fn check(chunk: &Tensor, first: usize, patches: usize) -> Result<()> {
    let (kind, size) = (chunk.kind(), chunk.size());
    ensure!(kind == Kind::Float && size.len() == 2, "features: expected Float [n, F], found {kind:?} {size:?}");
    let wrong = chunk.isfinite().logical_not();
    if bool::try_from(wrong.any())? {
        let place: Vec<i64> = Vec::try_from(wrong.nonzero().get(0))?;
        let patch = first + place[0] as usize;
        require!(
            false,
            "features: picture {}, patch {}: feature {} is {}, expected a finite number: the teacher that made it is \
             broken, train it again",
            patch / patches,
            patch % patches,
            place[1],
            chunk.double_value(&place)
        );
    }
    Ok(())
}
