//! Which pixels are observed, as a user says it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result};
use image::ImageFormat;
use tch::{Device, Kind, Tensor};

use crate::data::missing::random_masks;
use crate::data::{npz, source};
use crate::mixture::mask::Mask;
use crate::random::Draws;
use crate::{refusal, require};

/// What is observed, in words or by a file.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskWords {
    /// All pixels.
    All,
    /// No pixel.
    None,
    /// The upper half, with the row in the middle.
    Top,
    /// What is not [`Top`](Self::Top).
    Bottom,
    /// The left half, with the column in the middle.
    Left,
    /// What is not [`Left`](Self::Left).
    Right,
    /// A square of this side in the middle.
    Center(i64),
    /// Every other pixel, as on a chessboard, the first one among them.
    Chessboard,
    /// A rectangle: first row, first column, height, width.
    Box([i64; 4]),
    /// Every pixel with this probability, by itself, another draw for every picture.
    Random(f64),
    /// A picture whose bright pixels are observed (PNG), or an array bool or uint8 (npy), `[H, W]` or `[N, H, W]`, that is not
    /// zero where a pixel is observed.
    File(PathBuf),
}

/// A PNG mask's pixels from here on are observed.
const BRIGHT: u8 = 128;

/// What may be said.
const WORDS: &str = "all, none, top, bottom, left, right, center:SIDE, chessboard, box:ROW,COLUMN,HEIGHT,WIDTH, random:SHARE, \
                     or a file (.png, .npy)";

impl FromStr for MaskWords {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || refusal!("unknown mask {text}: expected {WORDS}");
        let numbers = |text: &str| text.split(',').map(|n| n.trim().parse().ok()).collect::<Option<Vec<i64>>>();
        Ok(match text.split_once(':') {
            None => match text {
                "all" => Self::All,
                "none" => Self::None,
                "top" => Self::Top,
                "bottom" => Self::Bottom,
                "left" => Self::Left,
                "right" => Self::Right,
                "chessboard" => Self::Chessboard,
                _ if is_file(Path::new(text)) => Self::File(text.into()),
                _ => return Err(unknown()),
            },
            Some(("center", side)) => Self::Center(side.parse().ok().filter(|n| *n > 0).ok_or_else(unknown)?),
            Some(("box", place)) => {
                let place: [i64; 4] = numbers(place).and_then(|all| all.try_into().ok()).ok_or_else(unknown)?;
                require!(
                    place[..2].iter().all(|n| *n >= 0) && place[2..].iter().all(|n| *n > 0),
                    "mask {text}: expected a row and a column from 0 on, and a height and a width of at least 1"
                );
                Self::Box(place)
            }
            Some(("random", share)) => {
                let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                Self::Random(share.ok_or_else(|| refusal!("mask {text}: expected a share from 0 to 1"))?)
            }
            Some(_) if is_file(Path::new(text)) => Self::File(text.into()),
            Some(_) => return Err(unknown()),
        })
    }
}

fn is_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["png", "npy"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Masks of pictures of one size: one for all of them, one for each, or one drawn for each.
///
/// ```
/// use lvd::query::mask::Masks;
///
/// let masks = Masks::new(&"center:2".parse()?, [4, 4], false, 1)?;
/// assert_eq!(masks.of(&[0])?.pixels(), 4);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug)]
pub struct Masks {
    size: [i64; 2],
    kind: Kinds,
    inverted: bool,
}

#[derive(Debug)]
enum Kinds {
    /// bool `[H, W]`.
    One(Tensor),
    /// bool `[N, H, W]`.
    Each(Tensor),
    Drawn {
        share: f64,
        seed: u64,
    },
}

impl Masks {
    /// For pictures of this height and width; random masks follow the seed and the picture's number alone.
    ///
    /// # Errors
    /// A refusal where a mask does not fit the pictures or its file cannot be read.
    pub fn new(words: &MaskWords, size: [usize; 2], inverted: bool, seed: u64) -> Result<Self> {
        let size = size.map(|n| n as i64);
        let [height, width] = size;
        let kind = match words {
            MaskWords::Random(share) => Kinds::Drawn { share: *share, seed },
            MaskWords::File(path) => {
                let mask = read(path)?;
                let found = mask.size();
                require!(
                    found[found.len() - 2..] == size,
                    "{}: the mask has {} x {} pixels, the pictures have {height} x {width}",
                    path.display(),
                    found[found.len() - 2],
                    found[found.len() - 1]
                );
                if found.len() == 2 { Kinds::One(mask) } else { Kinds::Each(mask) }
            }
            other => Kinds::One(area(other, height, width)?),
        };
        Ok(Self { size, kind, inverted })
    }

    /// How many there are, where there is one for each of some pictures.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        if let Kinds::Each(masks) = &self.kind { Some(masks.size()[0] as usize) } else { None }
    }

    /// The masks of pictures of these numbers; of a file with one for each, no higher ones than it holds.
    ///
    /// # Errors
    /// Never for masks that were made here.
    pub fn of(&self, pictures: &[usize]) -> Result<Mask> {
        let mask = match &self.kind {
            Kinds::One(mask) => mask.shallow_clone(),
            Kinds::Each(masks) => {
                let numbers: Vec<i64> = pictures.iter().map(|&n| n as i64).collect();
                masks.index_select(0, &Tensor::from_slice(&numbers))
            }
            Kinds::Drawn { share, seed } => {
                let draws = Draws { seed: *seed, purpose: "random mask", pass: 0, pictures };
                random_masks(*share, &draws, self.size.map(|n| n as usize))
            }
        };
        Mask::new(&if self.inverted { mask.logical_not() } else { mask })
    }
}

/// What words observe of `[H, W]`.
fn area(words: &MaskWords, height: i64, width: i64) -> Result<Tensor> {
    let half = |mask: Mask| mask.observed().shallow_clone();
    Ok(match words {
        MaskWords::All => rectangle([0, 0, height, width], height, width)?,
        MaskWords::None => rectangle([0, 0, height, width], height, width)?.logical_not(),
        MaskWords::Top => half(Mask::top(height, width)),
        MaskWords::Bottom => half(Mask::top(height, width)).logical_not(),
        MaskWords::Left => half(Mask::left(height, width)),
        MaskWords::Right => half(Mask::left(height, width)).logical_not(),
        MaskWords::Chessboard => half(Mask::chessboard(height, width)),
        MaskWords::Box(place) => rectangle(*place, height, width)?,
        MaskWords::Center(side) => {
            require!(
                *side <= height.min(width),
                "the mask's square of {side} x {side} does not fit into pictures of {height} x {width}"
            );
            rectangle([(height - side) / 2, (width - side) / 2, *side, *side], height, width)?
        }
        MaskWords::Random(_) | MaskWords::File(_) => unreachable!("not an area"),
    })
}

/// First row, first column, height and width of what is observed of `[H, W]`.
fn rectangle([row, column, h, w]: [i64; 4], height: i64, width: i64) -> Result<Tensor> {
    let within = |first: i64, size: i64, all: i64| first.checked_add(size).is_some_and(|end| end <= all);
    require!(
        within(row, h, height) && within(column, w, width),
        "the mask's {h} x {w} pixels from row {row} and column {column} on are not inside of pictures of {height} x {width}"
    );
    let observed = Tensor::zeros([height, width], (Kind::Bool, Device::Cpu));
    let _ = observed.narrow(0, row, h).narrow(1, column, w).fill_(1);
    Ok(observed)
}

/// A mask from a file: bool `[H, W]` or `[N, H, W]`.
fn read(path: &Path) -> Result<Tensor> {
    let shown = path.display();
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        let (size, flags) = npz::read_flags(path)?;
        require!((2..=3).contains(&size.len()), "{shown}: shape is {size:?}, expected [H, W] or [N, H, W]");
        let size: Vec<i64> = size.into_iter().map(|n| n as i64).collect();
        return Ok(Tensor::from_slice(&flags).view(size.as_slice()));
    }
    let bytes = source::map(path)?;
    let picture = image::load_from_memory_with_format((*bytes).as_ref(), ImageFormat::Png);
    let picture = picture.map_err(|error| refusal!("{shown}: cannot be read as a PNG picture: {error}"))?.to_luma8();
    let (width, height) = picture.dimensions();
    let brightest = picture.iter().max().copied().unwrap_or(0);
    require!(
        brightest == 0 || brightest >= BRIGHT,
        "{shown}: its brightest pixel is {brightest}, and {BRIGHT} to 255 is observed: paint what is observed white"
    );
    Ok(Tensor::from_slice(picture.as_raw()).view([i64::from(height), i64::from(width)]).ge(i64::from(BRIGHT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str, size: [usize; 2], inverted: bool) -> Result<Vec<i64>> {
        let masks = Masks::new(&words.parse()?, size, inverted, 1)?;
        let mask = masks.of(&[0])?;
        Ok(Vec::try_from(mask.observed().to_kind(Kind::Int64).reshape([-1]))?)
    }

    #[test]
    fn words_observe_what_they_say() {
        let seen = |words| of(words, [3, 4], false).unwrap();
        assert_eq!(seen("top"), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(seen("bottom"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(seen("left"), [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0]);
        assert_eq!(seen("right"), [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(seen("center:2"), [0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(seen("box:1,2,2,1"), [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(seen("chessboard"), [1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0]);
        assert_eq!(of("top", [3, 4], true).unwrap(), seen("bottom"));
        assert_eq!((seen("random:1"), seen("random:0"), seen("none")), (vec![1; 12], vec![0; 12], vec![0; 12]));
    }

    #[test]
    fn wrong_words_say_what_was_expected() {
        let refused = |words| of(words, [3, 4], false).unwrap_err().to_string();
        assert!(refused("middle").starts_with("unknown mask middle: expected all, none, top"));
        assert_eq!(refused("random:1.5"), "mask random:1.5: expected a share from 0 to 1");
        assert_eq!(refused("center:4"), "the mask's square of 4 x 4 does not fit into pictures of 3 x 4");
        assert!(refused("box:1,1,3,1").contains("are not inside of pictures of 3 x 4"));
        assert!(refused("box:9223372036854775807,0,1,1").contains("are not inside of pictures of 3 x 4"));
        assert!(refused("box:1,1,0,1").contains("a height and a width of at least 1"));
    }

    #[test]
    fn random_masks_belong_to_their_pictures() {
        let masks = Masks::new(&MaskWords::Random(0.5), [8, 8], false, 3).unwrap();
        let together = masks.of(&[4, 5]).unwrap();
        assert!(masks.of(&[5]).unwrap().observed().get(0) == together.observed().get(1));
        assert!(together.observed().get(0) != together.observed().get(1));
    }
}
