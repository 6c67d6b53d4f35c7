//! Progressive growing (LVD-PG; paper, section 5): clusters are refined while the circuits learn, so that they fit the
//! circuits and not the teacher alone.
//!
//! Two criteria say where: [`paper`], the released code's, and [`gain`], by measurement on validation pictures.

pub mod config;
pub mod gain;
pub mod paper;
pub mod proposal;

use anyhow::Result;
use tch::Tensor;

use super::Session;
use crate::latents::FeatureChunks;
use crate::mixture::Mixture;
use crate::patch::config::{FamilyConfig, PatchConfig};
use crate::require;
use config::GrowingConfig;

/// What growing looks at beside the model.
pub struct Given<'a> {
    /// The patches' configuration.
    pub patch: &'a PatchConfig,
    /// The teacher's clusters of the training patches: int64 `[N, L]`.
    pub codes: &'a Tensor,
    /// The teacher's features of the training patches.
    pub features: &'a dyn FeatureChunks,
}

/// Refine the clusters of a mixture whose latents are independent.
///
/// # Errors
/// [`Interrupted`](crate::refusal::Interrupted) when the user stops it, with finished work saved; a refusal where clusters
/// have too few patches or there are no validation pictures; faults of data and disk.
pub fn grow(session: &mut Session, model: Mixture, config: &GrowingConfig, given: &Given) -> Result<Mixture> {
    check_members(given)?;
    match config {
        GrowingConfig::Paper(paper) => paper::grow(session, &model, paper, given),
        GrowingConfig::Gain(gain) => gain::grow(session, model, gain, given.patch),
    }
}

/// Refuse clusters with fewer patches than their circuit has states.
fn check_members(given: &Given) -> Result<()> {
    let FamilyConfig::Hclt(hclt) = &given.patch.family else { return Ok(()) };
    let counts: Vec<i64> = Vec::try_from(given.codes.reshape([-1]).bincount(None::<Tensor>, 0))?;
    for (cluster, &count) in counts.iter().enumerate() {
        require!(
            count >= hclt.states as i64,
            "growing: cluster {cluster} has {count} patches, fewer than the {} states of its circuit\n  choose fewer clusters \
             (latents.clusters), fewer states (patch.family.states) or more pictures",
            hclt.states
        );
    }
    Ok(())
}
