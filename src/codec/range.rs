//! The range coder: symbols with whole frequencies to bytes and back. 32-bit words, little endian.

use std::cell::Cell;
use std::num::NonZeroU32;

use anyhow::Result;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};

use super::symbol::{BITS, Ends, bits};
use super::walk::Walk;
use crate::refusal;

/// Bytes of a word of the coder.
const WORD: usize = 4;
/// What sums of bits may be wrong by.
const ROUNDING: f64 = 1.0;

/// Collects symbols.
#[derive(Default)]
pub struct Encoder(DefaultRangeEncoder);

impl Encoder {
    /// Append the symbol that has these frequencies below it and below the next one.
    pub fn push(&mut self, ends: [u32; 2]) {
        self.0.encode_symbol(0, Interval(ends)).expect("every symbol has a frequency, and memory takes all words");
    }

    /// The bytes of all symbols: a number of words.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let words: Vec<u32> = self.0.into();
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// Gives symbols back in the order in which they came.
pub struct Decoder {
    words: DefaultRangeDecoder,
    /// Bits that are there for the symbols to come. An encoder writes as many as its symbols ask for, or more.
    left: f64,
}

impl Decoder {
    /// Of the bytes that an [`Encoder`] made.
    ///
    /// # Errors
    /// A refusal where they are no whole number of words, or fewer than symbols ask for that take `least` bits together.
    pub fn new(bytes: &[u8], least: f64) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<WORD>();
        let left = 8.0 * bytes.len() as f64 + ROUNDING;
        if !rest.is_empty() || least > left {
            return Err(damaged());
        }
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        match DefaultRangeDecoder::from_compressed(words) {
            Ok(words) => Ok(Self { words, left }),
            Err(never) => match never {},
        }
    }

    /// The next symbol of a walk.
    ///
    /// # Errors
    /// A refusal where no encoder made these bytes.
    pub fn next(&mut self, walk: &dyn Walk, ends: &mut Ends) -> Result<usize> {
        let search = Search { walk, ends: Cell::new(Some(ends)) };
        let (symbol, frequency) = self.words.decode_symbol(search).map_err(|_| damaged())?;
        self.left -= bits(frequency);
        if self.left < 0.0 { Err(damaged()) } else { Ok(symbol) }
    }
}

fn damaged() -> anyhow::Error {
    refusal!("the bytes are no picture that this model has coded")
}

/// A symbol by its frequencies.
struct Interval([u32; 2]);

impl EntropyModel<BITS> for Interval {
    type Symbol = usize;
    type Probability = u32;
}

impl EncoderModel<BITS> for Interval {
    fn left_cumulative_and_probability(&self, _: impl std::borrow::Borrow<usize>) -> Option<(u32, NonZeroU32)> {
        let [low, high] = self.0;
        Some((low, NonZeroU32::new(high.checked_sub(low)?)?))
    }
}

/// The symbol of a walk that is looked for.
struct Search<'a> {
    walk: &'a dyn Walk,
    ends: Cell<Option<&'a mut Ends>>,
}

impl EntropyModel<BITS> for Search<'_> {
    /// With its frequency.
    type Symbol = (usize, u32);
    type Probability = u32;
}

impl DecoderModel<BITS> for Search<'_> {
    fn quantile_function(&self, point: u32) -> ((usize, u32), u32, NonZeroU32) {
        let ends = self.ends.take().expect("a decoder asks once a symbol");
        let (symbol, [low, high]) = ends.find(self.walk, point);
        ((symbol, high - low), low, NonZeroU32::new(high - low).expect("every symbol has a frequency"))
    }
}
