//! A run folder: made, opened again, taken on by a changed configuration.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::atomic::{atomic_write, is_temporary};
use super::manifest::{Manifest, timestamp};
use super::metrics::Metrics;
use super::stage::StageFolder;
use super::{log, metrics};
use crate::refusal::unreadable;
use crate::{refusal, require};

const CONFIG: &str = "config.yaml";
const MANIFEST: &str = "manifest.json";
const METRICS: &str = "metrics.jsonl";
const LOG: &str = "log.txt";

/// A run folder. While one that was opened for writing lives, no other process can open it for writing.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: Option<File>,
}

impl RunFolder {
    /// Make the folder, or open that of a run.
    ///
    /// # Errors
    /// A refusal when the folder holds something else or another process runs in it; faults of the disk.
    pub fn open(root: &Path) -> Result<Self> {
        require!(!root.exists() || root.is_dir(), "{}: is no folder: name another one", root.display());
        fs::create_dir_all(root).with_context(|| format!("run folder {}", root.display()))?;
        for name in [CONFIG, MANIFEST, METRICS, LOG, LOCK] {
            refuse_link(&root.join(name))?;
        }
        if !root.join(CONFIG).exists() {
            let ours = |name: &OsStr| [LOCK, LOG].iter().any(|own| name == *own) || is_temporary(Path::new(name));
            let others = fs::read_dir(root)?.filter_map(Result::ok).any(|entry| !ours(&entry.file_name()));
            require!(
                !others,
                "{}: is not empty and holds no {CONFIG}\n  give an empty or new folder by --run-dir",
                root.display()
            );
        }
        Ok(Self { root: root.to_owned(), _lock: Some(lock(root)?) })
    }

    /// Look into the folder of a run without writing.
    ///
    /// # Errors
    /// A refusal when it is none.
    pub fn read(root: &Path) -> Result<Self> {
        let found = root.join(CONFIG).is_file();
        require!(
            found,
            "{}: no run folder (it has no {CONFIG})\n  make one with: lvd run EXPERIMENT.yaml --run-dir {}",
            root.display(),
            root.display()
        );
        Ok(Self { root: root.to_owned(), _lock: None })
    }

    /// Whether a folder is that of a run whose last stage is done and evaluated.
    #[must_use]
    pub fn is_finished(root: &Path) -> bool {
        Self::read(root).and_then(|run| run.manifest()).is_ok_and(|manifest| manifest.finished.is_some())
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the folder keeps the file `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The stage called `name`.
    #[must_use]
    pub fn stage(&self, name: &str) -> StageFolder {
        StageFolder::new(self.path(name))
    }

    /// Where the configuration of the run is.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.path(CONFIG)
    }

    /// The configuration of the run.
    ///
    /// # Errors
    /// A refusal when `config.yaml` cannot be read as one.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let path = self.path(CONFIG);
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        serde_yaml::from_str(&text).map_err(|error| refusal!("{}: {error}", path.display()))
    }

    /// The metrics, to append to.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::open(&self.path(METRICS))
    }

    /// All metrics so far; none when nothing was measured yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_metrics(&self) -> Result<Vec<metrics::Line>> {
        let path = self.path(METRICS);
        if path.exists() { metrics::read(&path) } else { Ok(Vec::new()) }
    }

    /// Log to `log.txt` from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open_log(&self) -> Result<()> {
        log::attach(&self.path(LOG))
    }

    /// The manifest.
    ///
    /// # Errors
    /// A refusal when there is none or it cannot be read as one.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.path(MANIFEST);
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        serde_json::from_slice(&text).map_err(|error| refusal!("{}: no manifest: {error}", path.display()))
    }

    /// Note that the run starts, or goes on, with this configuration and what `now` says. Keys that differ from those there
    /// are logged; stages know by their fingerprints what they concern. The first start's time is kept. `sources` names the
    /// keys (with all below them) that say where the files behind a kind of hashes in the manifest, `data` or `weights`, come
    /// from.
    ///
    /// # Errors
    /// A refusal when data or weights are not those the run began with, though the keys that name them are; faults of the
    /// disk.
    pub fn begin(&self, config: &impl Serialize, mut now: Manifest, sources: &[(&str, &[&str])]) -> Result<()> {
        let config = serde_json::to_value(config)?;
        if !self.path(CONFIG).exists() {
            self.write_config(&config)?;
        }
        let changes = changes(&self.config()?, &config);
        if self.path(MANIFEST).exists() {
            let old = self.manifest()?;
            let moved = |kind: &str| {
                let keys = sources.iter().filter(|(k, _)| *k == kind).flat_map(|(_, keys)| *keys);
                keys.into_iter().any(|key| changes.iter().any(|change| change.is_below(key)))
            };
            let changed: Vec<String> = old.contradictions(&now, &|kind| !moved(kind));
            let (root, lines) = (self.root.display(), changed.join("\n  "));
            require!(
                changed.is_empty(),
                "{root}: data or weights are not those of the run (SHA-256, there -> now):\n  {lines}\n  name another folder by --run-dir, or bring the files back"
            );
            if (&old.commit, &old.libtorch) != (&now.commit, &now.libtorch) {
                tracing::warn!("the run began with lvd {} on libtorch {}", old.commit, old.libtorch);
            }
            (now.started, now.finished) = (old.started, old.finished);
            now.weights = old.weights.into_iter().chain(now.weights).collect();
        }
        self.write_manifest(&now)?;
        for change in &changes {
            tracing::info!("{CONFIG}: {change}");
        }
        if !changes.is_empty() {
            tracing::info!("{} changed: the stages that this concerns are done again", keys(changes.len()));
            self.write_config(&config)?;
        }
        Ok(())
    }

    fn write_config(&self, config: &Value) -> Result<()> {
        atomic_write(&self.path(CONFIG), serde_yaml::to_string(config)?)
    }

    /// Note that there is something to do again: the run is not finished.
    ///
    /// # Errors
    /// When the manifest cannot be read or written.
    pub fn reopen(&self) -> Result<()> {
        let manifest = self.manifest()?;
        if manifest.finished.is_none() {
            return Ok(());
        }
        self.write_manifest(&Manifest { finished: None, ..manifest })
    }

    /// Note that the last stage is finished.
    ///
    /// # Errors
    /// When the manifest cannot be read or written.
    pub fn finish(&self) -> Result<()> {
        self.write_manifest(&Manifest { finished: Some(timestamp()), ..self.manifest()? })
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        atomic_write(&self.path(MANIFEST), serde_json::to_vec_pretty(manifest)?)
    }
}

const LOCK: &str = ".lock";

/// What is written to, or locked, must lie in the folder itself.
fn refuse_link(path: &Path) -> Result<()> {
    let link = path.symlink_metadata().is_ok_and(|found| found.file_type().is_symlink());
    require!(
        !link,
        "{}: is a symbolic link\n  a run writes into its own folder only: remove the link, or name another folder by --run-dir",
        path.display()
    );
    Ok(())
}

fn lock(root: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(root.join(LOCK))
        .with_context(|| format!("run folder {}", root.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(refusal!(
            "{}: another process runs in it\n  wait for it, or name another folder by --run-dir",
            root.display()
        )),
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => {
            tracing::warn!("{}: this file system has no locks: {error}", root.display());
            Ok(file)
        }
    }
}

/// A leaf where two configurations differ.
#[derive(Debug)]
struct Change {
    key: String,
    old: Option<Value>,
    new: Option<Value>,
}

impl Change {
    /// Whether it is of this key or one below it.
    fn is_below(&self, key: &str) -> bool {
        self.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or("(absent)".to_owned(), Value::to_string);
        write!(f, "{}: {} -> {}", self.key, show(&self.old), show(&self.new))
    }
}

fn keys(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    differences("", Some(old), Some(new), &mut found);
    found
}

/// Every leaf below `path` where two configurations differ.
fn differences(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                differences(&below(key), before.get(key), after.get(key), found);
            }
        }
        _ if old == new => {}
        _ => found.push(Change { key: path.to_owned(), old: old.cloned(), new: new.cloned() }),
    }
}
