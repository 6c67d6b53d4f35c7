//! Folders of PNG and JPEG pictures, sub-folders included, in the order of their paths. They are decoded once into a
//! temporary file. Nothing is resized or cut unless a rule says so.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::pictures::{PictureShape, Pictures, PixelOrder, Segment};
use super::{jpeg, source};
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

/// What becomes of pictures with transparency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// They are refused.
    #[default]
    Refuse,
    /// They are laid on white.
    White,
    /// They are laid on black.
    Black,
    /// The transparency is left out.
    Drop,
}

/// What a picture's header says.
struct Header {
    path: PathBuf,
    height: u32,
    width: u32,
    colour: bool,
    clear: bool,
    turned: bool,
}

/// Pictures of a folder: 3 channels if any of them has colour (grey ones get three equal channels), else 1.
///
/// # Errors
/// A refusal, which names the file, where the folder holds no pictures or one is damaged, of another size, or not of
/// 8 bits a channel.
pub fn open(folder: &Path, rule: Resize, alpha: Alpha) -> Result<Pictures> {
    let headers = paths(folder)?.into_iter().map(|path| header(path, alpha)).collect::<Result<Vec<_>>>()?;
    if let Some(turned) = headers.iter().find(|h| h.turned) {
        tracing::info!("{}: is turned as its EXIF orientation says, and others like it", turned.path.display());
    }
    let [height, width] = size(&headers, rule)?;
    let channels = if headers.iter().any(|h| h.colour) { 3 } else { 1 };
    let shape = PictureShape { height: height as usize, width: width as usize, channels, levels: 256 };
    read(&headers, shape, |picture| fit(on_ground(picture, alpha), rule))
}

/// Pictures of files, every one of this shape as it is; grey ones get three equal channels where the shape has three.
///
/// # Errors
/// A refusal, which names the file, where a picture is damaged, of another size, has colours or transparency that the
/// shape has no place for, is not of 8 bits a channel, or holds a value that the shape's levels do not reach.
pub fn open_files(paths: &[PathBuf], shape: PictureShape) -> Result<Pictures> {
    let headers = paths.iter().map(|path| header(path.clone(), Alpha::Drop)).collect::<Result<Vec<_>>>()?;
    for Header { path, height, width, colour, clear, .. } in &headers {
        let name = path.display();
        require!(!clear, "{name}: has transparency, which would be lost: lay it on a ground first");
        require!(
            (*height as usize, *width as usize) == (shape.height, shape.width),
            "{name} is {height}x{width}, the model was trained for {}x{} (height x width)",
            shape.height,
            shape.width
        );
        require!(!colour || shape.channels == 3, "{name}: has colours, the model was trained for grey pictures");
    }
    read(&headers, shape, |picture| picture)
}

/// Height and width of a picture as it is seen, turned where its EXIF orientation says so.
///
/// # Errors
/// A refusal, which names the file, where it cannot be read.
pub fn size_of(path: &Path) -> Result<[usize; 2]> {
    let header = header(path.to_owned(), Alpha::Drop)?;
    Ok([header.height as usize, header.width as usize])
}

fn read(headers: &[Header], shape: PictureShape, prepared: impl Fn(DynamicImage) -> DynamicImage) -> Result<Pictures> {
    let source = source::spool(|out| {
        for Header { path, .. } in headers {
            let picture = prepared(decode(path)?);
            let grey = shape.channels == 1;
            let bytes = if grey { picture.into_luma8().into_raw() } else { picture.into_rgb8().into_raw() };
            out.write_all(&bytes)?;
        }
        Ok(())
    })?;
    let (stride, count) = (shape.dimensions(), headers.len());
    Pictures::from_segments(vec![Segment { source, offset: 0, stride, count, order: PixelOrder::Interleaved }], shape)
}

/// All PNG and JPEG files below a folder, sorted. Links are not followed.
///
/// # Errors
/// A refusal where there are none, or the folder cannot be read.
pub fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut links, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|e| refusal!("cannot read the folder {}: {e}", folder.display()))?;
        let extension = entry.path().extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if entry.depth() > 0 && entry.path_is_symlink() {
            links.push(entry.into_path());
        } else if entry.file_type().is_file() && matches!(&extension[..], "png" | "jpg" | "jpeg") {
            found.push(entry.into_path());
        } else if entry.file_type().is_file() && OTHER_PICTURES.contains(&&extension[..]) {
            others.push(entry.into_path());
        }
    }
    for (left_out, why) in
        [(links, "links, which are not followed"), (others, "pictures that are neither PNG nor JPEG")]
    {
        if let Some(first) = left_out.first() {
            tracing::warn!(
                "{}: {} {why}, are left out, the first is {}",
                folder.display(),
                left_out.len(),
                first.display()
            );
        }
    }
    require!(!found.is_empty(), "{}: no pictures in this folder (.png, .jpg, .jpeg)", folder.display());
    Ok(found)
}

/// Endings of pictures that are not read.
const OTHER_PICTURES: [&str; 8] = ["gif", "bmp", "webp", "tif", "tiff", "jxl", "avif", "heic"];

fn header(path: PathBuf, alpha: Alpha) -> Result<Header> {
    check_bytes(&path)?;
    let mut decoder = reader(&path)?.into_decoder().map_err(|e| broken(&path, &e))?;
    let colour = decoder.color_type();
    let clear = matches!(colour, ColorType::La8 | ColorType::Rgba8);
    require!(
        !clear || alpha != Alpha::Refuse,
        "{}: colour type is {colour:?}, with transparency: set data.alpha to white, black (the ground that pictures are laid on) or drop",
        path.display(),
    );
    require!(
        clear || matches!(colour, ColorType::L8 | ColorType::Rgb8),
        "{}: colour type is {colour:?}, expected L8 or Rgb8 (8 bits a channel)",
        path.display(),
    );
    let turn = decoder.orientation().map_err(|e| broken(&path, &e))?;
    let (mut width, mut height) = decoder.dimensions();
    require!(height > 0 && width > 0, "{}: has no pixels ({height}x{width})", path.display());
    if matches!(
        turn,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    ) {
        (width, height) = (height, width);
    }
    let colour = matches!(colour, ColorType::Rgb8 | ColorType::Rgba8);
    Ok(Header { path, height, width, colour, clear, turned: turn != Orientation::NoTransforms })
}

/// Refuse what the decoder would take for less than it is: half a JPEG, inks, the first of many pictures.
fn check_bytes(path: &Path) -> Result<()> {
    let source = source::map(path)?;
    let (bytes, name) = ((*source).as_ref(), path.display());
    require!(!bytes.is_empty(), "{name}: is empty");
    if let Some(jpeg) = jpeg::markers(bytes) {
        require!(jpeg.components != 4, "{name}: its colours are inks (CMYK): convert it to RGB");
        require!(jpeg.whole, "{name}: broken picture: the file ends before the picture does");
    }
    let mut chunks = bytes.windows(4).take_while(|four| four != b"IDAT");
    let animated = bytes.starts_with(b"\x89PNG") && chunks.any(|four| four == b"acTL");
    require!(!animated, "{name}: is an animation (APNG): take its pictures apart");
    Ok(())
}

/// Lay a picture with transparency on its ground.
fn on_ground(picture: DynamicImage, alpha: Alpha) -> DynamicImage {
    let ground = match alpha {
        Alpha::White => 255,
        Alpha::Black => 0,
        Alpha::Refuse | Alpha::Drop => return picture,
    };
    if !picture.color().has_alpha() {
        return picture;
    }
    let colour = picture.color().has_color();
    let mut laid = picture.into_rgba8();
    for pixel in laid.pixels_mut() {
        let [.., a] = pixel.0.map(u32::from);
        for channel in &mut pixel.0[..3] {
            *channel = ((u32::from(*channel) * a + ground * (255 - a) + 127) / 255) as u8;
        }
        pixel.0[3] = 255;
    }
    let laid = DynamicImage::from(laid);
    if colour { laid.into_rgb8().into() } else { laid.into_luma8().into() }
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
    let mut decoder = reader(path)?.into_decoder().map_err(|e| broken(path, &e))?;
    let turn = decoder.orientation().map_err(|e| broken(path, &e))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| broken(path, &e))?;
    picture.apply_orientation(turn);
    Ok(picture)
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>> {
    let file = std::io::BufReader::new(source::open_file(path)?);
    ImageReader::new(file).with_guessed_format().map_err(|e| broken(path, &e))
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    refusal!("{}: broken picture: {error}", path.display())
}
