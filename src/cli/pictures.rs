//! Which model of a run, and which pictures: what evaluation and questions are told alike.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::data::{Format, Split};
use crate::experiment::stage::Stage;
use crate::experiment::subject::Wanted;
use crate::refusal;

#[derive(Debug, Args)]
pub(super) struct PictureArgs {
    /// Pictures of your own, instead of a split of the experiment's data.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Their format; from the path if not given: a folder, .npy, .npz, .bin (CIFAR-10), -ubyte[.gz] (IDX).
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// The pictures of --data have 256 levels: bring them to the model's, v -> v * levels / 256.
    #[arg(long, requires = "data")]
    requantise: bool,
    /// Which part of the data.
    #[arg(long, value_enum, default_value = "test", conflicts_with = "data")]
    split: Split,
    /// Stage whose model is meant; the last one of distillation if not given.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Root folder of the data sets, instead of the one that the run used.
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
}

impl PictureArgs {
    /// Where the user's own pictures are.
    pub(super) fn path(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// What they mean.
    ///
    /// # Errors
    /// A refusal where a path says nothing of its format.
    pub(super) fn wanted(&self) -> Result<Wanted> {
        let with_format = |path: &PathBuf| {
            let format = self.format.or_else(|| Format::of_path(path));
            let format = format.ok_or_else(|| {
                refusal!("{}: neither a folder nor a file of a known ending: name its --format", path.display())
            })?;
            Ok::<_, anyhow::Error>((path.clone(), format))
        };
        Ok(Wanted {
            stage: self.stage,
            data: self.data.as_ref().map(with_format).transpose()?,
            requantise: self.requantise,
            split: self.split,
            protocol: None,
            root: self.data_root.clone(),
        })
    }
}
