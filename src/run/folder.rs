//! A run folder: made, opened again, and refused when it belongs to another configuration.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::atomic::atomic_write;
use super::manifest::{Manifest, timestamp};
use super::metrics::Metrics;
use super::stage::StageFolder;
use super::{log, metrics};
use crate::{refusal, require};

const CONFIG: &str = "config.yaml";
const MANIFEST: &str = "manifest.json";
const METRICS: &str = "metrics.jsonl";

/// A run folder. While one that was opened for writing lives, no other process can open it for writing.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: Option<File>,
}

impl RunFolder {
    /// Make the folder, or open one of the same configuration. Keys in `irrelevant` (paths such as `device`, with all
    /// below them) may differ; `config.yaml` then keeps the first values.
    ///
    /// # Errors
    /// A refusal that lists the differing keys; a refusal when another process runs in the folder; faults of the disk.
    pub fn open(root: &Path, config: &impl Serialize, irrelevant: &[&str]) -> Result<Self> {
        let context = || format!("run folder {}", root.display());
        fs::create_dir_all(root).with_context(context)?;
        let lock = lock(root)?;
        let folder = Self { root: root.to_owned(), _lock: Some(lock) };
        let config = serde_json::to_value(config).with_context(context)?;
        if folder.path(CONFIG).exists() {
            folder.compare(&folder.config()?, &config, irrelevant)?;
        } else {
            let others = fs::read_dir(root)?.filter_map(Result::ok).any(|entry| entry.file_name() != LOCK);
            require!(
                !others,
                "{}: is not empty and holds no {CONFIG}\n  give an empty or new folder by --run-dir",
                root.display()
            );
            atomic_write(&folder.path(CONFIG), serde_yaml::to_string(&config)?)?;
        }
        Ok(folder)
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

    fn compare(&self, old: &Value, new: &Value, irrelevant: &[&str]) -> Result<()> {
        let mut differing = Vec::new();
        differences("", Some(old), Some(new), &mut differing);
        let ignored =
            |key: &str| irrelevant.iter().any(|prefix| key == *prefix || key.starts_with(&format!("{prefix}.")));
        let lines: Vec<_> = differing.iter().filter(|(key, _)| !ignored(key)).map(|(_, line)| line.as_str()).collect();
        let (root, count) = (self.root.display(), lines.len());
        let keys = if count == 1 { "1 key differs" } else { &format!("{count} keys differ") };
        require!(
            lines.is_empty(),
            "{root}: holds a run of another configuration; {keys} (there -> now):{}\n  name another folder by --run-dir, or go back to the values there",
            lines.concat()
        );
        Ok(())
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

    /// The configuration of the run.
    ///
    /// # Errors
    /// A refusal when `config.yaml` cannot be read as one.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let path = self.path(CONFIG);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
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
    pub fn start_log(&self) -> Result<()> {
        log::attach(&self.path("log.txt"))
    }

    /// The manifest.
    ///
    /// # Errors
    /// A refusal when there is none or it cannot be read as one.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.path(MANIFEST);
        let text = fs::read(&path).map_err(|error| refusal!("{}: cannot be read: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| refusal!("{}: no manifest: {error}", path.display()))
    }

    /// Note that the run starts, or goes on, with what `now` says. The first start's time is kept.
    ///
    /// # Errors
    /// A refusal when data or weights are not those the run began with.
    pub fn begin(&self, mut now: Manifest) -> Result<()> {
        if self.path(MANIFEST).exists() {
            let old = self.manifest()?;
            let changed = old.contradictions(&now);
            let (root, lines) = (self.root.display(), changed.join("\n  "));
            require!(
                changed.is_empty(),
                "{root}: data or weights are not those of the run (SHA-256, there -> now):\n  {lines}\n  name another folder by --run-dir, or bring the files back"
            );
            if (&old.commit, &old.libtorch) != (&now.commit, &now.libtorch) {
                tracing::warn!("the run began with lvd {} on libtorch {}", old.commit, old.libtorch);
            }
            now.started = old.started;
            now.weights = old.weights.into_iter().chain(now.weights).collect();
        }
        self.write_manifest(&now)
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

/// Every leaf where two configurations differ: its path, and a line that shows both values.
fn differences(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                differences(&below(key), before.get(key), after.get(key), found);
            }
        }
        _ if old == new => {}
        _ => {
            let show = |value: Option<&Value>| value.map_or("(absent)".to_owned(), Value::to_string);
            found.push((path.to_owned(), format!("\n  {path}: {} -> {}", show(old), show(new))));
        }
    }
}
