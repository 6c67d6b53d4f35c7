//! The `data:` section of an experiment: which image set, where it lies, and what its parts are.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_yaml::with::singleton_map_recursive;

use super::folder::{Alpha, Resize};
use super::missing::MissingConfig;
use super::split::Part;
use crate::refusal::Problems;

/// How the pictures are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The built-in digits: 8x8, 17 grey levels; needs no files and has fixed parts.
    Embedded,
    /// The built-in photographs: tiles of 16x16 RGB pixels; needs no files and has fixed parts.
    Photographs,
    /// IDX files of grey pictures, plain or .gz (MNIST, Fashion-MNIST).
    Idx,
    /// CIFAR-10, binary version.
    Cifar10,
    /// Downsampled `ImageNet`: array `data`, uint8 [N, 3*S*S], planes.
    Npz,
    /// An array uint8 [N, H, W] or [N, H, W, C].
    Npy,
    /// A folder of PNG and JPEG pictures.
    Folder,
}

/// Where image sets lie unless an experiment says so.
const ROOT: &str = "LVD_DATA";

impl DataConfig {
    /// The same with the root filled in from the environment, where it needs one.
    #[must_use]
    pub fn rooted(mut self) -> Self {
        if self.format.usual().is_some() && self.root.is_none() {
            self.root = std::env::var_os(ROOT).map(PathBuf::from);
        }
        self
    }

    /// The same, of a run that was made elsewhere: its root that is no folder here gives way to that of the environment.
    #[must_use]
    pub fn moved(mut self) -> Self {
        if self.root.as_ref().is_some_and(|root| !root.is_dir()) && std::env::var_os(ROOT).is_some() {
            self.root = None;
        }
        self.rooted()
    }
}

impl Format {
    /// The format that a path's kind and ending speak of, where they do.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        if path.is_dir() {
            return Some(Self::Folder);
        }
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let is = |ending: &str| name.ends_with(ending);
        match () {
            () if is(".npy") => Some(Self::Npy),
            () if is(".npz") => Some(Self::Npz),
            () if is(".bin") => Some(Self::Cifar10),
            () if is("-ubyte") || is("-ubyte.gz") => Some(Self::Idx),
            () => None,
        }
    }
}

/// An image set and its parts. Only `format` is needed for sets whose files have their usual names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// How the pictures are stored.
    pub format: Format,
    /// Folder that holds image sets; the environment variable `LVD_DATA` where it is not given.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Sub-folder of the root with this set's files, such as "mnist".
    #[serde(default)]
    pub dir: Option<String>,
    /// Files of the training pictures (`*` stands for anything), or sub-folders for `folder`. Where not given: the
    /// usual names (idx: `train-images-idx3-ubyte`; cifar10: `data_batch_*.bin`; npz: `train_data_batch_*.npz`;
    /// npy: `train.npy`; folder: `train`).
    #[serde(default)]
    pub train: Option<Vec<String>>,
    /// Where the validation part comes from. Where not given: idx and npz, the last 5,000 training pictures; cifar10,
    /// `data_batch_5.bin`; npy, `valid.npy`; folder, `valid`.
    #[serde(default, with = "singleton_map_recursive")]
    #[schemars(with = "Option<Part>")]
    pub validation: Option<Part>,
    /// Where the test part comes from. Where not given: idx, `t10k-images-idx3-ubyte`; cifar10, `test_batch.bin`;
    /// npz, `val_data.npz`; npy, `test.npy`; folder, `test`. A part carved out of the training pictures is taken
    /// before the validation part.
    #[serde(default, with = "singleton_map_recursive")]
    #[schemars(with = "Option<Part>")]
    pub test: Option<Part>,
    /// Use only the first so many pictures of the training part.
    #[serde(default)]
    pub train_limit: Option<usize>,
    /// Which pixels of the training pictures are missing. Circuits learn from those that are there, exactly; validation and
    /// test pictures are whole.
    #[serde(default, with = "singleton_map_recursive")]
    #[schemars(with = "Option<MissingConfig>")]
    pub mask: Option<MissingConfig>,
    /// How many values a pixel can take, from 0; a greater value in a file is refused.
    #[serde(default = "bytes")]
    pub levels: usize,
    /// How pictures of a folder get one size.
    #[serde(default, with = "singleton_map_recursive")]
    #[schemars(with = "Resize")]
    pub resize: Resize,
    /// What becomes of a folder's pictures with transparency.
    #[serde(default)]
    pub alpha: Alpha,
}

/// Levels of the built-in digits.
pub const EMBEDDED_LEVELS: usize = 17;

fn bytes() -> usize {
    256
}

/// How to read files that do not say everything themselves.
#[derive(Clone, Copy, Debug)]
pub struct PictureOptions {
    /// How many values a pixel can take.
    pub levels: usize,
    /// How pictures of a folder get one size.
    pub resize: Resize,
    /// What becomes of a folder's pictures with transparency.
    pub alpha: Alpha,
}

impl Default for PictureOptions {
    fn default() -> Self {
        Self { levels: 256, resize: Resize::Exact, alpha: Alpha::Refuse }
    }
}

/// Usual files of a format's three parts.
pub(super) struct Usual {
    pub train: &'static str,
    pub validation: Part,
    pub test: &'static str,
}

impl Format {
    /// Whether the pictures are part of the program.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self.usual().is_none()
    }

    /// The files by which users know sets of this format; none for those in the program.
    pub(super) fn usual(self) -> Option<Usual> {
        let file = |name: &str| Part::Files(vec![name.to_owned()]);
        let (train, validation, test) = match self {
            Self::Embedded | Self::Photographs => return None,
            Self::Idx => ("train-images-idx3-ubyte", Part::Last(5_000), "t10k-images-idx3-ubyte"),
            Self::Cifar10 => ("data_batch_*.bin", file("data_batch_5.bin"), "test_batch.bin"),
            Self::Npz => ("train_data_batch_*.npz", Part::Last(5_000), "val_data.npz"),
            Self::Npy => ("train.npy", file("valid.npy"), "test.npy"),
            Self::Folder => ("train", file("valid"), "test"),
        };
        Some(Usual { train, validation, test })
    }
}

impl DataConfig {
    /// How files are read that do not say everything themselves.
    #[must_use]
    pub fn options(&self) -> PictureOptions {
        PictureOptions { levels: self.levels, resize: self.resize, alpha: self.alpha }
    }

    /// Note every problem of this section, which stands at `path` of the configuration. Files are looked at when
    /// the set is opened, not here.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let at = |key: &str| format!("{path}.{key}");
        if let Some(train) = &self.train {
            problems.check(!train.is_empty(), at("train"), "names no file");
        }
        for (key, part) in [("validation", &self.validation), ("test", &self.test)] {
            if let Some(part) = part {
                part.check(&at(key), problems);
            }
        }
        problems.check(self.train_limit != Some(0), at("train_limit"), "must be at least 1, found 0");
        if let Some(mask) = &self.mask {
            mask.check(&at("mask"), problems);
        }
        let levels = format!("must be 2 to 256, found {}", self.levels);
        problems.check((2..=256).contains(&self.levels), at("levels"), levels);
        self.resize.check(&at("resize"), problems);
        let scaled = self.resize != Resize::Exact;
        problems.check(!scaled || self.format == Format::Folder, at("resize"), "is only for format: folder");
        let clear = self.alpha != Alpha::Refuse;
        problems.check(!clear || self.format == Format::Folder, at("alpha"), "is only for format: folder");
        let counted = self.format != Format::Folder || self.levels == 256;
        problems.check(counted, at("levels"), "pictures of a folder have 256 levels");
        match self.format {
            Format::Embedded => self.check_embedded(path, "embedded", problems),
            Format::Photographs => self.check_embedded(path, "photographs", problems),
            _ => {}
        }
    }

    /// The built-in sets have their own files, parts and levels.
    fn check_embedded(&self, path: &str, name: &str, problems: &mut Problems) {
        let given = [
            ("root", self.root.is_some()),
            ("dir", self.dir.is_some()),
            ("train", self.train.is_some()),
            ("validation", self.validation.is_some()),
            ("test", self.test.is_some()),
            (
                "levels",
                self.levels != bytes() && (self.format == Format::Photographs || self.levels != EMBEDDED_LEVELS),
            ),
        ];
        for (key, given) in given {
            problems.check(!given, format!("{path}.{key}"), format!("has no meaning for format: {name}"));
        }
    }
}
