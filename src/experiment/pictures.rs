//! What a run's models look like, as pictures in the run folder: samples, every cluster's mean patch, the teacher's
//! clusters. For people and `report`; no number comes from here.

use anyhow::{Context as _, Result};
use image::{ImageBuffer, ImageFormat, Luma, Rgb};
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::stage::Stage;
use super::{models, teaching};
use crate::data::pictures::Pictures;
use crate::mixture::Mixture;
use crate::random::rng;
use crate::run::results::{ClusterSizes, PICTURES};
use crate::run::{RunFolder, atomic_write};

/// Samples drawn, and how many stand in a row.
const SAMPLES: usize = 32;
const SAMPLES_A_ROW: i64 = 8;
const PATCHES_A_ROW: i64 = 16;
/// Pictures that mean patches are taken from, at most.
const SEEN: usize = 1000;
/// Sides of pictures and patches are at least so many dots long.
const LEAST_PICTURE: i64 = 64;
const LEAST_PATCH: i64 = 24;

/// Draw the pictures of a stage, if it has any: of the teacher's clusters, and of finished models.
///
/// # Errors
/// When models or pictures cannot be read, or files not written.
pub fn draw(context: &Context, stage: Stage) -> Result<()> {
    let _guard = tch::no_grad_guard();
    match stage {
        Stage::Latents => draw_teacher(context),
        Stage::Joint | Stage::EmOnly | Stage::PixelHclt => draw_model(context, stage),
        _ => Ok(()),
    }
}

fn draw_teacher(context: &Context) -> Result<()> {
    let codes = teaching::codes(context)?;
    let clusters = context.config.latents.clusters as i64;
    let means = Means::of(&context.data.train, context, &|indices, _| {
        let rows: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
        Ok(codes.index_select(0, &Tensor::from_slice(&rows)).one_hot(clusters).to_kind(Kind::Float))
    })?;
    means.write(context.run, Stage::Latents, "The teacher's clusters: its codebook in pixels")
}

fn draw_model(context: &Context, stage: Stage) -> Result<()> {
    let model = models::load(context.run, context.config, stage, context.device)?;
    let drawn = model.sample(SAMPLES, &mut rng(context.config.seed, "samples", 0));
    let samples = model.view.display(&drawn).to_device(Device::Cpu);
    write_grid(context.run, &format!("{stage}-samples"), &samples, SAMPLES_A_ROW, LEAST_PICTURE)?;
    if stage != Stage::Joint {
        return Ok(());
    }
    let mut noise = rng(context.config.seed, "noise of mean patches", 0);
    let noise = std::cell::RefCell::new(&mut noise);
    let means =
        Means::of(&context.data.valid, context, &|_, pixels| posterior(&model, pixels, &mut noise.borrow_mut()))?;
    means.write(context.run, stage, "Clusters of the finished model")
}

fn posterior(model: &Mixture, pixels: &Tensor, noise: &mut rand_chacha::ChaCha8Rng) -> Result<Tensor> {
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
    /// Of the first pictures, with the weights `[B, L, K]` that each batch of indices and pixels is given.
    fn of(
        pictures: &Pictures,
        context: &Context,
        weights: &dyn Fn(&[usize], &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let grid = context.view.grid;
        let (mut sums, mut counts) = (Vec::new(), Vec::new());
        let indices: Vec<usize> = (0..SEEN.min(pictures.len())).collect();
        for some in indices.chunks(context.config.compute.micro_batch) {
            let pixels = pictures.batch(some)?;
            let weights = weights(some, &pixels)?.flatten(0, 1).to_kind(Kind::Double); // [B * L, K]
            let patches = grid.cut(&pixels).flatten(0, 1).to_kind(Kind::Double);
            sums.push(weights.tr().matmul(&patches));
            counts.push(weights.sum_dim_intlist(0, false, Kind::Double));
        }
        let total = |parts: &[Tensor]| Tensor::stack(parts, 0).sum_dim_intlist(0, false, Kind::Double);
        let (sums, counts) = (total(&sums), total(&counts));
        let patches = sums / counts.clamp_min(1e-9).unsqueeze(1);
        let (p, channels) = (grid.patch as i64, grid.channels as i64);
        let shares = &counts / counts.sum(Kind::Double);
        Ok(Self { patches: patches.view([-1, p, p, channels]), shares, pictures: indices.len() })
    }

    /// Grid and sizes, largest cluster first.
    fn write(&self, run: &RunFolder, stage: Stage, title: &str) -> Result<()> {
        let (shares, order) = self.shares.sort(0, true);
        let patches = self.patches.index_select(0, &order).round().to_kind(Kind::Uint8);
        write_grid(run, &format!("{stage}-clusters"), &patches, PATCHES_A_ROW, LEAST_PATCH)?;
        let title = title.to_owned();
        let clusters = ClusterSizes { title, shares: Vec::try_from(shares)?, pictures: self.pictures };
        atomic_write(&run.path(PICTURES).join(format!("{stage}.json")), serde_json::to_vec(&clusters)?)
    }
}

/// Pictures u8 `[N, h, w, C]` side by side as one PNG, a dot apart, enlarged without smoothing.
fn write_grid(run: &RunFolder, name: &str, pictures: &Tensor, a_row: i64, least: i64) -> Result<()> {
    let (n, h, w, channels) = pictures.size4()?;
    let levels = if pictures.max().int64_value(&[]) < 32 { 255 / pictures.max().int64_value(&[]).max(1) } else { 1 };
    let (rows, scale) = ((n + a_row - 1) / a_row, (least + h - 1) / h);
    let bright = (pictures * levels).permute([0, 3, 1, 2]);
    let large = bright.repeat_interleave_self_int(scale, 2, None).repeat_interleave_self_int(scale, 3, None);
    let framed = large.constant_pad_nd([0, 1, 0, 1]);
    let padding = Tensor::zeros([rows * a_row - n, channels, h * scale + 1, w * scale + 1], (Kind::Uint8, Device::Cpu));
    let (height, width) = (rows * (h * scale + 1), a_row * (w * scale + 1));
    let sheet = Tensor::cat(&[framed, padding], 0).view([rows, a_row, channels, h * scale + 1, w * scale + 1]);
    let sheet = sheet.permute([0, 3, 1, 4, 2]).reshape([-1]);
    let bytes: Vec<u8> = Vec::try_from(sheet)?;
    let mut png = std::io::Cursor::new(Vec::new());
    let fits = "a sheet has as many bytes as its size says";
    if channels == 1 {
        let image = ImageBuffer::<Luma<u8>, _>::from_raw(width as u32, height as u32, bytes).context(fits)?;
        image.write_to(&mut png, ImageFormat::Png)?;
    } else {
        let image = ImageBuffer::<Rgb<u8>, _>::from_raw(width as u32, height as u32, bytes).context(fits)?;
        image.write_to(&mut png, ImageFormat::Png)?;
    }
    std::fs::create_dir_all(run.path(PICTURES))
        .with_context(|| format!("{}: cannot be made", run.path(PICTURES).display()))?;
    atomic_write(&run.path(PICTURES).join(format!("{name}.png")), png.into_inner())
}
