//! Features that were made elsewhere: an array in a file, no code that runs here.

mod array;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::pin::pin;
use crate::refusal::Problems;
use crate::require;
use array::Array;

/// A file of features of the training pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenConfig {
    /// Side of a patch in pixels; that of `patch.size` where it is not given.
    #[serde(default)]
    pub patch: usize,
    /// A `.npy` array or a safetensors file: features `[N, L, F]` (float16, float32, float64, in safetensors bfloat16 too) or
    /// codes `[N, L]` (uint8, uint16, int32 or int64) of the N training pictures in order, their L patches row by row.
    pub train: PathBuf,
    /// Name of the tensor in a safetensors file that holds several.
    // Left out where there is none: what is written here is part of a stage's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// Expected SHA-256 of the file.
    #[serde(default)]
    pub sha256: Option<String>,
}

impl GivenConfig {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(self.patch > 0, format!("{path}.patch"), "must be at least 1");
    }

    /// The same with the hash of the file filled in.
    ///
    /// # Errors
    /// A refusal where there is no such file, or it is not the one that was named.
    pub fn pinned(&self) -> Result<Self> {
        let found = pin(&self.train, self.sha256.as_deref(), "teacher.train")?;
        Ok(Self { sha256: Some(found), ..self.clone() })
    }
}

/// Features, or codes, of the patches of pictures in a mapped file.
pub struct GivenFeatures {
    array: Array,
    /// Pictures, patches of each, and features of each patch; none for codes.
    pictures: usize,
    patches: usize,
    width: Option<usize>,
}

impl GivenFeatures {
    /// Open the file for so many pictures of so many patches.
    ///
    /// # Errors
    /// A refusal where it is no such array or has other sizes.
    pub fn open(config: &GivenConfig, pictures: usize, patches: usize) -> Result<Self> {
        let array = Array::open(&config.train, config.tensor.as_deref())?;
        let (name, shape) = (array.name(), array.shape());
        let (wanted, meaning) = if array.is_of_floats() { (3, "features [N, L, F]") } else { (2, "codes [N, L]") };
        require!(shape.len() == wanted, "{name}: shape is {shape:?}, expected {meaning}");
        require!(
            shape[..2] == [pictures, patches],
            "{name}: {} pictures of {} patches, expected {pictures} training pictures of {patches} patches",
            shape[0],
            shape[1]
        );
        let width = shape.get(2).copied();
        require!(width != Some(0), "{name}: the features have no numbers");
        Ok(Self { array, pictures, patches, width })
    }

    /// The file, and the tensor where it has a name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.array.name()
    }

    /// Whether they are codes, the latents as they are.
    #[must_use]
    pub fn are_codes(&self) -> bool {
        self.width.is_none()
    }

    /// How many pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// Patches of a picture.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Features of the patches of `count` pictures from number `start` on, float32 `[count * L, F]`.
    ///
    /// # Errors
    /// A refusal where one is not finite.
    pub fn features(&self, start: usize, count: usize) -> Result<Tensor> {
        let width = self.width.unwrap_or(1) as i64;
        let numbers = self.array.rows(start, count).view([-1, width]).to_kind(Kind::Float);
        let finite = bool::try_from(numbers.isfinite().all())?;
        require!(finite, "{}: a feature of pictures {start} to {} is not finite", self.array.name(), start + count - 1);
        Ok(numbers)
    }

    /// All codes, in the order picture, patch.
    ///
    /// # Errors
    /// A refusal where one is none of `0..clusters`.
    pub fn codes(&self, clusters: usize) -> Result<Vec<u16>> {
        let codes = self.array.rows(0, self.pictures).to_kind(Kind::Int64);
        let (name, least, most) = (self.array.name(), codes.min().int64_value(&[]), codes.max().int64_value(&[]));
        require!(
            least >= 0 && most < clusters as i64,
            "{name}: codes go from {least} to {most}, expected 0 to {} (latents.clusters is {clusters})",
            clusters - 1
        );
        require!(least < most, "{name}: all patches have the code {least}: it tells no patches apart");
        Ok(Vec::<i64>::try_from(codes.view(-1))?.into_iter().map(|code| code as u16).collect())
    }
}
