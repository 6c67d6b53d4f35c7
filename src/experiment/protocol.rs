//! Under which rules bits per dimension are counted. Numbers of different protocols are never compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::color::ColorSpace;
use crate::data::patches::Region;

/// The evaluation protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Whole pictures, bijective colour: nothing of the picture is lost.
    #[default]
    Lossless,
    /// What the paper's released code computes: BT.709 YCbCr rounded to bytes (about 0.67 bits per dimension cheaper on
    /// colour pictures) of the top-left quadrant.
    Paper,
    /// Whole pictures in a lossy `YCoCg` rounded to bytes, as some papers do (about 0.66 bits per dimension cheaper).
    Lossy,
}

impl Protocol {
    /// Its name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::Paper => "paper",
            Self::Lossy => "lossy",
        }
    }

    /// The part of a picture that is modelled.
    #[must_use]
    pub fn region(self) -> Region {
        match self {
            Self::Paper => Region::Quadrant,
            Self::Lossless | Self::Lossy => Region::Whole,
        }
    }

    /// What is wrong with a colour space under this protocol.
    #[must_use]
    pub fn color_problem(self, color: ColorSpace) -> Option<String> {
        let expected = match self {
            Self::Lossless if color.is_bijective() => return None,
            Self::Lossless => "a bijective one (rgb, grey, ycocg_r or ycocg_r_mod)",
            Self::Paper if matches!(color, ColorSpace::YcbcrBt709 | ColorSpace::Grey) => return None,
            Self::Paper => "ycbcr_bt709 (or grey for grey pictures)",
            Self::Lossy if color == ColorSpace::YcocgLossy => return None,
            Self::Lossy => "ycocg_lossy",
        };
        Some(format!("protocol {} expects {expected}, found {}", self.name(), color.name()))
    }
}
