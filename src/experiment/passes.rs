//! A teacher's features as k-means reads them, several times: made anew in every pass, or kept in a file by the first.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::{Device, Tensor};

use crate::latents::FeatureChunks;
use crate::run::array::{ArrayWriter, MappedArray};
use crate::run::interrupt;
use crate::teacher::GivenFeatures;
use crate::teacher::features::{BATCH, Features};
use crate::{refusal, require};

/// Features for any number of passes.
pub struct Passes<'a>(From<'a>);

enum From<'a> {
    /// A teacher that looks at pictures, and the file that keeps what it says.
    Teacher(Features<'a>, Option<PathBuf>),
    /// A file that was made elsewhere, for a device.
    File(GivenFeatures, Device),
}

impl<'a> Passes<'a> {
    /// The teacher looks at all pictures in every pass.
    #[must_use]
    pub fn new(features: Features<'a>) -> Self {
        Self(From::Teacher(features, None))
    }

    /// The first pass writes this file, and the others read it. It must lie where another teacher or other pictures mean
    /// another folder.
    #[must_use]
    pub fn kept_in(features: Features<'a>, path: PathBuf) -> Self {
        Self(From::Teacher(features, Some(path)))
    }

    /// Features of a file, for k-means on this device.
    #[must_use]
    pub fn given(features: GivenFeatures, device: Device) -> Self {
        Self(From::File(features, device))
    }
}

/// A pass that writes what it visits.
fn write(features: &Features, path: &Path, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
    let mut array = ArrayWriter::new(path, features.pictures());
    features.for_each(&mut |features| {
        array.append(&features)?;
        visit(flat(&features)?)
    })?;
    array.finish().map(|_| ())
}

/// A pass over what another one wrote.
fn read(features: &Features, path: &Path, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
    for some in MappedArray::open(path)?.chunks(BATCH * features.patches()) {
        visit(some.to_device(features.device()))?;
        interrupt::check()?;
    }
    Ok(())
}

/// A pass over a file that was made elsewhere.
fn given(features: &GivenFeatures, device: Device, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
    for start in (0..features.pictures()).step_by(BATCH) {
        let count = BATCH.min(features.pictures() - start);
        visit(features.features(start, count)?.to_device(device))?;
        interrupt::check()?;
    }
    Ok(())
}

impl FeatureChunks for Passes<'_> {
    fn count(&self) -> usize {
        match &self.0 {
            From::Teacher(features, _) => features.pictures() * features.patches(),
            From::File(features, _) => features.pictures() * features.patches(),
        }
    }

    fn patches(&self) -> usize {
        match &self.0 {
            From::Teacher(features, _) => features.patches(),
            From::File(features, _) => features.patches(),
        }
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        match &self.0 {
            From::Teacher(features, None) => features.for_each(&mut |features| visit(flat(&features)?)),
            From::Teacher(features, Some(path)) if path.exists() => read(features, path, visit),
            From::Teacher(features, Some(path)) => write(features, path, visit),
            From::File(features, _) if features.are_codes() => Err(refusal!("{CODES}")),
            From::File(features, device) => given(features, *device, visit),
        }
    }
}

/// Codes where features are asked for.
const CODES: &str = "the teacher gives codes, and features are asked for: growing by criterion paper clusters features
  choose criterion: gain";

/// Features `[B, L, F]` one after the other, `[B * L, F]`.
fn flat(features: &Tensor) -> Result<Tensor> {
    require!(features.dim() == 3, "{CODES}");
    Ok(features.flatten(0, 1))
}
