//! The lossless codec: pictures to bytes by a model's own probabilities, and back.
//!
//! Encoder and decoder walk the numbers of a patch in the same order and keep, for every component that is still
//! possible, its weight given what was seen. The next number is coded by the mixture's conditional probability, so no
//! cluster is ever sent. Nothing on the way uses tensors or the platform's mathematical library: the same bytes come out
//! whatever the machine, the number of threads and the optimisation.

pub mod normal; // the normal distribution from both tails
pub mod normals; // the next number as a mixture of normals
pub mod symbol; // probabilities to whole frequencies, and the search for a symbol
pub mod range; // the range coder
pub mod walk; // what a family of patch circuits can do for the coder
pub mod filter; // beliefs on a tree of hidden states while evidence comes in
pub mod tables; // parameters out of tensors, once
pub mod gaussian; // Gaussian scale mixtures, variable by variable
pub mod hclt; // hidden Chow-Liu trees, variable by variable
pub mod context; // patches that see the pixels around them, variable by variable
pub mod prior; // p(z_i | patches coded before)
pub mod container; // the file
pub mod pictures; // whole pictures

pub use container::{Container, Header, Stored};
pub use pictures::Codec;
