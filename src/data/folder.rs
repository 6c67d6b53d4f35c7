//! Folders of PNG and JPEG pictures, sub-folders included, in the order of their paths. They are decoded once into a
//! temporary file. Nothing is resized or cut unless a rule says so.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::pictures::{Layout, PictureShape, Pictures, Segment};
use super::source;
use crate::refusal::Problems;
use crate::{refusal, require};

/// What is done to pictures of a folder so that they are of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Nothing: a picture of another size is refused.
    #[default]
    Exact,
    /// Scale to `[height, width]` whatever the proportions (triangle filter, which averages when shrinking).
    Resize([u32; 2]),
    /// Cut `[height, width]` out of the middle; a smaller picture is refused.
    CenterCrop([u32; 2]),
}

impl Resize {
    /// Note what is wrong with this rule, which stands at `path` of the configuration.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if let Self::Resize(size) | Self::CenterCrop(size) = self {
            problems.check(size.iter().all(|&n| n > 0), path, format!("sizes must be at least 1, found {size:?}"));
        }
    }
}

/// What a picture's header says.
struct Header {
    path: PathBuf,
    height: u32,
    width: u32,
    colour: bool,
}

/// Pictures of a folder: 3 channels if any of them has colour (grey ones get three equal channels), else 1.
///
/// # Errors
/// A refusal, which names the file, where the folder holds no pictures or one is damaged, of another size, or not of
/// 8 bits a channel without transparency.
pub fn open(folder: &Path, rule: Resize) -> Result<Pictures> {
    let headers = paths(folder)?.into_iter().map(header).collect::<Result<Vec<_>>>()?;
    let [height, width] = size(&headers, rule)?;
    let colour = headers.iter().any(|h| h.colour);
    let source = source::spool(|out| {
        for Header { path, .. } in &headers {
            let picture = fit(decode(path)?, rule);
            let bytes = if colour { picture.into_rgb8().into_raw() } else { picture.into_luma8().into_raw() };
            out.write_all(&bytes)?;
        }
        Ok(())
    })?;
    let channels = if colour { 3 } else { 1 };
    let shape = PictureShape { height: height as usize, width: width as usize, channels, levels: 256 };
    let (stride, count) = (shape.dimensions(), headers.len());
    Pictures::from_segments(vec![Segment { source, offset: 0, stride, count, layout: Layout::Interleaved }], shape)
}

/// All PNG and JPEG files below a folder, sorted.
fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|e| refusal!("cannot read the folder {}: {e}", folder.display()))?;
        let extension = entry.path().extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if entry.file_type().is_file() && matches!(&extension[..], "png" | "jpg" | "jpeg") {
            found.push(entry.into_path());
        }
    }
    require!(!found.is_empty(), "{}: no pictures in this folder (.png, .jpg, .jpeg)", folder.display());
    Ok(found)
}

fn header(path: PathBuf) -> Result<Header> {
    let decoder = reader(&path)?.into_decoder().map_err(|e| broken(&path, &e))?;
    let colour = decoder.color_type();
    require!(
        matches!(colour, ColorType::L8 | ColorType::Rgb8),
        "{}: colour type is {colour:?}, expected L8 or Rgb8 (8 bits a channel, no transparency)",
        path.display(),
    );
    let (width, height) = decoder.dimensions();
    Ok(Header { path, height, width, colour: colour == ColorType::Rgb8 })
}

/// Size of the pictures after the rule, `[height, width]`, if it can be applied to all.
fn size(headers: &[Header], rule: Resize) -> Result<[u32; 2]> {
    let first = &headers[0];
    for Header { path, height, width, .. } in headers {
        match rule {
            Resize::Exact => require!(
                (*height, *width) == (first.height, first.width),
                "{} is {height}x{width}, but {} is {}x{}: make them equal, or set resize to {{resize: [h, w]}} or {{center_crop: [h, w]}}",
                path.display(),
                first.path.display(),
                first.height,
                first.width,
            ),
            Resize::CenterCrop([h, w]) => require!(
                *height >= h && *width >= w,
                "{} is {height}x{width}, too small for center_crop: [{h}, {w}]",
                path.display(),
            ),
            Resize::Resize(_) => {}
        }
    }
    Ok(match rule {
        Resize::Exact => [first.height, first.width],
        Resize::Resize(size) | Resize::CenterCrop(size) => size,
    })
}

fn fit(picture: DynamicImage, rule: Resize) -> DynamicImage {
    match rule {
        Resize::Exact => picture,
        Resize::Resize([height, width]) => picture.resize_exact(width, height, FilterType::Triangle),
        Resize::CenterCrop([height, width]) => {
            let (left, top) = ((picture.width() - width) / 2, (picture.height() - height) / 2);
            picture.crop_imm(left, top, width, height)
        }
    }
}

fn decode(path: &Path) -> Result<DynamicImage> {
    reader(path)?.decode().map_err(|e| broken(path, &e))
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>> {
    let file = std::io::BufReader::new(source::open_file(path)?);
    ImageReader::new(file).with_guessed_format().map_err(|e| broken(path, &e))
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    refusal!("{}: broken picture: {error}", path.display())
}
