//! Stages of a run: a folder each, reused when its record says that it was made from the same things.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::atomic::{atomic_write, atomically, is_temporary, remove, sha256_file};
use super::manifest::timestamp;
use crate::refusal::unreadable;
use crate::{refusal, require};

const RECORD: &str = "record.json";
const INPUTS: &str = "inputs.sha256";
const PARTIAL: &str = "partial.safetensors";
/// Folder of what a stage keeps while it is under way.
const STATE: &str = "state";

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

    /// Where the stage keeps the file `name` of its state while it is under way: all of it is removed when the stage is
    /// finished, after its record is on the disk, so that a stage can be resumed until it is done.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.path(STATE).join(name)
    }

    /// Where the stage keeps the state that it goes on from.
    #[must_use]
    pub fn partial(&self) -> PathBuf {
        self.state(PARTIAL)
    }

    /// Get ready to work: what was begun from the same inputs and not finished stays, anything else in the stage's
    /// folder is removed. Says whether there is state to go on from.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn begin(&self, fingerprint: &str) -> Result<bool> {
        let inputs = self.path(INPUTS);
        let begun = fs::read_to_string(&inputs).is_ok_and(|found| found == fingerprint) && !self.path(RECORD).exists();
        if !begun {
            remove(&self.folder)?;
        }
        fs::create_dir_all(self.path(STATE))
            .with_context(|| format!("{}: cannot be made", self.path(STATE).display()))?;
        if !begun {
            atomic_write(&inputs, fingerprint)?;
        }
        let mut state = fs::read_dir(self.path(STATE))?.filter_map(Result::ok);
        Ok(state.any(|entry| !is_temporary(&entry.path())))
    }

    /// The fingerprint of what the stage is being made from, once begun.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn inputs(&self) -> Result<String> {
        let path = self.path(INPUTS);
        fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))
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
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
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

    /// Where a finished stage left the file `name`, which must be as it left it.
    ///
    /// # Errors
    /// A refusal with the hashes where the stage is not done, or its file is missing or changed.
    pub fn finished(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        let expected = self.record()?.and_then(|record| record.files.get(name).cloned());
        let expected = expected.ok_or_else(|| {
            refusal!("{}: the stage is not done, or left no {name}\n  finish it by `lvd run`", self.folder.display())
        })?;
        require!(path.exists(), "{}: is missing (SHA-256 {expected})\n  make it again by `lvd run`", path.display());
        let found = sha256_file(&path)?;
        require!(
            found == expected,
            "{}: is not what the stage left (SHA-256)\n  expected {expected}\n  found    {found}\n  make it again by `lvd run`",
            path.display()
        );
        Ok(path)
    }

    /// Remove the [`StageFolder::partial`] state, where there is one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_partial(&self) -> Result<()> {
        remove(&self.partial())
    }

    /// Record that the stage, once begun, is finished: hash its files, write the record, then remove its state.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub fn finish(&self, fingerprint: &str, summary: Value) -> Result<()> {
        let files = hashes(&self.folder)?;
        let record = Record { fingerprint: fingerprint.to_owned(), summary, files, finished: timestamp() };
        atomic_write(&self.path(RECORD), serde_json::to_vec_pretty(&record)?)?;
        self.clean()
    }

    /// Take over what the same stage of another run left, finished from the same inputs: its files, then its record.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn take(&self, other: &Self) -> Result<()> {
        let record = other.record()?.context("a stage that is done has a record")?;
        self.begin(&record.fingerprint)?;
        for name in record.files.keys() {
            let (from, to) = (other.path(name), self.path(name));
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            atomically(&to, |temporary| {
                fs::copy(&from, temporary).with_context(|| format!("{}: cannot be copied", from.display()))?;
                Ok(())
            })?;
        }
        atomic_write(&self.path(RECORD), serde_json::to_vec_pretty(&record)?)?;
        self.clean()
    }

    /// Remove what a stage that is done no longer needs.
    ///
    /// # Errors
    /// When the state cannot be removed.
    pub fn clean(&self) -> Result<()> {
        remove(&self.path(STATE))
    }
}

/// SHA-256 of every file below `folder` that the stage itself wrote.
fn hashes(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let own_files = |entry: &walkdir::DirEntry| entry.depth() != 1 || entry.file_name() != STATE;
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(own_files) {
        let entry = entry?;
        let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
        let own = is_temporary(entry.path()) || [RECORD, INPUTS].contains(&name.as_str());
        if entry.file_type().is_file() && !own {
            files.insert(name, sha256_file(entry.path())?);
        }
    }
    Ok(files)
}
