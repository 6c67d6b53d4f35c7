//! Image sets: reading, splits, hashes, batches, patches as integer tensors.
//!
//! Files become [`pictures::Pictures`]: views on memory-mapped bytes that cost no memory until a batch is asked for.
//! [`set::open`] turns a `data:` section into three of them. Labels are never read.

pub mod source;
pub mod pictures;
pub mod idx;
pub mod cifar;
pub mod npz;
pub mod jpeg;
pub mod folder;
pub mod split;
pub mod embedded;
pub mod photographs;
pub mod config;
pub mod set;
pub mod patches;
pub mod windows;
pub mod view;
pub mod augment;
pub mod batches;
pub mod missing;
pub mod sheet;

pub use config::{DataConfig, Format, PictureOptions};
pub use set::{DataSet, open, open_pictures};
pub use split::Split;
