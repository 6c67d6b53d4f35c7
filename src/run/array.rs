//! Arrays in `.npy` files: written in order and whole or not there, read from a map a few rows at a time.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray_npy::{ViewNpyExt, write_zeroed_npy};
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

    /// Write the next rows: float32, int64 or bytes, `[n, ..]`, all of the kind and size of the first.
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

/// An array of float32 `[.., F]` in a mapped file.
pub struct MappedArray {
    source: Source,
    /// Bytes of the file before the numbers.
    header: usize,
    /// Numbers of a row: F.
    width: usize,
}

/// Bytes of a number.
const FLOAT: usize = size_of::<f32>();

impl MappedArray {
    /// What an [`ArrayWriter`] wrote.
    ///
    /// # Errors
    /// When there is no such file, or it holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        let source = source::map(path)?;
        let bytes = (*source).as_ref();
        let view = ndarray::ArrayViewD::<f32>::view_npy(bytes);
        let view = view.with_context(|| format!("{}: not the array that was written", path.display()))?;
        let (header, width) = (bytes.len() - view.len() * FLOAT, view.shape().last().copied().unwrap_or(1));
        Ok(Self { source, header, width })
    }

    /// All rows, so many at a time (the last time maybe fewer): `[n, F]` on the CPU.
    pub fn chunks(&self, rows: usize) -> impl Iterator<Item = Tensor> {
        let row = self.width * FLOAT;
        (*self.source).as_ref()[self.header..].chunks(rows * row).map(move |some| {
            let size = [some.len() / row, self.width].map(|n| n as i64);
            Tensor::from_data_size(some, &size, Kind::Float)
        })
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
