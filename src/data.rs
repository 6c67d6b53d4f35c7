//! Image sets: reading, splits, hashes, batches, patches as integer tensors.

pub mod pictures;
