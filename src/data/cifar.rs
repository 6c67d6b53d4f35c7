//! CIFAR-10, binary version: records of a label byte and the red, green and blue planes of a 32x32 picture.

use std::path::Path;

use anyhow::{Context, Result};

use super::pictures::{PictureShape, Pictures, PixelOrder, Segment};
use super::source;
use crate::require;

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const RECORD_100: usize = 1 + RECORD;

/// Pictures of one batch file (`data_batch_1.bin`), mapped.
///
/// # Errors
/// A refusal where the file is missing or no whole number of records, or a value reaches `levels`.
pub fn open(path: &Path, levels: usize) -> Result<Pictures> {
    let source = source::map(path)?;
    let bytes = (*source).as_ref();
    let length = bytes.len();
    require!(
        length == 0 || length % RECORD == 0 || length % RECORD_100 != 0,
        "{}: these are records of CIFAR-100 (two labels, {RECORD_100} bytes), expected CIFAR-10, binary version",
        path.display(),
    );
    require!(
        length > 0 && length % RECORD == 0,
        "{}: {length} bytes are no whole number of CIFAR-10 records of {RECORD} bytes (binary version, label and 3 planes)",
        path.display(),
    );
    if let Some(record) = (0..length / RECORD).find(|record| bytes[record * RECORD] > 9) {
        let label = bytes[record * RECORD];
        require!(
            false,
            "{}: the label of record {record} is {label}, expected 0 to 9: this is no file of CIFAR-10",
            path.display()
        );
    }
    let shape = PictureShape { height: SIDE, width: SIDE, channels: 3, levels };
    let segment = Segment { source, offset: 1, stride: RECORD, count: length / RECORD, order: PixelOrder::Planar };
    Pictures::from_segments(vec![segment], shape).with_context(|| path.display().to_string())
}
