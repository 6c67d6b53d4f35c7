//! `NumPy` files: `.npy` arrays uint8 `[N, H, W]` or `[N, H, W, C]`, and the `.npz` layout of downsampled `ImageNet`
//! (array `data`, uint8 `[N, 3*S*S]`, the three planes of an S x S picture after each other).
//!
//! `.npy` files and stored (`np.savez`) entries are mapped; deflated ones are unpacked to a temporary file.

use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use ndarray::{ArrayViewD, Axis};
use ndarray_npy::{ViewNpyError, ViewNpyExt};
use zip::{CompressionMethod, ZipArchive};

use super::pictures::{PictureShape, Pictures, PixelOrder, Segment};
use super::source::{self, Source};
use crate::{refusal, require};

/// Name of the array of pictures, as stored in the archive.
const ENTRY: &str = "data.npy";
/// What is wrong with an array that is not [`countable`].
const UNCOUNTABLE: &str = "broken npy array: its shape has more elements than can be counted";

/// Pictures of a `.npy` file, mapped.
///
/// # Errors
/// A refusal where the file is no such array, or a value reaches `levels`.
pub fn open_npy(path: &Path, levels: usize) -> Result<Pictures> {
    let source = source::map(path)?;
    let name = path.display().to_string();
    let (dims, offset) = array(&name, (*source).as_ref())?;
    let (count, height, width, channels) = match dims[..] {
        [n, h, w] => (n, h, w, 1),
        [n, h, w, c @ (1 | 3)] => (n, h, w, c),
        _ => {
            return Err(refusal!("{name}: shape is {dims:?}, expected [N, H, W] or [N, H, W, C] with 1 or 3 channels"));
        }
    };
    let shape = PictureShape { height, width, channels, levels };
    let segment = Segment { source, offset, stride: shape.dimensions(), count, order: PixelOrder::Interleaved };
    Pictures::from_segments(vec![segment], shape).with_context(|| path.display().to_string())
}

/// Pictures of the array `data` of a `.npz` file in the layout of downsampled `ImageNet`.
///
/// # Errors
/// A refusal where the file is no such archive, or a value reaches `levels`.
pub fn open_npz(path: &Path, levels: usize) -> Result<Pictures> {
    let name = format!("{}, array data", path.display());
    let (source, start, length) = entry(path)?;
    let bytes = (*source).as_ref().get(start..start.saturating_add(length));
    let (dims, offset) = array(&name, bytes.ok_or_else(|| refusal!("{name}: ends after the file"))?)?;
    let side = match dims[..] {
        [_, width] if width % 3 == 0 => (width / 3).isqrt(),
        _ => 0,
    };
    require!(
        side > 0 && dims[1] == 3 * side * side,
        "{name}: shape is {dims:?}, expected [N, 3*S*S] (3072 numbers a picture for 32x32, 12288 for 64x64)"
    );
    let shape = PictureShape { height: side, width: side, channels: 3, levels };
    let (stride, count) = (shape.dimensions(), dims[0]);
    let segment = Segment { source, offset: start + offset, stride, count, order: PixelOrder::Planar };
    Pictures::from_segments(vec![segment], shape).with_context(|| path.display().to_string())
}

/// Where the bytes of the array `data` are: in the mapped archive itself if it is stored, else unpacked.
fn entry(path: &Path) -> Result<(Source, usize, usize)> {
    let broken = |e: &dyn std::fmt::Display| refusal!("{}: broken npz file: {e}", path.display());
    let source = source::map(path)?;
    let shared = source.clone();
    let mut archive = ZipArchive::new(Cursor::new((*shared).as_ref())).map_err(|e| broken(&e))?;
    let names: Vec<String> = archive.file_names().map(|n| n.trim_end_matches(".npy").to_owned()).collect();
    let index = archive.index_for_name(ENTRY);
    let index = index.ok_or_else(|| refusal!("{}: no array `data`, found {}", path.display(), names.join(", ")))?;
    let mut file = archive.by_index(index).map_err(|e| broken(&e))?;
    let length = file.size() as usize;
    if file.compression() == CompressionMethod::Stored {
        let start = file.data_start() as usize;
        // Reading to the end compares the checksum.
        source::copy(&mut file, &mut std::io::sink(), |e| broken(&e))?;
        return Ok((source, start, length));
    }
    // No more is unpacked than the archive promises, and a byte that shows that it lies.
    let unpacked =
        source::spool(|out| source::copy(&mut file.take((length as u64).saturating_add(1)), out, |e| broken(&e)))?;
    let found = (*unpacked).as_ref().len();
    require!(found == length, "{}: the array data has other than the {length} bytes that it promises", path.display());
    Ok((unpacked, 0, length))
}

/// Flags of a `.npy` array of any shape, bool or uint8 (true where it is not 0), in C order, and the shape.
///
/// # Errors
/// A refusal where the file is no such array.
pub fn read_flags(path: &Path) -> Result<(Vec<usize>, Vec<bool>)> {
    let (source, name) = (source::map(path)?, path.display().to_string());
    let bytes = (*source).as_ref();
    require!(countable(bytes), "{name}: {UNCOUNTABLE}");
    match ArrayViewD::<bool>::view_npy(bytes) {
        Ok(view) => Ok((view.shape().to_vec(), view.iter().copied().collect())),
        Err(ViewNpyError::WrongDescriptor(found)) => {
            let bytes_too = ArrayViewD::<u8>::view_npy(bytes);
            let of_bytes = !matches!(bytes_too, Err(ViewNpyError::WrongDescriptor(_)));
            require!(of_bytes, "{name}: element type is {found}, expected bool or uint8 (save it with .astype(bool))");
            let (dims, offset) = array(&name, bytes)?;
            Ok((dims, bytes[offset..].iter().map(|&flag| flag != 0).collect()))
        }
        Err(other) => Err(refusal!("{name}: broken npy array: {other}")),
    }
}

/// Shape of a `.npy` array of bytes in C order, and where its first element lies.
fn array(name: &str, bytes: &[u8]) -> Result<(Vec<usize>, usize)> {
    require!(countable(bytes), "{name}: {UNCOUNTABLE}");
    let view = ArrayViewD::<u8>::view_npy(bytes).map_err(|e| match e {
        ViewNpyError::WrongDescriptor(found) => {
            refusal!("{name}: element type is {found}, expected '|u1' (save it with .astype('uint8'))")
        }
        other => refusal!("{name}: broken npy array: {other}"),
    })?;
    let first_runs_slowest = view.is_standard_layout();
    require!(first_runs_slowest, "{name}: is in Fortran order, expected C order (save it with np.ascontiguousarray)");
    let elements: usize = view.shape().iter().product();
    Ok(((0..view.ndim()).map(|a| view.len_of(Axis(a))).collect(), bytes.len() - elements))
}

/// Whether the product of the sizes that the header's text names is a number: the reader takes it for granted. The header is
/// a Python dictionary whose length stands in front of it.
#[must_use]
pub fn countable(bytes: &[u8]) -> bool {
    let start = if bytes.get(6) == Some(&1) { 10 } else { 12 };
    let length = bytes.get(8..start).map_or(0, |le| le.iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte)));
    let header = bytes.get(start..start.saturating_add(length).min(bytes.len())).unwrap_or_default();
    let header = String::from_utf8_lossy(header).replace([' ', '"', '\'', '\n', '\t'], "");
    let Some((_, rest)) = header.split_once("shape:(") else { return true };
    let sizes = rest.split(')').next().unwrap_or_default().split(',').filter(|size| !size.is_empty());
    let sizes = sizes.map(|size| size.trim_end_matches('L').parse::<usize>().ok());
    let product = sizes.into_iter().try_fold(1usize, |all, size| all.checked_mul(size?.max(1)));
    product.is_some_and(|elements| isize::try_from(elements).is_ok())
}
