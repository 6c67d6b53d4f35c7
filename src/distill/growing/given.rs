//! What both criteria of growing are given.

use anyhow::Result;
use tch::Tensor;

use crate::latents::FeatureChunks;
use crate::patch::config::{FamilyConfig, PatchConfig};
use crate::require;

/// What growing looks at beside the model.
pub struct Given<'a> {
    /// The patches' configuration.
    pub patch: &'a PatchConfig,
    /// The teacher's clusters of the training patches: int64 `[N, L]`.
    pub codes: &'a Tensor,
    /// The teacher's features of the training patches.
    pub features: &'a dyn FeatureChunks,
}

impl Given<'_> {
    /// Refuse clusters with fewer patches than their circuit has states.
    pub(super) fn check_members(&self) -> Result<()> {
        let FamilyConfig::Hclt(hclt) = &self.patch.family else { return Ok(()) };
        let counts: Vec<i64> = Vec::try_from(self.codes.reshape([-1]).bincount(None::<Tensor>, 0))?;
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
}
