//! What a run's models look like, as pictures in the run folder: samples, every cluster's mean patch, the teacher's
//! clusters. For people and `report`; no number comes from here.

use anyhow::{Context as _, Result};
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::stage::Stage;
use super::{assigning, models};
use crate::data::batches::Batch;
use crate::data::pictures::Pictures;
use crate::data::sheet::{self, Sheet};
use crate::data::view::View;
use crate::mixture::Mixture;
use crate::random::{Draws, rng};
use crate::run::results::{ClusterSizes, PICTURES};
use crate::run::{atomic_write, interrupt};

/// Samples drawn.
const SAMPLES: usize = 32;
/// Pictures that mean patches are taken from, at most.
const SEEN: usize = 1000;
/// Samples whose nearest training pictures are shown, and training pictures that are looked at, at most.
const NEAREST: i64 = 8;
const LOOKED_AT: usize = 50_000;
const SAMPLES_SHEET: Sheet = Sheet { a_row: 8, least: 64 };
const PATCHES_SHEET: Sheet = Sheet { a_row: 16, least: 24 };

/// Draw the pictures of a stage, if it has any: of the teacher's clusters, and of finished models.
///
/// # Errors
/// When models or pictures cannot be read, or files not written.
pub fn draw(context: &Context, stage: Stage) -> Result<()> {
    let _guard = tch::no_grad_guard();
    match stage {
        Stage::Latents => draw_teacher(context),
        Stage::EmOnly | Stage::PixelHclt => draw_model(context, stage),
        _ if stage == Stage::last(context.config) => draw_model(context, stage),
        _ => Ok(()),
    }
}

fn draw_teacher(context: &Context) -> Result<()> {
    let codes = assigning::codes(context)?;
    let clusters = context.config.latents.clusters as i64;
    let means = Means::of(&context.data.train, context, &mut |batch| {
        Ok(batch.rows_of(&codes).one_hot(clusters).to_kind(Kind::Float))
    })?;
    means.write(context, Stage::Latents, "The teacher's clusters: its codebook in pixels")
}

fn draw_model(context: &Context, stage: Stage) -> Result<()> {
    let model = models::load(context.run, context.config, stage, context.device)?;
    let drawn = model.sample(SAMPLES, &mut rng(context.config.seed, "samples", 0));
    let samples = model.view().display(&drawn).to_device(Device::Cpu);
    write_sheet(context, &format!("{stage}-samples"), &samples, SAMPLES_SHEET)?;
    if stage != Stage::last(context.config) {
        return Ok(());
    }
    draw_real(context)?;
    draw_nearest(context, stage, &samples.narrow(0, 0, NEAREST))?;
    let means = Means::of(&context.data.valid, context, &mut |batch| {
        let (seed, pictures) = (context.config.seed, &batch.indices);
        let noise = Draws { seed, purpose: "noise of mean patches", pass: 0, pictures };
        posterior(&model, &batch.pixels, &noise)
    })?;
    means.write(context, stage, "Clusters of the finished model")
}

/// Validation pictures, to compare samples with.
fn draw_real(context: &Context) -> Result<()> {
    let valid = &context.data.valid;
    let numbers: Vec<usize> = (0..valid.len().min(SAMPLES)).collect();
    write_sheet(context, "real", &modelled(&context.view, &valid.batch(&numbers)?), SAMPLES_SHEET)
}

/// Samples u8 `[n, h, w, C]` and, in the row below, the training picture nearest to each by squared distance: does the model
/// repeat what it has seen?
fn draw_nearest(context: &Context, stage: Stage, samples: &Tensor) -> Result<()> {
    let train = &context.data.train;
    let flat = |pictures: &Tensor| pictures.to_kind(Kind::Float).flatten(1, -1);
    let (wanted, n) = (flat(samples), samples.size()[0]);
    let least = Tensor::full([n], f64::INFINITY, (Kind::Float, Device::Cpu));
    let nearest = samples.zeros_like();
    for batch in train.batches(0..train.len().min(LOOKED_AT), SEEN) {
        interrupt::check()?;
        let pictures = modelled(&context.view, &batch?.pixels);
        let distances = Tensor::cdist(&wanted, &flat(&pictures), 2.0, None::<i64>); // [n, B]
        let (here, at) = distances.min_dim(1, false);
        let nearer = here.lt_tensor(&least);
        let found = pictures.index_select(0, &at);
        nearest.shallow_clone().copy_(&found.where_self(&nearer.view([-1, 1, 1, 1]), &nearest));
        least.shallow_clone().copy_(&here.where_self(&nearer, &least));
    }
    let both = Tensor::cat(&[samples, &nearest], 0);
    write_sheet(context, &format!("{stage}-nearest"), &both, Sheet { a_row: n, ..SAMPLES_SHEET })
}

/// The part of pictures u8 `[B, H, W, C]` that is modelled.
fn modelled(view: &View, pictures: &Tensor) -> Tensor {
    let [height, width] = view.size().map(|n| n as i64);
    pictures.narrow(1, 0, height).narrow(2, 0, width)
}

fn posterior(model: &Mixture, pixels: &Tensor, noise: &Draws) -> Result<Tensor> {
    let patches = model.evidence(pixels, model.readings()[0], noise)?;
    Ok(model.posterior(&model.patch_log_likelihood(&patches)?)?.1.to_device(Device::Cpu))
}

/// The mean patch of every cluster, in pixels.
struct Means {
    /// float `[K, p, p, C]`.
    patches: Tensor,
    shares: Tensor,
    pictures: usize,
}

impl Means {
    /// Of the first pictures, with the weights `[B, L, K]` that each batch is given.
    fn of(pictures: &Pictures, context: &Context, weights: &mut dyn FnMut(&Batch) -> Result<Tensor>) -> Result<Self> {
        let grid = context.view.grid;
        let (mut sums, mut counts) = (Vec::new(), Vec::new());
        let seen = SEEN.min(pictures.len());
        for batch in pictures.batches(0..seen, context.config.compute.micro_batch) {
            interrupt::check()?;
            let batch = batch?;
            let weights = weights(&batch)?.flatten(0, 1).to_kind(Kind::Double); // [B * L, K]
            let patches = grid.cut(&batch.pixels).flatten(0, 1).to_kind(Kind::Double);
            sums.push(weights.tr().matmul(&patches));
            counts.push(weights.sum_dim_intlist(0, false, Kind::Double));
        }
        let total = |parts: &[Tensor]| Tensor::stack(parts, 0).sum_dim_intlist(0, false, Kind::Double);
        let (sums, counts) = (total(&sums), total(&counts));
        let patches = sums / counts.clamp_min(1e-9).unsqueeze(1);
        let (p, channels) = (grid.patch as i64, grid.channels as i64);
        let shares = &counts / counts.sum(Kind::Double);
        Ok(Self { patches: patches.view([-1, p, p, channels]), shares, pictures: seen })
    }

    /// Grid and sizes, largest cluster first.
    fn write(&self, context: &Context, stage: Stage, title: &str) -> Result<()> {
        let (shares, order) = self.shares.sort(0, true);
        let patches = self.patches.index_select(0, &order).round().to_kind(Kind::Uint8);
        write_sheet(context, &format!("{stage}-clusters"), &patches, PATCHES_SHEET)?;
        let title = title.to_owned();
        let clusters = ClusterSizes { title, shares: Vec::try_from(shares)?, pictures: self.pictures };
        atomic_write(&context.run.path(PICTURES).join(format!("{stage}.json")), serde_json::to_vec(&clusters)?)
    }
}

/// Write pictures u8 `[N, h, w, C]` as a sheet into the run folder.
fn write_sheet(context: &Context, name: &str, pictures: &Tensor, layout: Sheet) -> Result<()> {
    let folder = context.run.path(PICTURES);
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let png = sheet::png(pictures, context.view.shape().levels, layout)?;
    atomic_write(&folder.join(format!("{name}.png")), png)
}
