//! IDX files of grey pictures (MNIST, Fashion-MNIST), plain or `.gz`: magic number 0x00000803, then the number of
//! pictures, rows and columns (u32, big endian), then a byte a pixel.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

use super::pictures::{PictureShape, Pictures, PixelOrder, Segment};
use super::source::{self, Source};
use crate::{refusal, require};

const HEADER: usize = 16;

/// Pictures of an IDX file, with values `0..levels`. Plain files are mapped, `.gz` ones unpacked to a temporary file.
///
/// # Errors
/// A refusal where it is no such file, is cut short or too long, or a value reaches `levels`.
pub fn open(path: &Path, levels: usize) -> Result<Pictures> {
    let gz = path.extension().is_some_and(|e| e == "gz");
    let source = if gz { unpack(path)? } else { source::map(path)? };
    let bytes = (*source).as_ref();
    let (count, height, width) = header(path, bytes)?;
    let (found, expected) = (bytes.len(), length(count, height, width));
    let more = if gz && found > expected { "more than " } else { "" };
    require!(
        found == expected,
        "{}: {count} pictures of {height}x{width} need {expected} bytes with the header, found {more}{}",
        path.display(),
        if more.is_empty() { found } else { expected },
    );
    let (shape, stride) = (PictureShape { height, width, channels: 1, levels }, height * width);
    let segment = Segment { source, offset: HEADER, stride, count, order: PixelOrder::Interleaved };
    Pictures::from_segments(vec![segment], shape).with_context(|| path.display().to_string())
}

/// Number of pictures, rows, columns.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, usize, usize)> {
    let name = path.display();
    require!(bytes.len() >= HEADER, "{name}: an IDX file of pictures begins with 16 bytes, found {}", bytes.len());
    let word = |i: usize| u32::from_be_bytes(bytes[4 * i..4 * i + 4].try_into().expect("four bytes"));
    let hint = if word(0) == 0x801 { " (this is a file of labels)" } else { "" };
    require!(
        word(0) == 0x803,
        "{name}: magic number is 0x{:08x}{hint}, expected 0x00000803 (IDX, bytes, 3-d)",
        word(0)
    );
    Ok((word(1) as usize, word(2) as usize, word(3) as usize))
}

/// Bytes that a whole file has; too many for any file where the header is nonsense.
fn length(count: usize, height: usize, width: usize) -> usize {
    count.saturating_mul(height).saturating_mul(width).saturating_add(HEADER)
}

/// Unpack a `.gz` file, but no more than a byte beyond what its header promises.
fn unpack(path: &Path) -> Result<Source> {
    let broken = |e: std::io::Error| refusal!("{}: broken gzip file: {e}", path.display());
    let mut packed = MultiGzDecoder::new(source::open_file(path)?);
    source::spool(|out| {
        let mut start = Vec::new();
        (&mut packed).take(HEADER as u64).read_to_end(&mut start).map_err(broken)?;
        let (count, height, width) = header(path, &start)?;
        out.write_all(&start)?;
        source::copy(&mut packed.take((length(count, height, width) - HEADER) as u64 + 1), out, broken)
    })
}
