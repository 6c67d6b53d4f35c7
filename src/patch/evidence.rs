//! What is known of patches: their values, which of them were observed, and how the values are read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which number stands for log P(x). Every number says which reading it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The probability that the circuit gives the integers.
    Exact,
    /// The bound `E_u log p(x + u)`, u even in [0, 1)^D, of a density.
    Density,
    /// The probability mass of unit intervals, one variable of a patch after the other.
    Ordered,
}

impl Reading {
    /// Its name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Density => "density",
            Self::Ordered => "ordered",
        }
    }
}

/// Patches `[.., D]` in the order row, column, channel: integers for the readings exact and ordered, integers with noise
/// from [0, 1) added, floats, for the density.
#[derive(Debug)]
pub struct PatchEvidence {
    values: Tensor,
    observed: Option<Tensor>,
    reading: Reading,
}

impl PatchEvidence {
    /// Patches `[.., D]` of which everything was observed.
    #[must_use]
    pub fn new(values: &Tensor, reading: Reading) -> Self {
        Self { values: values.shallow_clone(), observed: None, reading }
    }

    /// The same patches, of which only what is true in `observed` was observed: bool, `[.., D]` or what expands to it. The
    /// values elsewhere say nothing.
    #[must_use]
    pub fn with_observed(self, observed: &Tensor) -> Self {
        let observed = observed.to_device(self.values.device()).expand_as(&self.values);
        Self { observed: Some(observed), ..self }
    }

    /// The values `[.., D]`; where they were not observed, any number.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Which values were observed, bool `[.., D]`; none where all of them were.
    #[must_use]
    pub fn observed(&self) -> Option<&Tensor> {
        self.observed.as_ref()
    }

    /// How the values are read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// As one list of patches `[N, D]`.
    #[must_use]
    pub fn flat(&self) -> Self {
        self.map(|tensor| {
            let variables = tensor.size().last().copied().unwrap_or(0);
            let count = tensor.numel() as i64 / variables.max(1);
            tensor.reshape([count, variables])
        })
    }

    /// Patches of these numbers along the first dimension.
    #[must_use]
    pub fn rows(&self, numbers: &Tensor) -> Self {
        self.map(|tensor| tensor.index_select(0, numbers))
    }

    /// `count` patches from number `start` on.
    #[must_use]
    pub fn narrow(&self, start: i64, count: i64) -> Self {
        self.map(|tensor| tensor.narrow(0, start, count))
    }

    /// Lists of patches side by side, `[T, N, D]`; what was observed is known of all of them or of none.
    pub(super) fn stack(lists: &[Self]) -> Self {
        let values: Vec<&Tensor> = lists.iter().map(Self::values).collect();
        let observed: Option<Vec<&Tensor>> = lists.iter().map(Self::observed).collect();
        Self {
            values: Tensor::stack(&values, 0),
            observed: observed.map(|observed| Tensor::stack(&observed, 0)),
            reading: lists[0].reading,
        }
    }

    /// The same patches with other values, on the device of these.
    #[must_use]
    pub fn with_values(&self, values: &Tensor) -> Self {
        Self { values: values.shallow_clone(), ..self.map(|tensor| tensor.to_device(values.device())) }
    }

    /// What `change` makes of the values, and of what says which were observed.
    pub(super) fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { values: change(&self.values), observed: self.observed.as_ref().map(change), reading: self.reading }
    }
}
