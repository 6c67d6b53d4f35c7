//! Whole pictures: patches in the order in which they are read, each by its walk.

use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::container::{Header, check_of};
use super::context::{ContextWalk, Experts};
use super::gaussian::{GaussianWalk, Gaussians};
use super::hclt::{Forest, HcltWalk};
use super::prior::{Belief, Prior};
use super::range::{Decoder, Encoder};
use super::symbol::{BITS, Ends, bits, least_bits};
use super::walk::{PatchWalk, Walk};
use crate::data::pictures::PictureShape;
use crate::data::view::View;
use crate::run::checkpoint::Named;
use crate::{refusal, require};

/// A trained model as a codec of pictures.
#[derive(Debug)]
pub struct Codec {
    view: View,
    family: Family,
    prior: Prior,
    /// Least value of every variable of a patch.
    lows: Vec<i64>,
    /// Bits that any number asks for.
    least_bits: f64,
}

#[derive(Debug)]
enum Family {
    Gaussian(Gaussians),
    Hclt(Forest),
    Context(Experts),
}

/// A coded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// What is to be stored.
    pub bytes: Vec<u8>,
    /// What the model's probabilities ask for, in bits; 24 where a probability is too small for a number.
    pub model_bits: f64,
    /// What the whole frequencies ask for, in bits.
    pub coder_bits: f64,
}

impl Codec {
    /// Of a model's tensors (docs/format.md), which sees pictures so.
    ///
    /// # Errors
    /// A refusal where pictures do not come back exactly from what the model sees of them, and where a tensor is missing
    /// or does not fit.
    pub fn new(view: View, saved: &Named) -> Result<Self> {
        check(&view)?;
        let ranges = view.ranges();
        let patch = saved.under("patch");
        let own = &ranges[ranges.len() - view.variables()..];
        let lows = own.iter().map(|(low, _)| *low).collect();
        let fewest = own.iter().map(|(low, high)| high - low + 1).min().unwrap_or(1);
        let least_bits = least_bits(fewest as usize);
        if view.context > 0 {
            let experts = Experts::from_tensors(saved, &view)?;
            let (family, prior) = (Family::Context(experts), Prior::Independent(Vec::new()));
            return Ok(Self { view, family, prior, lows, least_bits });
        }
        let (family, clusters) = if patch.has("trees") {
            let forest = Forest::from_tensors(&patch, &ranges)?;
            let clusters = forest.clusters();
            (Family::Hclt(forest), clusters)
        } else {
            let gaussians = Gaussians::from_tensors(&patch, &ranges)?;
            let (clusters, _) = gaussians.size();
            (Family::Gaussian(gaussians), clusters)
        };
        let prior = Prior::from_tensors(&saved.under("prior"), view.patches(), clusters)?;
        Ok(Self { view, family, prior, lows, least_bits })
    }

    /// Whether pictures may have any height and width.
    #[must_use]
    pub fn takes_any_size(&self) -> bool {
        matches!(self.family, Family::Context(_))
    }

    /// How the model sees pictures.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The numbers of every picture of u8 `[B, H, W, C]`, as the model sees them: patches `[L, D]`, or `[H, W, C]` where
    /// patches see the pixels around them.
    ///
    /// # Errors
    /// When the pixels are not those of the model's pictures.
    pub fn integers(&self, pixels: &Tensor) -> Result<Vec<Vec<i16>>> {
        let count = pixels.size()[0].max(1) as usize;
        let numbers =
            if self.takes_any_size() { self.view.color.forward(pixels) } else { self.view.integers(pixels)? };
        let all: Vec<i16> = Vec::try_from(numbers.to_kind(Kind::Int16).contiguous().view(-1))?;
        Ok(all.chunks_exact((all.len() / count).max(1)).map(<[i16]>::to_vec).collect())
    }

    /// The pixels u8 `[H, W, C]`, in this order, of a picture's numbers.
    ///
    /// # Errors
    /// A refusal where the numbers belong to no picture.
    pub fn pixels(&self, numbers: &[i16], size: [usize; 2]) -> Result<Vec<u8>> {
        let numbers = Tensor::from_slice(numbers);
        let pixels = if self.takes_any_size() {
            let [height, width] = size.map(|side| side as i64);
            self.view.color.inverse(&numbers.view([1, height, width, -1]))?
        } else {
            self.view.pixels(&numbers.view([1, self.view.patches() as i64, self.view.variables() as i64]))?
        };
        let levels = self.view.shape().levels;
        let pixels: Vec<u8> = Vec::try_from(pixels.contiguous().view(-1))?;
        require!(
            pixels.iter().all(|&v| usize::from(v) < levels),
            "a decoded value reaches {levels}, the model's levels"
        );
        Ok(pixels)
    }

    /// Code a picture's numbers.
    ///
    /// # Errors
    /// A refusal where a value is outside the range of its variable.
    pub fn encode(&self, numbers: &[i16], size: [usize; 2]) -> Result<Coded> {
        let (mut encoder, mut ends, mut coder_bits) = (Encoder::default(), Ends::default(), 0.0);
        let model_bits = self.walk(size, &mut numbers.to_vec(), &mut ends, |walk, number, ends| {
            let value = i64::from(number) - self.lows[walk.variable()];
            let symbol = usize::try_from(value).ok().filter(|&symbol| symbol < walk.symbols());
            let symbol = symbol.ok_or_else(|| refusal!("the value {number} is outside the range of its variable"))?;
            let frequencies = ends.of(walk, symbol);
            coder_bits += bits(frequencies[1] - frequencies[0]);
            encoder.push(frequencies);
            Ok(symbol)
        })?;
        Ok(Coded { bytes: encoder.finish(), model_bits, coder_bits })
    }

    /// The pixels u8 `[H, W, C]`, in this order, of a picture of a container.
    ///
    /// # Errors
    /// A refusal that names the picture where its bytes are damaged or its size is not the model's.
    pub fn restore(&self, header: &Header, number: usize, bytes: &[u8]) -> Result<Vec<u8>> {
        let (found, expected) = (header.shape(number), self.view.shape());
        let size = [found.height, found.width];
        let same = if self.takes_any_size() {
            PictureShape { height: found.height, width: found.width, ..expected }
        } else {
            expected
        };
        require!(
            found == same,
            "picture {number} is {found} with {} levels, the model codes {expected} with {}",
            found.levels,
            expected.levels
        );
        let damaged = |why: &str| refusal!("picture {number} is damaged: {why}");
        let numbers = self.decode(bytes, size).map_err(|error| damaged(&error.to_string()))?;
        let pixels = self.pixels(&numbers, size).map_err(|error| damaged(&error.to_string()))?;
        require!(
            check_of(&pixels) == header.index[number].check,
            "{}",
            damaged("what its bytes say is not what was coded (SHA-256)")
        );
        Ok(pixels)
    }

    /// The numbers of a coded picture.
    ///
    /// # Errors
    /// A refusal where the bytes are no picture that this model has coded; not every such mistake is seen.
    pub fn decode(&self, bytes: &[u8], size: [usize; 2]) -> Result<Vec<i16>> {
        let count = size[0] * size[1] * self.view.grid.channels;
        // Seen before memory is taken: a picture that its bytes are too few for, whatever is in it.
        let mut decoder = Decoder::new(bytes, count as f64 * self.least_bits)?;
        let (mut numbers, mut ends) = (vec![0; count], Ends::default());
        self.walk(size, &mut numbers, &mut ends, |walk, _, ends| decoder.next(walk, ends))?;
        Ok(numbers)
    }

    /// Go through all numbers of a picture: `symbol` finds each, and the borders around it, from the walk and what stands
    /// there; it is written there. Returns the bits of the model's probabilities.
    fn walk(
        &self,
        size: [usize; 2],
        numbers: &mut [i16],
        ends: &mut Ends,
        mut symbol: impl FnMut(&dyn Walk, i16, &mut Ends) -> Result<usize>,
    ) -> Result<f64> {
        let mut step = |walk: &mut dyn Walk, number: &mut i16| {
            let found = symbol(walk, *number, ends)?;
            *number = (found as i64 + self.lows[walk.variable()]) as i16;
            let probability = walk.observe(found, &ends.low, &ends.high);
            // Where it is too small for a number, what the frequencies ask for at most.
            Ok(if probability > 0.0 { libm::log2(probability) } else { -(BITS as f64) })
        };
        match &self.family {
            Family::Gaussian(model) => self.walk_patches(&mut GaussianWalk::new(model, 0), numbers, &mut step),
            Family::Hclt(model) => self.walk_patches(&mut HcltWalk::new(model), numbers, &mut step),
            Family::Context(experts) => {
                let [height, width] = size;
                walk_windows(experts, &self.view.resized(height, width), numbers, &mut step)
            }
        }
    }

    /// All numbers of patches `[L, D]`, whose clusters are believed in by the prior.
    fn walk_patches(&self, walk: &mut dyn PatchWalk, numbers: &mut [i16], step: &mut Step) -> Result<f64> {
        let (variables, mut bits) = (self.view.variables(), 0.0);
        let mut belief = Belief::new(&self.prior);
        let mut evidence = vec![0.0; belief.weights(0).len()];
        for patch in 0..self.view.patches() {
            walk.start(belief.weights(patch));
            for _ in 0..variables {
                let place = patch * variables + walk.variable();
                bits -= step(walk, &mut numbers[place])?;
            }
            if belief.learns() {
                walk.evidence(&mut evidence);
                belief.observe(patch, &evidence);
            }
        }
        Ok(bits)
    }
}

/// Finds the number that a walk has come to, writes it, and goes on; gives the logarithm of its probability in bits.
type Step<'a> = dyn FnMut(&mut dyn Walk, &mut i16) -> Result<f64> + 'a;

/// All numbers of a picture `[H, W, C]`, patch by patch given what is around it.
fn walk_windows(experts: &Experts, view: &View, numbers: &mut [i16], step: &mut Step) -> Result<f64> {
    let (mut walk, mut bits) = (None, 0.0);
    for patch in 0..view.patches() {
        let window = experts.window(view, patch)?;
        let walk = walk.get_or_insert_with(|| ContextWalk::new(experts, Arc::clone(&window.border)));
        walk.begin(&window.border, |number| window.places[number].map_or(0, |place| i64::from(numbers[place])));
        for _ in 0..window.border.rows.own() {
            let number = experts.context_numbers() + walk.variable();
            let place = window.places[number].context("a number of a patch that is there")?;
            bits -= step(walk, &mut numbers[place])?;
        }
    }
    Ok(bits)
}

/// Refuse what cannot be had back.
fn check(view: &View) -> Result<()> {
    let shape = view.shape();
    require!(
        view.dimensions() == shape.dimensions(),
        "the model is of protocol paper: it sees the top left quarter of a picture, the rest cannot be had back\n  train with \
         protocol: lossless"
    );
    require!(
        view.has_integers(),
        "the model sees pictures by transform cdf53, which keeps no integers: they cannot be had back exactly\n  train with \
         transform: cdf53_integer"
    );
    require!(
        view.color.is_bijective(),
        "the model sees pictures in colour {}, which merges colours: they cannot be had back exactly\n  train with color: grey, \
         rgb, ycocg_r or ycocg_r_mod",
        view.color.name()
    );
    Ok(())
}
