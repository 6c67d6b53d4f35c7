//! Patch models of the family that an experiment names.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::config::{FamilyConfig, PatchConfig, Start};
use super::context::{self, ContextPatches};
use super::gaussian::{self, GaussianPatches};
use super::hclt::{self, HcltPatches};
use super::model::PatchModel;
use crate::run::checkpoint::Named;

/// Read a patch model from [`Infer::tensors`](crate::patch::Infer::tensors); `ranges` are inclusive and per variable.
///
/// # Errors
/// When a tensor is missing or does not fit; the message names it.
pub fn from_tensors(config: &PatchConfig, ranges: &[(i64, i64)], saved: &Named) -> Result<Box<dyn PatchModel>> {
    Ok(match &config.family {
        FamilyConfig::Hclt(hclt) => Box::new(HcltPatches::from_tensors(hclt, ranges, saved)?),
        FamilyConfig::Gaussian(gaussian) => match config.context() {
            None => Box::new(GaussianPatches::from_tensors(gaussian, ranges, saved)?),
            Some(context) => Box::new(ContextPatches::from_tensors(gaussian, &context, ranges, saved)?),
        },
    })
}

/// First parameters from patches of every cluster `[n_k, D]`, of the kind that the family learns from.
///
/// # Errors
/// Refusals of the families.
pub fn start(
    config: &PatchConfig,
    members: &[Tensor],
    ranges: &[(i64, i64)],
    from: Start,
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<Box<dyn PatchModel>> {
    Ok(match &config.family {
        FamilyConfig::Hclt(hclt) => Box::new(hclt::start::from_members(hclt, members, ranges, from, device, rng)?),
        FamilyConfig::Gaussian(gaussian) => match config.context() {
            None => Box::new(gaussian::start::from_members(gaussian, members, ranges, device)?),
            Some(around) => Box::new(context::start::from_members(gaussian, &around, members, ranges, device, rng)?),
        },
    })
}
