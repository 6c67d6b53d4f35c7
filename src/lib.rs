//! Distil deep generative models into probabilistic circuits and measure them in bits per dimension.
//!
//! The modules, from the ground up; a file imports only modules above it in this list.

pub mod refusal; // ground: what the user got wrong, as opposed to what went wrong
pub mod device; // device choice, CUDA library, threads, seeds
pub mod data; // image sets: reading, splits, hashes, batches, patches as integer tensors
pub mod teacher; // features per patch, codes, the teacher's own bound
pub mod latents; // k-means, codebook, assignments (knows no teacher)
