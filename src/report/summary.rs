//! What a run folder says, gathered for a report.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::{escape, limits};
use crate::refusal;
use crate::refusal::unreadable;
use crate::require;
use crate::run::metrics::Line;
use crate::run::results::{self, ClusterSizes, PICTURES, Role, Row};
use crate::run::{Manifest, RunFolder};

/// One run.
pub struct Summary {
    /// Its folder.
    pub folder: PathBuf,
    /// Name of the experiment.
    pub name: String,
    /// Its configuration, as text.
    pub config: String,
    /// The same as values.
    pub settings: Value,
    /// Where its numbers come from.
    pub manifest: Manifest,
    /// The models' scores.
    pub rows: Vec<Row>,
    /// What was measured on the way.
    pub lines: Vec<Line>,
    /// Its pictures.
    pub pictures: Vec<Picture>,
    /// Sizes of clusters by stage.
    pub clusters: Vec<StageClusters>,
}

/// Sizes of the clusters of a stage.
pub struct StageClusters {
    /// The stage.
    pub stage: String,
    /// The sizes.
    pub sizes: ClusterSizes,
}

/// A picture of a run.
pub struct Picture {
    /// Name of the file without its ending: stage, then what it shows.
    pub name: String,
    /// The PNG file.
    pub png: Vec<u8>,
}

impl Summary {
    /// Read a run folder.
    ///
    /// # Errors
    /// A refusal where it is none, or was not evaluated, or a file of it is broken.
    pub fn read(folder: &Path) -> Result<Self> {
        let run = RunFolder::read(folder)?;
        let (rows, lines) = (results::read(folder)?, run.read_metrics()?);
        limits::check_rows(folder, &rows)?;
        limits::check_lines(folder, &lines)?;
        let config: Value = run.config()?;
        require!(config.is_object(), "{}: holds no configuration", run.config_path().display());
        let (pictures, clusters) = pictures(&run.path(PICTURES))?;
        Ok(Self {
            folder: folder.to_owned(),
            name: escape::line(config["name"].as_str().unwrap_or("without a name")),
            config: escape::lines(&serde_yaml::to_string(&config)?),
            settings: config,
            manifest: run.manifest()?,
            rows,
            lines,
            pictures,
            clusters,
        })
    }

    /// Whether numbers of the two count the same.
    #[must_use]
    pub fn comparable(&self, other: &Self) -> bool {
        self.manifest.protocol == other.manifest.protocol && self.test_pictures() == other.test_pictures()
    }

    /// Protocol and test pictures, for people.
    #[must_use]
    pub fn kind(&self) -> String {
        let hash: String = self.test_pictures().chars().take(12).collect();
        escape::line(&format!("protocol {}, test pictures {hash}", self.manifest.protocol))
    }

    fn test_pictures(&self) -> &str {
        self.manifest.data.get("test").map_or("unknown", String::as_str)
    }

    /// Stages that were watched epoch by epoch, in order: `(stage, [(epoch, training, validation)])` in bits per dimension.
    #[must_use]
    pub fn curves(&self) -> Vec<(String, Vec<Point>)> {
        let mut curves: Vec<(String, Vec<Point>)> = Vec::new();
        for line in &self.lines {
            let number = |key: &str| line.values.get(key).and_then(Value::as_f64);
            let Some(valid) = number("valid_bpd") else { continue };
            let point = Point { epoch: line.step, train: number("train_bpd"), valid };
            match curves.iter_mut().find(|(stage, _)| *stage == line.stage) {
                Some((_, points)) => points.push(point),
                None => curves.push((line.stage.clone(), vec![point])),
            }
        }
        curves
    }

    /// Lines in which growing sums up a round, or says what became of a head.
    pub fn decisions(&self) -> impl Iterator<Item = &Line> {
        let telling = |line: &&Line| line.values.contains_key("splits") || line.values.contains_key("affected_heads");
        self.lines.iter().filter(telling)
    }

    /// How far the last model of distillation is below its teacher's own bound, in bits per dimension; none without bound.
    #[must_use]
    pub fn below_teacher(&self) -> Option<(f64, &Row)> {
        let teacher = self.rows.iter().find(|row| row.role == Role::Teacher)?;
        let student = self.rows.iter().rfind(|row| row.role == Role::Student)?;
        Some((teacher.bits_per_dimension - student.bits_per_dimension, student))
    }
}

/// A stage after an epoch, in bits per dimension.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The epoch; 0 is the start.
    pub epoch: u64,
    /// Mean over the epoch's training pictures.
    pub train: Option<f64>,
    /// On the watched validation pictures.
    pub valid: f64,
}

/// The PNG files and cluster sizes of a folder, in order of their names; nothing where there is no such folder.
fn pictures(folder: &Path) -> Result<(Vec<Picture>, Vec<StageClusters>)> {
    let (mut pictures, mut clusters) = (Vec::new(), Vec::new());
    if !folder.is_dir() {
        return Ok((pictures, clusters));
    }
    for entry in walkdir::WalkDir::new(folder).min_depth(1).max_depth(1).sort_by_file_name() {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let read = || std::fs::read(entry.path()).map_err(|error| unreadable(entry.path(), &error));
        let name = entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match entry.path().extension().and_then(|e| e.to_str()) {
            Some("png") => {
                let png = read()?;
                limits::check_png(entry.path(), &png)?;
                pictures.push(Picture { name, png });
            }
            Some("json") => {
                let sizes = serde_json::from_slice(&read()?)
                    .map_err(|error| refusal!("{}: no sizes of clusters: {error}", entry.path().display()))?;
                limits::check_sizes(entry.path(), &sizes)?;
                clusters.push(StageClusters { stage: name, sizes });
            }
            _ => {}
        }
    }
    Ok((pictures, clusters))
}
