//! Parts of a set, and rules that carve one part out of another where the files have none.

use std::fmt;

use anyhow::Result;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pictures::Pictures;
use crate::refusal::Problems;
use crate::{random, require};

/// A part of an image set. The test part is for the last evaluation alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What models are fitted to.
    Train,
    /// What choices are made on.
    Valid,
    /// What results are reported on.
    Test,
}

impl Split {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// Where a part comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// The last so many training pictures.
    Last(usize),
    /// A share of the training pictures, drawn at random.
    Fraction(Fraction),
    /// These files (or sub-folders of pictures) of the set's folder.
    Files(Vec<String>),
}

/// A share of the training pictures, drawn at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// Between 0 and 1; the number of pictures is rounded down.
    pub share: f64,
    /// Seed of the draw; the experiment's seed where there is none. Give one to keep a part the same for all seeds.
    pub seed: Option<u64>,
}

impl Part {
    /// Note what is wrong with this rule, which stands at `path` of the configuration.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        match self {
            Self::Last(count) => problems.check(*count > 0, format!("{path}.last"), "must be at least 1, found 0"),
            Self::Fraction(Fraction { share, .. }) => {
                let message = format!("must be above 0 and below 1, found {share}");
                problems.check(*share > 0.0 && *share < 1.0, format!("{path}.fraction.share"), message);
            }
            Self::Files(files) => {
                problems.check(!files.is_empty(), format!("{path}.files"), "names no file");
            }
        }
    }

    /// Cut this part out of `pictures`: what is left, and the part. Both keep the order of the file. Nothing is cut
    /// for a part that has its own files.
    ///
    /// # Errors
    /// A refusal where one of the two would be empty.
    pub fn carve(&self, pictures: &Pictures, split: Split, seed: u64) -> Result<Option<(Pictures, Pictures)>> {
        let total = pictures.len();
        let count = match self {
            Self::Last(count) => *count,
            Self::Fraction(Fraction { share, .. }) => (share * total as f64) as usize,
            Self::Files(_) => return Ok(None),
        };
        require!(
            count > 0 && count < total,
            "cannot take {count} of {total} training pictures as the {split} part: at least one must be on each side"
        );
        let Self::Fraction(Fraction { seed: own, .. }) = self else {
            return Ok(Some((pictures.select(0..total - count), pictures.select(total - count..total))));
        };
        let mut order: Vec<usize> = (0..total).collect();
        order.shuffle(&mut random::rng(own.unwrap_or(seed), &format!("data split {split}"), 0));
        let (rest, part) = order.split_at_mut(total - count);
        rest.sort_unstable();
        part.sort_unstable();
        Ok(Some((pictures.pick(rest), pictures.pick(part))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pictures::PictureShape;

    fn hundred() -> Pictures {
        let shape = PictureShape { height: 1, width: 1, channels: 1, levels: 256 };
        Pictures::from_bytes((0..100).collect(), shape).unwrap()
    }

    fn values(pictures: &Pictures) -> Vec<u8> {
        Vec::try_from(pictures.batch(&(0..pictures.len()).collect::<Vec<_>>()).unwrap().reshape([-1])).unwrap()
    }

    fn carve(part: &Part, seed: u64) -> (Vec<u8>, Vec<u8>) {
        let (rest, part) = part.carve(&hundred(), Split::Valid, seed).unwrap().unwrap();
        (values(&rest), values(&part))
    }

    #[test]
    fn the_last_pictures_are_cut_off() {
        let (rest, part) = carve(&Part::Last(3), 0);
        assert_eq!((rest.len(), part), (97, vec![97, 98, 99]));
    }

    #[test]
    fn a_fraction_is_seeded_and_leaves_the_rest() {
        let drawn = |seed| Part::Fraction(Fraction { share: 0.25, seed });
        let (rest, part) = carve(&drawn(None), 1);
        let mut all = [rest, part.clone()].concat();
        all.sort_unstable();
        assert_eq!((part.len(), all), (25, (0..100).collect()));
        assert_ne!(part, (75..100).collect::<Vec<u8>>());
        assert_eq!(carve(&drawn(Some(1)), 7).1, part);
        assert_ne!(carve(&drawn(None), 7).1, part);
    }

    #[test]
    fn empty_sides_are_refused() {
        let error = Part::Last(100).carve(&hundred(), Split::Test, 0).err().unwrap();
        let expected = "cannot take 100 of 100 training pictures as the test part: at least one must be on each side";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn problems_name_their_keys() {
        let mut problems = Problems::default();
        Part::Last(0).check("data.validation", &mut problems);
        Part::Fraction(Fraction { share: 1.5, seed: None }).check("data.test", &mut problems);
        Part::Files(vec![]).check("data.test", &mut problems);
        let expected = "e.yaml: 3 problems
  data.validation.last: must be at least 1, found 0
  data.test.fraction.share: must be above 0 and below 1, found 1.5
  data.test.files: names no file";
        assert_eq!(problems.into_result("e.yaml").unwrap_err().to_string(), expected);
    }
}
