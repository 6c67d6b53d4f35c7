//! Whole pictures: patches in the order in which they are read, each by its walk.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::container::{Header, check_of};
use super::gaussian::{GaussianWalk, Gaussians};
use super::hclt::{Forest, HcltWalk};
use super::prior::{Belief, Prior};
use super::range::{Decoder, Encoder};
use super::symbol::{Ends, TOTAL};
use super::walk::Walk;
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
}

#[derive(Debug)]
enum Family {
    Gaussian(Gaussians),
    Hclt(Forest),
}

/// A coded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// What is to be stored.
    pub bytes: Vec<u8>,
    /// What the model's probabilities ask for, in bits.
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
        Ok(Self { view, family, prior, lows: ranges.into_iter().map(|(low, _)| low).collect() })
    }

    /// How the model sees pictures.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The patches `[L, D]` of every picture of u8 `[B, H, W, C]`, as the model sees them.
    ///
    /// # Errors
    /// When the pixels are not those of the model's pictures.
    pub fn integers(&self, pixels: &Tensor) -> Result<Vec<Vec<i16>>> {
        let patches = self.view.integers(pixels)?.to_kind(Kind::Int16).contiguous().view(-1);
        let all: Vec<i16> = Vec::try_from(patches)?;
        Ok(all.chunks_exact(self.view.dimensions()).map(<[i16]>::to_vec).collect())
    }

    /// The pixels u8 `[H, W, C]`, in this order, of a picture's patches `[L, D]`.
    ///
    /// # Errors
    /// A refusal where the patches belong to no picture.
    pub fn pixels(&self, patches: &[i16]) -> Result<Vec<u8>> {
        let shape = [1, self.view.patches() as i64, self.view.variables() as i64];
        let pixels = self.view.pixels(&Tensor::from_slice(patches).view(shape))?;
        let levels = self.view.shape().levels;
        let pixels: Vec<u8> = Vec::try_from(pixels.contiguous().view(-1))?;
        require!(
            pixels.iter().all(|&v| usize::from(v) < levels),
            "a decoded value reaches {levels}, the model's levels"
        );
        Ok(pixels)
    }

    /// Code a picture's patches `[L, D]`.
    ///
    /// # Errors
    /// A refusal where a value is outside the range of its variable.
    pub fn encode(&self, patches: &[i16]) -> Result<Coded> {
        let (mut encoder, mut ends, mut coder_bits) = (Encoder::default(), Ends::default(), 0.0);
        let model_bits = self.walk(&mut ends, |walk, place, ends| {
            let value = i64::from(patches[place]) - self.lows[walk.variable()];
            let symbol = usize::try_from(value).ok().filter(|&symbol| symbol < walk.symbols());
            let symbol =
                symbol.ok_or_else(|| refusal!("the value {} is outside the range of its variable", patches[place]))?;
            let frequencies = ends.of(walk, symbol);
            coder_bits -= libm::log2(f64::from(frequencies[1] - frequencies[0]) / f64::from(TOTAL));
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
        require!(
            found == expected,
            "picture {number} is {found} with {} levels, the model codes {expected} with {}",
            found.levels,
            expected.levels
        );
        let damaged = |why: &str| refusal!("picture {number} is damaged: {why}");
        let patches = self.decode(bytes).map_err(|error| damaged(&error.to_string()))?;
        let pixels = self.pixels(&patches).map_err(|error| damaged(&error.to_string()))?;
        require!(
            check_of(&pixels) == header.index[number].check,
            "{}",
            damaged("what its bytes say is not what was coded (SHA-256)")
        );
        Ok(pixels)
    }

    /// The patches `[L, D]` of a coded picture.
    ///
    /// # Errors
    /// A refusal where the bytes are no picture that this model has coded; not every such mistake is seen.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<i16>> {
        let (mut decoder, mut ends) = (Decoder::new(bytes)?, Ends::default());
        let mut patches = vec![0; self.view.dimensions()];
        self.walk(&mut ends, |walk, place, ends| {
            let symbol = decoder.next(walk, ends)?;
            patches[place] = (symbol as i64 + self.lows[walk.variable()]) as i16;
            Ok(symbol)
        })?;
        Ok(patches)
    }

    /// Go through all numbers of a picture: `symbol` finds each, and the borders around it, from the walk and the place in
    /// `[L, D]`. Returns the bits of the model's probabilities.
    fn walk(
        &self,
        ends: &mut Ends,
        mut symbol: impl FnMut(&dyn Walk, usize, &mut Ends) -> Result<usize>,
    ) -> Result<f64> {
        let mut walk: Box<dyn Walk> = match &self.family {
            Family::Gaussian(model) => Box::new(GaussianWalk::new(model, 0)),
            Family::Hclt(model) => Box::new(HcltWalk::new(model)),
        };
        let (variables, mut bits) = (self.view.variables(), 0.0);
        let mut belief = Belief::new(&self.prior);
        let mut evidence = vec![0.0; belief.weights(0).len()];
        for patch in 0..self.view.patches() {
            walk.start(belief.weights(patch));
            for _ in 0..variables {
                let found = symbol(&*walk, patch * variables + walk.variable(), ends)?;
                bits -= libm::log2(walk.observe(found, &ends.low, &ends.high));
            }
            if belief.learns() {
                walk.evidence(&mut evidence);
                belief.observe(patch, &evidence);
            }
        }
        Ok(bits)
    }
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
