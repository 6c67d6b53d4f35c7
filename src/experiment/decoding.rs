//! `lvd decompress` and `lvd codec-info`: pictures out of a container.

use std::fs::Permissions;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use ndarray::Array;
use serde_json::{Value, json};
use tch::Device;
use tempfile::TempDir;

use super::coding::{Done, Watch, check_place, opened, portions};
use super::coding_input::has_ending;
use super::coding_names;
use super::models::MODEL;
use super::read;
use super::stage::Stage;
use crate::codec::container::VERSION;
use crate::codec::{Codec, Container, Header};
use crate::data::pictures::PictureShape;
use crate::device::{self, Read};
use crate::run::atomic::remember;
use crate::run::{RunFolder, atomic_write, atomically};
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
    let folder = if array {
        check_place(out, "a file that ends in .npy")?;
        None
    } else {
        Some(NewFolder::at(out)?)
    };
    let files = coding_names::files(path, file.header())?;
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
            match &folder {
                None => all.extend(pixels),
                Some(folder) => {
                    let number = numbers[place];
                    save(&folder.made()?.join(&files[number]), header.shape(number), pixels)?;
                }
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
    folder.map_or(Ok(()), NewFolder::keep)?;
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

/// A folder that is filled under another name beside its own, so that it is there with all of its pictures or not at all.
struct NewFolder<'a> {
    out: &'a Path,
    made: Option<TempDir>,
    /// Folders above it that were not there before, the innermost first.
    above: Vec<PathBuf>,
}

impl<'a> NewFolder<'a> {
    /// Refuses a folder that holds something.
    fn at(out: &'a Path) -> Result<Self> {
        let name = out.display();
        if out.symlink_metadata().is_ok() {
            require!(out.is_dir(), "{name}: is no folder: name a new folder or a file that ends in .npy");
            let mut entries = out.read_dir().with_context(|| format!("{name}: cannot be read"))?;
            require!(entries.next().is_none(), "{name}: is not empty: name a new folder");
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let above = parent.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let mut folder = Self { out, made: None, above: above.map(Path::to_owned).collect() };
        let about = || format!("{name}: cannot be made");
        std::fs::create_dir_all(parent).with_context(about)?;
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).with_context(about)?;
        remember(made.path());
        folder.made = Some(made);
        Ok(folder)
    }

    /// Where it is filled.
    fn made(&self) -> Result<&Path> {
        self.made.as_ref().map(TempDir::path).context("a folder that is not kept yet is there")
    }

    /// Give it its name.
    fn keep(mut self) -> Result<()> {
        let about = || format!("{}: cannot be made", self.out.display());
        std::fs::set_permissions(self.made()?, Permissions::from_mode(0o755)).with_context(about)?;
        std::fs::rename(self.made()?, self.out).with_context(about)?;
        let _ = self.made.take().map(TempDir::keep);
        self.above.clear();
        Ok(())
    }
}

/// What was not kept leaves nothing behind.
impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        drop(self.made.take());
        for folder in &self.above {
            // One that somebody else has put something into stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Save a picture as PNG.
fn save(path: &Path, shape: PictureShape, pixels: Vec<u8>) -> Result<()> {
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
    let mut bytes = Cursor::new(Vec::new());
    picture.context("a picture has all its pixels")?.write_to(&mut bytes, ImageFormat::Png).with_context(about)?;
    atomic_write(path, bytes.into_inner())
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
