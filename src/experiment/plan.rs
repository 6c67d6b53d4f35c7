//! `lvd plan`: what an experiment would do, before it does it. Writes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use tch::Device;

use super::config::Config;
use super::context::stage_fingerprint;
use super::rate::{Rate, duration};
use super::stage::Stage;
use super::{forecast, models, pixel_teacher, taken, teaching};
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::Plan;
use crate::data::DataSet;
use crate::data::view::View;
use crate::distill::growing::config::GrowingConfig;
use crate::patch::config::{ContextConfig, FamilyConfig, PatchConfig};
use crate::run::RunFolder;
use crate::structure::{chow_liu, hclt};

/// A description of stages, sizes, parameters, memory, times and reuse, for people. Times are of EM on patches alone, at
/// the rate measured on the device now.
///
/// # Errors
/// When the configuration does not fit the pictures.
pub fn describe(config: &Config, data: &DataSet, run_dir: &Path, device: Device) -> Result<String> {
    let view = models::view(config, data.train.shape())?;
    let mut lines = heading(config, data, &view, run_dir);
    lines.extend(start(config, data, &view, run_dir)?);
    lines.extend(few(config.latents.clusters, data.train.len() * view.patches()));
    lines.push(String::new());
    let hashes = data.hashes();
    let rate = Rate::measure(&config.patch, &view, device)?;
    let stages = |config: &Config, dir: &Path| {
        let line = |stage| {
            let state = if done(config, &hashes, dir, stage)? { "done, reused" } else { "to do" };
            let after = stage.before(config).map_or(String::new(), |b| format!("; after {b}"));
            let time = rate.as_ref().and_then(|rate| forecast::seconds(config, stage, &view, data.train.len(), rate));
            let time = time.map_or(String::new(), |seconds| format!(", about {}", duration(seconds)));
            let size = size(config, stage, &view)?;
            Ok(format!("{:<11} {state:<13}{} {size}{time}{after}", stage.name(), work(config, stage)))
        };
        Stage::wanted(config).into_iter().map(line).collect::<Result<Vec<_>>>()
    };
    lines.extend(stages(config, run_dir)?);
    if let Some(pixel) = pixel_teacher::config(config) {
        let dir = run_dir.join(pixel_teacher::NAME);
        lines.push(format!("\n{}, {}, in {}:", pixel_teacher::NAME, pixel_teacher::LABEL, dir.display()));
        lines.extend(stages(&pixel, &dir)?);
    }
    lines.push(rate.map_or("\ntimes are left out: circuits of this size are too large to be tried".to_owned(), |rate| {
        let (patches, pairs, name) = (1.0 / rate.statistics, 1.0 / rate.likelihood, device_name(device));
        format!(
            "\ntimes are of EM on patches, at the rate measured on {name} just now: likelihoods of {pairs:.0} pairs of patch and \
             cluster a second, statistics of {patches:.0}"
        )
    }));
    Ok(lines.join("\n"))
}

/// Where training starts, if not from a teacher that sees the pictures: files of the user's are looked at.
fn start(config: &Config, data: &DataSet, view: &View, run_dir: &Path) -> Result<Option<String>> {
    if let Some(source) = taken::check(config, run_dir, view.shape())? {
        let (run, hash) = (source.root().display(), &source.sha256[..12]);
        return Ok(Some(format!(
            "start      the model of stage {} of {run} (SHA-256 {hash}...), in place of teacher, latents and hard EM: \
             teacher and distill.hard are not used",
            source.stage
        )));
    }
    let given = teaching::given_file(config, data.train.len(), view.patches())?;
    Ok(given.map(|file| {
        let what = if file.are_codes() { "codes" } else { "features" };
        format!("start      {what} of {} pictures from {}", file.pictures(), file.name())
    }))
}

/// What it is about: pictures, patches, folder.
fn heading(config: &Config, data: &DataSet, view: &View, run_dir: &Path) -> Vec<String> {
    let shape = view.shape();
    vec![
        format!(
            "experiment {} (seed {}), protocol {}, color {}",
            config.name,
            config.seed,
            config.protocol.name(),
            config.color.name()
        ),
        format!(
            "pictures   {} x {} x {}, {} levels: {} training, {} validation, {} test",
            shape.height,
            shape.width,
            shape.channels,
            shape.levels,
            data.train.len(),
            data.valid.len(),
            data.test.len()
        ),
        format!(
            "patches    {} a picture of {} numbers each; {} training patches in {} clusters",
            view.patches(),
            view.variables(),
            data.train.len() * view.patches(),
            config.latents.clusters
        ),
        format!("run folder {}", run_dir.display()),
    ]
}

/// Whether `lvd run` would reuse a stage; a stage after one that is to do is not known to be.
fn done(config: &Config, data: &BTreeMap<String, String>, run_dir: &Path, stage: Stage) -> Result<bool> {
    let Ok(run) = RunFolder::read(run_dir) else { return Ok(false) };
    let before = stage.before(config).map_or(Ok(true), |before| done(config, data, run_dir, before))?;
    let mark = stage_fingerprint(config, &run, data, stage)?;
    Ok(before && mark.map_or(Ok(false), |mark| run.stage(stage.name()).is_done(&mark))?)
}

/// A warning where clusters have hardly any patches to learn from.
fn few(clusters: usize, patches: usize) -> Option<String> {
    (patches < clusters * A_CLUSTER).then(|| {
        format!(
            "warning    {clusters} clusters for {patches} training patches are fewer than {A_CLUSTER} patches a cluster: lower \
             latents.clusters to {} or less",
            (patches / A_CLUSTER).max(1)
        )
    })
}

/// Patches of a cluster below which it learns little but them.
const A_CLUSTER: usize = 50;

fn work(config: &Config, stage: Stage) -> String {
    match (&config.distill.growing, stage.em(config)) {
        (_, Some(em)) => {
            let epochs = if em.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", em.epochs) };
            let step = if em.batch == 0 { "all pictures".to_owned() } else { format!("{} pictures", em.batch) };
            format!("{epochs} of EM, {step} a step;")
        }
        (_, None) if stage == Stage::Taken => "parameters as they are;".to_owned(),
        (Some(growing), None) if stage == Stage::Growing => rounds(growing, config.latents.clusters),
        _ => String::new(),
    }
}

/// Sizes over the rounds of growing.
fn rounds(growing: &GrowingConfig, clusters: usize) -> String {
    let (sizes, of, unit): (Vec<usize>, _, _) = match growing {
        GrowingConfig::Gain(gain) => {
            ((0..=gain.rounds).map(|round| gain.clusters_after(clusters, round)).collect(), "clusters", "pictures")
        }
        GrowingConfig::Paper(paper) => {
            ((2..=paper.heads(clusters)).map(|heads| heads * clusters).collect(), "heads", "patches of a circuit")
        }
    };
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let em = growing.em();
    format!("{} {of}, {} epochs of EM a round, {} {unit} a step;", sizes.join(" -> "), em.epochs, em.batch)
}

/// Parameters and memory of a stage's circuit.
fn size(config: &Config, stage: Stage, view: &View) -> Result<String> {
    if !stage.has_circuit() {
        return Ok(String::new());
    }
    let mut patch = stage.patch_config(config, view.shape())?;
    let (clusters, view) = (stage.clusters(config), models::stage_view(config, stage, view.shape())?);
    let heads = match (&config.distill.growing, &mut patch.family) {
        (Some(GrowingConfig::Paper(paper)), FamilyConfig::Hclt(hclt)) if clusters == paper.final_clusters => {
            hclt.states = paper.states(hclt.states, config.latents.clusters).pop().unwrap_or(hclt.states);
            paper.heads(config.latents.clusters)
        }
        _ => 1,
    };
    let (patches, memory) = patch_numbers(&patch, &view, (clusters / heads, heads), stage.micro_batch(config))?;
    let (tree, search) =
        if stage.has_tree(config) { tree_numbers(config, &view, clusters)? } else { (clusters as f64 - 1.0, 0.0) };
    // Tables, statistics and decayed statistics, four bytes each.
    let bytes = memory.max(search) + 12.0 * (patches + tree);
    Ok(format!("{:.0} parameters, about {:.2} GiB", patches + tree, bytes / f64::from(1 << 30)))
}

fn device_name(device: Device) -> &'static str {
    if device.is_cuda() { "the GPU" } else { "this CPU" }
}

/// Free numbers of the patch circuits (clusters of one tree or Gaussian each, and heads of a tree), and bytes that they
/// take beside their tables: messages of a micro-batch, and the search for trees.
fn patch_numbers(
    patch: &PatchConfig,
    view: &View,
    (clusters, heads): (usize, usize),
    micro_batch: usize,
) -> Result<(f64, f64)> {
    let (d, examples, clusters) = (view.numbers(), (micro_batch * view.patches()) as f64, clusters as f64);
    match &patch.family {
        FamilyConfig::Hclt(hclt) => {
            let categories: Vec<usize> = view.ranges().iter().map(|(low, high)| (high - low + 1) as usize).collect();
            let regions = hclt.tree.regions(d);
            let star = (0..regions).map(|v| (v > 0).then_some(0)).collect();
            let graph = hclt::forest(&[star], hclt.states, &categories)?.with_heads(heads);
            let each = Parameters::count(&Plan::new(&graph, Device::Cpu)) as f64;
            let messages = examples.min(1024.0) * (regions * hclt.states) as f64 * 4.0 * 4.0;
            Ok((clusters * each, messages.max(hclt.tree.memory(d))))
        }
        FamilyConfig::Gaussian(gaussian) => {
            let alone = clusters * gaussian.parameters(d) as f64;
            let around =
                |context: ContextConfig| context.parameters(gaussian, view.grid.channels, clusters as usize) as f64;
            let all = patch.context().map_or(alone, around);
            // Shapes, statistics and decayed statistics in float64, on top of the twelve bytes of a parameter.
            Ok((all, examples * (8.0 * d as f64 + 12.0 * clusters) + clusters * (d * d) as f64 * 18.0))
        }
    }
}

/// Free numbers of the latent tree, and bytes of the search for it.
fn tree_numbers(config: &Config, view: &View, clusters: usize) -> Result<(f64, f64)> {
    let tree = &config.distill.tree;
    let chain = (0..view.patches()).map(|i| i.checked_sub(1)).collect();
    let graph = hclt::latent_tree(&chain, view.grid.cols, clusters, tree.hidden, tree.tying)?;
    Ok((Parameters::count(&Plan::new(&graph, Device::Cpu)) as f64, chow_liu::memory(view.patches(), clusters)))
}
