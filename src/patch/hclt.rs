//! Hidden Chow-Liu trees over the pixels of a patch, one for each cluster, evaluated in forests.
//!
//! A tree with several heads serves as many clusters, which share everything below its root ([`heads`]).

pub mod forest;
mod saved;
mod trees;
pub mod heads;
pub mod start;
mod model;

pub use forest::Width;
pub use trees::HcltPatches;
