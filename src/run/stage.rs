//! Stages of a run: a folder each, reused when its record says that it was made from the same things.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::atomic::{atomic_write, sha256_file};
use super::manifest::timestamp;
use crate::refusal;

const RECORD: &str = "record.json";
const INPUTS: &str = "inputs.sha256";
const PARTIAL: &str = "partial.safetensors";

/// A hash that stands for everything a stage is made from: its part of the configuration, and the fingerprints and
/// files of the stages before it.
///
/// # Errors
/// When `inputs` has no JSON form.
pub fn fingerprint(inputs: &impl Serialize) -> Result<String> {
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(&serde_json::to_value(inputs)?)?)))
}

/// What a finished stage left: `record.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the stage was made from, see [`fingerprint`].
    pub fingerprint: String,
    /// What the stage has to say, for reports.
    pub summary: Value,
    /// SHA-256 of each file of the stage.
    pub files: BTreeMap<String, String>,
    /// When it was finished (UTC, RFC 3339).
    pub finished: String,
}

/// One stage's place in a run folder.
#[derive(Clone, Debug)]
pub struct StageFolder {
    folder: PathBuf,
}

impl StageFolder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the stage keeps the file `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the stage keeps its state while it is under way; removed when it is finished.
    #[must_use]
    pub fn partial(&self) -> PathBuf {
        self.path(PARTIAL)
    }

    /// Get ready to work: what was begun from the same inputs and not finished stays, anything else in the stage's
    /// folder is removed. Says whether there is a [`StageFolder::partial`] state to go on from.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn begin(&self, fingerprint: &str) -> Result<bool> {
        let inputs = self.path(INPUTS);
        let begun = fs::read_to_string(&inputs).is_ok_and(|found| found == fingerprint) && !self.path(RECORD).exists();
        if !begun {
            let context = || format!("{}: cannot be made anew", self.folder.display());
            if self.folder.exists() {
                fs::remove_dir_all(&self.folder).with_context(context)?;
            }
            fs::create_dir_all(&self.folder).with_context(context)?;
            atomic_write(&inputs, fingerprint)?;
        }
        Ok(self.partial().exists())
    }

    /// The record, when the stage was finished once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self) -> Result<Option<Record>> {
        let path = self.path(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let record = serde_json::from_slice(&text);
        record
            .map(Some)
            .map_err(|error| refusal!("{}: no stage record: {error}\n  delete it to redo the stage", path.display()))
    }

    /// Whether the stage was finished from these inputs and its files are as it left them.
    ///
    /// # Errors
    /// When the record or a file cannot be read.
    pub fn is_done(&self, fingerprint: &str) -> Result<bool> {
        let Some(record) = self.record()?.filter(|record| record.fingerprint == fingerprint) else {
            return Ok(false);
        };
        for (name, hash) in &record.files {
            let path = self.path(name);
            if !path.exists() || sha256_file(&path)? != *hash {
                tracing::warn!("{}: missing or changed, the stage is done again", path.display());
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Remove the [`StageFolder::partial`] state, where there is one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_partial(&self) -> Result<()> {
        let partial = self.partial();
        if partial.exists() {
            fs::remove_file(&partial).with_context(|| format!("{}: cannot be removed", partial.display()))?;
        }
        Ok(())
    }

    /// Record that the stage, once begun, is finished: hash its files, remove its partial state.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub fn finish(&self, fingerprint: &str, summary: Value) -> Result<()> {
        self.forget_partial()?;
        let files = hashes(&self.folder)?;
        let record = Record { fingerprint: fingerprint.to_owned(), summary, files, finished: timestamp() };
        atomic_write(&self.path(RECORD), serde_json::to_vec_pretty(&record)?)
    }
}

/// SHA-256 of every file below `folder` that the stage itself wrote.
fn hashes(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
        let own = entry.path().extension().is_some_and(|extension| extension == "tmp")
            || [RECORD, INPUTS].contains(&name.as_str());
        if entry.file_type().is_file() && !own {
            files.insert(name, sha256_file(entry.path())?);
        }
    }
    Ok(files)
}
