//! Patches that see the pixels around them (method: a chain of conditional circuits):
//!
//! ```text
//! p(picture) = prod_i p(x_i | c_i),   p(x | c) = sum_k g_k(c) sum_s h_ks(c) p(x | c, k, s),   sum_k g_k(c) = sum_s h_ks(c) = 1
//! ```
//!
//! in raster order of patches, c the pixels around a patch that come before it ([`crate::data::windows`]). Every factor is
//! normalised, so the picture's probability is exact; what it cannot give are marginals of arbitrary pixels. With a gate
//! ([`gate`], [`ring`]) this is a conditional sum-product network (Shao et al. 2020); with pixels as patches and a gate of
//! quadratic forms, as that of rings, it is the mixture of conditional Gaussian scale mixtures of Theis, Hosseini and
//! Bethge (2012).

pub mod common;
pub mod expert;
pub mod moments;
pub mod factor;
pub mod weights;
mod bank;
pub mod ordered;
pub mod gate;
pub mod ring;
mod experts;
mod sample;
pub mod start;
mod model;

pub use experts::ContextPatches;
