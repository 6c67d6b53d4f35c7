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
    /// The paper's code: `eta = 1 - inertia`, inertia on a straight line, or on two of equal length.
    Inertia {
        /// First inertia.
        from: f64,
        /// Inertia half-way; without it the line is straight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        middle: Option<f64>,
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
            Self::Inertia { from, middle: None, to } => 1.0 - line(from, to),
            Self::Inertia { from, middle: Some(middle), to } => {
                let twice = 2.0 * progress;
                1.0 - if twice < 1.0 { from + (middle - from) * twice } else { middle + (to - middle) * (twice - 1.0) }
            }
        }
    }

    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let bent = matches!(self, Self::Inertia { middle: Some(_), .. });
        let places = [("start", 0.0), ("end", 1.0), ("middle", 0.5)];
        for (end, progress) in places.into_iter().take(if bent { 3 } else { 2 }) {
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
            (Schedule::Inertia { from: 0.9, middle: None, to: 0.99 }, [0.1, 0.055, 0.01]),
            (Schedule::Inertia { from: 0.9, middle: Some(0.99), to: 0.999 }, [0.1, 0.01, 0.001]),
        ];
        for (schedule, expected) in cases {
            for (progress, eta) in [0.0, 0.5, 1.0].into_iter().zip(expected) {
                assert!((schedule.at(progress) - eta).abs() < 1e-12, "{schedule:?} at {progress}");
            }
        }
    }
}
