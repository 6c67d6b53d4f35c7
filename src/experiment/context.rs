//! What every part of a run works with.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;
use tch::Device;

use super::config::Config;
use super::models;
use super::stage::Stage;
use crate::data::DataSet;
use crate::data::view::View;
use crate::run::stage::fingerprint;
use crate::run::{RunFolder, StageFolder};

/// An experiment, where its results go, its pictures, and where it is computed.
pub struct Context<'a> {
    /// What to do.
    pub config: &'a Config,
    /// Where results go.
    pub run: &'a RunFolder,
    /// Pictures.
    pub data: &'a DataSet,
    /// Where it is computed.
    pub device: Device,
    /// How circuits see pictures.
    pub view: View,
}

impl<'a> Context<'a> {
    /// Everything of a run.
    ///
    /// # Errors
    /// When the configuration does not fit the pictures.
    pub fn new(config: &'a Config, run: &'a RunFolder, data: &'a DataSet, device: Device) -> Result<Self> {
        let view = models::view(config, data.train.shape())?;
        Ok(Self { config, run, data, device, view })
    }

    /// The folder of a stage.
    #[must_use]
    pub fn folder(&self, stage: Stage) -> StageFolder {
        self.run.stage(stage.name())
    }
}

/// What a stage is made from: seed, pictures (SHA-256 by split), its own part of the configuration, and the files of the
/// stage before it, which stand for all that came earlier. None where the stage before is not done.
///
/// # Errors
/// When a record cannot be read.
pub fn stage_fingerprint(
    config: &Config,
    run: &RunFolder,
    pictures: &BTreeMap<String, String>,
    stage: Stage,
) -> Result<Option<String>> {
    let earlier = match stage.before(config) {
        Some(before) => match run.stage(before.name()).record()? {
            Some(record) => json!([record.fingerprint, record.files]),
            None => return Ok(None),
        },
        None => json!([config.seed, pictures.get("train"), pictures.get("valid")]),
    };
    let mut inputs = vec![json!(stage), json!(stage.own_config(config)), earlier];
    // A model file of another format is made again.
    inputs.extend(stage.has_circuit().then(|| json!(models::FORMAT)));
    fingerprint(&inputs).map(Some)
}
