//! `lvd decompress` and `lvd codec-info`: pictures out of a container.

use std::path::{Component, Path};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use image::{DynamicImage, GrayImage, RgbImage};
use ndarray::Array;
use serde_json::{Value, json};
use tch::Device;

use super::coding::{Done, Watch, opened, portions};
use super::coding_input::has_ending;
use super::models::MODEL;
use super::read;
use super::stage::Stage;
use crate::codec::container::VERSION;
use crate::codec::{Codec, Container, Header};
use crate::data::pictures::PictureShape;
use crate::device::{self, Read};
use crate::run::{RunFolder, atomically};
use crate::{refusal, require};

/// Bring the pictures of a container back, all of them or one: as PNG files into a new or empty folder, or as one array
/// where `out` ends in .npy.
///
/// # Errors
/// Refusals where the container is damaged or was made with another model, and where the folder holds something.
pub fn decompress(path: &Path, run: &Path, out: &Path, only: Option<usize>) -> Result<Done> {
    let mut file = Container::open(path)?;
    let numbers = numbers(path, file.len(), only)?;
    let codec = matching(path, file.header(), run)?;
    let array = has_ending(out, &["npy"]);
    if !array {
        make_empty(out)?;
    }
    let (started, shape) = (Instant::now(), codec.view().shape());
    let mut watch = Watch::new("decompress", numbers.len());
    if array {
        let one = numbers.iter().all(|&number| file.header().shape(number) == file.header().shape(numbers[0]));
        require!(one, "{}: the pictures are of different sizes, which no array holds: name a folder", path.display());
    }
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
            watch.add(header.shape(numbers[place]).dimensions());
        }
    }
    watch.end();
    let seconds = started.elapsed().as_secs_f64();
    if array {
        let shape = numbers.first().map_or(shape, |&number| file.header().shape(number));
        write_array(out, all, numbers.len(), shape)?;
    }
    let pixels = numbers.iter().map(|&number| file.header().shape(number).dimensions()).sum();
    let pictures = numbers.len();
    Ok(Done { pictures, pixels, bytes: 0, model_bits: 0.0, seconds })
}

/// The pictures that are wanted.
fn numbers(path: &Path, count: usize, only: Option<usize>) -> Result<Vec<usize>> {
    let Some(number) = only else { return Ok((0..count).collect()) };
    let name = path.display();
    require!(number < count, "{name}: picture {number} was asked for, but there are {count}, counted from 0");
    Ok(vec![number])
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

/// What a container holds, as one JSON object.
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
        "version": VERSION,
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
