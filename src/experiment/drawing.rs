//! Answers that are pictures: `lvd sample`, `lvd inpaint`, `lvd explain`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::question::Asked;
use super::stage::Stage;
use super::subject;
use crate::color::ColorSpace;
use crate::data::sheet::{self, Sheet};
use crate::data::view::View;
use crate::query::mask::MaskWords;
use crate::query::{conditional, explain, pixels};
use crate::random::rng;
use crate::require;
use crate::run::array::ArrayWriter;
use crate::run::{atomic_write, interrupt, progress};

/// Pictures drawn in one go.
const AT_ONCE: usize = 64;
/// Completions drawn in one go.
const COMPLETIONS: usize = 256;
/// Pixels on the shorter side of what is looked at, at least.
const LEAST: i64 = 64;

/// Where an answer goes.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// A sheet to look at.
    pub png: Option<PathBuf>,
    /// The numbers.
    pub npy: Option<PathBuf>,
}

/// The files that are being written.
struct Files {
    array: Option<ArrayWriter>,
    png: Option<PathBuf>,
    /// Rows of the sheet `[N, cells, h, w, C]`, where one is written.
    rows: Vec<Tensor>,
}

impl Targets {
    /// For an array of so many rows.
    fn open(&self, rows: usize) -> Result<Files> {
        require!(
            self.png.is_some() || self.npy.is_some(),
            "nothing to write: name a picture (--out) or an array (--npy)"
        );
        let array = self.npy.as_ref().map(|path| ArrayWriter::new(path, rows));
        Ok(Files { array, png: self.png.clone(), rows: Vec::new() })
    }
}

impl Files {
    /// Rows of the array, and the rows of the sheet that show them.
    fn add(&mut self, array: &Tensor, rows: Tensor) -> Result<()> {
        if self.png.is_some() {
            self.rows.push(rows);
        }
        self.array.as_mut().map_or(Ok(()), |writer| writer.append(array))
    }

    /// Write what is left; the cells of a row side by side, or so many pictures in a row.
    fn finish(self, view: &View, a_row: Option<i64>) -> Result<()> {
        if let Some(writer) = self.array {
            writer.finish()?;
        }
        let Some(path) = &self.png else { return Ok(()) };
        let rows = Tensor::cat(&self.rows, 0);
        write_sheet(path, &rows.flatten(0, 1), view, a_row.unwrap_or(rows.size()[1]))
    }
}

/// New pictures of a run's model: u8 `[count, h, w, C]` as an array, and as a sheet.
///
/// # Errors
/// Where the run holds no such model or a file cannot be written.
pub fn sample(
    run: &Path,
    stage: Option<Stage>,
    seed: Option<u64>,
    count: usize,
    targets: &Targets,
    device: Device,
) -> Result<Value> {
    let mut files = targets.open(count)?;
    let _guard = tch::no_grad_guard();
    let (config, stage, model) = subject::model(run, stage, device)?;
    let seed = seed.unwrap_or(config.seed);
    let bar = progress::bar("sample", count as u64);
    for start in (0..count).step_by(AT_ONCE) {
        interrupt::check()?;
        let some = AT_ONCE.min(count - start);
        // As many as ever are drawn, so that the first of many are those of few.
        let drawn = model.sample(AT_ONCE, &mut rng(seed, "new pictures", start as u64)).narrow(0, 0, some as i64);
        let pictures = model.view().display(&drawn).to_device(Device::Cpu);
        files.add(&pictures, pictures.unsqueeze(1))?;
        bar.inc(some as u64);
    }
    bar.finish_and_clear();
    files.finish(model.view(), Some((count as f64).sqrt().ceil() as i64))?;
    Ok(json!({"stage": stage, "pictures": count, "seed": seed}))
}

/// What the completions of pictures are to look like.
#[derive(Clone, Debug)]
pub struct Inpainting {
    /// What is observed.
    pub observed: MaskWords,
    /// Whether the mask says what is missing.
    pub inverted: bool,
    /// Samples of the rest.
    pub samples: usize,
}

/// Completions of pictures: a row each with original, observed part, samples, conditional mean and standard deviation; the
/// samples as an array u8 `[N, samples, h, w, C]`.
///
/// # Errors
/// Where the model has no such conditional, the mask does not fit, or a file cannot be written.
pub fn inpaint(asked: &Asked, wanted: &Inpainting, targets: &Targets) -> Result<Value> {
    let mut files = targets.open(asked.count)?;
    let masks = asked.masks(&wanted.observed, wanted.inverted)?;
    let view = *asked.subject.model.view();
    let [height, width] = view.size().map(|n| n as i64);
    let channels = view.shape().channels as i64;
    // Where chroma counts modulo 256, a mean is no colour.
    let with_moments = targets.png.is_some() && view.context == 0 && view.color != ColorSpace::YcocgRMod;
    let most = (COMPLETIONS / wanted.samples.max(1)).max(1);
    asked.each("inpaint", most, |model, batch| {
        let evidence = asked.evidence(batch, Some(&masks))?;
        let b = batch.indices.len() as i64;
        let stream = &mut rng(asked.seed, "completions", batch.indices[0] as u64);
        let some = |start: usize| {
            let count = COMPLETIONS.min(wanted.samples - start);
            let samples = conditional::samples(model, &evidence, count, stream)?;
            let samples = pixels::drawn(&view, &samples.flatten(0, 1)).to_device(Device::Cpu);
            Ok(samples.view([b, -1, height, width, channels]))
        };
        let samples = (0..wanted.samples).step_by(COMPLETIONS).map(some).collect::<Result<Vec<_>>>()?;
        let mask = masks.of(&batch.indices)?;
        let samples = restored(&view, &batch.pixels, mask.observed(), &Tensor::cat(&samples, 1));
        let mut row = shown(&view, &batch.pixels, mask.observed());
        row.push(samples.shallow_clone());
        if with_moments {
            let moments = conditional::moments(model, &evidence)?;
            let mean = pixels::mean(&view, &moments.mean, asked.reading).to_device(Device::Cpu);
            row.extend([mean.unsqueeze(1), deviations(&view, &moments.variance).unsqueeze(1)]);
        }
        files.add(&samples, Tensor::cat(&row, 1))
    })?;
    files.finish(&view, None)?;
    let samples = format!("{} samples", wanted.samples);
    let mut columns = vec!["original", "observed", samples.as_str()];
    if with_moments {
        columns.extend(["conditional mean", "standard deviation"]);
    }
    let mut said = asked.about();
    said["columns"] = json!(columns);
    Ok(said)
}

/// The most probable explanation of pictures: a row each with original, observed part and completion; the completions as an
/// array u8 `[N, h, w, C]`.
///
/// # Errors
/// As those of [`inpaint`].
pub fn explained(asked: &Asked, observed: &MaskWords, inverted: bool, targets: &Targets) -> Result<Value> {
    let mut files = targets.open(asked.count)?;
    let masks = asked.masks(observed, inverted)?;
    let view = *asked.subject.model.view();
    let mut nats = Vec::new();
    asked.each("explain", asked.batch, |model, batch| {
        let evidence = asked.evidence(batch, Some(&masks))?;
        let found = explain::explain(model, &evidence)?;
        let pictures = pixels::drawn(&view, &found.patches).to_device(Device::Cpu);
        let mask = masks.of(&batch.indices)?;
        let pictures = restored(&view, &batch.pixels, mask.observed(), &pictures.unsqueeze(1)).squeeze_dim(1);
        let mut row = shown(&view, &batch.pixels, mask.observed());
        row.push(pictures.unsqueeze(1));
        nats.extend(Vec::<f64>::try_from(found.log_probability)?);
        files.add(&pictures, Tensor::cat(&row, 1))
    })?;
    files.finish(&view, None)?;
    let mut said = asked.about();
    said["columns"] = json!(["original", "observed", "most probable with its latents"]);
    said["log_joint_nats"] = json!(nats);
    Ok(said)
}

/// Completions u8 `[B, n, h, w, C]` with the pixels that were `observed` as they are in the originals: a colour space that merges
/// colours would show others.
fn restored(view: &View, originals: &Tensor, observed: &Tensor, completed: &Tensor) -> Tensor {
    let known = observed.reshape([-1, 1, observed.size()[observed.dim() - 2], observed.size()[observed.dim() - 1], 1]);
    modelled(view, originals).unsqueeze(1).where_self(&known, completed)
}

/// The part of pictures u8 `[B, H, W, C]` that is modelled, `[B, h, w, C]`.
fn modelled(view: &View, originals: &Tensor) -> Tensor {
    let [height, width] = view.size().map(|n| n as i64);
    originals.narrow(1, 0, height).narrow(2, 0, width).to_device(Device::Cpu)
}

/// Originals u8 `[B, H, W, C]` and what is observed of them, `[B, 1, h, w, C]` each: the part that is modelled; what is missing
/// is grey.
fn shown(view: &View, originals: &Tensor, observed: &Tensor) -> Vec<Tensor> {
    let whole = modelled(view, originals);
    let grey = Tensor::from((view.shape().levels / 2) as i64).to_kind(Kind::Uint8);
    let known = observed.unsqueeze(-1).expand_as(&whole);
    vec![whole.unsqueeze(1), whole.where_self(&known, &grey).unsqueeze(1)]
}

/// Standard deviations of pixels as a heat map u8 `[B, h, w, C]`: the root of the mean variance of a pixel's numbers, white at
/// half of all levels.
fn deviations(view: &View, variance: &Tensor) -> Tensor {
    let [height, width] = view.size().map(|n| n as i64);
    let whole = view.grid.assemble(variance).narrow(1, 0, height).narrow(2, 0, width);
    let deviation = whole.mean_dim([3i64].as_slice(), true, Kind::Double).sqrt();
    let levels = view.shape().levels as f64;
    let bright = (deviation * 2.0).clamp(0.0, levels - 1.0).round().to_kind(Kind::Uint8);
    bright.expand([-1, -1, -1, view.shape().channels as i64], false).to_device(Device::Cpu)
}

/// Write pictures u8 `[N, h, w, C]` as a sheet.
pub(super) fn write_sheet(path: &Path, pictures: &Tensor, view: &View, a_row: i64) -> Result<()> {
    atomic_write(path, sheet::png(pictures, view.shape().levels, Sheet { a_row, least: LEAST })?)
}
