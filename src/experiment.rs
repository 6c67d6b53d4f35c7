//! An experiment: its YAML, its stages, and what can be reused of them. The only floor that knows both a teacher and a
//! circuit.

pub mod protocol;
pub mod baselines;
pub mod config;
pub mod explain;
pub mod bounds;
pub mod read;
pub mod stage;
pub mod models;
pub mod context;
pub mod passes;
pub mod vqvae_training;
pub mod teaching;
pub mod assigning;
pub mod subject;
pub mod taken;
pub mod rows;
pub mod pictures;
pub mod draft;
pub mod sweep;
pub mod stages;
pub mod evaluation;
pub mod pixel_teacher;
pub mod eval;
pub mod coding_names;
pub mod coding_input;
pub mod coding;
pub mod decoding;
pub mod question;
pub mod drawing;
pub mod scoring;
pub mod rate;
pub mod forecast;
pub mod plan;
