//! `lvd compress` and `lvd decompress`: pictures to a container by the model of a run, and back.

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use image::{DynamicImage, GrayImage, RgbImage};
use ndarray::Array;
use serde_json::{Value, json};
use tch::Device;

use super::coding_input::{Input, has_ending, of_files, of_split};
use super::config::Config;
use super::eval::{check_current, last_stage};
use super::models::{self, MODEL};
use super::read;
use super::stage::Stage;
use crate::codec::container::{self, check_of};
use crate::codec::{Codec, Container, Header, Stored};
use crate::data::Split;
use crate::data::pictures::PictureShape;
use crate::device::{self, Read, ReadOnly};
use crate::run::{RunFolder, atomically, checkpoint, progress};
use crate::{refusal, require};

/// Pictures that every thread gets in one go.
const EACH: usize = 8;

/// What is to be compressed.
#[derive(Clone, Debug)]
pub struct Request {
    /// Stage whose model is meant; where none is named, the last one of distillation that has a model, else a baseline.
    pub stage: Option<Stage>,
    /// Files of the user's; where there are none, a split of the run's data.
    pub inputs: Vec<PathBuf>,
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
struct Opened {
    codec: Codec,
    hash: [u8; 32],
}

// SAFETY: a codec holds plain numbers, and no tensors, behind its references.
unsafe impl ReadOnly for Codec {}

/// Code pictures by the model of a run into a container.
///
/// # Errors
/// Refusals where the run has no such model, the model keeps no integers, or the pictures do not fit.
pub fn compress(run: &Path, request: &Request, out: &Path) -> Result<Done> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    require!(!out.is_dir(), "{}: is a folder: name a file", out.display());
    require!(parent.is_none_or(Path::is_dir), "{}: there is no such folder to write into", out.display());
    let folder = RunFolder::read(run)?;
    let mut config = read::of_run(&folder)?;
    device::set_threads(config.compute.threads)?;
    if let Some(root) = &request.root {
        config.data.root = Some(root.clone());
    }
    let stage = request.stage.map_or_else(|| last_stage(&folder), Ok)?;
    check_current(&folder, &config, stage)?;
    let Opened { codec, hash } = opened(&folder, &config, stage)?;
    let shape = codec.view().shape();
    let input = if request.inputs.is_empty() {
        of_split(&folder, &config, request.split, request.first)?
    } else {
        of_files(&request.inputs, shape)?
    };
    let found = input.pictures.shape();
    require!(found == shape, "the pictures are {found}, the model was trained for {shape}");
    let started = Instant::now();
    let (coded, index, model_bits) = code(&codec, &input)?;
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
    Ok(Done { pictures, pixels: pictures * shape.dimensions(), bytes, model_bits, seconds })
}

fn opened(folder: &RunFolder, config: &Config, stage: Stage) -> Result<Opened> {
    let view = *models::load(folder, config, stage, Device::Cpu)?.view();
    let place = folder.stage(stage.name());
    let record = place.record()?.context("a stage that was read has a record")?;
    let hash = record.files.get(MODEL).context("a model that was read is in its record")?;
    let hash = hex::decode(hash)?.try_into().ok().context("a SHA-256 has 32 bytes")?;
    let saved = checkpoint::load(&place.path(MODEL), Device::Cpu)?;
    Ok(Opened { codec: Codec::new(view, &saved.named())?, hash })
}

/// Every picture's bytes, the index, and the bits of the model.
fn code(codec: &Codec, input: &Input) -> Result<(Vec<Vec<u8>>, Vec<Stored>, f64)> {
    let count = input.pictures.len();
    let (mut all, mut index, mut bits) = (Vec::with_capacity(count), Vec::with_capacity(count), 0.0);
    let watch = Watch::new("compress", count, codec.view().shape());
    for numbers in portions(count) {
        let pixels = input.pictures.batch(&numbers)?;
        let patches = codec.integers(&pixels)?;
        let work = patches.into_iter().map(|patches| (Read(codec), patches)).collect();
        let done =
            device::spread(Device::Cpu, work, |(codec, patches): (Read<Codec>, Vec<i16>)| codec.0.encode(&patches));
        let pixels: Vec<u8> = Vec::try_from(pixels.view(-1))?;
        let each = pixels.chunks_exact(codec.view().shape().dimensions());
        for ((coded, pixels), number) in done.into_iter().zip(each).zip(numbers) {
            let coded = coded?;
            bits += coded.model_bits;
            let length = u32::try_from(coded.bytes.len()).context("a coded picture is too long")?;
            index.push(Stored { length, size: None, check: check_of(pixels), name: input.names[number].clone() });
            all.push(coded.bytes);
        }
        watch.set(all.len());
    }
    watch.end();
    Ok((all, index, bits))
}

/// The numbers from 0 to `count` in portions that keep all threads busy.
fn portions(count: usize) -> impl Iterator<Item = Vec<usize>> {
    let size = EACH * device::parts(Device::Cpu);
    (0..count).step_by(size).map(move |start| (start..(start + size).min(count)).collect())
}

/// A progress bar that tells megabytes of pixels a second.
struct Watch {
    bar: indicatif::ProgressBar,
    started: Instant,
    size: usize,
}

impl Watch {
    fn new(label: &str, count: usize, shape: PictureShape) -> Self {
        Self { bar: progress::bar(label, count as u64), started: Instant::now(), size: shape.dimensions() }
    }

    fn set(&self, done: usize) {
        self.bar.set_position(done as u64);
        let rate = (done * self.size) as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!("{rate:.3} MB/s"));
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// Bring the pictures of a container back, all of them or one: as PNG files into a new or empty folder, or as one array
/// where `out` ends in .npy.
///
/// # Errors
/// Refusals where the container is damaged or was made with another model, and where the folder holds something.
pub fn decompress(path: &Path, run: &Path, out: &Path, only: Option<usize>) -> Result<Done> {
    let mut file = Container::open(path)?;
    let numbers: Vec<usize> = match only {
        Some(number) => {
            let count = file.len();
            require!(
                number < count,
                "{}: picture {number} was asked for, but there are {count}, counted from 0",
                path.display()
            );
            vec![number]
        }
        None => (0..file.len()).collect(),
    };
    let codec = matching(path, file.header(), run)?;
    let array = has_ending(out, &["npy"]);
    if !array {
        make_empty(out)?;
    }
    let (started, shape) = (Instant::now(), codec.view().shape());
    let watch = Watch::new("decompress", numbers.len(), shape);
    let mut all = Vec::new();
    for portion in portions(numbers.len()) {
        let mut work = Vec::new();
        for &place in &portion {
            work.push((Read(&codec), numbers[place], file.picture(numbers[place])?));
        }
        let header = file.header();
        let done = device::spread(Device::Cpu, work, |(codec, number, bytes): (Read<Codec>, usize, Vec<u8>)| {
            codec.0.restore(header, number, &bytes)
        });
        for (pixels, &place) in done.into_iter().zip(&portion) {
            let pixels = pixels.map_err(|error| error.context(path.display().to_string()))?;
            if array {
                all.extend(pixels);
            } else {
                save(out, header, numbers[place], pixels)?;
            }
        }
        watch.set(portion.last().map_or(0, |last| last + 1));
    }
    watch.end();
    let seconds = started.elapsed().as_secs_f64();
    if array {
        write_array(out, all, numbers.len(), shape)?;
    }
    let (pictures, pixels) = (numbers.len(), numbers.len() * shape.dimensions());
    Ok(Done { pictures, pixels, bytes: 0, model_bits: 0.0, seconds })
}

/// The codec that a container was made with, if the run holds it.
fn matching(path: &Path, header: &Header, run: &Path) -> Result<Codec> {
    let folder = RunFolder::read(run)?;
    let config = read::of_run(&folder)?;
    device::set_threads(config.compute.threads)?;
    let expected = hex::encode(header.model);
    let stage = Stage::from_str(&header.stage, false).map_err(|_| {
        refusal!("{}: was made with a stage {} that this program does not know", path.display(), header.stage)
    })?;
    let record = folder.stage(stage.name()).record()?;
    let found = record.as_ref().and_then(|record| record.files.get(MODEL)).map_or("no model", String::as_str);
    require!(
        found == expected,
        "{}: was made with another model than that of {}, stage {stage} (SHA-256)\n  expected {expected}\n  found    {found}",
        path.display(),
        run.display()
    );
    Ok(opened(&folder, &config, stage)?.codec)
}

/// Make a folder, or see that there is nothing in it.
fn make_empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        require!(folder.is_dir(), "{}: is no folder: name a new folder or a file that ends in .npy", folder.display());
        let mut entries = folder.read_dir().with_context(|| format!("{}: cannot be read", folder.display()))?;
        require!(entries.next().is_none(), "{}: is not empty: name a new folder", folder.display());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))
}

/// Save a picture below a folder: under the name that it came with, else under its number.
fn save(folder: &Path, header: &Header, number: usize, pixels: Vec<u8>) -> Result<()> {
    let shape = header.shape(number);
    let name = header.index[number].name.clone().unwrap_or_else(|| format!("{number:06}"));
    let inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
    require!(inside && !name.is_empty(), "picture {number} has the name {name:?}, which leads out of the folder");
    let path = folder.join(format!("{name}.png"));
    let about = || format!("{}: cannot be written", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(about)?;
    }
    let [width, height] = [shape.width, shape.height].map(|side| side as u32);
    let picture = if shape.channels == 1 {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    picture.context("a picture has all its pixels")?.save(&path).with_context(about)
}

fn write_array(path: &Path, pixels: Vec<u8>, count: usize, shape: PictureShape) -> Result<()> {
    let PictureShape { height, width, channels, .. } = shape;
    let sizes = if channels == 1 { vec![count, height, width] } else { vec![count, height, width, channels] };
    let array = Array::from_shape_vec(sizes, pixels).context("all pictures have the model's size")?;
    atomically(path, |temporary| Ok(ndarray_npy::write_npy(temporary, &array)?))
}

/// What a container holds, as one JSON object; the first pictures only, where there are many.
///
/// # Errors
/// A refusal where it is none or is damaged.
pub fn info(path: &Path) -> Result<Value> {
    let file = Container::open(path)?;
    let header = file.header();
    let pictures = (0..file.len()).map(|number| {
        let (stored, shape) = (&header.index[number], header.shape(number));
        json!({
            "name": stored.name,
            "height": shape.height,
            "width": shape.width,
            "bytes": stored.length,
            "check": hex::encode(stored.check),
        })
    });
    let pixels: usize = (0..file.len()).map(|number| header.shape(number).dimensions()).sum();
    Ok(json!({
        "version": container::VERSION,
        "model": hex::encode(header.model),
        "stage": header.stage,
        "color": header.color,
        "channels": header.channels,
        "levels": header.levels,
        "num_images": file.len(),
        "bytes": file.size(),
        "bytes_of_pixels": pixels,
        "bits_per_dimension": file.size() as f64 * 8.0 / (pixels as f64).max(1.0),
        "pictures": pictures.collect::<Vec<_>>(),
    }))
}
