//! Pictures side by side as one PNG, to look at.

use anyhow::{Context, Result};
use image::{ImageBuffer, ImageFormat, Luma, Rgb};
use tch::{Device, Kind, Tensor};

/// How pictures are laid out on a sheet.
#[derive(Clone, Copy, Debug)]
pub struct Sheet {
    /// Pictures in a row.
    pub a_row: i64,
    /// Their sides are at least so many dots long: smaller ones are enlarged by a whole number, without smoothing.
    pub least: i64,
}

/// Dots between pictures, white: pictures are more often dark at their borders.
const GAP: i64 = 4;

/// Pictures u8 `[N, h, w, C]` with values in `0..levels` as a PNG, with white gaps; the highest level is white.
///
/// # Errors
/// When there are none, or the sheet cannot be encoded.
pub fn png(pictures: &Tensor, levels: usize, sheet: Sheet) -> Result<Vec<u8>> {
    let (n, h, w, channels) = pictures.size4()?;
    let (rows, scale) = ((n + sheet.a_row - 1) / sheet.a_row, (sheet.least + h - 1) / h);
    let white = 255.0 / (levels.max(2) - 1) as f64;
    let bright = (pictures.to_device(Device::Cpu).to_kind(Kind::Float) * white).round().to_kind(Kind::Uint8);
    let bright = bright.permute([0, 3, 1, 2]);
    let large = bright.repeat_interleave_self_int(scale, 2, None).repeat_interleave_self_int(scale, 3, None);
    let framed = large.f_pad([0, GAP, 0, GAP], "constant", 255.0)?;
    let (cell_h, cell_w) = (h * scale + GAP, w * scale + GAP);
    let empty = Tensor::full([rows * sheet.a_row - n, channels, cell_h, cell_w], 255, (Kind::Uint8, Device::Cpu));
    let cells = Tensor::cat(&[framed, empty], 0).view([rows, sheet.a_row, channels, cell_h, cell_w]);
    let bytes: Vec<u8> = Vec::try_from(cells.permute([0, 3, 1, 4, 2]).reshape([-1]))?;
    encode(bytes, (sheet.a_row * cell_w) as u32, (rows * cell_h) as u32, channels)
}

/// Bytes in the order row, column, channel as a PNG of one channel or three.
fn encode(bytes: Vec<u8>, width: u32, height: u32, channels: i64) -> Result<Vec<u8>> {
    let fits = "a sheet has as many bytes as its size says";
    let mut png = std::io::Cursor::new(Vec::new());
    if channels == 1 {
        let image = ImageBuffer::<Luma<u8>, _>::from_raw(width, height, bytes).context(fits)?;
        image.write_to(&mut png, ImageFormat::Png)?;
    } else {
        let image = ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, bytes).context(fits)?;
        image.write_to(&mut png, ImageFormat::Png)?;
    }
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_with_gaps_and_the_highest_level_is_white() {
        // Three pictures of 1 x 2 with 17 levels, two in a row, enlarged twice.
        let pictures = Tensor::from_slice(&[0u8, 16, 8, 16, 4, 0]).view([3, 1, 2, 1]);
        let png = png(&pictures, 17, Sheet { a_row: 2, least: 2 }).unwrap();
        let seen = image::load_from_memory(&png).unwrap().to_luma8();
        assert_eq!(seen.dimensions(), (16, 12));
        let row = |y: u32| (0..16).map(|x| seen.get_pixel(x, y).0[0]).collect::<Vec<_>>();
        let gap = [255; 4];
        assert_eq!(row(0), [&[0, 0, 255, 255], &gap[..], &[128, 128, 255, 255], &gap].concat());
        assert_eq!(row(1), row(0));
        assert_eq!(row(2), [255; 16]);
        assert_eq!(row(6), [&[64, 64, 0, 0], &gap[..], &[255; 4], &gap].concat());
    }

    #[test]
    fn colours_keep_their_order() {
        let png =
            png(&Tensor::from_slice(&[9u8, 200, 30]).view([1, 1, 1, 3]), 256, Sheet { a_row: 1, least: 1 }).unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().to_rgb8().get_pixel(0, 0).0, [9, 200, 30]);
    }
}
