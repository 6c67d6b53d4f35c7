//! Questions to a trained picture model, all of them exact unless they say otherwise:
//!
//! ```text
//! log p(x_A),  log p(x_A | x_B) = log p(x_A, x_B) - log p(x_B)         conditional::log_likelihood, twice
//! x_M ~ p(x_M | x_O),   E[x_M | x_O],   Var[x_M | x_O]                  conditional::{samples, moments}
//! p(x_i | all other patches)                                           conditional::patch_surprise
//! p(z_i | x_O),   argmax_z p(z | x_O),   argmax_{z, s, x_M} p(x, s, z)  explain
//! ```
//!
//! with x the pixels of a picture (O observed, M missing), z the clusters of its patches and s the latents inside of them.
//! [`support`] says which of them a model can answer, and why not the others.

pub mod mask;
pub mod conditional;
pub mod explain;
pub mod pixels;
pub mod support;
