//! What an experiment says about EM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::back_off::BackOffConfig;
use super::schedule::Schedule;
use crate::refusal::Problems;

/// How counts of a batch move the tables.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Average of old and new parameters.
    Average,
    /// Average of sufficient statistics, scaled to the whole data set (online EM).
    Decayed,
    /// Anemone: tables move by their share of the flow, with momentum.
    Anemone {
        /// Share of the new counts, about 0.4.
        share: f64,
        /// Momentum of the counts, with bias correction.
        momentum: f64,
    },
}

/// The family of the inputs' distributions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputFamily {
    /// A free table over the values.
    #[default]
    Categorical,
    /// A logistic density integrated over unit intervals; the edges take the tails.
    DiscretisedLogistic,
}

/// How a circuit is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmConfig {
    /// Passes over the data.
    pub epochs: usize,
    /// Examples whose statistics make one step; 0 for all of them.
    pub batch: usize,
    /// How counts move the tables.
    pub rule: Rule,
    /// Step size over the training.
    pub step: Schedule,
    /// Pseudocount of every row of an edge table, shared out evenly.
    pub pseudocount: f64,
    /// Pseudocount of every input distribution, shared out as the marginal of the variable.
    pub input_pseudocount: f64,
    /// Further pseudocounts of the inputs of patch circuits, which follow a coarser table; null for none.
    pub back_off: Option<BackOffConfig>,
}

impl Default for EmConfig {
    fn default() -> Self {
        Self {
            epochs: 5,
            batch: 4096,
            rule: Rule::Decayed,
            step: Schedule::Linear { from: 1.0, to: 0.1 },
            pseudocount: 0.1,
            input_pseudocount: 1.0,
            back_off: None,
        }
    }
}

impl EmConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        self.step.check(&format!("{path}.step"), problems);
        for (name, value) in [("pseudocount", self.pseudocount), ("input_pseudocount", self.input_pseudocount)] {
            let fine = value >= 0.0 && value.is_finite();
            problems.check(fine, format!("{path}.{name}"), format!("expected a number of at least 0, found {value}"));
        }
        if let Some(back_off) = self.back_off {
            back_off.check(&format!("{path}.back_off"), problems);
        }
        if let Rule::Anemone { share, momentum } = self.rule {
            let (s, m) = (format!("{path}.rule.share"), format!("{path}.rule.momentum"));
            problems.check(
                share > 0.0 && share <= 1.0,
                s,
                format!("expected more than 0 and at most 1, found {share}"),
            );
            problems.check(
                (0.0..1.0).contains(&momentum),
                m,
                format!("expected at least 0 and below 1, found {momentum}"),
            );
        }
    }
}
