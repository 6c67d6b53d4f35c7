//! The run folder: everything that a run leaves behind, and what it needs to go on after an interruption.
//!
//! ```text
//! config.yaml      the configuration with every default filled in
//! manifest.json    code, libtorch, device, data and weights behind the numbers
//! metrics.jsonl    one JSON object a line, flushed at once
//! log.txt          what was said on the terminal, with times
//! <stage>/         a folder a stage: inputs.sha256, partial state while it runs, record.json when done, and its files
//! ```
//!
//! Stages meet only in these files. Nothing here knows what a stage computes.

pub mod array;
pub mod atomic;
pub mod checkpoint;
pub mod folder;
pub mod interrupt;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod outputs;
pub mod progress;
pub mod results;
pub mod stage;
pub mod told;
pub mod whole;

pub use atomic::{atomic_write, atomically, sha256_file};
pub use checkpoint::Checkpoint;
pub use folder::RunFolder;
pub use manifest::Manifest;
pub use metrics::Metrics;
pub use stage::{StageFolder, fingerprint};
