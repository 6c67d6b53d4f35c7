//! A teacher's features as k-means reads them, several times: made anew in every pass, or kept in a file by the first.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Tensor;

use crate::latents::FeatureChunks;
use crate::require;
use crate::run::array::{ArrayWriter, MappedArray};
use crate::run::interrupt;
use crate::teacher::features::{BATCH, Features};

/// Features for any number of passes.
pub struct Passes<'a> {
    features: Features<'a>,
    kept: Option<PathBuf>,
}

impl<'a> Passes<'a> {
    /// The teacher looks at all pictures in every pass.
    #[must_use]
    pub fn new(features: Features<'a>) -> Self {
        Self { features, kept: None }
    }

    /// The first pass writes this file, and the others read it. It must lie where another teacher or other pictures mean
    /// another folder.
    #[must_use]
    pub fn kept_in(features: Features<'a>, path: PathBuf) -> Self {
        Self { features, kept: Some(path) }
    }

    /// A pass that writes what it visits.
    fn write(&self, path: &Path, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let mut array = ArrayWriter::new(path, self.features.pictures());
        self.features.for_each(&mut |features| {
            array.append(&features)?;
            visit(flat(&features)?)
        })?;
        array.finish().map(|_| ())
    }

    /// A pass over what another one wrote.
    fn read(&self, path: &Path, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        for features in MappedArray::open(path)?.chunks(BATCH * self.features.patches()) {
            visit(features.to_device(self.features.device()))?;
            interrupt::check()?;
        }
        Ok(())
    }
}

impl FeatureChunks for Passes<'_> {
    fn count(&self) -> usize {
        self.features.pictures() * self.features.patches()
    }

    fn patches(&self) -> usize {
        self.features.patches()
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        match &self.kept {
            None => self.features.for_each(&mut |features| visit(flat(&features)?)),
            Some(path) if path.exists() => self.read(path, visit),
            Some(path) => self.write(path, visit),
        }
    }
}

/// Features `[B, L, F]` one after the other, `[B * L, F]`.
fn flat(features: &Tensor) -> Result<Tensor> {
    require!(
        features.dim() == 3,
        "the teacher gives codes, and features are asked for: growing by criterion paper clusters features
  choose criterion: gain"
    );
    Ok(features.flatten(0, 1))
}
