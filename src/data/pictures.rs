//! A sequence of pictures of one size: a view on shared bytes, of which only the batches asked for are copied.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::source::Source;
use crate::require;

/// Size of every picture of a set; values are `0..levels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// How many values a number can take: 256 for bytes, 17 for the digits.
    pub levels: usize,
}

/// Pixels of a side, at most.
const MOST: usize = 65_536;

impl PictureShape {
    /// Numbers in a picture: `height * width * channels`.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.height.saturating_mul(self.width).saturating_mul(self.channels)
    }

    fn check(&self) -> Result<()> {
        let Self { height, width, channels, levels } = *self;
        require!(height > 0 && width > 0, "pictures of {self} hold no pixels");
        require!(height.max(width) <= MOST, "pictures of {self} are too large: a side has at most {MOST} pixels");
        require!(matches!(channels, 1 | 3), "pictures must have 1 or 3 channels, found {channels}");
        require!((2..=256).contains(&levels), "pictures must have 2 to 256 levels, found {levels}");
        Ok(())
    }
}

impl fmt::Display for PictureShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{} (height, width, channels)", self.height, self.width, self.channels)
    }
}

/// Order of a picture's bytes in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// Row, column, channel.
    Interleaved,
    /// Channel, row, column.
    Planar,
}

/// Pictures that lie at equal distances in one source.
#[derive(Clone)]
pub struct Segment {
    /// The bytes.
    pub source: Source,
    /// First byte of the first picture.
    pub offset: usize,
    /// Bytes from one picture to the next.
    pub stride: usize,
    /// How many pictures.
    pub count: usize,
    /// Order of bytes within each.
    pub order: PixelOrder,
}

impl Segment {
    /// The byte after the last picture, of `size` bytes; none where it is too far to be counted.
    fn end(&self, size: usize) -> Option<usize> {
        match self.count {
            0 => Some(0),
            count => (count - 1).checked_mul(self.stride)?.checked_add(self.offset.checked_add(size)?),
        }
    }
}

/// Pictures of one size. Cloning and taking parts of it copy no pixel.
///
/// A picture's index counts among these pictures, its place among all pictures of all segments.
#[derive(Clone)]
pub struct Pictures {
    /// Where all pictures lie, those that are not of this sequence included.
    segments: Arc<[Segment]>,
    shape: PictureShape,
    chosen: Chosen,
    /// One byte a pixel, 0 where it is missing, place by place; none where all pixels are there.
    observed: Option<Source>,
}

/// The places of a sequence's pictures, in order.
#[derive(Clone)]
enum Chosen {
    /// All of these, without a list of them.
    Range(Range<usize>),
    /// The i-th entry is the place of picture i.
    List(Arc<[usize]>),
}

impl Pictures {
    /// From bytes in the order picture, row, column, channel.
    ///
    /// # Errors
    /// When the bytes are no whole number of pictures or a value reaches `levels`.
    pub fn from_bytes(bytes: Vec<u8>, shape: PictureShape) -> Result<Self> {
        shape.check()?;
        let (length, stride) = (bytes.len(), shape.dimensions());
        require!(length % stride == 0, "{length} bytes are no whole number of pictures of {shape}");
        let segment = Segment {
            source: Arc::new(bytes),
            offset: 0,
            stride,
            count: length / stride,
            order: PixelOrder::Interleaved,
        };
        Self::from_segments(vec![segment], shape)
    }

    /// From parts of sources.
    ///
    /// # Errors
    /// When a segment is longer than its source, or a value reaches `levels` (which reads everything where there are
    /// fewer than 256).
    pub fn from_segments(segments: Vec<Segment>, shape: PictureShape) -> Result<Self> {
        shape.check()?;
        for segment in &segments {
            let Segment { source, offset, stride, count, .. } = segment;
            let length = (**source).as_ref().len();
            require!(
                segment.end(shape.dimensions()).is_some_and(|end| end <= length),
                "{count} pictures of {shape} every {stride} bytes from {offset} do not fit in {length} bytes"
            );
        }
        let total = segments.iter().map(|s| s.count).sum();
        let pictures = Self { segments: segments.into(), shape, chosen: Chosen::Range(0..total), observed: None };
        pictures.check_levels()?;
        Ok(pictures)
    }

    /// The same pictures as ones of other levels.
    ///
    /// # Errors
    /// When a value reaches `levels`.
    pub fn of_levels(self, levels: usize) -> Result<Self> {
        let pictures = Self { shape: PictureShape { levels, ..self.shape }, ..self };
        pictures.shape.check()?;
        pictures.check_levels()?;
        Ok(pictures)
    }

    /// The same pictures of 256 levels with fewer, in memory: `v -> floor(v * levels / 256)`.
    ///
    /// # Errors
    /// When there are other than 256 levels, or fewer than two are wanted.
    pub fn requantised(&self, levels: usize) -> Result<Self> {
        require!(
            self.shape.levels == 256,
            "only pictures of 256 levels are requantised, these have {}",
            self.shape.levels
        );
        let all: Vec<usize> = (0..self.len()).collect();
        let pixels: Vec<u8> = Vec::try_from(self.batch(&all)?.reshape([-1]))?;
        let fewer = pixels.into_iter().map(|v| (usize::from(v) * levels / 256) as u8).collect();
        Self::from_bytes(fewer, PictureShape { levels, ..self.shape })
    }

    /// The same pictures of which only what is true in `observed`, bool `[N, H, W]`, counts. What stands elsewhere should be
    /// no harm: [`super::missing::hide`] sees to that.
    ///
    /// # Errors
    /// When these are not all pictures of their source, or there are not as many masks as pictures.
    pub(super) fn with_observed(self, observed: &Tensor) -> Result<Self> {
        let PictureShape { height, width, .. } = self.shape;
        let expected = [self.len(), height, width].map(|n| n as i64);
        require!(observed.size() == expected, "masks are {:?}, the pictures {expected:?}", observed.size());
        let all = matches!(&self.chosen, Chosen::Range(range) if range.start == 0);
        require!(all, "masks belong to all pictures of a source");
        let bytes: Vec<u8> = Vec::try_from(observed.to_kind(Kind::Uint8).contiguous().view(-1))?;
        Ok(Self { observed: Some(Arc::new(bytes)), ..self })
    }

    /// Whether pixels can be missing.
    #[must_use]
    pub fn has_missing(&self) -> bool {
        self.observed.is_some()
    }

    /// Which pixels of the pictures at `indices` are there, bool `[B, H, W]`; none where all are.
    #[must_use]
    pub fn observed(&self, indices: &[usize]) -> Option<Tensor> {
        let all = (**self.observed.as_ref()?).as_ref();
        let PictureShape { height, width, .. } = self.shape;
        let size = height * width;
        let own = indices.iter().flat_map(|&i| &all[self.place(i) * size..(self.place(i) + 1) * size]);
        let flags: Vec<bool> = own.map(|&byte| byte != 0).collect();
        Some(Tensor::from_slice(&flags).view([indices.len(), height, width].map(|n| n as i64)))
    }

    /// The pictures of several sets, one after the other.
    ///
    /// # Errors
    /// When there are none, their sizes differ, or pixels are missing.
    pub fn join(parts: &[Self]) -> Result<Self> {
        require!(!parts.is_empty(), "no pictures to join");
        let shape = parts[0].shape;
        let (mut segments, mut places) = (Vec::new(), Vec::new());
        let mut before = 0; // pictures of the segments of the parts before
        for part in parts {
            require!(part.shape == shape, "pictures of different sizes: {shape} and {}", part.shape);
            require!(part.observed.is_none(), "pictures with missing pixels cannot be joined with others");
            segments.extend(part.segments.iter().cloned());
            places.extend((0..part.len()).map(|i| before + part.place(i)));
            before += part.segments.iter().map(|s| s.count).sum::<usize>();
        }
        let whole = places.iter().copied().eq(0..before);
        let chosen = if whole { Chosen::Range(0..before) } else { Chosen::List(places.into()) };
        Ok(Self { segments: segments.into(), shape, chosen, observed: None })
    }

    /// How many pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.chosen {
            Chosen::Range(range) => range.len(),
            Chosen::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of every picture.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// A run of these pictures; no pixel is copied.
    ///
    /// # Panics
    /// Like a slice, when the range is none of `0..len`.
    #[must_use]
    pub fn select(&self, range: Range<usize>) -> Self {
        let (start, end, length) = (range.start, range.end, self.len());
        assert!(start <= end && end <= length, "pictures {start}..{end} of {length}");
        let chosen = match &self.chosen {
            Chosen::Range(all) => Chosen::Range(all.start + start..all.start + end),
            Chosen::List(list) => Chosen::List(list[range].into()),
        };
        Self { chosen, ..self.clone() }
    }

    /// The pictures at `indices`, in that order; no pixel is copied.
    ///
    /// # Panics
    /// Like a slice, when an index is out of range.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        let list = indices.iter().map(|&i| self.place(i)).collect();
        Self { chosen: Chosen::List(list), ..self.clone() }
    }

    /// The pictures at `indices`: u8 `[B, H, W, C]` on the CPU.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn batch(&self, indices: &[usize]) -> Result<Tensor> {
        if let Some(index) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(crate::refusal!("picture {index} was asked for, but there are {}", self.len()));
        }
        let PictureShape { height, width, channels, .. } = self.shape;
        let mut pixels = Vec::with_capacity(indices.len() * self.shape.dimensions());
        for &index in indices {
            self.append(index, &mut pixels);
        }
        let size = [indices.len(), height, width, channels].map(|n| n as i64);
        Ok(Tensor::from_slice(&pixels).f_view(size)?)
    }

    /// SHA-256, as hexadecimal digits, of height, width, channels, levels (u64, little endian), all pixels in the
    /// order picture, row, column, channel, and where pixels are missing one byte a pixel, 0 for the missing: equal for equal pictures, whatever file they come from.
    #[must_use]
    pub fn sha256(&self) -> String {
        let PictureShape { height, width, channels, levels } = self.shape;
        let mut digest = Sha256::new();
        for size in [height, width, channels, levels] {
            digest.update((size as u64).to_le_bytes());
        }
        let mut pixels = Vec::with_capacity(self.shape.dimensions());
        for index in 0..self.len() {
            pixels.clear();
            self.append(index, &mut pixels);
            digest.update(&pixels);
        }
        if let Some(observed) = &self.observed {
            let size = height * width;
            (0..self.len()).for_each(|i| digest.update(&(**observed).as_ref()[self.place(i) * size..][..size]));
        }
        hex::encode(digest.finalize())
    }

    /// Append a picture's pixels in the order row, column, channel.
    fn append(&self, index: usize, out: &mut Vec<u8>) {
        let (record, order) = self.record(index);
        if order == PixelOrder::Interleaved || self.shape.channels == 1 {
            return out.extend_from_slice(record);
        }
        let (red, others) = record.split_at(record.len() / 3);
        let (green, blue) = others.split_at(red.len());
        out.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }

    /// A picture's bytes as they lie in its source.
    fn record(&self, index: usize) -> (&[u8], PixelOrder) {
        let mut rest = self.place(index);
        for segment in self.segments.iter() {
            if rest < segment.count {
                let start = segment.offset + rest * segment.stride;
                return (&(*segment.source).as_ref()[start..start + self.shape.dimensions()], segment.order);
            }
            rest -= segment.count;
        }
        unreachable!("a sequence lies within its segments")
    }

    /// A picture's place among all pictures of all segments.
    fn place(&self, index: usize) -> usize {
        match &self.chosen {
            Chosen::Range(range) => {
                assert!(index < range.len(), "picture {index} of {}", range.len());
                range.start + index
            }
            Chosen::List(list) => list[index],
        }
    }

    fn check_levels(&self) -> Result<()> {
        let levels = self.shape.levels;
        for index in (0..self.len()).filter(|_| levels < 256) {
            let (record, _) = self.record(index);
            let worst = record.iter().max().copied().unwrap_or(0);
            require!(
                usize::from(worst) < levels,
                "picture {index} holds the value {worst}, expected 0 to {}",
                levels - 1
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(height: usize, width: usize, channels: usize) -> PictureShape {
        PictureShape { height, width, channels, levels: 256 }
    }

    fn pixels(pictures: &Pictures, indices: &[usize]) -> Vec<u8> {
        Vec::try_from(pictures.batch(indices).unwrap().reshape([-1])).unwrap()
    }

    fn segment(bytes: &[u8], offset: usize, stride: usize, count: usize, order: PixelOrder) -> Segment {
        Segment { source: Arc::new(bytes.to_vec()), offset, stride, count, order }
    }

    /// Five grey pictures of one pixel, 0 to 4, in two segments of which the first has a byte before each pixel.
    fn five() -> Pictures {
        let first = segment(&[9, 0, 9, 1, 9, 2], 1, 2, 3, PixelOrder::Planar);
        let second = segment(&[3, 4], 0, 1, 2, PixelOrder::Interleaved);
        Pictures::from_segments(vec![first, second], shape(1, 1, 1)).unwrap()
    }

    #[test]
    fn batches_have_the_order_asked_for() {
        let pictures = Pictures::from_bytes((0..12).collect(), shape(1, 2, 3)).unwrap();
        assert_eq!(pictures.len(), 2);
        assert_eq!(pixels(&pictures, &[1, 0, 1])[..7], [6, 7, 8, 9, 10, 11, 0]);
        assert_eq!(pictures.batch(&[1]).unwrap().size(), [1, 1, 2, 3]);
        assert_eq!(pictures.batch(&[]).unwrap().size(), [0, 1, 2, 3]);
    }

    #[test]
    fn planes_are_woven() {
        let planar = segment(&[0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23], 0, 12, 1, PixelOrder::Planar);
        let pictures = Pictures::from_segments(vec![planar], shape(2, 2, 3)).unwrap();
        assert_eq!(pixels(&pictures, &[0]), [0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23]);
    }

    #[test]
    fn views_of_views() {
        let all = five();
        assert_eq!(pixels(&all, &[0, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);
        let middle = all.select(1..4);
        assert_eq!(pixels(&middle, &[0, 1, 2]), [1, 2, 3]);
        let turned = middle.pick(&[2, 0]);
        assert_eq!(pixels(&turned, &[0, 1]), [3, 1]);
        assert_eq!(pixels(&turned.select(1..2), &[0]), [1]);
        assert!(all.select(2..2).is_empty());
        let joined = Pictures::join(&[turned, all]).unwrap();
        assert_eq!(pixels(&joined, &[0, 1, 2, 6]), [3, 1, 0, 4]);
        assert_eq!(joined.len(), 7);
    }

    #[test]
    fn the_hash_is_of_pictures_not_of_files() {
        let hash = |p: &Pictures| p.sha256();
        let same = Pictures::from_bytes((0..5).collect(), shape(1, 1, 1)).unwrap();
        assert_eq!(hash(&five()), hash(&same));
        assert_ne!(hash(&five()), hash(&same.pick(&[1, 0, 2, 3, 4])));
        let wide = Pictures::from_bytes((0..5).collect(), shape(1, 5, 1)).unwrap();
        assert_ne!(hash(&same), hash(&wide));
        // printf of 1, 1, 1, 256 as eight bytes each and the bytes 0 to 4 | sha256sum
        assert_eq!(hash(&same), "008857d137a0d2b87467a57d9b0e57f36dd1a0b77b147b67446e89038ba3e5b7");
    }

    #[test]
    fn wrong_sizes_and_values_are_refused() {
        let message = |bytes: Vec<u8>, shape| Pictures::from_bytes(bytes, shape).err().unwrap().to_string();
        let whole = "5 bytes are no whole number of pictures of 1x2x1 (height, width, channels)";
        assert_eq!(message(vec![0; 5], shape(1, 2, 1)), whole);
        let levels = PictureShape { levels: 17, ..shape(1, 2, 1) };
        assert_eq!(message(vec![0, 16, 17, 3], levels), "picture 1 holds the value 17, expected 0 to 16");
        assert_eq!(message(vec![0; 2], shape(1, 1, 2)), "pictures must have 1 or 3 channels, found 2");
        let empty = "pictures of 0x2x1 (height, width, channels) hold no pixels";
        assert_eq!(message(vec![], shape(0, 2, 1)), empty);
        let short = Pictures::from_segments(vec![segment(&[0; 5], 1, 2, 3, PixelOrder::Planar)], shape(1, 1, 1));
        let fit = "3 pictures of 1x1x1 (height, width, channels) every 2 bytes from 1 do not fit in 5 bytes";
        assert_eq!(short.err().unwrap().to_string(), fit);
    }

    #[test]
    fn indices_out_of_range_are_refused() {
        let all = five();
        let index = "picture 5 was asked for, but there are 5";
        assert_eq!(all.batch(&[0, 5]).err().unwrap().to_string(), index);
        let other = Pictures::from_bytes(vec![0; 3], shape(1, 1, 3)).unwrap();
        let sizes = "pictures of different sizes: 1x1x1 (height, width, channels) and 1x1x3 (height, width, channels)";
        assert_eq!(Pictures::join(&[all, other]).err().unwrap().to_string(), sizes);
    }
}
