//! A teacher's features of the patches that a circuit sees: streamed from pictures, or from a memory-mapped file in the
//! run folder that the first pass writes; and written as an array for other programs.

use std::fs::Permissions;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray_npy::write_zeroed_npy;
use tch::{Device, Kind, Tensor};
use tempfile::{Builder, NamedTempFile};

use crate::data::batches::Batch;
use crate::data::pictures::Pictures;
use crate::data::source;
use crate::data::view::View;
use crate::latents::{Assignments, FeatureChunks};
use crate::refusal::Refusal;
use crate::run::{interrupt, progress};
use crate::teacher::Teacher;
use crate::{refusal, require};

/// Pictures that a teacher looks at in one go.
pub const BATCH: usize = 64;

/// A teacher's features of all patches of some pictures that a circuit sees.
pub struct Features<'a> {
    teacher: &'a dyn Teacher,
    pictures: &'a Pictures,
    device: Device,
    /// Which of the teacher's patches the circuit sees, in the circuit's order.
    seen: Tensor,
    cache: Option<PathBuf>,
}

impl<'a> Features<'a> {
    /// Features of these pictures on this device.
    #[must_use]
    pub fn new(teacher: &'a dyn Teacher, pictures: &'a Pictures, view: &View, device: Device) -> Self {
        Self { teacher, pictures, device, seen: seen_patches(teacher.grid(), view).to_device(device), cache: None }
    }

    /// The same, written to this file in the first pass and read from it afterwards. The file must lie where another
    /// teacher or other pictures mean another folder.
    #[must_use]
    pub fn cached(self, path: Option<PathBuf>) -> Self {
        Self { cache: path, ..self }
    }

    /// Visit features `[B, L, F]`, or codes `[B, L]`, batch by batch.
    fn batches(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let bar = progress::bar("features", self.pictures.len() as u64);
        for batch in self.pictures.batches(0..self.pictures.len(), BATCH) {
            let Batch { indices, pixels } = batch?;
            let features = self.teacher.features(&pixels.to_device(self.device));
            visit(features.map_err(|error| placed(error, &indices))?.index_select(1, &self.seen))?;
            bar.inc(indices.len() as u64);
            interrupt::check()?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The codes of a teacher of codes, as latents.
    ///
    /// # Errors
    /// A refusal where all are equal or the teacher refuses pictures.
    pub fn codes(&self) -> Result<Assignments> {
        let mut ids = Vec::with_capacity(self.count());
        self.batches(&mut |codes| {
            ids.extend(Vec::<i64>::try_from(codes.flatten(0, -1))?.into_iter().map(|code| code as u16));
            Ok(())
        })?;
        let same = ids.iter().all(|code| *code == ids[0]);
        require!(
            !same,
            "latents: all {} patches have the code {}: the teacher tells no patches apart, choose another output",
            ids.len(),
            ids[0]
        );
        Assignments::new(ids, self.patches())
    }

    /// Write all as a `.npy` array: f32 `[N, L, F]`, or i64 `[N, L]` for codes. Returns its shape.
    ///
    /// # Errors
    /// When the teacher refuses pictures or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<Vec<usize>> {
        let mut array = None;
        self.batches(&mut |features| self.append(&mut array, path, &features))?;
        let array = array.with_context(|| format!("{}: there are no pictures", path.display()))?;
        array.finish(path)
    }

    fn append(&self, array: &mut Option<Array>, path: &Path, features: &Tensor) -> Result<()> {
        if array.is_none() {
            let mut shape = vec![self.pictures.len()];
            shape.extend(features.size()[1..].iter().map(|&n| n as usize));
            *array = Some(Array::create(path, features.kind(), shape)?);
        }
        array.as_mut().context("just made")?.append(features)
    }

    /// Visit what [`Self::write`] wrote.
    fn read(&self, path: &Path, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let mapped = source::map(path)?;
        let bytes = (*mapped).as_ref();
        let shape =
            ndarray_npy::ViewNpyExt::view_npy(bytes).map(|view: ndarray::ArrayViewD<f32>| view.shape().to_vec());
        let shape = shape.with_context(|| format!("{}: not the features that were written", path.display()))?;
        let width = shape.last().copied().unwrap_or(1);
        let data = &bytes[bytes.len() - shape.iter().product::<usize>() * 4..];
        for chunk in data.chunks(BATCH * self.patches() * width * 4) {
            let rows = (chunk.len() / (width * 4)) as i64;
            visit(Tensor::from_data_size(chunk, &[rows, width as i64], Kind::Float).to_device(self.device))?;
            interrupt::check()?;
        }
        Ok(())
    }
}

impl FeatureChunks for Features<'_> {
    fn count(&self) -> usize {
        self.pictures.len() * self.patches()
    }

    fn patches(&self) -> usize {
        self.seen.numel()
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let mut flat = |features: Tensor| {
            require!(
                features.dim() == 3,
                "the teacher gives codes, and features are asked for: growing by criterion paper clusters features
  choose criterion: gain"
            );
            let width = features.size()[2];
            visit(features.reshape([-1, width]))
        };
        match &self.cache {
            None => self.batches(&mut flat),
            Some(path) if path.exists() => self.read(path, visit),
            Some(path) => {
                let mut array = None;
                self.batches(&mut |features| {
                    self.append(&mut array, path, &features)?;
                    flat(features)
                })?;
                array.map_or(Ok(()), |array| array.finish(path).map(|_| ()))
            }
        }
    }
}

/// A refusal of the teacher's, with the pictures that it is about.
fn placed(error: anyhow::Error, pictures: &[usize]) -> anyhow::Error {
    match (pictures.first(), pictures.last()) {
        (Some(first), Some(last)) if error.is::<Refusal>() => refusal!("pictures {first} to {last}: {error}"),
        _ => error,
    }
}

/// Numbers of the teacher's patches in the part of a picture that the circuit models.
fn seen_patches((_, columns): (usize, usize), view: &View) -> Tensor {
    let (rows, cols) = (view.grid.rows, view.grid.cols);
    let numbers: Vec<i64> = (0..rows * cols).map(|i| ((i / cols) * columns + i % cols) as i64).collect();
    Tensor::from_slice(&numbers)
}

/// An array that is written in order to a temporary file, which gets its name when it is whole. (It is not mapped: a full disk
/// under a map ends the process.)
struct Array {
    file: NamedTempFile,
    shape: Vec<usize>,
    /// Bytes that are still to come.
    left: usize,
}

impl Array {
    fn create(path: &Path, kind: Kind, shape: Vec<usize>) -> Result<Self> {
        let about = || format!("{}: cannot be written", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let readable = Permissions::from_mode(0o666); // less the user's umask
        let file = Builder::new().prefix(".new-").suffix(".tmp").permissions(readable).tempfile_in(folder);
        let mut file = file.with_context(about)?;
        match kind {
            Kind::Int64 => write_zeroed_npy::<i64, _>(file.as_file(), shape.as_slice()),
            _ => write_zeroed_npy::<f32, _>(file.as_file(), shape.as_slice()),
        }
        .with_context(about)?;
        let left = shape.iter().product::<usize>() * kind.elt_size_in_bytes();
        file.seek(SeekFrom::End(-(left as i64))).with_context(about)?;
        Ok(Self { file, shape, left })
    }

    fn append(&mut self, features: &Tensor) -> Result<()> {
        let (numbers, count) = (features.numel(), features.numel() * features.kind().elt_size_in_bytes());
        self.left = self.left.checked_sub(count).context("more features than pictures")?;
        let mut bytes = vec![0; count];
        features.to_device(Device::Cpu).contiguous().copy_data_u8(&mut bytes, numbers);
        self.file.write_all(&bytes).with_context(|| format!("{}: cannot be written", self.file.path().display()))
    }

    /// Give the file its name.
    fn finish(self, path: &Path) -> Result<Vec<usize>> {
        let about = || format!("{}: cannot be written", path.display());
        self.file.as_file().sync_all().with_context(about)?;
        self.file.persist(path).with_context(about)?;
        Ok(self.shape)
    }
}
