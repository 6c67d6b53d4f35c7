//! Arrays in `.npy` files: written in order and whole or not there, read from a map a few rows at a time.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray_npy::{ViewElement, ViewNpyExt, write_zeroed_npy};
use tch::{Device, Kind, Tensor};
use tempfile::NamedTempFile;

use super::atomic::temporary_beside;
use crate::data::source::{self, Source};

/// An array of so many rows that is written in order to a temporary file, which gets its name when it is whole. (It is not
/// mapped: a full disk under a map ends the process.)
pub struct ArrayWriter {
    path: PathBuf,
    rows: usize,
    begun: Option<Begun>,
}

/// The file from the first rows on: what they are says what the others will be.
struct Begun {
    file: NamedTempFile,
    shape: Vec<usize>,
    /// Bytes that are still to come.
    left: usize,
}

impl ArrayWriter {
    /// Nothing is written before the first rows come.
    #[must_use]
    pub fn new(path: &Path, rows: usize) -> Self {
        Self { path: path.to_owned(), rows, begun: None }
    }

    /// Write the next rows: float32, int64, bytes, or half floats as the 16-bit integers that their bits stand for;
    /// `[n, ..]`, all of the kind and size of the first.
    ///
    /// # Errors
    /// When the file cannot be written, or there are more rows than were announced.
    pub fn append(&mut self, rows: &Tensor) -> Result<()> {
        if self.begun.is_none() {
            self.begun = Some(self.begin(rows).with_context(|| format!("{}: cannot be written", self.path.display()))?);
        }
        self.begun.as_mut().context("just begun")?.append(rows)
    }

    fn begin(&self, rows: &Tensor) -> Result<Begun> {
        let mut shape = vec![self.rows];
        shape.extend(rows.size()[1..].iter().map(|&n| n as usize));
        let mut file = temporary_beside(&self.path)?;
        match rows.kind() {
            Kind::Int64 => write_zeroed_npy::<i64, _>(file.as_file(), shape.as_slice())?,
            Kind::Uint8 => write_zeroed_npy::<u8, _>(file.as_file(), shape.as_slice())?,
            Kind::Half => write_zeroed_npy::<i16, _>(file.as_file(), shape.as_slice())?,
            _ => write_zeroed_npy::<f32, _>(file.as_file(), shape.as_slice())?,
        }
        let left = shape.iter().product::<usize>() * rows.kind().elt_size_in_bytes();
        file.seek(SeekFrom::End(-(left as i64)))?;
        Ok(Begun { file, shape, left })
    }

    /// Give the file its name; returns the array's shape, or nothing where no row was written and so no file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<Option<Vec<usize>>> {
        let about = || format!("{}: cannot be written", self.path.display());
        let Some(Begun { file, shape, .. }) = self.begun else { return Ok(None) };
        file.as_file().sync_all().with_context(about)?;
        file.persist(&self.path).with_context(about)?;
        Ok(Some(shape))
    }
}

impl Begun {
    fn append(&mut self, rows: &Tensor) -> Result<()> {
        let (numbers, count) = (rows.numel(), rows.numel() * rows.kind().elt_size_in_bytes());
        self.left = self.left.checked_sub(count).context("more rows than the array has")?;
        let mut bytes = vec![0; count];
        rows.to_device(Device::Cpu).contiguous().copy_data_u8(&mut bytes, numbers);
        self.file.write_all(&bytes).with_context(|| format!("{}: cannot be written", self.file.path().display()))
    }
}

/// An array `[N, ..]` in a mapped file.
pub struct MappedArray {
    source: Source,
    /// Bytes of the file before the numbers.
    header: usize,
    shape: Vec<usize>,
    kind: Kind,
}

impl MappedArray {
    /// Float32 that an [`ArrayWriter`] wrote.
    ///
    /// # Errors
    /// When there is no such file, or it holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of::<f32>(path, Kind::Float)
    }

    /// Half floats that an [`ArrayWriter`] wrote.
    ///
    /// # Errors
    /// As [`MappedArray::open`].
    pub fn open_halves(path: &Path) -> Result<Self> {
        Self::of::<i16>(path, Kind::Half)
    }

    fn of<T: ViewElement>(path: &Path, kind: Kind) -> Result<Self> {
        let source = source::map(path)?;
        let bytes = (*source).as_ref();
        let view = ndarray::ArrayViewD::<T>::view_npy(bytes);
        let view = view.with_context(|| format!("{}: not the array that was written", path.display()))?;
        let (header, shape) = (bytes.len() - view.len() * size_of::<T>(), view.shape().to_vec());
        Ok(Self { source, header, shape, kind })
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All rows of the last dimension F, so many at a time (the last time maybe fewer): `[n, F]` on the CPU.
    pub fn chunks(&self, rows: usize) -> impl Iterator<Item = Tensor> {
        let width = self.shape.last().copied().unwrap_or(1);
        let row = width * self.kind.elt_size_in_bytes();
        self.bytes().chunks(rows * row).map(move |some| {
            let size = [some.len() / row, width].map(|n| n as i64);
            Tensor::from_data_size(some, &size, self.kind)
        })
    }

    /// Some rows of the first dimension, in the order in which they are named: `[n, ..]` on the CPU.
    pub fn rows(&self, rows: &[usize]) -> Tensor {
        let row = self.shape[1..].iter().product::<usize>() * self.kind.elt_size_in_bytes();
        let bytes: Vec<u8> = rows.iter().flat_map(|&r| &self.bytes()[r * row..][..row]).copied().collect();
        let size: Vec<i64> = [rows.len()].iter().chain(&self.shape[1..]).map(|&n| n as i64).collect();
        Tensor::from_data_size(&bytes, &size, self.kind)
    }

    /// The numbers.
    fn bytes(&self) -> &[u8] {
        &(*self.source).as_ref()[self.header..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pieces_is_read_in_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        let all = Tensor::arange(30, (Kind::Float, Device::Cpu)).reshape([5, 2, 3]);
        let mut writer = ArrayWriter::new(&path, 5);
        for (first, rows) in [(0, 2), (2, 3)] {
            writer.append(&all.narrow(0, first, rows)).unwrap();
            assert!(!path.exists());
        }
        assert_eq!(writer.finish().unwrap(), Some(vec![5, 2, 3]));
        let read: Vec<Tensor> = MappedArray::open(&path).unwrap().chunks(4).collect();
        assert_eq!(read.iter().map(|some| some.size()[0]).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(Tensor::cat(&read, 0), all.reshape([10, 3]));
    }

    #[test]
    fn half_floats_come_back_by_rows_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("halves.npy");
        let all = (Tensor::arange(24, (Kind::Float, Device::Cpu)) * -0.25).reshape([4, 3, 2]).to_kind(Kind::Half);
        let mut writer = ArrayWriter::new(&path, 4);
        writer.append(&all).unwrap();
        assert_eq!(writer.finish().unwrap(), Some(vec![4, 3, 2]));
        let array = MappedArray::open_halves(&path).unwrap();
        assert_eq!(array.shape(), [4, 3, 2]);
        assert_eq!(array.rows(&[2, 0, 3]), all.index_select(0, &Tensor::from_slice(&[2i64, 0, 3])));
        assert!(MappedArray::open(&path).is_err());
    }

    #[test]
    fn codes_keep_their_kind_and_a_writer_of_nothing_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes.npy");
        assert_eq!(ArrayWriter::new(&path, 2).finish().unwrap(), None);
        assert!(!path.exists());
        let mut writer = ArrayWriter::new(&path, 1);
        writer.append(&Tensor::from_slice(&[7i64, 9]).reshape([1, 2])).unwrap();
        assert_eq!(
            writer.append(&Tensor::zeros([1, 2], (Kind::Int64, Device::Cpu))).unwrap_err().to_string(),
            "more rows than the array has"
        );
        writer.finish().unwrap();
        assert_eq!(ndarray_npy::read_npy::<_, ndarray::Array2<i64>>(&path).unwrap(), ndarray::array![[7, 9]]);
        let error = MappedArray::open(&path).err().unwrap().to_string();
        assert_eq!(error, format!("{}: not the array that was written", path.display()));
    }
}
