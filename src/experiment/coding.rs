//! `lvd compress`: pictures to a container by the model of a run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use tch::Device;

use super::coding_input::{Input, of_files, of_split};
use super::config::Config;
use super::models::{self, MODEL};
use super::stage::Stage;
use super::subject::trained;
use crate::codec::container::{self, check_of};
use crate::codec::{Codec, Header, Stored};
use crate::data::Split;
use crate::device::{self, Read, ReadOnly};
use crate::require;
use crate::run::{RunFolder, checkpoint, progress};

/// Pictures that every thread gets in one go.
const EACH: usize = 8;

/// What is to be compressed.
#[derive(Clone, Debug)]
pub struct Request {
    /// Stage whose model is meant; where none is named, the last one of distillation that has a model, else a baseline.
    pub stage: Option<Stage>,
    /// Files of the user's; where there are none, a split of the run's data.
    pub inputs: Vec<PathBuf>,
    /// Whether the files have 256 levels and are to be brought to the model's, which loses what is between.
    pub requantise: bool,
    /// Which split.
    pub split: Split,
    /// Only so many pictures of it.
    pub first: Option<usize>,
    /// Where the root of the data sets is, if not where the run found it.
    pub root: Option<PathBuf>,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Pictures.
    pub pictures: usize,
    /// Bytes of their pixels.
    pub pixels: usize,
    /// Bytes of the container; 0 where it was read.
    pub bytes: u64,
    /// What the model's probabilities ask for, in bits; 0 where it was read.
    pub model_bits: f64,
    /// Seconds from the first picture to the last.
    pub seconds: f64,
}

/// The codec of a stage, and the SHA-256 of its model file.
pub(super) struct Opened {
    pub(super) codec: Codec,
    hash: [u8; 32],
}

// SAFETY: a codec holds plain numbers, and no tensors, behind its references.
unsafe impl ReadOnly for Codec {}

/// Code pictures by the model of a run into a container.
///
/// # Errors
/// Refusals where the run has no such model, the model keeps no integers, or the pictures do not fit.
pub fn compress(run: &Path, request: &Request, out: &Path) -> Result<Done> {
    check_place(out, "a file")?;
    require!(
        !out.exists() || container::is_one(out),
        "{}: is there already and is no container: name another file",
        out.display()
    );
    let (folder, config, stage) = trained(run, request.stage, request.root.as_deref())?;
    let Opened { codec, hash } = opened(&folder, &config, stage)?;
    let shape = codec.view().shape();
    let inputs = if request.inputs.is_empty() {
        vec![of_split(&folder, &config, request.split, request.first)?]
    } else {
        of_files(&request.inputs, shape, codec.takes_any_size(), request.requantise)?
    };
    for input in inputs.iter().filter(|_| !codec.takes_any_size()) {
        let found = input.pictures.shape();
        require!(
            found == shape,
            "the pictures are {found}, the model was trained for {shape}\n  bring them to that size, or train with patch.context, which codes \
             pictures of any size"
        );
    }
    let count: usize = inputs.iter().map(|input| input.pictures.len()).sum();
    require!(count > 0, "there are no pictures to compress");
    let started = Instant::now();
    let (coded, index, model_bits) = code(&codec, &inputs)?;
    let header = Header {
        model: hash,
        stage: stage.name().to_owned(),
        color: codec.view().color.name().to_owned(),
        channels: shape.channels as u8,
        levels: shape.levels as u16,
        size: [shape.height, shape.width].map(|side| side as u32),
        index,
    };
    let seconds = started.elapsed().as_secs_f64();
    container::write(out, &header, &coded)?;
    let pictures = coded.len();
    let bytes = out.metadata().map_or(0, |found| found.len());
    let pixels = (0..pictures).map(|number| header.shape(number).dimensions()).sum();
    Ok(Done { pictures, pixels, bytes, model_bits, seconds })
}

/// See that a file can be written there; `wanted` says what else should be named.
pub(super) fn check_place(out: &Path, wanted: &str) -> Result<()> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/");
    require!(!folder, "{}: is a folder: name {wanted}", out.display());
    require!(parent.is_none_or(Path::is_dir), "{}: there is no such folder to write into", out.display());
    Ok(())
}

/// The codec of a stage that is done.
pub(super) fn opened(folder: &RunFolder, config: &Config, stage: Stage) -> Result<Opened> {
    let view = *models::load(folder, config, stage, Device::Cpu)?.view();
    let place = folder.stage(stage.name());
    let record = place.record()?.context("a stage that was read has a record")?;
    let hash = record.files.get(MODEL).context("a model that was read is in its record")?;
    let hash = hex::decode(hash)?.try_into().ok().context("a SHA-256 has 32 bytes")?;
    let saved = checkpoint::load(&place.path(MODEL), Device::Cpu)?;
    Ok(Opened { codec: Codec::new(view, &saved.named())?, hash })
}

/// Every picture's bytes, the index, and the bits of the model.
fn code(codec: &Codec, inputs: &[Input]) -> Result<(Vec<Vec<u8>>, Vec<Stored>, f64)> {
    let own = codec.view().shape();
    let mut all: Vec<(&Input, usize)> = Vec::new();
    for input in inputs {
        all.extend((0..input.pictures.len()).map(|number| (input, number)));
    }
    let (mut coded, mut index, mut bits) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()), 0.0);
    let mut watch = Watch::new("compress", all.len());
    for portion in portions(all.len()) {
        let mut work = Vec::new();
        for &place in &portion {
            let (input, number) = all[place];
            let pixels = input.pictures.batch(&[number])?;
            let shape = input.pictures.shape();
            work.push((Read(codec), codec.integers(&pixels)?.remove(0), [shape.height, shape.width]));
            let pixels: Vec<u8> = Vec::try_from(pixels.view(-1))?;
            let same = (shape.height, shape.width) == (own.height, own.width);
            let size = (!same).then(|| [shape.height, shape.width].map(|side| side as u32));
            index.push(Stored { length: 0, size, check: check_of(&pixels), name: input.names[number].clone() });
        }
        let done = device::spread(Device::Cpu, work, |(codec, numbers, size): (Read<Codec>, Vec<i16>, [usize; 2])| {
            codec.0.encode(&numbers, size)
        });
        for (found, &place) in done.into_iter().zip(&portion) {
            let found = found?;
            bits += found.model_bits;
            index[place].length = u32::try_from(found.bytes.len()).context("a coded picture is too long")?;
            coded.push(found.bytes);
            watch.add(all[place].0.pictures.shape().dimensions());
        }
    }
    watch.end();
    Ok((coded, index, bits))
}

/// The numbers from 0 to `count` in portions that keep all threads busy.
pub(super) fn portions(count: usize) -> impl Iterator<Item = Vec<usize>> {
    let size = EACH * device::parts(Device::Cpu);
    (0..count).step_by(size).map(move |start| (start..(start + size).min(count)).collect())
}

/// A progress bar that tells megabytes of pixels a second.
pub(super) struct Watch {
    bar: indicatif::ProgressBar,
    started: Instant,
    numbers: usize,
}

impl Watch {
    pub(super) fn new(label: &str, count: usize) -> Self {
        Self { bar: progress::bar(label, count as u64), started: Instant::now(), numbers: 0 }
    }

    /// A picture of so many numbers is done.
    pub(super) fn add(&mut self, numbers: usize) {
        self.numbers += numbers;
        self.bar.inc(1);
        let rate = self.numbers as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!("{rate:.3} MB/s"));
    }

    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}
