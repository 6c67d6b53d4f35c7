//! Progressive growing (LVD-PG; paper, section 5): clusters are refined while the circuits learn, so that they fit the
//! circuits and not the teacher alone.
//!
//! Two criteria say where: [`paper`], the released code's, and [`gain`], by measurement on validation pictures.

mod choice;
pub mod config;
pub mod gain;
mod given;
pub mod paper;
pub mod proposal;

use anyhow::Result;

use super::Session;
use crate::mixture::Mixture;
use config::GrowingConfig;

pub use given::Given;

/// Refine the clusters of a mixture whose latents are independent.
///
/// # Errors
/// [`Interrupted`](crate::refusal::Interrupted) when the user stops it, with finished work saved; a refusal where clusters
/// have too few patches or there are no validation pictures; faults of data and disk.
pub fn grow(session: &mut Session, model: Mixture, config: &GrowingConfig, given: &Given) -> Result<Mixture> {
    given.check_members()?;
    match config {
        GrowingConfig::Paper(paper) => paper::grow(session, &model, paper, given),
        GrowingConfig::Gain(gain) => gain::grow(session, model, gain, given.patch),
    }
}
