//! The file of coded pictures (.lvdz): a header with an index, then the pictures' bytes.
//!
//! ```text
//! 5 bytes   "lvdz" and the version of the format
//! 4 bytes   length of the header, little endian
//! header    postcard of `Header`
//! 4 bytes   CRC-32 of all before it, little endian
//! pictures  one after the other, their lengths stand in the index
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::pictures::PictureShape;
use crate::data::source::open_file;
use crate::refusal::unreadable;
use crate::run::atomically;
use crate::{refusal, require};

/// What every container begins with.
const MAGIC: &[u8; 4] = b"lvdz";
/// Version of the format that this program writes and reads.
pub const VERSION: u8 = 1;
/// Bytes before the header: magic, version, length.
const FRONT: u64 = 9;
/// Bytes of the header's checksum.
const CHECKSUM: u64 = 4;
/// Pixels of a side, at most.
const MOST_SIDE: u32 = 65_536;

/// Whether a file begins as a container does.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC
}

/// What a container says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// SHA-256 of the model file.
    pub model: [u8; 32],
    /// The stage that made the model.
    pub stage: String,
    /// How the model sees colours.
    pub color: String,
    /// Numbers a pixel: 1 or 3.
    pub channels: u8,
    /// How many values a number can take.
    pub levels: u16,
    /// Height and width of the pictures that have none of their own.
    pub size: [u32; 2],
    /// The pictures, in the order of their bytes.
    pub index: Vec<Stored>,
}

/// A picture of the index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Bytes of the coded picture.
    pub length: u32,
    /// Height and width where they are not those of the header.
    pub size: Option<[u32; 2]>,
    /// The first 8 bytes of the SHA-256 of the pixels, row, column, channel.
    pub check: [u8; 8],
    /// Path of the file that it came from, without its ending, parts divided by `/`.
    pub name: Option<String>,
}

impl Header {
    /// Shape of a picture.
    #[must_use]
    pub fn shape(&self, number: usize) -> PictureShape {
        let [height, width] = self.index[number].size.unwrap_or(self.size).map(|side| side as usize);
        PictureShape { height, width, channels: self.channels.into(), levels: self.levels.into() }
    }
}

/// The first 8 bytes of the SHA-256 of a picture's pixels.
#[must_use]
pub fn check_of(pixels: &[u8]) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(pixels).into();
    *digest.first_chunk().expect("8 of 32 bytes")
}

/// Write a container; a file that was there is replaced.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// When the index does not give the pictures' lengths.
pub fn write(path: &Path, header: &Header, pictures: &[Vec<u8>]) -> Result<()> {
    let lengths = header.index.iter().map(|stored| stored.length as usize);
    assert!(lengths.eq(pictures.iter().map(Vec::len)), "the index gives the pictures' lengths");
    let body = postcard::to_allocvec(header).context("the header cannot be written")?;
    let mut front = MAGIC.to_vec();
    front.push(VERSION);
    front.extend(u32::try_from(body.len()).context("the header is too long")?.to_le_bytes());
    front.extend(body);
    front.extend(crc32fast::hash(&front).to_le_bytes());
    atomically(path, |temporary| {
        let mut file = std::io::BufWriter::new(File::create(temporary)?);
        file.write_all(&front)?;
        pictures.iter().try_for_each(|picture| file.write_all(picture))?;
        Ok(file.flush()?)
    })
}

/// A container that was opened: its header is read, its pictures are read when they are asked for.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    file: File,
    header: Header,
    /// Where each picture begins, and where the last one ends.
    starts: Vec<u64>,
}

impl Container {
    /// Open a file and read its header.
    ///
    /// # Errors
    /// A refusal that names the file where it is no container, of another version, damaged or cut off.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = open_file(path)?;
        let size = file.metadata().map_err(|error| unreadable(path, &error))?.len();
        let mut front = [0; FRONT as usize];
        let whole = size >= FRONT;
        if whole {
            file.read_exact(&mut front).map_err(|error| unreadable(path, &error))?;
        }
        require!(whole && front.starts_with(MAGIC), "{name}: is no container of coded pictures (.lvdz)");
        let version = front[4];
        require!(version == VERSION, "{name}: has version {version} of the format, this program reads {VERSION}");
        let length = u64::from(u32::from_le_bytes([front[5], front[6], front[7], front[8]]));
        require!(FRONT + length + CHECKSUM <= size, "{name}: is damaged or cut off: its header ends after the file");
        let mut rest = vec![0; (length + CHECKSUM) as usize];
        file.read_exact(&mut rest).map_err(|error| unreadable(path, &error))?;
        let (body, sum) = rest.split_at(length as usize);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&front);
        hasher.update(body);
        require!(hasher.finalize().to_le_bytes() == *sum, "{name}: is damaged: the checksum of its header is wrong");
        let header: Header = postcard::from_bytes(body)
            .map_err(|error| refusal!("{name}: is damaged: its header cannot be read: {error}"))?;
        check(&header).map_err(|error| error.context(name.to_string()))?;
        let starts = starts(&header, FRONT + length + CHECKSUM);
        let end = starts.last().copied().unwrap_or_default();
        require!(end == size, "{name}: is damaged or cut off: has {size} bytes, expected {end}");
        Ok(Self { path: path.to_owned(), file, header, starts })
    }

    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many pictures it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.index.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.index.is_empty()
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The bytes of a picture.
    ///
    /// # Errors
    /// A refusal where there is no such picture; a fault where the file cannot be read.
    pub fn picture(&mut self, number: usize) -> Result<Vec<u8>> {
        let (name, count) = (self.path.display(), self.len());
        require!(number < count, "{name}: picture {number} was asked for, but there are {count}, counted from 0");
        let mut bytes = vec![0; self.header.index[number].length as usize];
        let start = SeekFrom::Start(self.starts[number]);
        self.file.seek(start).and_then(|_| self.file.read_exact(&mut bytes)).map_err(|e| unreadable(&self.path, &e))?;
        Ok(bytes)
    }
}

/// What no writer of containers says.
fn check(header: &Header) -> Result<()> {
    let Header { channels, levels, size, index, .. } = header;
    require!(matches!(channels, 1 | 3), "is damaged: has {channels} channels, expected 1 or 3");
    require!((2..=256).contains(levels), "is damaged: has {levels} levels, expected 2 to 256");
    let mut sizes = index.iter().filter_map(|stored| stored.size).chain([*size]);
    let sides = sizes.find(|sides| sides.iter().any(|side| !(1..=MOST_SIDE).contains(side)));
    if let Some([height, width]) = sides {
        return Err(refusal!("is damaged: has a picture of {height}x{width}, expected sides of 1 to {MOST_SIDE}"));
    }
    Ok(())
}

fn starts(header: &Header, first: u64) -> Vec<u64> {
    let ends = header.index.iter().scan(first, |end, stored| {
        *end += u64::from(stored.length);
        Some(*end)
    });
    std::iter::once(first).chain(ends).collect()
}
