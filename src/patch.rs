//! The patch model: p(patch | cluster) for all clusters at once, behind small traits.

pub mod evidence;
pub mod model;
pub mod config;
pub mod gaussian;
pub mod context;
pub mod hclt;
mod family;
mod log_sum;

pub use evidence::{PatchEvidence, Reading};
pub use family::{from_tensors, start};
pub use model::{Grow, Infer, Learn, Marginals, Part, PatchModel, same_family};
