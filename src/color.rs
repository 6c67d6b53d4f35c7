//! Colour transforms of integer pictures and, where they are bijections, their exact inverses (method.md section 2).
//!
//! Everything is integer arithmetic on tensors, so no device or machine changes a value. A bijection moves no
//! probability: nats carry over. The lossy spaces merge colours (worth about 0.66 bits per dimension) and exist only
//! to repeat published protocols. Nothing here knows about patches, protocols or files.

mod channels;
mod lifting;
mod lossy;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::require;

/// How the channels of a picture are written as integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColorSpace {
    /// One channel, as is.
    Grey,
    /// Channels as they are stored (1 or 3).
    Rgb,
    /// Reversible lifting to luma 0..=255 and two chroma channels -255..=255; a bijection.
    YcocgR,
    /// The same lifting modulo 256: a bijection of bytes, but it wraps, so for categorical leaves only.
    YcocgRMod,
    /// `YCoCg` with halved chroma in 256 steps each; 4,276,734 of 16,777,216 colours survive.
    YcocgLossy,
    /// BT.709 `YCbCr` rounded to bytes, as in the paper's released code; 4,146,948 of 16,777,216 colours survive.
    YcbcrBt709,
}

impl ColorSpace {
    /// Whether every picture can be had back exactly, so that nats of the transformed picture are nats of the picture.
    #[must_use]
    pub fn is_bijective(self) -> bool {
        !matches!(self, Self::YcocgLossy | Self::YcbcrBt709)
    }

    /// What is wrong with using this space for pictures of so many channels and levels, if anything.
    #[must_use]
    pub fn channels_problem(self, channels: usize, levels: usize) -> Option<String> {
        let name = self.name();
        match self {
            Self::Grey if channels != 1 => Some(format!("{name} needs pictures of 1 channel, found {channels}")),
            Self::Rgb if channels != 1 && channels != 3 => {
                Some(format!("{name} needs pictures of 1 or 3 channels, found {channels}"))
            }
            Self::Grey | Self::Rgb => None,
            _ if channels != 3 => Some(format!("{name} needs pictures of 3 channels, found {channels}")),
            _ if levels != 256 => Some(format!("{name} needs pictures of 256 levels, found {levels}")),
            _ => None,
        }
    }

    /// Least and greatest value of each channel after [`forward`](Self::forward), both included.
    #[must_use]
    pub fn ranges(self, channels: usize, levels: usize) -> Vec<(i16, i16)> {
        match self {
            Self::Grey | Self::Rgb => vec![(0, levels as i16 - 1); channels],
            Self::YcocgR => vec![(0, 255), (-255, 255), (-255, 255)],
            Self::YcocgRMod | Self::YcocgLossy | Self::YcbcrBt709 => vec![(0, 255); 3],
        }
    }

    /// Stored pixels, u8 `[.., C]`, in this space: i16 `[.., C]` on the same device. `C` must suit
    /// ([`channels_problem`](Self::channels_problem)).
    ///
    /// ```
    /// use lvd::color::ColorSpace;
    /// use tch::Tensor;
    ///
    /// let red = Tensor::from_slice(&[255u8, 0, 0]);
    /// let values = ColorSpace::YcocgR.forward(&red); // Y, Co, Cg
    /// assert_eq!(Vec::<i16>::try_from(&values).unwrap(), [63, 255, -127]);
    /// assert!(ColorSpace::YcocgR.inverse(&values).unwrap() == red);
    /// ```
    pub fn forward(self, pixels: &Tensor) -> Tensor {
        match self {
            Self::Grey | Self::Rgb => pixels.to_kind(Kind::Int16),
            Self::YcocgR => lifting::forward(pixels),
            Self::YcocgRMod => lifting::forward_modulo(pixels),
            Self::YcocgLossy => lossy::ycocg(pixels),
            Self::YcbcrBt709 => lossy::bt709(pixels),
        }
    }

    /// The stored pixels, u8 `[.., C]`, of values i16 `[.., C]` in this space.
    ///
    /// # Errors
    /// A refusal where the space is lossy or the values belong to no picture.
    pub fn inverse(self, values: &Tensor) -> Result<Tensor> {
        let name = self.name();
        let pixels = match self {
            Self::Grey | Self::Rgb => values.shallow_clone(),
            Self::YcocgR => lifting::inverse(values),
            Self::YcocgRMod => {
                require!(within_bytes(values), "{name}: values outside 0..=255 belong to no picture");
                lifting::inverse_modulo(values)
            }
            Self::YcocgLossy | Self::YcbcrBt709 => {
                return Err(crate::refusal!(
                    "{name} merges colours and cannot be undone: use grey, rgb, ycocg_r or ycocg_r_mod"
                ));
            }
        };
        require!(within_bytes(&pixels), "{name}: these values belong to no picture (a channel falls outside 0..=255)");
        Ok(pixels.to_kind(Kind::Uint8))
    }

    /// Pixels u8 `[.., C]` to look at, of any values `[.., C]`: what lies outside of the colours is moved to the nearest
    /// byte, and what a lossy space has merged is undone as far as it goes.
    pub fn display(self, values: &Tensor) -> Tensor {
        let pixels = match self {
            Self::Grey | Self::Rgb => values.shallow_clone(),
            Self::YcocgR => lifting::inverse(&values.to_kind(Kind::Int16)),
            Self::YcocgRMod => lifting::inverse_modulo(&values.to_kind(Kind::Int16).clamp(0, 255)),
            Self::YcocgLossy => lossy::ycocg_undone(values),
            Self::YcbcrBt709 => lossy::bt709_undone(values),
        };
        pixels.to_kind(Kind::Float).clamp(0, 255).to_kind(Kind::Uint8)
    }

    /// The name used in experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Rgb => "rgb",
            Self::YcocgR => "ycocg_r",
            Self::YcocgRMod => "ycocg_r_mod",
            Self::YcocgLossy => "ycocg_lossy",
            Self::YcbcrBt709 => "ycbcr_bt709",
        }
    }
}

/// Whether every entry is in 0..=255.
fn within_bytes(values: &Tensor) -> bool {
    values.numel() == 0 || (values.min().int64_value(&[]) >= 0 && values.max().int64_value(&[]) <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ColorSpace; 6] = [
        ColorSpace::Grey,
        ColorSpace::Rgb,
        ColorSpace::YcocgR,
        ColorSpace::YcocgRMod,
        ColorSpace::YcocgLossy,
        ColorSpace::YcbcrBt709,
    ];
    const CHUNK: i64 = 1 << 18;

    /// Colours `start..start + CHUNK` of the cube, u8 `[CHUNK, 3]`, red the slowest.
    fn cube(start: i64) -> Tensor {
        let index = Tensor::arange_start(start, start + CHUNK, (Kind::Int, tch::Device::Cpu));
        let shift = |bits: i64| index.bitwise_right_shift_tensor_scalar(bits).bitwise_and(255);
        Tensor::stack(&[shift(16), shift(8), shift(0)], -1).to_kind(Kind::Uint8)
    }

    /// How many different values a space gives over all 2^24 colours; checks ranges (and inverses) on the way.
    fn distinct(space: ColorSpace) -> u32 {
        let mut seen = vec![0u64; 1 << 21]; // a bit for each of 512^3 triples
        for start in (0..1 << 24).step_by(CHUNK as usize) {
            let colours = cube(start);
            let values = space.forward(&colours);
            assert_eq!(values.kind(), Kind::Int16);
            for (c, (low, high)) in space.ranges(3, 256).into_iter().enumerate() {
                let channel = values.select(-1, c as i64);
                assert!(channel.min().int64_value(&[]) >= low.into() && channel.max().int64_value(&[]) <= high.into());
            }
            if space.is_bijective() {
                assert!(space.inverse(&values).unwrap() == colours);
            }
            for triple in Vec::<i16>::try_from(values.reshape([-1])).unwrap().chunks_exact(3) {
                let key = triple.iter().fold(0, |key, &v| key << 9 | (v & 511) as usize);
                seen[key >> 6] |= 1 << (key & 63);
            }
        }
        seen.iter().map(|bits| bits.count_ones()).sum()
    }

    #[test]
    fn bijective_spaces_keep_every_colour() {
        assert_eq!(distinct(ColorSpace::YcocgR), 1 << 24);
        assert_eq!(distinct(ColorSpace::YcocgRMod), 1 << 24);
    }

    #[test]
    fn lossy_spaces_keep_the_published_number_of_colours() {
        assert_eq!(distinct(ColorSpace::YcbcrBt709), 4_146_948);
        assert_eq!(distinct(ColorSpace::YcocgLossy), 4_276_734);
    }

    #[test]
    fn known_colours() {
        let colours = Tensor::from_slice(&[255u8, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 51]).reshape([4, 3]);
        let values = |s: ColorSpace| Vec::<i16>::try_from(s.forward(&colours).reshape([-1])).unwrap();
        // By hand from method.md: Co = R-B, t = B + (Co>>1), Cg = G-t, Y = t + (Cg>>1); last row t = 51 + 74 = 125.
        assert_eq!(values(ColorSpace::YcocgR), [63, 255, -127, 127, 0, 255, 63, -255, -127, 112, 149, -25]);
        // Modulo 256: blue has Co = 1, t = 255, Cg = -255 = 1, Y = 255.
        assert_eq!(values(ColorSpace::YcocgRMod), [191, 255, 129, 127, 0, 255, 255, 1, 1, 240, 149, 231]);
        // Y = 54.213, 182.376, 18.411, 117.7222; Cb = 98.777, 29.723, 255.5 -> 255, 92.04; Cr = 255.5, 12.179, 116.321, 180.2442
        assert_eq!(values(ColorSpace::YcbcrBt709), [54, 99, 255, 182, 30, 12, 18, 255, 116, 118, 92, 180]);
        // Fractions of 256: Y = 64, 128, 64, 113.2; Co = 256 -> 255, 128, 0, 202.8; Cg = 64, 256 -> 255, 64, 115.2
        assert_eq!(values(ColorSpace::YcocgLossy), [64, 255, 64, 128, 128, 255, 64, 0, 64, 113, 202, 115]);
    }

    #[test]
    fn grey_and_rgb_are_as_they_are() {
        let pixels = Tensor::from_slice(&[0u8, 7, 255]).reshape([3, 1]);
        for space in [ColorSpace::Grey, ColorSpace::Rgb] {
            let values = space.forward(&pixels);
            assert_eq!(Vec::<i16>::try_from(values.reshape([-1])).unwrap(), [0, 7, 255]);
            assert!(space.inverse(&values).unwrap() == pixels);
        }
        assert_eq!(ColorSpace::Grey.ranges(1, 17), [(0, 16)]);
        assert_eq!(ColorSpace::Rgb.ranges(3, 256), [(0, 255); 3]);
    }

    #[test]
    fn what_cannot_be_undone_is_refused() {
        let message = |s: ColorSpace, v: [i16; 3]| s.inverse(&Tensor::from_slice(&v)).unwrap_err().to_string();
        let lossy = "ycbcr_bt709 merges colours and cannot be undone: use grey, rgb, ycocg_r or ycocg_r_mod";
        assert_eq!(message(ColorSpace::YcbcrBt709, [0, 0, 0]), lossy);
        let outside = "ycocg_r: these values belong to no picture (a channel falls outside 0..=255)";
        assert_eq!(message(ColorSpace::YcocgR, [255, 255, 255]), outside);
        let bytes = "ycocg_r_mod: values outside 0..=255 belong to no picture";
        assert_eq!(message(ColorSpace::YcocgRMod, [0, 256, 0]), bytes);
    }

    #[test]
    fn channels_and_levels_are_checked() {
        let problem = |s: ColorSpace, c, l| s.channels_problem(c, l).unwrap_or_default();
        assert_eq!(problem(ColorSpace::Grey, 3, 256), "grey needs pictures of 1 channel, found 3");
        assert_eq!(problem(ColorSpace::Rgb, 2, 256), "rgb needs pictures of 1 or 3 channels, found 2");
        assert_eq!(problem(ColorSpace::YcocgR, 1, 256), "ycocg_r needs pictures of 3 channels, found 1");
        assert_eq!(problem(ColorSpace::YcbcrBt709, 3, 17), "ycbcr_bt709 needs pictures of 256 levels, found 17");
        assert_eq!(problem(ColorSpace::Grey, 1, 17) + &problem(ColorSpace::Rgb, 3, 9), "");
        assert!(ALL.iter().skip(1).all(|s| s.channels_problem(3, 256).is_none()));
    }

    #[test]
    fn names_are_those_of_experiment_files() {
        for space in ALL {
            assert_eq!(serde_json::to_value(space).unwrap(), space.name());
        }
    }
}
