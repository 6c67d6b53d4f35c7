//! Features that were made elsewhere: an array in a file, no code that runs here.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::ArrayViewD;
use ndarray_npy::{ViewElement, ViewNpyExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::pin::pin;
use crate::data::source::{self, Source};
use crate::refusal::Problems;
use crate::{refusal, require};

/// A file of features of the training pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenConfig {
    /// Side of a patch in pixels; that of `patch.size` where it is not given.
    #[serde(default)]
    pub patch: usize,
    /// A `.npy` array: features `[N, L, F]` (float32 or float64) or codes `[N, L]` (uint8, uint16, int32 or int64) of the
    /// N training pictures in order, their L patches row by row.
    pub train: PathBuf,
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

/// What the numbers of the file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    F32,
    F64,
    U8,
    U16,
    I32,
    I64,
}

/// Features, or codes, of the patches of pictures in a mapped file.
pub struct GivenFeatures {
    source: Source,
    name: String,
    number: Number,
    /// Where the numbers begin.
    offset: usize,
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
    pub fn open(path: &Path, pictures: usize, patches: usize) -> Result<Self> {
        let (source, name) = (source::map(path)?, path.display().to_string());
        let bytes = (*source).as_ref();
        let (number, shape, offset) = layout(bytes).ok_or_else(|| {
            refusal!(
                "{name}: expected a .npy array in C order of float32 or float64 [N, L, F], or of uint8, uint16, int32 or \
                 int64 [N, L]\n  save it with numpy.save(path, numpy.ascontiguousarray(array))"
            )
        })?;
        let of_floats = matches!(number, Number::F32 | Number::F64);
        let (wanted, meaning) = if of_floats { (3, "features [N, L, F]") } else { (2, "codes [N, L]") };
        require!(shape.len() == wanted, "{name}: shape is {shape:?}, expected {meaning}");
        require!(
            shape[..2] == [pictures, patches],
            "{name}: {} pictures of {} patches, expected {pictures} training pictures of {patches} patches",
            shape[0],
            shape[1]
        );
        let width = shape.get(2).copied();
        require!(width != Some(0), "{name}: the features have no numbers");
        Ok(Self { source, name, number, offset, pictures, patches, width })
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
        let width = self.width.unwrap_or(1);
        let numbers = self.rows(start, count, self.patches * width);
        let numbers = numbers.view([-1, width as i64]).to_kind(Kind::Float);
        let finite = bool::try_from(numbers.isfinite().all())?;
        require!(finite, "{}: a feature of pictures {start} to {} is not finite", self.name, start + count - 1);
        Ok(numbers)
    }

    /// All codes, in the order picture, patch.
    ///
    /// # Errors
    /// A refusal where one is none of `0..clusters`.
    pub fn codes(&self, clusters: usize) -> Result<Vec<u16>> {
        let codes = self.rows(0, self.pictures, self.patches).to_kind(Kind::Int64);
        let (least, most) = (codes.min().int64_value(&[]), codes.max().int64_value(&[]));
        require!(
            least >= 0 && most < clusters as i64,
            "{}: codes go from {least} to {most}, expected 0 to {} (latents.clusters is {clusters})",
            self.name,
            clusters - 1
        );
        require!(least < most, "{}: all patches have the code {least}: it tells no patches apart", self.name);
        Ok(Vec::<i64>::try_from(codes.view(-1))?.into_iter().map(|code| code as u16).collect())
    }

    /// The numbers of some pictures, of the kind that holds them.
    fn rows(&self, start: usize, count: usize, each: usize) -> Tensor {
        let (kind, size) = match self.number {
            Number::F32 => (Kind::Float, 4),
            Number::F64 => (Kind::Double, 8),
            Number::U8 => (Kind::Uint8, 1),
            // libtorch counts little in these: the same bits as signed numbers, put right below.
            Number::U16 => (Kind::Int16, 2),
            Number::I32 => (Kind::Int, 4),
            Number::I64 => (Kind::Int64, 8),
        };
        let first = self.offset + start * each * size;
        let bytes = &(*self.source).as_ref()[first..first + count * each * size];
        let numbers = Tensor::from_data_size(bytes, &[(count * each) as i64], kind);
        if self.number == Number::U16 { numbers.to_kind(Kind::Int64).remainder(1 << 16) } else { numbers }
    }
}

/// Kind, shape and first byte of the numbers of a `.npy` array in C order; none where it is another one.
fn layout(bytes: &[u8]) -> Option<(Number, Vec<usize>, usize)> {
    layout_of::<f32>(bytes, Number::F32)
        .or_else(|| layout_of::<f64>(bytes, Number::F64))
        .or_else(|| layout_of::<u8>(bytes, Number::U8))
        .or_else(|| layout_of::<u16>(bytes, Number::U16))
        .or_else(|| layout_of::<i32>(bytes, Number::I32))
        .or_else(|| layout_of::<i64>(bytes, Number::I64))
}

fn layout_of<T: ViewElement + 'static>(bytes: &[u8], number: Number) -> Option<(Number, Vec<usize>, usize)> {
    let view = ArrayViewD::<T>::view_npy(bytes).ok().filter(ArrayViewD::is_standard_layout)?;
    Some((number, view.shape().to_vec(), bytes.len() - view.len() * size_of::<T>()))
}
