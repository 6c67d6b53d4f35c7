//! Growing by measured gain: every round proposes to split each cluster, and to merge the smallest with what they overlap,
//! keeps what pays on validation pictures, and trains the whole mixture by soft EM.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Kind, Tensor};

use super::choice::choose;
use super::config::GainGrowing;
use super::proposal::{HeldOut, Present, Proposal};
use crate::circuit::sample::draw;
use crate::data::batches::Batch;
use crate::data::pictures::Pictures;
use crate::distill::Session;
use crate::distill::members::Members;
use crate::distill::training::{Clusters, train};
use crate::mixture::train::LearningParts;
use crate::mixture::{Mixture, Prior, even_weights};
use crate::patch::config::PatchConfig;
use crate::patch::{self, Part};
use crate::random::{Draws, rng};
use crate::require;
use crate::run::{checkpoint, interrupt, progress, told};

/// The model between two steps of growing, while the stage is under way.
const STATE: &str = "growing.safetensors";
/// Clusters with fewer patches to learn from are not split.
const LEAST: i64 = 64;
/// Of so many clusters the smallest is looked at for a merge.
const MERGE_ONE_IN: usize = 4;

/// Grow a mixture round by round; the model is saved after every decision and every round of EM.
///
/// # Errors
/// See [`super::grow`].
pub fn grow(session: &mut Session, model: Mixture, config: &GainGrowing, patch: &PatchConfig) -> Result<Mixture> {
    require!(
        !session.valid.is_empty(),
        "growing: criterion gain measures splits on validation pictures, and there are none\n  give the data a validation \
         part (data.validation), or choose criterion: paper"
    );
    let first = model.patches().clusters();
    let (mut model, mut steps) = resume(session, model, patch)?;
    while steps < 2 * config.rounds {
        let round = steps / 2 + 1;
        if steps % 2 == 0 {
            let name = session.name;
            session.stage.forget_partial()?;
            session.metrics.rewind(name, round as u64 - 1)?;
            model = decide(session, &model, config, round, config.clusters_after(first, round))?;
        } else {
            let name = format!("{} {round}", session.name);
            let both = LearningParts { patches: true, prior: true };
            train(&mut session.named(&name), &mut model, both, &config.em, &Clusters::Posterior)?;
        }
        steps += 1;
        save(session, &model, steps)?;
    }
    Ok(model)
}

fn save(session: &Session, model: &Mixture, steps: usize) -> Result<()> {
    let metadata = BTreeMap::from([("steps".to_owned(), steps.to_string())]);
    checkpoint::save(&session.stage.state(STATE), &model.tensors(), &metadata)
}

/// The model that growing had got to, and how many steps (decisions and rounds of EM) that were.
fn resume(session: &Session, model: Mixture, config: &PatchConfig) -> Result<(Mixture, usize)> {
    let path = session.stage.state(STATE);
    if !path.exists() {
        return Ok((model, 0));
    }
    let saved = checkpoint::load(&path, model.patches().device())?;
    let steps = saved.entry("steps")?.parse().with_context(|| format!("{}: steps", path.display()))?;
    let patches = patch::from_tensors(config, &model.view().ranges(), &saved.named().under("patch"))?;
    let even = even_weights(patches.clusters(), patches.device());
    let mut model = Mixture::independent(*model.view(), patches, even);
    model.restore(&saved.named())?;
    tracing::info!("{}: going on with {} clusters", session.name, model.patches().clusters());
    Ok((model, steps))
}

/// Propose, measure, accept: the mixture with up to `target` clusters.
fn decide(
    session: &mut Session,
    model: &Mixture,
    config: &GainGrowing,
    round: usize,
    target: usize,
) -> Result<Mixture> {
    let _guard = tch::no_grad_guard();
    let Prior::Independent(log_weights) = &model.prior() else {
        anyhow::bail!("growing comes before the latent tree");
    };
    let weights: Vec<f64> = Vec::try_from(log_weights)?;
    let members = members(session, model, config, round)?;
    let patches = held_out(session.valid, model, config, session)?;
    let held_out = HeldOut::new(model.patches(), log_weights, patches)?;
    let present = Present { config, model: model.patches(), log_weights: &weights, held_out: &held_out };
    let mut random = rng(session.seed, "proposals", round as u64);
    let mut splits = propose_splits(&present, &members, &mut random, session.name)?;
    let pairs = candidates(&weights, &held_out.posterior());
    let mut merges = propose_merges(&present, &members, &pairs, &mut random)?;
    for proposals in [&mut splits, &mut merges] {
        proposals.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.old.cmp(&b.old)));
    }
    let [of_splits, of_merges] = [&splits, &merges].map(|all| all.iter().map(Proposal::offer).collect::<Vec<_>>());
    let accepted = choose(&of_splits, &of_merges, config.confidence, target.saturating_sub(weights.len()));
    let (mut all, nats) = (splits, held_out.total.sum(Kind::Double).double_value(&[]));
    all.append(&mut merges);
    report(session, &all, &accepted, round, nats)?;
    assemble(model, &weights, &all, &accepted)
}

/// A split of every cluster that has enough patches to learn from, where there is one.
fn propose_splits(present: &Present, members: &[Tensor], random: &mut ChaCha8Rng, name: &str) -> Result<Vec<Proposal>> {
    let bar = progress::bar(&format!("{name}: splits"), members.len() as u64);
    let mut splits = Vec::new();
    for (k, mine) in members.iter().enumerate() {
        interrupt::check()?;
        if mine.size()[0] >= LEAST {
            splits.extend(present.split(k, mine, random)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(splits)
}

/// A merge of every pair that has patches to learn from.
fn propose_merges(
    present: &Present,
    members: &[Tensor],
    pairs: &[(usize, usize)],
    random: &mut ChaCha8Rng,
) -> Result<Vec<Proposal>> {
    let mut merges = Vec::new();
    for &(i, j) in pairs {
        interrupt::check()?;
        let both = Tensor::cat(&[&members[i], &members[j]], 0);
        if both.size()[0] > 0 {
            merges.push(present.merge((i, j), &both, random)?);
        }
    }
    Ok(merges)
}

/// Some training patches of every cluster, `[n_k, D]`: pictures in seeded order, each patch given to a cluster drawn from
/// its posterior, so that they stand for posterior-weighted data.
fn members(session: &Session, model: &Mixture, config: &GainGrowing, round: usize) -> Result<Vec<Tensor>> {
    let (clusters, pass) = (model.patches().clusters(), round as u64);
    let mut rng = rng(session.seed, "patches that proposals learn from", pass);
    let mut order: Vec<usize> = (0..session.train.len()).collect();
    order.shuffle(&mut rng);
    // As many patches as all clusters together may take; the small ones do not hold up the rest.
    order.truncate((config.examples * clusters).div_ceil(model.view().patches()));
    let mut members = Members::new(clusters, config.examples);
    for batch in session.train.batches(order, session.micro_batch) {
        interrupt::check()?;
        let Batch { indices: pictures, pixels, .. } = &batch?;
        let purpose = "noise of patches that proposals learn from";
        let noise = Draws { seed: session.seed, purpose, pass, pictures };
        let patches = model.evidence(pixels, model.readings()[0], &noise)?;
        let (_, posterior) = model.posterior(&model.patch_log_likelihood(&patches)?)?;
        let patches = patches.flat().values().shallow_clone();
        let chosen = draw(&posterior.reshape([-1, clusters as i64]), &mut rng);
        members.add(&patches, &chosen);
    }
    Ok(members.joined())
}

/// The patches of the first validation pictures, `[n, D]`.
fn held_out(pictures: &Pictures, model: &Mixture, config: &GainGrowing, session: &Session) -> Result<Tensor> {
    let count = config.held_out.min(pictures.len());
    let parts = pictures.batches(0..count, session.micro_batch).map(|batch| {
        interrupt::check()?;
        let Batch { indices: pictures, pixels, .. } = &batch?;
        let noise = Draws { seed: session.seed, purpose: "noise of held-out patches", pass: 0, pictures };
        let patches = model.evidence(pixels, model.readings()[0], &noise)?;
        Ok(patches.flat().values().shallow_clone())
    });
    Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0))
}

/// Pairs (larger, smaller): the clusters with least weight, each with the one that it shares most patches with.
fn candidates(log_weights: &[f64], posterior: &Tensor) -> Vec<(usize, usize)> {
    let shared = posterior.tr().matmul(posterior); // [K, K]: patches that two clusters have in common
    let mut lightest_first: Vec<usize> = (0..log_weights.len()).collect();
    lightest_first.sort_by(|&a, &b| log_weights[a].total_cmp(&log_weights[b]).then(a.cmp(&b)));
    let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
    for &light in lightest_first.iter().take(log_weights.len() / MERGE_ONE_IN) {
        let with_others = shared.get(light as i64);
        let _ = with_others.get(light as i64).fill_(-1.0); // less than any other: a cluster is no partner of its own
        let other = with_others.argmax(0, false).int64_value(&[]) as usize;
        let pair = if log_weights[other] >= log_weights[light] { (other, light) } else { (light, other) };
        if other != light && seen.insert(pair) {
            pairs.push(pair);
        }
    }
    pairs
}

/// One line for every proposal, and one for the round.
fn report(session: &mut Session, all: &[Proposal], taken: &[usize], round: usize, nats: f64) -> Result<()> {
    let name = session.name;
    for (i, p) in all.iter().enumerate() {
        let kind = if p.old.len() == 1 { "split" } else { "merge" };
        let line = json!({
            "proposal": kind, "clusters": p.old, "patches": p.members, "gain_nats": p.gain, "gain_se": p.error,
            "accepted": taken.contains(&i),
        });
        session.metrics.write(name, round as u64, &line)?;
    }
    let count = |wanted: usize| taken.iter().filter(|&&i| all[i].old.len() == wanted).count();
    let gain: f64 = taken.iter().map(|&i| all[i].gain).sum();
    let line = json!({
        "splits": count(1), "merges": count(2), "proposals": all.len(), "gain_nats": gain, "held_out_nats": -nats,
    });
    tracing::info!("{name}, round {round}: {}", told::line(&line));
    session.metrics.write(name, round as u64, &line)
}

/// The mixture with the accepted proposals in place of the clusters that they replace.
fn assemble(model: &Mixture, log_weights: &[f64], all: &[Proposal], taken: &[usize]) -> Result<Mixture> {
    let replaced: HashSet<usize> = taken.iter().flat_map(|&i| all[i].old.clone()).collect();
    let kept = (0..log_weights.len()).filter(|k| !replaced.contains(k)).map(|k| (model.patches(), k, log_weights[k]));
    let new = taken.iter().flat_map(|&i| {
        let proposal = &all[i];
        proposal.log_weights.iter().enumerate().map(|(c, &weight)| (&*proposal.model, c, weight))
    });
    let chosen: Vec<_> = kept.chain(new).collect();
    let parts: Vec<Part> = chosen
        .iter()
        .map(|(model, cluster, weight)| Part { model: *model, cluster: *cluster, share: weight.exp() })
        .collect();
    let weights: Vec<f64> = chosen.iter().map(|(_, _, weight)| *weight).collect();
    let weights = Tensor::from_slice(&weights).to_device(model.patches().device());
    let weights = &weights - weights.logsumexp(0, false);
    Ok(Mixture::independent(*model.view(), model.patches().gather(&parts)?, weights))
}
