//! Answers that are numbers: `lvd score`, `lvd latents`.

use std::path::Path;

use anyhow::{Error, Result};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::drawing::write_sheet;
use super::question::Asked;
use crate::data::batches::Batch;
use crate::evaluate::bits_per_dimension;
use crate::mixture::Mixture;
use crate::mixture::mask::Mask;
use crate::query::mask::{MaskWords, Masks};
use crate::query::{conditional, explain};
use crate::require;
use crate::run::array::ArrayWriter;
use crate::run::atomically;
use crate::wavelet::Transform;

/// What is scored.
#[derive(Clone, Debug)]
pub struct Scoring {
    /// The pixels of which the probability is asked.
    pub observed: MaskWords,
    /// The pixels that are given.
    pub given: MaskWords,
    /// Whether the first mask says what is not asked.
    pub inverted: bool,
}

/// A picture's score.
#[derive(Clone, Debug)]
struct Row {
    picture: String,
    nats: f64,
    /// Numbers that are asked and not given.
    numbers: usize,
}

impl Row {
    /// Bits per dimension of these pictures together; 0 where nothing is asked.
    fn bits(rows: &[Self]) -> f64 {
        let numbers = rows.iter().map(|row| row.numbers).sum();
        let nats = rows.iter().map(|row| -row.nats).sum();
        if numbers == 0 { 0.0 } else { bits_per_dimension(nats, numbers) }
    }
}

/// `log p(x_A | x_B)` in nats of every picture, as CSV: its name or number, nats, bits per dimension of what is asked and not
/// given. With a map, the bits of every patch given all others, as a heat map beside each picture.
///
/// # Errors
/// Where the model has no such marginal, a mask does not fit, or a file cannot be written.
pub fn score(asked: &Asked, scoring: &Scoring, csv: &Path, map: Option<&Path>) -> Result<Value> {
    require!(
        map.is_none() || asked.subject.model.view().transform == Transform::None,
        "--map: a patch of this model holds wavelet coefficients, which belong to no place of the picture alone"
    );
    let everything = scoring.observed == MaskWords::All && !scoring.inverted && scoring.given == MaskWords::None;
    let observed = if everything { None } else { Some(asked.masks(&scoring.observed, scoring.inverted)?) };
    let given = if scoring.given == MaskWords::None { None } else { Some(asked.masks(&scoring.given, false)?) };
    let names = asked.names();
    let (mut rows, mut maps) = (Vec::new(), Vec::new());
    asked.each("score", asked.batch, |model, batch| {
        let (nats, numbers) = asked.log_conditional(model, batch, observed.as_ref(), given.as_ref())?;
        for ((&picture, nats), numbers) in batch.indices.iter().zip(nats).zip(numbers) {
            rows.push(Row { picture: names(picture), nats, numbers });
        }
        if map.is_some() {
            maps.push(heat(asked, model, batch)?);
        }
        Ok(())
    })?;
    atomically(csv, |temporary| write_csv(temporary, &rows))?;
    if let Some(path) = map {
        write_sheet(path, &Tensor::cat(&maps, 0), asked.subject.model.view(), 8)?;
    }
    let mut said = asked.about();
    said["nats_mean"] = json!(rows.iter().map(|row| row.nats).sum::<f64>() / rows.len().max(1) as f64);
    said["bits_per_dimension"] = json!(Row::bits(&rows));
    Ok(said)
}

impl Asked {
    /// `log p(x_A | x_B)` in nats of a batch's pictures, and how many numbers are asked and not given; A is everything and B
    /// nothing where there are no masks.
    fn log_conditional(
        &self,
        model: &Mixture,
        batch: &Batch,
        observed: Option<&Masks>,
        given: Option<&Masks>,
    ) -> Result<(Vec<f64>, Vec<usize>)> {
        let (patches, count) = (self.evidence(batch, None)?, batch.indices.len());
        let Some(observed) = observed else {
            let nats = conditional::log_likelihood(model, &patches)?;
            return Ok((Vec::try_from(nats)?, vec![model.view().dimensions(); count]));
        };
        let asked = observed.of(&batch.indices)?;
        let total = |observed: &Mask| {
            let same = patches.with_values(patches.values());
            conditional::log_likelihood(model, &model.observe(same, observed)?)
        };
        let (nats, pixels) = match given {
            None => (total(&asked)?, asked.observed().shallow_clone()),
            Some(given) => {
                let given = given.of(&batch.indices)?;
                let both = Mask::new(&asked.observed().logical_or(given.observed()))?;
                let new = both.observed().logical_and(&given.observed().logical_not());
                (total(&both)? - total(&given)?, new)
            }
        };
        let pixels = pixels.to_kind(Kind::Int64).sum_dim_intlist([-2i64, -1].as_slice(), false, Kind::Int64);
        let pixels = Vec::<i64>::try_from(pixels.expand([count as i64], false).contiguous())?;
        Ok((Vec::try_from(nats)?, pixels.into_iter().map(|n| n as usize * model.view().grid.channels).collect()))
    }

    /// What a picture is called in tables: its file's name where it has one, else its number.
    fn names(&self) -> impl Fn(usize) -> String {
        let files = self.subject.files.clone();
        move |picture| files.get(picture).cloned().unwrap_or_else(|| picture.to_string())
    }
}

/// Pictures u8 `[2 B, h, w, C]`: each, and beside it the bits per dimension of its patches given all others, from black for 0 to
/// white for as many as a number has without a model.
fn heat(asked: &Asked, model: &Mixture, batch: &Batch) -> Result<Tensor> {
    let view = model.view();
    let nats = conditional::patch_surprise(model, &asked.evidence(batch, None)?)?;
    let [height, width] = view.size().map(|n| n as i64);
    let (levels, numbers) = (view.shape().levels as f64, view.variables() as f64);
    let share = nats / (numbers * levels.ln());
    let bright = (share.clamp(0.0, 1.0) * (levels - 1.0)).round().to_kind(Kind::Uint8).to_device(Device::Cpu);
    let each = bright.unsqueeze(-1).expand([-1, -1, view.variables() as i64], false);
    let map = view.grid.assemble(&each).narrow(1, 0, height).narrow(2, 0, width);
    let pictures = batch.pixels.narrow(1, 0, height).narrow(2, 0, width).to_device(Device::Cpu);
    Ok(Tensor::stack(&[pictures, map], 1).flatten(0, 1))
}

fn write_csv(path: &Path, rows: &[Row]) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["picture", "log_p_nats", "bits_per_dimension"])?;
    for row in rows {
        writer.write_record([
            row.picture.as_str(),
            &row.nats.to_string(),
            &Row::bits(std::slice::from_ref(row)).to_string(),
        ])?;
    }
    Ok(writer.flush()?)
}

/// Which latents of pictures are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latents {
    /// The most probable cluster of every patch by itself, int64 `[N, L]`.
    Codes,
    /// `p(z_i | x)`, float32 `[N, L, K]`.
    Posterior,
    /// The most probable clusters of all patches together, int64 `[N, L]`.
    Joint,
}

/// Latents of pictures as an array.
///
/// # Errors
/// Where the patches do not fit, or the file cannot be written.
pub fn latents(asked: &Asked, which: Latents, out: &Path) -> Result<Value> {
    let mut writer = ArrayWriter::new(out, asked.count);
    asked.each("codes", asked.batch, |model, batch| {
        let patches = asked.evidence(batch, None)?;
        let posterior = || Ok::<_, Error>(model.posterior(&model.patch_log_likelihood(&patches)?)?.1);
        writer.append(&match which {
            Latents::Codes => posterior()?.argmax(-1, false),
            Latents::Posterior => posterior()?.to_kind(Kind::Float),
            Latents::Joint => explain::codes(model, &patches)?.0,
        })
    })?;
    let mut said = asked.about();
    said["shape"] = json!(writer.finish()?);
    Ok(said)
}
