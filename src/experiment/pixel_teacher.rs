//! Baseline: the same distillation with the patches' own pixels as the teacher. It is a run of its own, in a folder of the
//! run, of which the last model is a row of the run's table.

use std::collections::BTreeMap;

use anyhow::Result;

use super::baselines::BaselinesConfig;
use super::config::{Config, SOURCES};
use super::context::Context;
use super::evaluation;
use super::stage::Stage;
use super::stages::Conductor;
use crate::run::results::{self, Role, Row};
use crate::run::{Manifest, RunFolder};
use crate::teacher::TeacherConfig;

/// Its folder in the run folder, and its name in tables.
pub const NAME: &str = results::PIXEL_TEACHER;
/// What its model is called in tables.
pub const LABEL: &str = "the same with a pixel teacher";

/// The experiment with a pixel teacher; none where that is no baseline of it.
#[must_use]
pub fn config(config: &Config) -> Option<Config> {
    let pixel = config.baselines.pixel_teacher.clone()?;
    let (name, teacher) = (format!("{} with a pixel teacher", config.name), TeacherConfig::Pixel(pixel));
    Some(Config {
        name,
        teacher,
        init_from: None,
        init_sha256: None,
        baselines: BaselinesConfig::default(),
        ..config.clone()
    })
}

/// Run it and score its last model, by every reading of that. The seconds of the rows are of all its stages.
///
/// # Errors
/// Whatever stops a stage or the evaluation.
pub fn run(conductor: &Conductor) -> Result<Vec<Row>> {
    let outer = &conductor.context;
    let Some(config) = config(outer.config) else { return Ok(Vec::new()) };
    tracing::info!("{NAME}: {LABEL}, in {}", outer.run.path(NAME).display());
    let folder = RunFolder::open(&outer.run.path(NAME))?;
    let manifest = Manifest { weights: BTreeMap::new(), ..outer.run.manifest()? };
    folder.begin(&config, manifest, &SOURCES)?;
    let context = Context::new(&config, &folder, outer.data, outer.device)?;
    let others = conductor.others().iter().filter_map(|other| RunFolder::read(&other.path(NAME)).ok()).collect();
    let mut conductor = Conductor::new(context, conductor.pictures())?;
    conductor.share(others);
    let last = Stage::last(&config);
    conductor.ensure(last)?;
    conductor.tell_reused();
    let rows = evaluation::rows_of(&conductor.context, last)?;
    results::write(folder.root(), &rows)?;
    folder.finish()?;
    let stages = Stage::wanted(&config).into_iter();
    let seconds = stages.map(|stage| evaluation::seconds(&conductor.context, stage)).sum::<Result<f64>>()?;
    let renamed = |row| Row { stage: NAME.to_owned(), role: Role::Baseline, label: LABEL.to_owned(), seconds, ..row };
    Ok(rows.into_iter().map(renamed).collect())
}
