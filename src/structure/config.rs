//! Which tree the hidden variables of a circuit follow, as an experiment says it.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::chow_liu::{self, Parents};
use super::quad_tree;
use crate::refusal::Problems;

/// The tree over the variables of a circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TreeConfig {
    /// Maximum spanning tree of mutual information.
    ChowLiu {
        /// Levels that values are binned to (equal width).
        #[serde(default = "default_bins")]
        bins: usize,
        /// Pseudocount of every pair, shared out over its cells.
        #[serde(default = "default_pseudocount")]
        pseudocount: f64,
        /// At most so many examples are looked at.
        #[serde(default = "default_examples")]
        examples: usize,
        /// One tree for all clusters instead of one for each.
        #[serde(default)]
        shared: bool,
    },
    /// A square of squares down to the pixels: hidden states for every square of four, without a variable of their own.
    QuadTree {},
    /// A tree given by hand: the parent of every variable, null for the root.
    Given {
        /// Parents by variable.
        parents: Vec<Option<usize>>,
    },
}

fn default_bins() -> usize {
    16
}

fn default_pseudocount() -> f64 {
    1.0
}

fn default_examples() -> usize {
    10_000
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self::ChowLiu {
            bins: default_bins(),
            pseudocount: default_pseudocount(),
            examples: default_examples(),
            shared: false,
        }
    }
}

impl TreeConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if let Self::ChowLiu { bins, pseudocount, examples, .. } = self {
            problems.check(*bins >= 2, format!("{path}.bins"), format!("expected at least 2, found {bins}"));
            problems.check(
                *pseudocount >= 0.0,
                format!("{path}.pseudocount"),
                format!("expected 0 or more, found {pseudocount}"),
            );
            problems.check(
                *examples >= 2,
                format!("{path}.examples"),
                format!("expected at least 2, found {examples}"),
            );
        }
    }

    /// Bytes that the search for a tree over so many variables takes at most.
    #[must_use]
    pub fn memory(&self, variables: usize) -> f64 {
        match self {
            Self::ChowLiu { bins, .. } => chow_liu::memory(variables, *bins),
            Self::Given { .. } | Self::QuadTree {} => 0.0,
        }
    }

    /// Regions of a tree over so many variables: one each, and those that observe nothing.
    #[must_use]
    pub fn regions(&self, variables: usize) -> usize {
        match (self, quad_tree::square(variables)) {
            (Self::QuadTree {}, Some((side, channels))) => quad_tree::regions(side, side, channels),
            _ => variables,
        }
    }

    /// Whether one tree serves all clusters.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::ChowLiu { shared: false, .. })
    }

    /// The tree for values `[N, V]` with inclusive `ranges` per variable.
    ///
    /// # Errors
    /// When a tree given by hand has another number of variables, and where a quad tree has no square picture to divide.
    pub fn tree(&self, values: &Tensor, ranges: &[(i64, i64)]) -> Result<Parents> {
        match self {
            Self::Given { parents } => {
                crate::require!(
                    parents.len() == ranges.len(),
                    "the tree given by hand has {} variables, the data have {}",
                    parents.len(),
                    ranges.len()
                );
                Ok(parents.clone())
            }
            Self::QuadTree {} => {
                let Some((side, channels)) = quad_tree::square(ranges.len()) else {
                    return Err(crate::refusal!(
                        "a quad tree divides a square of pixels with 1 or 3 channels, the data have {} variables",
                        ranges.len()
                    ));
                };
                Ok(quad_tree::quad_tree(side, side, channels))
            }
            Self::ChowLiu { bins, pseudocount, examples, .. } => {
                let bins = *bins as i64;
                let seen = values.narrow(0, 0, values.size()[0].min(*examples as i64));
                let columns: Vec<Tensor> = ranges
                    .iter()
                    .enumerate()
                    .map(|(v, &(low, high))| chow_liu::bin(&seen.select(1, v as i64), low, high, bins))
                    .collect();
                let binned = if columns.is_empty() { seen.to_kind(Kind::Int64) } else { Tensor::stack(&columns, 1) };
                Ok(chow_liu::chow_liu(&binned, bins, *pseudocount))
            }
        }
    }
}
