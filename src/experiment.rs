//! An experiment: its YAML, its stages, and what can be reused of them. The only floor that knows both a teacher and a
//! circuit.

pub mod config;
pub mod read;
pub mod protocol;
pub mod stages;
pub mod models;
pub mod rate;
pub mod plan;
pub mod rows;
pub mod features;
pub mod teaching;
pub mod pictures;
pub mod eval;
