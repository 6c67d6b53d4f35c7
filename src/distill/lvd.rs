//! Latent variable distillation: from given clusters to patch circuits, from patch circuits to the latent tree.

use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::Session;
use super::likelihoods::Likelihoods;
use super::members::Members;
use super::training::codes;
use crate::data::batches::Batch;
use crate::data::view::View;
use crate::latent_tree::{self, LatentTreeConfig};
use crate::mixture::{Mixture, even_weights};
use crate::patch::config::{PatchConfig, Start};
use crate::patch::{self, Reading};
use crate::random::{Draws, rng};
use crate::run::interrupt;

/// Pictures read in one go while patches are collected.
const CHUNK: usize = 256;
/// The number of the random stream of first tables. A stage's own streams are counted by epochs, and no epoch has this
/// number.
const BEFORE_ALL_EPOCHS: u64 = u64::MAX;

/// A mixture with independent latents whose patch circuits start from the patches of given clusters `[N, L]`.
///
/// # Errors
/// A refusal when a cluster has no patches; faults of the data.
pub fn start(
    session: &Session,
    view: View,
    config: &PatchConfig,
    codes: &Tensor,
    clusters: usize,
    from: Start,
    device: Device,
) -> Result<Mixture> {
    let members = members(session, &view, codes, clusters, config)?;
    let mut rng = first_rng(session);
    let patches = patch::start(config, &members, &view.ranges(), from, device, &mut rng)?;
    if patches.own_weights() {
        return Ok(Mixture::gated(view, patches));
    }
    Ok(Mixture::independent(view, patches, even_weights(clusters, device)))
}

/// What first tables are drawn from.
fn first_rng(session: &Session) -> ChaCha8Rng {
    rng(session.seed, session.name, BEFORE_ALL_EPOCHS)
}

/// Some patches of every cluster, from pictures in seeded order, as the family learns from them: `[n_k, D]` each.
fn members(
    session: &Session,
    view: &View,
    codes: &Tensor,
    clusters: usize,
    config: &PatchConfig,
) -> Result<Vec<Tensor>> {
    let mut order: Vec<usize> = (0..session.train.len()).collect();
    order.shuffle(&mut rng(session.seed, "patches to start from", 0));
    let mut members = Members::new(clusters, config.family.start_examples());
    for batch in session.train.batches(order, CHUNK) {
        interrupt::check()?;
        let batch = batch?;
        let patches = learnable(session, view, config.family.reading(), &batch)?;
        let (patches, codes) = whole_only(view, &patches, &batch.rows_of(codes));
        members.add(&patches.reshape([-1, view.numbers() as i64]), &codes.reshape([-1]));
        if members.are_full() {
            break;
        }
    }
    if let Some(empty) = members.empty_cluster() {
        return Err(crate::refusal!(
            "cluster {empty} of {clusters} has no patches\n  choose fewer clusters (latents.clusters)"
        ));
    }
    Ok(members.joined())
}

/// Patches `[B, L, D]` and their codes `[B, L]` but for those that stick out of the picture.
fn whole_only(view: &View, patches: &Tensor, codes: &Tensor) -> (Tensor, Tensor) {
    match view.whole() {
        Some(whole) => (patches.index_select(1, &whole), codes.index_select(1, &whole)),
        None => (patches.shallow_clone(), codes.shallow_clone()),
    }
}

/// Patches `[B, L, D]` of the kind that a family learns from.
fn learnable(session: &Session, view: &View, reading: Reading, batch: &Batch) -> Result<Tensor> {
    match reading {
        Reading::Exact | Reading::Ordered => view.integers(&batch.pixels),
        Reading::Density => {
            let purpose = "noise of patches to start from";
            let noise = Draws { seed: session.seed, purpose, pass: 0, pictures: &batch.indices };
            Ok(view.dequantised(&batch.pixels, &noise))
        }
    }
}

/// Join the patches of a mixture by a latent tree whose first tables are counts of the codes that it gives the training
/// pictures. The tree is found from the same codes, or from the teacher's where they are given (`[N, L]`).
///
/// # Errors
/// When a tree given by hand does not fit; faults of the data.
pub fn add_tree(
    session: &Session,
    model: Mixture,
    config: &LatentTreeConfig,
    teachers: Option<&Tensor>,
    known: Option<&Likelihoods>,
) -> Result<Mixture> {
    let codes = known.map_or_else(|| codes(session, &model), |known| known.codes(session, &model))?;
    let clusters = model.patches().clusters();
    let seen = teachers.unwrap_or(&codes);
    let values = seen.max().int64_value(&[]) as usize + 1;
    let parents = latent_tree::parents(config, seen, clusters.max(values))?;
    let device = model.patches().device();
    let mut tree = latent_tree::uniform(config, &parents, model.view().grid.cols, clusters, device)?;
    let mut rng = first_rng(session);
    latent_tree::fit_codes(config, &mut tree, &codes, clusters, &mut rng)?;
    Ok(model.with_tree(tree))
}

/// Forget everything but the structure: patch circuits and latent tree with tables at random, for the baseline without
/// distillation.
pub fn randomise(session: &Session, model: &mut Mixture) {
    model.randomise(&mut first_rng(session));
}
