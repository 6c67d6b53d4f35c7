//! The range coder: symbols with whole frequencies to bytes and back. 32-bit words, little endian.

use std::cell::Cell;
use std::num::NonZeroU32;

use anyhow::Result;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};

use super::symbol::{BITS, Ends};
use super::walk::Walk;
use crate::refusal;

/// Bytes of a word of the coder.
const WORD: usize = 4;

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
pub struct Decoder(DefaultRangeDecoder);

impl Decoder {
    /// Of the bytes that an [`Encoder`] made.
    ///
    /// # Errors
    /// A refusal where they are no whole number of words.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<WORD>();
        if !rest.is_empty() {
            return Err(damaged());
        }
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        match DefaultRangeDecoder::from_compressed(words) {
            Ok(decoder) => Ok(Self(decoder)),
            Err(never) => match never {},
        }
    }

    /// The next symbol of a walk.
    ///
    /// # Errors
    /// A refusal where no encoder made these bytes.
    pub fn next(&mut self, walk: &dyn Walk, ends: &mut Ends) -> Result<usize> {
        self.0.decode_symbol(Search { walk, ends: Cell::new(Some(ends)) }).map_err(|_| damaged())
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
    type Symbol = usize;
    type Probability = u32;
}

impl DecoderModel<BITS> for Search<'_> {
    fn quantile_function(&self, point: u32) -> (usize, u32, NonZeroU32) {
        let ends = self.ends.take().expect("a decoder asks once a symbol");
        let (symbol, [low, high]) = ends.find(self.walk, point);
        (symbol, low, NonZeroU32::new(high - low).expect("every symbol has a frequency"))
    }
}
