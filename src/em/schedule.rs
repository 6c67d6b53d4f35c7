//! Step sizes over a training run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::Problems;

/// The step size eta as a function of progress from 0 (first step) to 1 (last step).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the same.
    Constant {
        /// Step size.
        eta: f64,
    },
    /// A straight line.
    Linear {
        /// First step size.
        from: f64,
        /// Last step size.
        to: f64,
    },
    /// Half a cosine.
    Cosine {
        /// First step size.
        from: f64,
        /// Last step size.
        to: f64,
    },
    /// The paper's code: `eta = 1 - inertia`, inertia on a straight line.
    Inertia {
        /// First inertia.
        from: f64,
        /// Last inertia.
        to: f64,
    },
}

impl Schedule {
    /// Step size at `progress` in `[0, 1]`.
    #[must_use]
    pub fn at(&self, progress: f64) -> f64 {
        let line = |from: f64, to: f64| from + (to - from) * progress;
        match *self {
            Self::Constant { eta } => eta,
            Self::Linear { from, to } => line(from, to),
            Self::Cosine { from, to } => to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Self::Inertia { from, to } => 1.0 - line(from, to),
        }
    }

    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        for (end, progress) in [("start", 0.0), ("end", 1.0)] {
            let eta = self.at(progress);
            let message = format!("expected a step size above 0 and at most 1 at the {end}, found {eta}");
            problems.check(eta > 0.0 && eta <= 1.0, path, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_meet_their_ends_and_middles() {
        let cases = [
            (Schedule::Constant { eta: 0.3 }, [0.3, 0.3, 0.3]),
            (Schedule::Linear { from: 1.0, to: 0.5 }, [1.0, 0.75, 0.5]),
            (Schedule::Cosine { from: 1.0, to: 0.5 }, [1.0, 0.75, 0.5]),
            (Schedule::Inertia { from: 0.9, to: 0.99 }, [0.1, 0.055, 0.01]),
        ];
        for (schedule, expected) in cases {
            for (progress, eta) in [0.0, 0.5, 1.0].into_iter().zip(expected) {
                assert!((schedule.at(progress) - eta).abs() < 1e-12, "{schedule:?} at {progress}");
            }
        }
    }
}
