//! Which question a model can answer, and why not the others.

use serde::Serialize;

use crate::color::ColorSpace;
use crate::mixture::{Mixture, Prior};
use crate::patch::{Marginals, Reading};
use crate::wavelet::Transform;

/// A question to a trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// log p(x).
    Likelihood,
    /// `log p(x_A)`, `log p(x_A | x_B)` of any pixels.
    Marginal,
    /// The same where A and B are the first patches of a picture in raster order.
    Prefix,
    /// `p(z_i | x)`.
    Posterior,
    /// `argmax_z p(z | x)`.
    JointCodes,
    /// New pictures.
    Sample,
    /// The rest of a picture given any of its pixels.
    Completion,
    /// The rest of a picture given its first patches in raster order.
    PrefixCompletion,
    /// E and Var of the missing pixels.
    Moments,
    /// The most probable latents and missing pixels together.
    Explanation,
    /// The most probable missing pixels, latents summed out.
    MostProbablePixels,
}

/// How a model answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "because", rename_all = "snake_case")]
pub enum Answer {
    /// Exactly, up to rounding.
    Exact,
    /// Not quite, and why.
    Approximate(&'static str),
    /// Not at all, and why.
    Refused(&'static str),
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Likelihood,
        Self::Marginal,
        Self::Prefix,
        Self::Posterior,
        Self::JointCodes,
        Self::Sample,
        Self::Completion,
        Self::PrefixCompletion,
        Self::Moments,
        Self::Explanation,
        Self::MostProbablePixels,
    ];

    /// As it stands in a table: the question, and the command that asks it.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Likelihood => ("log p(x)", "lvd score"),
            Self::Marginal => ("log p(x_A), log p(x_A | x_B), any pixels", "lvd score --observed A --given B"),
            Self::Prefix => ("the same, of the first patches in raster order", "lvd score --observed A --given B"),
            Self::Posterior => ("p(z_i | x), every patch by itself", "lvd latents --posterior"),
            Self::JointCodes => ("argmax p(z | x), all patches together", "lvd latents --map"),
            Self::Sample => ("new pictures", "lvd sample"),
            Self::Completion => ("the rest given any pixels", "lvd inpaint"),
            Self::PrefixCompletion => ("the rest given the first patches", "lvd inpaint"),
            Self::Moments => ("mean and deviation of missing pixels", "lvd inpaint"),
            Self::Explanation => ("most probable latents and pixels together", "lvd explain"),
            Self::MostProbablePixels => ("most probable pixels, latents summed out", "lvd explain"),
        }
    }

    /// How a model answers this in a reading.
    #[must_use]
    pub fn answer(self, model: &Mixture, reading: Reading) -> Answer {
        let density = reading == Reading::Density;
        let transformed = model.view().transform != Transform::None;
        let context = model.view().context > 0;
        let merged = !model.view().color.is_bijective();
        let wraps = model.view().color == ColorSpace::YcocgRMod;
        let hidden =
            matches!(model.prior(), Prior::Tree(tree) if tree.graph().regions().len() > tree.graph().variables());
        let mixed = Answer::Refused("the transform mixes pixels: the model is one of coefficients");
        let drawn = || match reading {
            Reading::Ordered => Answer::Refused("pictures are drawn from the density: ask for that reading"),
            Reading::Density => {
                Answer::Approximate("exact for the density; rounded down to levels, and to colours that there are")
            }
            Reading::Exact if merged => {
                Answer::Approximate("exact for the merged colours, which are shown as pixels of a colour near to them")
            }
            Reading::Exact => Answer::Exact,
        };
        match self {
            Self::Likelihood if density => Answer::Approximate("a bound: the mean over noise; exact for the density"),
            Self::JointCodes if hidden => {
                Answer::Approximate("the latent tree's hidden states are maximised with the clusters, not summed out")
            }
            Self::Posterior | Self::JointCodes if density => {
                Answer::Approximate("exact given the noise that is added to the pixels")
            }
            Self::Likelihood | Self::Posterior | Self::JointCodes => Answer::Exact,
            Self::Sample => drawn(),
            _ if transformed => mixed,
            Self::Prefix if density => Answer::Approximate("a bound: the mean over noise; exact for the density"),
            Self::Prefix => Answer::Exact,
            Self::PrefixCompletion => drawn(),
            _ if context => {
                Answer::Refused("patches are known given the pixels before them: other sums have no closed form")
            }
            Self::Marginal | Self::Moments | Self::Completion | Self::Explanation | Self::MostProbablePixels
                if model.patches().marginals(reading) == Marginals::Whole =>
            {
                Answer::Refused("the ordered reading has marginals of whole patches only: ask for the density")
            }
            Self::Marginal if density => Answer::Approximate("a bound: the mean over noise; exact for the density"),
            Self::Completion => drawn(),
            Self::Moments if wraps => Answer::Approximate(
                "exact for the model's numbers, but their chroma counts modulo 256: a mean of it is no colour to look at",
            ),
            Self::Moments | Self::Explanation if density => Answer::Approximate("exact for the density"),
            Self::Marginal | Self::Moments | Self::Explanation => Answer::Exact,
            Self::MostProbablePixels => Answer::Approximate(
                "latents are maximised with them: the sum over latents has no exact maximum in polynomial time",
            ),
        }
    }
}
