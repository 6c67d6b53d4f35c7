//! `metrics.jsonl`: what a stage measured at each step, appended and flushed line by line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::atomic::{atomic_write, may_be_killed};
use crate::refusal;
use crate::refusal::unreadable;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Stage that measured.
    pub stage: String,
    /// Step or epoch, as the stage counts.
    pub step: u64,
    /// Running time of the whole run so far; interruptions do not count.
    pub seconds: f64,
    /// What was measured, by name; a number that is not finite is null.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

impl Line {
    /// Whether a stage, or one of its parts (`stage 1`, `stage 2`, ...), measured it.
    #[must_use]
    pub fn is_of(&self, stage: &str) -> bool {
        self.stage.strip_prefix(stage).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

/// The open file.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    opened: Instant,
    seconds_before: f64,
}

impl Metrics {
    /// Open or create; a last line that was cut off by a crash is removed.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds a line that is no metrics line.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("{}: cannot be opened", path.display());
        let file = File::options().create(true).append(true).open(path).with_context(context)?;
        let bytes = fs::read(path).with_context(context)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).with_context(context)?;
        }
        let seconds_before = read(path)?.last().map_or(0.0, |line| line.seconds);
        Ok(Self { path: path.to_owned(), file, opened: Instant::now(), seconds_before })
    }

    /// Append one line: `values` is a JSON object, such as `json!({"valid_bpd": 4.2})`.
    ///
    /// # Errors
    /// When the line cannot be written.
    pub fn write(&mut self, stage: &str, step: u64, values: &Value) -> Result<()> {
        let values = values.as_object().context("metrics are a JSON object")?.clone();
        let seconds = self.seconds_before + self.opened.elapsed().as_secs_f64();
        let mut line = serde_json::to_vec(&Line { stage: stage.to_owned(), step, seconds, values })?;
        line.push(b'\n');
        may_be_killed();
        self.file.write_all(&line).with_context(|| format!("{}: cannot be written", self.path.display()))
    }

    /// Forget what `stage` measured after `step`: a resumed stage measures it again.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn rewind(&mut self, stage: &str, step: u64) -> Result<()> {
        self.keep(|line| line.stage != stage || line.step <= step)
    }

    /// Forget all that `stage` measured: it starts anew.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget(&mut self, stage: &str) -> Result<()> {
        self.keep(|line| line.stage != stage)
    }

    /// Forget all that `stage` and its parts (`stage 1`, `stage 2`, ...) measured.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget_all(&mut self, stage: &str) -> Result<()> {
        self.keep(|line| !line.is_of(stage))
    }

    fn keep(&mut self, wanted: impl Fn(&Line) -> bool) -> Result<()> {
        let lines = read(&self.path)?;
        if !lines.iter().all(&wanted) {
            let mut text = Vec::new();
            for line in lines.iter().filter(|line| wanted(line)) {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            atomic_write(&self.path, text)?;
            self.file = File::options().append(true).open(&self.path)?;
        }
        Ok(())
    }
}

/// All lines of a metrics file.
///
/// # Errors
/// When the file cannot be read; a refusal with file and line number when a line is no metrics line.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let lines = text.lines().enumerate().map(|(i, line)| {
        serde_json::from_str(line)
            .map_err(|error| refusal!("{}, line {}: no metrics line: {error}", path.display(), i + 1))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_go_on_after_a_crash_in_the_middle_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let first = r#"{"stage":"em","step":1,"seconds":100.0,"bpd":4.5}"#;
        fs::write(&path, format!("{first}\n{{\"stage\":\"em\",\"st")).unwrap();
        let mut metrics = Metrics::open(&path).unwrap();
        metrics.write("em", 2, &json!({"bpd": f64::NAN, "rate": 0.5})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("{first}\n{{\"stage\":\"em\",\"step\":2,\"seconds\":100.")), "{text}");
        assert!(text.ends_with(",\"bpd\":null,\"rate\":0.5}\n"), "{text}");
    }

    #[test]
    fn rewinding_forgets_later_steps_of_one_stage_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path).unwrap();
        for (stage, step) in [("teacher", 5), ("em", 1), ("em", 2), ("em", 3)] {
            metrics.write(stage, step, &json!({})).unwrap();
        }
        metrics.rewind("em", 1).unwrap();
        metrics.write("em", 2, &json!({"again": true})).unwrap();
        let lines = read(&path).unwrap();
        let steps: Vec<_> = lines.iter().map(|line| (line.stage.as_str(), line.step, line.values.len())).collect();
        assert_eq!(steps, [("teacher", 5, 0), ("em", 1, 0), ("em", 2, 1)]);
    }

    #[test]
    fn a_foreign_line_is_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"stage\":\"em\",\"step\":1,\"seconds\":1.0}\nhello\n").unwrap();
        let error = Metrics::open(&path).unwrap_err();
        assert!(error.is::<crate::refusal::Refusal>());
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}, line 2: no metrics line: expected value", path.display())), "{text}");
    }
}
