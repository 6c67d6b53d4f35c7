//! How long the parts of a run will take, from the rate of EM measured on this machine now.

use anyhow::Result;

use super::config::Config;
use super::context::Context;
use super::pixel_teacher;
use super::rate::Rate;
use super::stage::Stage;
use crate::data::view::View;
use crate::distill::growing::config::GrowingConfig;
use crate::em::EmConfig;
use crate::patch::config::FamilyConfig;

/// The part of a run that scores its models.
pub const TEST: &str = "test";

/// The parts of a run in order: its stages, their scores on test pictures, the baseline that is a run of its own; each with
/// its seconds, or none for what cannot be told before it has begun (teachers, k-means, circuits over whole pictures).
///
/// # Errors
/// When circuits of the experiment cannot be made.
pub fn parts(context: &Context) -> Result<Vec<(String, Option<f64>)>> {
    let Context { config, data, device, view, .. } = context;
    let rate = Rate::measure(&config.patch, view, *device)?;
    let of = |stage| rate.as_ref().and_then(|rate| seconds(config, stage, view, data.train.len(), rate));
    let mut parts: Vec<_> =
        Stage::wanted(config).into_iter().map(|stage| (stage.name().to_owned(), of(stage))).collect();
    let scored = |stage: &Stage| stage.has_circuit() && *stage != Stage::PixelHclt;
    let test = rate.as_ref().map(|rate| {
        let clusters: usize = Stage::wanted(config).iter().filter(|s| scored(s)).map(|s| s.clusters(config)).sum();
        rate.likelihood * (clusters * data.test.len() * view.patches()) as f64
    });
    parts.push((TEST.to_owned(), test));
    if let Some(pixel) = pixel_teacher::config(config) {
        let rows = Stage::wanted(&pixel).into_iter().filter_map(of).sum::<f64>();
        parts.push((pixel_teacher::NAME.to_owned(), rate.as_ref().map(|_| rows)));
    }
    Ok(parts)
}

/// Seconds of a stage's EM on patches; none for stages that are something else.
#[must_use]
pub fn seconds(config: &Config, stage: Stage, view: &View, pictures: usize, rate: &Rate) -> Option<f64> {
    let (patches, all, d) = (pictures * view.patches(), stage.clusters(config), &config.distill);
    let steps = |em: &EmConfig, all: usize| if em.batch == 0 { 1 } else { all.div_ceil(em.batch) };
    let mixture = |em: &EmConfig, k: usize| rate.seconds(em.epochs, patches, k, steps(em, pictures), k);
    match stage {
        Stage::Taken => Some(0.0),
        Stage::Hard => Some(rate.seconds(d.hard.epochs, patches, 0, steps(&d.hard, pictures), all)),
        Stage::Soft => Some(mixture(&d.soft, all)),
        Stage::Growing => Some(growing_seconds(config, patches, pictures, rate)),
        // The patch circuits do not move.
        Stage::Tree => Some(rate.seconds(d.tree.em.epochs, patches, all, 0, 0)),
        Stage::Joint => Some(mixture(&d.joint, all)),
        Stage::EmOnly => config.baselines.em_only.as_ref().map(|em| mixture(em, all)),
        _ => None,
    }
}

fn growing_seconds(config: &Config, patches: usize, pictures: usize, rate: &Rate) -> f64 {
    let first = config.latents.clusters;
    match &config.distill.growing {
        Some(GrowingConfig::Gain(gain)) => (1..=gain.rounds)
            .map(|round| {
                let k = gain.clusters_after(first, round);
                let proposals = rate.seconds(gain.steps, (gain.examples * k).min(patches), 2, 1, 2 * k);
                let steps = if gain.em.batch == 0 { 1 } else { pictures.div_ceil(gain.em.batch) };
                proposals + rate.seconds(gain.em.epochs, patches, k, steps, k)
            })
            .sum(),
        Some(GrowingConfig::Paper(paper)) => {
            let FamilyConfig::Hclt(hclt) = &config.patch.family else { return 0.0 };
            let patches = patches.min(paper.examples * first);
            let wider = |states: &usize| *states as f64 / hclt.states as f64;
            let round = rate.seconds(paper.em.epochs, patches, 0, patches.div_ceil(paper.em.batch), 1);
            round * paper.states(hclt.states, first).iter().map(wider).sum::<f64>()
        }
        None => 0.0,
    }
}
