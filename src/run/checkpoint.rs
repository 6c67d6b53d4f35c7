//! Checkpoints: named tensors and text metadata in one safetensors file.
//!
//! The same content gives the same bytes, so that a file's hash can stand for what is in it: tensors are sorted by name
//! and all metadata is one JSON object under the key `lvd`, because the format itself keeps no order.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};
use tch::{Device, Kind, Tensor};

use super::atomic::atomically;
use crate::data::source;
use crate::refusal::unreadable;
use crate::{refusal, require};

const METADATA_KEY: &str = "lvd";
const KINDS: [(Kind, Dtype); 6] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Uint8, Dtype::U8),
];

/// Save tensors (f32, f64, i64, i32, i16 or u8; any device, any layout) and metadata, atomically.
///
/// # Errors
/// When a name comes twice, a tensor is of another kind, or the file cannot be written.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    let stored = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), Stored::new(name, tensor)?)));
    let stored: Vec<_> = stored.collect::<Result<_>>().with_context(|| path.display().to_string())?;
    let names: std::collections::BTreeSet<_> = tensors.iter().map(|(name, _)| name).collect();
    ensure!(names.len() == tensors.len(), "{}: two tensors of one name", path.display());
    let header = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(metadata)?)]);
    atomically(path, |temporary| Ok(safetensors::serialize_to_file(stored, Some(header), temporary)?))
}

/// A tensor that is brought to the CPU only when its turn to be written comes.
struct Stored<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Stored<'a> {
    fn new(name: &str, tensor: &'a Tensor) -> Result<Self> {
        let dtype = KINDS.iter().find(|(kind, _)| *kind == tensor.kind()).map(|(_, dtype)| *dtype);
        let dtype = dtype.with_context(|| format!("tensor '{name}': kind {:?} cannot be saved", tensor.kind()))?;
        Ok(Self { tensor, dtype, shape: tensor.size().iter().map(|&n| n as usize).collect() })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.to_device(Device::Cpu).contiguous().copy_data_u8(&mut bytes, self.tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// What a checkpoint file held.
#[derive(Debug)]
pub struct Checkpoint {
    /// The tensors by name, on the device asked for.
    pub tensors: BTreeMap<String, Tensor>,
    /// The metadata given to [`save`].
    pub metadata: BTreeMap<String, String>,
    path: PathBuf,
}

/// Read a checkpoint; its tensors go to `device`.
///
/// # Errors
/// A refusal naming the file (and tensor) when it is missing, truncated, or holds a kind of tensor that [`save`] does
/// not write.
pub fn load(path: &Path, device: Device) -> Result<Checkpoint> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let metadata = metadata_of(path, &bytes)?;
    let views = SafeTensors::deserialize(&bytes).map_err(|error| broken(path, bytes.len(), &error))?;
    let tensors =
        views.iter().map(|(name, view)| Ok((name.to_owned(), to_tensor(path, name, &view)?.to_device(device))));
    Ok(Checkpoint { tensors: tensors.collect::<Result<_>>()?, metadata, path: path.to_owned() })
}

/// The metadata alone; the tensors are not read.
///
/// # Errors
/// As those of [`load`].
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    metadata_of(path, (*source::map(path)?).as_ref())
}

fn metadata_of(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(path, bytes.len(), &error))?;
    let metadata = header.metadata().as_ref().and_then(|all| all.get(METADATA_KEY)).map_or("{}", String::as_str);
    serde_json::from_str(metadata).map_err(|error| broken(path, bytes.len(), &error))
}

/// A file that is cut off or no such file.
fn broken(path: &Path, bytes: usize, error: &dyn std::fmt::Display) -> anyhow::Error {
    refusal!(
        "{}: not a complete safetensors file ({bytes} bytes): {error}\n  delete it to have it made again, or fetch it again",
        path.display()
    )
}

fn to_tensor(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    let known = KINDS.iter().find(|(_, dtype)| *dtype == view.dtype()).map(|(kind, _)| *kind);
    let kind = known.ok_or_else(|| {
        let found = view.dtype();
        refusal!("{}: tensor '{name}': expected f32, f64, i64, i32, i16 or u8, found {found:?}", path.display())
    })?;
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

/// Tensors of a checkpoint by name, or those of them whose names begin with a prefix.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    prefix: String,
}

impl<'a> Named<'a> {
    /// All of them.
    #[must_use]
    pub fn new(tensors: &'a BTreeMap<String, Tensor>) -> Self {
        Self { tensors, prefix: String::new() }
    }

    /// Those whose names begin with `part` and a dot, without both.
    #[must_use]
    pub fn under(&self, part: &str) -> Self {
        Self { tensors: self.tensors, prefix: format!("{}{part}.", self.prefix) }
    }

    /// The whole name of a tensor.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&self.name(name))
    }

    /// The tensor of this name, with this shape (-1 for any size) and finite numbers.
    ///
    /// # Errors
    /// A refusal that names it, with what was expected and found.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<&'a Tensor> {
        let name = self.name(name);
        let tensor = self.tensors.get(&name).ok_or_else(|| refusal!("tensor {name} is missing from the checkpoint"))?;
        let found = tensor.size();
        let fits =
            found.len() == shape.len() && found.iter().zip(shape).all(|(found, size)| *size < 0 || found == size);
        require!(fits, "tensor {name} of the checkpoint has shape {found:?}, expected {shape:?}");
        require!(bool::try_from(tensor.isfinite().all())?, "tensor {name} of the checkpoint is not finite");
        Ok(tensor)
    }

    /// The same of float64 numbers.
    ///
    /// # Errors
    /// As [`Named::tensor`], also where they are of another kind.
    pub fn doubles(&self, name: &str, shape: &[i64]) -> Result<&'a Tensor> {
        let tensor = self.tensor(name, shape)?;
        let (name, found) = (self.name(name), tensor.kind());
        require!(found == Kind::Double, "tensor {name} of the checkpoint is of kind {found:?}, expected Double");
        Ok(tensor)
    }

    /// The same as a list of integers, row by row.
    ///
    /// # Errors
    /// As [`Named::tensor`].
    pub fn integers(&self, name: &str, shape: &[i64]) -> Result<Vec<i64>> {
        let flat = self.tensor(name, shape)?.to_kind(Kind::Int64).contiguous().view(-1);
        Ok(Vec::try_from(flat)?)
    }
}

/// Tensors with a prefix and a dot before their names.
#[must_use]
pub fn prefixed(prefix: &str, tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)).collect()
}

impl Checkpoint {
    /// Its tensors, to be read by name.
    #[must_use]
    pub fn named(&self) -> Named<'_> {
        Named::new(&self.tensors)
    }

    /// A metadata entry that must be there.
    ///
    /// # Errors
    /// A refusal with file and key.
    pub fn entry(&self, key: &str) -> Result<&str> {
        let value = self.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| refusal!("{}: metadata '{key}' is missing", self.path.display()))
    }
}
