//! Which runs a report is about: run folders, and all finished points of sweeps.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::require;
use crate::run::RunFolder;

/// The run folders that are named, in place of the folder of a sweep its finished points. Points that are not finished are
/// named in a warning.
///
/// # Errors
/// A refusal where a folder is neither, or no point of a sweep is finished.
pub fn runs(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let each = named.iter().map(|folder| of_folder(folder)).collect::<Result<Vec<_>>>()?;
    Ok(each.concat())
}

fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let name = folder.display();
    let Err(no_run) = RunFolder::read(folder) else { return Ok(vec![folder.to_owned()]) };
    let points =
        if folder.is_dir() { points(folder).with_context(|| format!("{name}: cannot be read"))? } else { vec![] };
    if points.is_empty() {
        return Err(no_run);
    }
    let count = points.len();
    let (finished, others): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| RunFolder::is_finished(point));
    require!(
        !finished.is_empty(),
        "{name}: is no run folder, and no run in it is finished\n  finish the sweep by `lvd sweep`, or name run folders"
    );
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|point| point.display().to_string()).collect();
        tracing::warn!("{name}: {} of {count} runs are finished, left out: {}", finished.len(), others.join(", "));
    }
    Ok(finished)
}

/// The run folders in a folder, shorter names first: `clusters=4` before `clusters=16`.
fn points(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir()?.collect::<std::io::Result<Vec<_>>>()?;
    let mut points: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    points.retain(|point| RunFolder::read(point).is_ok());
    points.sort_by_key(|point| (point.as_os_str().len(), point.clone()));
    Ok(points)
}
