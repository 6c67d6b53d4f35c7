//! Gaussian patch circuits: the input unit of a cluster is one Gaussian scale mixture over the whole patch.
//!
//! Two readings of the same parameters (method.md, Gaussian patch circuits):
//!
//! ```text
//! density   p(x + u | k), u uniform in [0, 1)^D:    log P(x) >= E_u log p(x + u)
//! ordered   a probability mass function on the integers of a patch, variable by variable   (see `ordered`)
//! ```
//!
//! What is read follows from the patches: floats are points of the density, integers are read in order.

pub mod factor;
pub mod low_rank;
pub mod component;
pub mod marginal;
pub mod partial;
pub mod conditional;
pub mod ordered;
mod mixtures;
pub mod start;
mod model;

pub use mixtures::GaussianPatches;
