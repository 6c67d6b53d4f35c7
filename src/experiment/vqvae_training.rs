//! The training of a VQ-VAE-2 as a stage: its progress on the terminal and in the metrics, and what an interruption leaves.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tch::Device;

use super::stage::Stage;
use crate::data::DataSet;
use crate::evaluate::bits_per_dimension;
use crate::refusal::Interrupted;
use crate::run::metrics::Metrics;
use crate::run::stage::StageFolder;
use crate::run::{checkpoint, interrupt, progress, told};
use crate::teacher::VqVaeConfig;
use crate::teacher::training::{Ending, EpochReport, Progress, Trainer};

/// Metadata of the partial state: the trainer's own record.
const RECORD: &str = "record";

/// Train to the end, from where an earlier run of the stage was stopped if there was one.
///
/// # Errors
/// [`Interrupted`] when the user stops it, with everything saved; whatever stops the training.
pub fn train(
    config: &VqVaeConfig,
    seed: u64,
    data: &DataSet,
    device: Device,
    stage: &StageFolder,
    metrics: &mut Metrics,
) -> Result<Trainer> {
    let mut trainer = Trainer::new(config, data.train.clone(), data.valid.clone(), device, seed)?;
    if stage.partial().exists() {
        resume(&mut trainer, stage, metrics)?;
    }
    let bar = progress::bar(Stage::Teacher.name(), trainer.steps());
    let mut watch =
        Watch { stage, metrics, bar: bar.clone(), epochs: config.epochs, dimensions: data.train.shape().dimensions() };
    if trainer.run(&mut |trainer, step| watch.see(trainer, step))? == Ending::Interrupted {
        return Err(Interrupted.into());
    }
    bar.finish_and_clear();
    Ok(trainer)
}

fn resume(trainer: &mut Trainer, stage: &StageFolder, metrics: &mut Metrics) -> Result<()> {
    let saved = checkpoint::load(&stage.partial(), Device::Cpu)?;
    let record: Value = serde_json::from_str(saved.entry(RECORD)?)?;
    trainer.restore(saved.tensors.into_iter().collect(), &record)?;
    metrics.rewind(Stage::Teacher.name(), trainer.epochs_done() as u64)
}

/// Who looks on while the teacher trains.
struct Watch<'a> {
    stage: &'a StageFolder,
    metrics: &'a mut Metrics,
    bar: ProgressBar,
    epochs: usize,
    /// Numbers of a picture.
    dimensions: usize,
}

impl Watch<'_> {
    /// After a step: tell and save a finished epoch, and stop if the user asks for it.
    fn see(&mut self, trainer: &Trainer, step: &Progress) -> Result<ControlFlow<()>> {
        self.bar.set_position(step.step);
        if let Some(report) = &step.epoch_end {
            self.tell(report, step.epoch)?;
            self.save(trainer)?;
        }
        if interrupt::requested() {
            self.save(trainer)?;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn tell(&mut self, report: &EpochReport, epoch: usize) -> Result<()> {
        let bpd = bits_per_dimension(report.valid_decoder_nats + report.valid_code_nats, self.dimensions);
        let mut values = json!(report);
        values["valid_bpd"] = json!(bpd);
        self.bar.set_message(format!("valid {bpd:.4} bpd"));
        tracing::info!("teacher {epoch}/{}  {}", self.epochs, told::line(&values));
        self.metrics.write(Stage::Teacher.name(), epoch as u64, &values)
    }

    fn save(&self, trainer: &Trainer) -> Result<()> {
        let (tensors, record) = trainer.state()?;
        checkpoint::save(&self.stage.partial(), &tensors, &BTreeMap::from([(RECORD.to_owned(), record.to_string())]))
    }
}
