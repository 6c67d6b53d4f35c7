//! The patch model: p(patch | cluster) for all clusters at once, behind a small trait.

pub mod model;
pub mod config;
pub mod gaussian;
pub mod hclt;
mod family;

pub use family::{from_tensors, start};
pub use model::{MISSING, Marginals, Part, PatchInput, PatchModel, same_family};
