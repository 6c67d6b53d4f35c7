//! `lvd new`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::device::{self, DeviceChoice};
use crate::experiment::draft::draft;
use crate::require;
use crate::run::atomic_write;

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Name of the experiment; the file is NAME.yaml.
    name: String,
    /// Folder of the pictures: PNG and JPEG files, or files of a known format (docs/data.md).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Look at the pictures and write a first experiment.
pub(super) fn execute(args: &NewArgs, cuda: Option<&Path>) -> Result<String> {
    device::open(DeviceChoice::Cpu, cuda)?;
    let path = PathBuf::from(format!("{}.yaml", args.name));
    require!(!path.exists(), "{}: is there already: choose another name", path.display());
    let text = draft(&args.name, &args.data)?;
    atomic_write(&path, &text)?;
    let seen = text.lines().filter_map(|line| line.strip_prefix("# Seen: ")).collect::<Vec<_>>().join("\n");
    Ok(format!("{}: {seen}\nnext: lvd run {}", path.display(), path.display()))
}
