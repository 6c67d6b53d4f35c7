//! Every model of a run on its test pictures: rows of `results.json`, written as they come, and pictures.

use anyhow::Result;
use serde_json::Value;

use super::context::Context;
use super::models::{self, MODEL};
use super::stage::Stage;
use super::{pictures, teaching};
use crate::evaluate::{Score, bits_per_dimension};
use crate::mixture::Mixture;
use crate::mixture::score::{Measure, code_lengths};
use crate::patch::Reading;
use crate::run::progress;
use crate::run::results::{self, Row};
use crate::teacher::TeacherConfig;

/// Score all models of a run on its test pictures; rows are written to the run folder one by one.
///
/// # Errors
/// When pictures or models cannot be read.
pub fn evaluate(context: &Context) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for stage in Stage::wanted(context.config) {
        if stage == Stage::Teacher {
            rows.extend(teacher_row(context)?);
        } else if context.folder(stage).path(MODEL).exists() && !stage.changes_nothing(context.config) {
            rows.extend(rows_of(context, stage)?);
        }
        results::write(context.run.root(), &rows)?;
        pictures::draw(context, stage)?;
    }
    Ok(rows)
}

/// The rows of the model of a stage, one for each of its readings.
///
/// # Errors
/// When pictures or the model cannot be read.
pub fn rows_of(context: &Context, stage: Stage) -> Result<Vec<Row>> {
    let model = models::load(context.run, context.config, stage, context.device)?;
    model.readings().into_iter().map(|reading| circuit_row(context, stage, &model, reading)).collect()
}

fn circuit_row(context: &Context, stage: Stage, model: &Mixture, reading: Reading) -> Result<Row> {
    let test = &context.data.test;
    let bar = progress::bar(&format!("test: {stage} ({})", reading.name()), test.len() as u64);
    let batch = stage.micro_batch(context.config);
    let measure = Measure { reading, ..Measure::plain(model, context.config.seed, batch) };
    let lengths = code_lengths(model, test, test.len(), &measure, |n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    let dimensions = model.view().dimensions();
    let sum = |nats: &[f64]| nats.iter().sum::<f64>();
    let parts = [sum(&lengths.latent), sum(&lengths.conditional)];
    let row = row(context, stage, (stage.label(), reading.name()), &lengths.score(dimensions), parts)?;
    Ok(Row { parameters: Some(model.parameter_count()), ..row })
}

fn teacher_row(context: &Context) -> Result<Option<Row>> {
    let Some(bound) = teaching::bound(context)? else { return Ok(None) };
    let score = Score::of(&bound.total, context.data.test.shape().dimensions());
    let (label, reading) = match &context.config.teacher {
        TeacherConfig::TorchScript(_) => ("teacher's own log_likelihood", "own"),
        _ => (Stage::Teacher.label(), "bound"),
    };
    row(context, Stage::Teacher, (label, reading), &score, [bound.codes, bound.decoder]).map(Some)
}

/// A row without parameters, from a score and the nats of latents and of pictures given latents, summed over pictures.
fn row(context: &Context, stage: Stage, (label, reading): (&str, &str), score: &Score, nats: [f64; 2]) -> Result<Row> {
    let [latent_bpd, conditional_bpd] =
        nats.map(|sum| bits_per_dimension(sum / score.num_images as f64, score.num_dimensions));
    Ok(Row {
        stage: stage.name().to_owned(),
        role: stage.role(context.config),
        label: label.to_owned(),
        protocol: context.config.protocol.name().to_owned(),
        reading: reading.to_owned(),
        bits_per_dimension: score.bits_per_dimension,
        standard_error: score.standard_error,
        nats_mean: score.nats_mean,
        num_images: score.num_images,
        num_dimensions: score.num_dimensions,
        latent_bpd,
        conditional_bpd,
        parameters: None,
        seconds: seconds(context, stage)?,
    })
}

/// How long a stage took.
///
/// # Errors
/// When its record cannot be read.
pub fn seconds(context: &Context, stage: Stage) -> Result<f64> {
    let record = context.folder(stage).record()?;
    Ok(record.and_then(|r| r.summary.get("seconds").and_then(Value::as_f64)).unwrap_or(0.0))
}
