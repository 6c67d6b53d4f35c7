//! The rows of an experiment's result: every model's score on the test pictures, written as they come.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::models::{self, MODEL};
use super::stages::Runner;
use super::{pictures, teaching};
use crate::evaluate::{Score, bits_per_dimension};
use crate::mixture::score::{Measure, code_lengths};
use crate::mixture::{Mixture, Reading};
use crate::run::{atomic_write, progress};

/// File of the rows in a run folder.
pub const RESULTS: &str = "results.json";

/// One model on the test pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Stage that made the model.
    pub stage: String,
    /// What it is, for people.
    pub label: String,
    /// Protocol of the numbers.
    pub protocol: String,
    /// What stands for log P(x): exact, density (a bound) or ordered; a teacher's is a bound of its own.
    pub reading: String,
    /// Its score.
    #[serde(flatten)]
    pub score: Score,
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
        self.latent_bpd + self.conditional_bpd - self.score.bits_per_dimension
    }
}

/// What a stage's model is called in tables.
#[must_use]
pub fn label(stage: &str) -> &str {
    match stage {
        "teacher" => "teacher's bound (decoder + codes)",
        "hard" => "patch circuits on the teacher's clusters",
        "soft" => "+ soft EM of the mixture",
        "growing" => "+ progressive growing",
        "tree" => "+ latent tree (LVD)",
        "joint" => "+ joint EM (LVD + joint)",
        "em_only" => "same circuit, EM only",
        "pixel_hclt" => "HCLT over pixels",
        other => other,
    }
}

/// Score all models of a run on its test pictures; rows are written to the run folder one by one.
///
/// # Errors
/// When pictures or models cannot be read.
pub fn evaluate(runner: &Runner) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for stage in Runner::wanted(runner.config) {
        if stage == "teacher" {
            rows.extend(teaching::bound_row(runner)?);
        } else if runner.run.stage(stage).path(MODEL).exists() {
            let model = models::load(runner.run, runner.config, stage, runner.device)?;
            for reading in model.readings() {
                rows.push(circuit_row(runner, stage, &model, reading)?);
                write(runner, &rows)?;
            }
        }
        write(runner, &rows)?;
        pictures::draw(runner, stage)?;
    }
    Ok(rows)
}

fn write(runner: &Runner, rows: &[Row]) -> Result<()> {
    atomic_write(&runner.run.path(RESULTS), serde_json::to_vec_pretty(rows)?)
}

fn circuit_row(runner: &Runner, stage: &str, model: &Mixture, reading: Reading) -> Result<Row> {
    let test = &runner.data.test;
    let bar = progress::bar(&format!("test: {stage} ({})", reading.name()), test.len() as u64);
    let batch = models::micro_batch(runner.config, stage);
    let measure = Measure { reading, ..Measure::plain(model, runner.config.seed, batch) };
    let lengths = code_lengths(model, test, test.len(), &measure, |n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    let dimensions = model.view.dimensions();
    let mean = |nats: &[f64]| bits_per_dimension(nats.iter().sum::<f64>() / nats.len() as f64, dimensions);
    Ok(Row {
        stage: stage.to_owned(),
        label: label(stage).to_owned(),
        protocol: runner.config.protocol.name().to_owned(),
        reading: reading.name().to_owned(),
        score: lengths.score(dimensions),
        latent_bpd: mean(&lengths.latent),
        conditional_bpd: mean(&lengths.conditional),
        parameters: Some(model.parameter_count()),
        seconds: seconds(runner, stage)?,
    })
}

/// How long a stage took.
///
/// # Errors
/// When its record cannot be read.
pub fn seconds(runner: &Runner, stage: &str) -> Result<f64> {
    let record = runner.run.stage(stage).record()?;
    Ok(record.and_then(|r| r.summary.get("seconds").and_then(Value::as_f64)).unwrap_or(0.0))
}

/// The rows as a table for the terminal.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<42} {:<8} {:>8} {:>7} {:>8} {:>8} {:>8} {:>11} {:>8}",
        "test split", "reading", "bpd", "+-", "prior", "residual", "refund", "parameters", "seconds"
    )];
    for row in rows {
        lines.push(format!(
            "{:<42} {:<8} {:>8.4} {:>7.4} {:>8.4} {:>8.4} {:>8.4} {:>11} {:>8.1}",
            row.label,
            row.reading,
            row.score.bits_per_dimension,
            row.score.standard_error,
            row.latent_bpd,
            row.conditional_bpd,
            row.refund_bpd(),
            row.parameters.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            row.seconds
        ));
    }
    let protocol = rows.first().map_or("", |r| r.protocol.as_str());
    lines.push(format!(
        "bits per dimension, protocol {protocol}; bpd = prior + residual - refund; +- is one standard error"
    ));
    lines.join("\n")
}
