//! Questions of users to a trained model: what they are about, and how their answers are written.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tch::Device;

use super::stage::Stage;
use super::subject::{self, Subject, Wanted};
use crate::data::batches::Batch;
use crate::mixture::Mixture;
use crate::patch::{PatchEvidence, Reading};
use crate::query::mask::{MaskWords, Masks};
use crate::query::support::Question;
use crate::random::Draws;
use crate::require;
use crate::run::{interrupt, progress};

/// A model, the pictures, and how they are read.
pub struct Asked {
    /// Model and pictures.
    pub subject: Subject,
    /// Which number stands for log P(x).
    pub reading: Reading,
    /// Seed of noise, masks and samples.
    pub seed: u64,
    /// How many of the pictures are looked at.
    pub count: usize,
    /// Pictures in one go.
    pub batch: usize,
}

impl Asked {
    /// Open model and pictures; the first `count` of these, or all.
    ///
    /// # Errors
    /// As [`Subject::open`], and where the model has no such reading or there are fewer pictures.
    pub fn open(
        run: &Path,
        wanted: &Wanted,
        reading: Option<Reading>,
        seed: Option<u64>,
        count: Option<usize>,
        device: Device,
    ) -> Result<Self> {
        let subject = Subject::open(run, wanted, device)?;
        let all = subject.pictures.len();
        let count = count.unwrap_or(all);
        require!(count <= all, "--first is {count}, but {} holds {all} pictures", subject.source);
        let reading = reading.unwrap_or_else(|| subject.model.readings()[0]);
        let (seed, batch) = (seed.unwrap_or(subject.config.seed), subject.stage.micro_batch(&subject.config));
        Ok(Self { subject, reading, seed, count, batch })
    }

    /// The same of no more than so many pictures.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { count: self.count.min(most), ..self }
    }

    /// The masks that words mean for these pictures.
    ///
    /// # Errors
    /// As [`Masks::new`], and where a file holds fewer masks than there are pictures.
    pub fn masks(&self, words: &MaskWords, inverted: bool) -> Result<Masks> {
        let masks = Masks::new(words, self.subject.model.view().size(), inverted, self.seed)?;
        if let Some(count) = masks.count() {
            require!(count >= self.count, "there are {count} masks for {} pictures", self.count);
        }
        Ok(masks)
    }

    /// The patches of a batch as the model sees them; of the pixels that a mask observes, if there is one.
    ///
    /// # Errors
    /// Where the model has no such reading or marginal, or the mask does not fit.
    pub fn evidence(&self, batch: &Batch, masks: Option<&Masks>) -> Result<PatchEvidence> {
        let noise = Draws { seed: self.seed, purpose: "noise of an evaluation", pass: 0, pictures: &batch.indices };
        let model = &self.subject.model;
        let patches = model.evidence(&batch.pixels, self.reading, &noise)?;
        match masks {
            Some(masks) => model.observe(patches, &masks.of(&batch.indices)?),
            None => Ok(patches),
        }
    }

    /// Look at the pictures in batches of at most `most`, with a bar.
    ///
    /// # Errors
    /// Those of `look`, and where pictures cannot be read.
    pub fn each(&self, label: &str, most: usize, mut look: impl FnMut(&Mixture, &Batch) -> Result<()>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let bar = progress::bar(label, self.count as u64);
        for batch in self.subject.pictures.batches(0..self.count, self.batch.min(most).max(1)) {
            interrupt::check()?;
            let batch = batch?;
            look(&self.subject.model, &batch)?;
            bar.inc(batch.indices.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What every answer says of itself.
    #[must_use]
    pub fn about(&self) -> Value {
        json!({
            "stage": self.subject.stage,
            "reading": self.reading.name(),
            "pictures": self.count,
            "source": self.subject.source,
            "seed": self.seed,
        })
    }
}

/// What a run's model can be asked: a line for every question, or JSON.
///
/// # Errors
/// As [`subject::model`]; a refusal where the model has no such reading.
pub fn abilities(run: &Path, stage: Option<Stage>, reading: Option<Reading>, device: Device) -> Result<Value> {
    let (_, stage, model) = subject::model(run, stage, device)?;
    let readings = model.readings();
    let asked = reading.map_or_else(|| readings.clone(), |reading| vec![reading]);
    let known = |reading: &Reading| {
        model.check_reading(*reading)?;
        let row = |question: &Question| {
            let (words, command) = question.words();
            json!({"question": words, "command": command, "is": question.answer(&model, *reading)})
        };
        Ok(json!({"reading": reading.name(), "questions": Question::ALL.iter().map(row).collect::<Vec<_>>()}))
    };
    let readings = asked.iter().map(known).collect::<Result<Vec<_>>>()?;
    Ok(json!({"run": run, "stage": stage, "readings": readings}))
}

/// The abilities as a table for people.
#[must_use]
pub fn abilities_table(abilities: &Value) -> String {
    let mut lines = Vec::new();
    for reading in abilities["readings"].as_array().into_iter().flatten() {
        lines.push(format!("reading {}", reading["reading"].as_str().unwrap_or_default()));
        for row in reading["questions"].as_array().into_iter().flatten() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let because = row["is"]["because"].as_str().map(|because| format!(": {because}")).unwrap_or_default();
            let (question, command) = (word(&row["question"]), word(&row["command"]));
            lines.push(format!("  {question:<50} {command:<36} {}{because}", word(&row["is"]["answer"])));
        }
    }
    lines.join("\n")
}
