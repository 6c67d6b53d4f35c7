//! The contract of a TorchScript teacher: which method, what goes in, what comes out. It stands in the experiment, or as
//! JSON in the module's own extra file `lvd.json`; what the experiment says goes first.
//!
//! ```text
//! in    float32 [B, C, H, W]; value v of L levels becomes   low + (high - low) * v / (L - 1)      range: [low, high]
//!                                                       or   (v / (L - 1) - mean) / std            mean, std
//! out   float32 [B, T, D] (tokens row by row, after `skip` others) or [B, D, h, w]; or codes, int64 [B, h, w]
//! ```

use crate::refusal::Problems;
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a module expects and gives. Everything that is not said here is taken from the module's own `lvd.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Contract {
    /// The method that is called with pictures; `forward` where nobody names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What goes in.
    pub input: ModuleInput,
    /// What comes out.
    pub output: ModuleOutput,
}

/// What the method is called with: float32 `[B, C, H, W]`. Either `range`, or `mean` and `std`, must be stated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModuleInput {
    /// Black and white: the least level of a picture becomes the first number, the highest the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// With `std`: subtracted from values of 0 to 1; one number, or one a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// With `mean`: what the difference is divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Height and width that the module wants; where not stated, it takes pictures as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[i64; 2]>,
    /// How pictures of another size are brought to `size`; without it they are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Filter>,
    /// Channels that the module wants; where not stated, it takes pictures as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// Give grey pictures to a module that wants three channels, as three equal ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_grey: Option<bool>,
}

/// What the method gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModuleOutput {
    /// Which part of a tuple or list (a number from 0) or of a dict (a key) is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// Tokens before those of the patches, such as a class token: left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<i64>,
    /// How the cells of a finer grid make one patch; without it a finer grid is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The output is codes, int64 in `0..codes`, that are the latents as they are: no k-means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<usize>,
}

/// A part of what a method gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Entry {
    /// Of a tuple or list, from 0.
    Number(usize),
    /// Of a dict.
    Name(String),
}

/// How a picture gets another size; where it shrinks, `bilinear` and `bicubic` average (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Linear in both directions.
    Bilinear,
    /// Cubic in both directions.
    Bicubic,
}

/// How the cells of a patch make one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Their mean.
    Mean,
    /// The largest of each feature.
    Max,
    /// One after the other, row by row: as many times wider as there are cells.
    Concat,
}

impl Contract {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let at = |key: &str| format!("{path}.{key}");
        let ModuleInput { range, mean, std, size, resize, channels, .. } = &self.input;
        if let Some([low, high]) = range {
            let fine = low.is_finite() && high.is_finite() && low < high;
            problems.check(fine, at("input.range"), format!("expected [low, high] with low < high, found {range:?}"));
            let alone = mean.is_none() && std.is_none();
            problems.check(alone, at("input"), "expected either range, or mean and std, found both");
        }
        problems.check(mean.is_some() == std.is_some(), at("input"), "expected mean and std together, found one");
        for (key, values) in [("mean", mean), ("std", std)] {
            let fine = values.as_ref().is_none_or(|v| matches!(v.len(), 1 | 3) && v.iter().all(|x| x.is_finite()));
            problems.check(fine, at(&format!("input.{key}")), format!("expected 1 or 3 numbers, found {values:?}"));
        }
        let positive = std.as_ref().is_none_or(|std| std.iter().all(|&x| x > 0.0));
        problems.check(positive, at("input.std"), format!("expected numbers above 0, found {std:?}"));
        let sides = size.is_none_or(|size| size.iter().all(|n| (1..=4096).contains(n)));
        problems.check(sides, at("input.size"), format!("expected two numbers of 1 to 4096, found {size:?}"));
        let stated = resize.is_none() || size.is_some();
        problems.check(stated, at("input.resize"), "needs input.size, the size that the module wants");
        let known = channels.is_none_or(|n| matches!(n, 1 | 3));
        problems.check(known, at("input.channels"), format!("expected 1 or 3, found {channels:?}"));
        self.output.check(path, problems);
    }

    /// This contract, filled up from the module's own.
    #[must_use]
    pub fn over(&self, own: &Self) -> Self {
        let (mine, theirs) = (&self.input, &own.input);
        let values = if mine.range.is_some() || mine.mean.is_some() || mine.std.is_some() { mine } else { theirs };
        let (into, out) = (&self.output, &own.output);
        Self {
            method: self.method.clone().or_else(|| own.method.clone()),
            input: ModuleInput {
                range: values.range,
                mean: values.mean.clone(),
                std: values.std.clone(),
                size: mine.size.or(theirs.size),
                resize: mine.resize.or(theirs.resize),
                channels: mine.channels.or(theirs.channels),
                repeat_grey: mine.repeat_grey.or(theirs.repeat_grey),
            },
            output: ModuleOutput {
                entry: into.entry.clone().or_else(|| out.entry.clone()),
                skip: into.skip.or(out.skip),
                pool: into.pool.or(out.pool),
                codes: into.codes.or(out.codes),
            },
        }
    }

    /// The method that is called.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("forward")
    }

    /// The contract in a module's extra file.
    ///
    /// # Errors
    /// A refusal that lists every problem; `what` names the file.
    pub fn from_json(text: &str, what: &str) -> Result<Self> {
        let contract: Self = serde_json::from_str(text).map_err(|error| crate::refusal!("{what}: {error}"))?;
        let mut problems = Problems::default();
        contract.check("contract", &mut problems);
        problems.into_result(what)?;
        Ok(contract)
    }
}

impl ModuleOutput {
    fn check(&self, path: &str, problems: &mut Problems) {
        let at = |key: &str| format!("{path}.output.{key}");
        if let Some(codes) = self.codes {
            let message = format!("expected 1 to 65536, found {codes}");
            problems.check((1..=65_536).contains(&codes), at("codes"), message);
            problems.check(
                self.pool.is_none(),
                at("pool"),
                "codes cannot be pooled: export codes of the circuit's grid",
            );
            problems.check(self.skip.is_none(), at("skip"), "codes are a grid [B, h, w], which has no other tokens");
        }
        problems.check(
            self.skip.is_none_or(|n| n >= 0),
            at("skip"),
            format!("expected at least 0, found {:?}", self.skip),
        );
    }
}
