//! What an evaluation leaves in the run folder, as plain data: the rows of `results.json`, and what is drawn beside them.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::atomic::atomic_write;
use crate::refusal;
use crate::refusal::unreadable;

/// File of the rows in a run folder.
pub const RESULTS: &str = "results.json";
/// Folder of the pictures in a run folder.
pub const PICTURES: &str = "pictures";

/// What a row stands for in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The teacher itself.
    Teacher,
    /// A model on the way from the teacher to the student.
    Step,
    /// The model that distillation ends with.
    Student,
    /// What distillation is compared with.
    Baseline,
}

/// One model on the test pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Stage that made the model.
    pub stage: String,
    /// What the model is in a comparison.
    pub role: Role,
    /// What it is, for people.
    pub label: String,
    /// Protocol of the numbers.
    pub protocol: String,
    /// What stands for log P(x): exact, density (a bound) or ordered; a teacher's is a bound of its own.
    pub reading: String,
    /// Mean of -log p(x) in bits per dimension.
    pub bits_per_dimension: f64,
    /// Standard error of that mean, over pictures.
    pub standard_error: f64,
    /// Mean of -log p(x) in nats per picture.
    pub nats_mean: f64,
    /// How many pictures.
    pub num_images: usize,
    /// H * W * C of a picture.
    pub num_dimensions: usize,
    /// -log p(z(x)) in bits per dimension, for the most probable (a teacher's own) codes.
    pub latent_bpd: f64,
    /// -log p(x | z(x)) in bits per dimension.
    pub conditional_bpd: f64,
    /// Free numbers of a circuit; none for a teacher.
    pub parameters: Option<usize>,
    /// Seconds that the stage took.
    pub seconds: f64,
}

impl Row {
    /// What summing over all codes gives back, in bits per dimension: prior + residual - total.
    #[must_use]
    pub fn refund_bpd(&self) -> f64 {
        self.latent_bpd + self.conditional_bpd - self.bits_per_dimension
    }
}

/// Differences below this, in bits per dimension, are not worth a word.
const LEAST_AHEAD: f64 = 0.005;

/// Name in tables of the baseline whose teacher are the patches' own pixels.
pub const PIXEL_TEACHER: &str = "pixel_teacher";

/// A sentence where the model that distillation ends with is not the best, and not by less than can be told.
#[must_use]
pub fn verdict(rows: &[Row]) -> Option<String> {
    let student = rows.iter().rfind(|row| row.role == Role::Student)?;
    let baselines = rows.iter().filter(|row| row.role == Role::Baseline && row.reading == student.reading);
    let best = baselines.min_by(|a, b| a.bits_per_dimension.total_cmp(&b.bits_per_dimension))?;
    let ahead = student.bits_per_dimension - best.bits_per_dimension;
    let why = if best.stage == PIXEL_TEACHER {
        "this teacher adds nothing here to what the patches' own pixels say (lvd compare RUN RUN/pixel_teacher tells whether the \
         difference is more than noise)"
    } else {
        "on small pictures of few values a circuit over all pixels is hard to beat; distillation pays on natural pictures \
         (docs/results.md)"
    };
    (ahead > LEAST_AHEAD).then(|| format!("{} is {ahead:.4} bits below {}: {why}", best.label, student.label))
}

/// Sizes of the clusters of a stage's model, in `pictures/STAGE.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterSizes {
    /// Whose clusters they are, for people.
    pub title: String,
    /// Share of the patches of every cluster, largest first, as in the grid of mean patches.
    pub shares: Vec<f64>,
    /// How many pictures they were counted on.
    pub pictures: usize,
}

/// Write the rows of a run folder.
///
/// # Errors
/// When the file cannot be written.
pub fn write(folder: &Path, rows: &[Row]) -> Result<()> {
    atomic_write(&folder.join(RESULTS), serde_json::to_vec_pretty(rows)?)
}

/// Read the rows of a run folder.
///
/// # Errors
/// A refusal where the run was not evaluated, or the file holds something else.
pub fn read(folder: &Path) -> Result<Vec<Row>> {
    let path = folder.join(RESULTS);
    if !path.is_file() {
        return Err(refusal!(
            "{}: no {RESULTS}: the run was not evaluated\n  finish it by `lvd run`",
            folder.display()
        ));
    }
    let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| refusal!("{}: no results of a run: {error}\n  evaluate it again by `lvd run`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_that_wins_is_named() {
        let row = |role, label: &str, bits_per_dimension| Row {
            stage: "x".into(),
            role,
            label: label.into(),
            protocol: "lossless".into(),
            reading: "exact".into(),
            bits_per_dimension,
            standard_error: 0.0,
            nats_mean: 0.0,
            num_images: 1,
            num_dimensions: 1,
            latent_bpd: 0.0,
            conditional_bpd: 0.0,
            parameters: None,
            seconds: 0.0,
        };
        let student = row(Role::Student, "LVD", 2.1);
        let [worse, mut better] = [2.2, 2.0].map(|bits| row(Role::Baseline, "HCLT over pixels", bits));
        assert!(verdict(&[student.clone(), worse.clone()]).is_none());
        let said = verdict(&[student.clone(), worse.clone(), better.clone()]).unwrap();
        assert!(said.starts_with("HCLT over pixels is 0.1000 bits below LVD: "), "{said}");
        assert!(said.contains("natural pictures"), "{said}");
        better.stage = PIXEL_TEACHER.to_owned();
        let said = verdict(&[student, worse, better]).unwrap();
        assert!(said.contains("own pixels"), "{said}");
    }
}
