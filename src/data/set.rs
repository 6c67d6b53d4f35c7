//! Open an image set: find its files, read its parts, carve out those that have no files of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::config::{DataConfig, Format, PictureOptions};
use super::pictures::{PictureShape, Pictures};
use super::split::{Part, Split};
use super::{cifar, embedded, folder, idx, missing, npz, photographs};
use crate::{refusal, require};

/// An image set: three parts of pictures of one size.
#[derive(Clone)]
pub struct DataSet {
    /// What to call it in reports: the folder's name.
    pub name: String,
    /// What models are fitted to.
    pub train: Pictures,
    /// What choices are made on.
    pub valid: Pictures,
    /// What results are reported on.
    pub test: Pictures,
}

impl DataSet {
    /// One of the parts.
    #[must_use]
    pub fn part(&self, split: Split) -> &Pictures {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }

    /// SHA-256 of each part's pictures, by its name: reads everything.
    #[must_use]
    pub fn hashes(&self) -> BTreeMap<String, String> {
        Split::ALL.iter().map(|&split| (split.to_string(), self.part(split).sha256())).collect()
    }

    /// Size of every picture.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.train.shape()
    }
}

/// Open the set that a configuration describes; `seed` draws parts given as a fraction without a seed of their own.
///
/// # Errors
/// A refusal naming the file, where one is missing or wrong, a part would be empty, or sizes differ.
pub fn open(config: &DataConfig, seed: u64) -> Result<DataSet> {
    let mut set = match config.format.usual() {
        None => built_in(config.format)?,
        Some(_) => Files::new(config)?.open(seed)?,
    };
    if let Some(limit) = config.train_limit {
        let found = set.train.len();
        require!(limit <= found, "data.train_limit is {limit}, but the training part holds {found} pictures");
        set.train = set.train.select(0..limit);
    }
    if let Some(mask) = &config.mask {
        let PictureShape { height, width, .. } = set.shape();
        let observed = mask.observed(set.train.len(), [height, width], seed)?;
        set.train = missing::hide(&set.train, &observed)?;
    }
    Ok(set)
}

/// Pictures of one file (for `folder`, of one folder); for a built-in set its test part, whatever
/// the path.
///
/// # Errors
/// A refusal naming the file where it is missing or wrong.
pub fn open_pictures(format: Format, path: &Path, options: PictureOptions) -> Result<Pictures> {
    match format {
        Format::Embedded => embedded::digits(Split::Test),
        Format::Photographs => photographs::photographs(Split::Test),
        Format::Idx => idx::open(path, options.levels),
        Format::Cifar10 => cifar::open(path, options.levels),
        Format::Npz => npz::open_npz(path, options.levels),
        Format::Npy => npz::open_npy(path, options.levels),
        Format::Folder => folder::open(path, options.resize, options.alpha),
    }
}

fn built_in(format: Format) -> Result<DataSet> {
    let splits = [Split::Train, Split::Valid, Split::Test];
    let (name, [train, valid, test]) = match format {
        Format::Photographs => ("photographs", splits.map(photographs::photographs)),
        _ => ("digits", splits.map(embedded::digits)),
    };
    Ok(DataSet { name: name.to_owned(), train: train?, valid: valid?, test: test? })
}

/// A set of files in a folder, with every rule filled in.
struct Files<'a> {
    config: &'a DataConfig,
    place: PathBuf,
    train: Vec<String>,
    validation: Part,
    test: Part,
}

impl<'a> Files<'a> {
    fn new(config: &'a DataConfig) -> Result<Self> {
        let usual = config.format.usual().expect("the format has files");
        let root = config.clone().rooted().root.ok_or_else(|| {
            refusal!("data.root is not set: give the folder of your image sets (--set data.root=DIR, or LVD_DATA=DIR)")
        })?;
        let place = config.dir.as_ref().map_or_else(|| root.clone(), |dir| root.join(dir));
        require!(place.is_dir(), "{} is no folder: set data.root (or LVD_DATA) and data.dir", place.display());
        Ok(Self {
            config,
            place,
            train: config.train.clone().unwrap_or_else(|| vec![usual.train.to_owned()]),
            validation: config.validation.clone().unwrap_or(usual.validation),
            test: config.test.clone().unwrap_or_else(|| Part::Files(vec![usual.test.to_owned()])),
        })
    }

    fn open(&self, seed: u64) -> Result<DataSet> {
        let mut taken = Vec::new();
        let mut own = |part: &Part| match part {
            Part::Files(names) => self.find(names).map(|paths| {
                taken.extend(paths.iter().cloned());
                Some(paths)
            }),
            _ => Ok(None),
        };
        let (test, valid) = (own(&self.test)?, own(&self.validation)?);
        let train: Vec<PathBuf> = self.find(&self.train)?.into_iter().filter(|p| !taken.contains(p)).collect();
        let train = self.read(&train, Split::Train)?;
        let (train, test) = self.split(train, test, &self.test, Split::Test, seed)?;
        let (train, valid) = self.split(train, valid, &self.validation, Split::Valid, seed)?;
        for (part, split) in [(&valid, Split::Valid), (&test, Split::Test)] {
            let (expected, found) = (train.shape(), part.shape());
            require!(expected == found, "the {split} pictures are {found}, but the training pictures are {expected}");
        }
        let name = self.place.file_name().map_or_else(|| "pictures".into(), |n| n.to_string_lossy().into_owned());
        Ok(DataSet { name, train, valid, test })
    }

    /// What is left of the training pictures, and a part: from its own files, else carved out.
    fn split(
        &self,
        train: Pictures,
        files: Option<Vec<PathBuf>>,
        rule: &Part,
        split: Split,
        seed: u64,
    ) -> Result<(Pictures, Pictures)> {
        match files {
            Some(paths) => Ok((train, self.read(&paths, split)?)),
            None => Ok(rule.carve(&train, split, seed)?.expect("a part without files is carved")),
        }
    }

    fn read(&self, paths: &[PathBuf], split: Split) -> Result<Pictures> {
        let options = self.config.options();
        let parts = paths.iter().map(|path| {
            let part = open_pictures(self.config.format, path, options)?;
            require!(!part.is_empty(), "{} holds no pictures", path.display());
            Ok(part)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        require!(!parts.is_empty(), "{}: no files are left for the {split} part", self.place.display());
        Pictures::join(&parts).map_err(|e| e.context(format!("the {split} files of {}", self.place.display())))
    }

    /// Paths of files by name; `*` in a name stands for anything, and an IDX file may end in `.gz`.
    fn find(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for name in names {
            let before = found.len();
            match name.split_once('*') {
                Some((start, end)) => found.extend(self.list(start, end)?),
                None => found.extend(self.candidates(name).into_iter().find(|path| path.exists())),
            }
            let also = if self.config.format == Format::Idx { " (or .gz)" } else { "" };
            require!(found.len() > before, "{}: no file {name}{also}{}", self.place.display(), self.carving());
        }
        Ok(found)
    }

    /// What to do where a folder holds pictures side by side, and no parts.
    fn carving(&self) -> &'static str {
        let picture = |entry: std::fs::DirEntry| {
            entry
                .path()
                .extension()
                .is_some_and(|e| ["png", "jpg", "jpeg"].iter().any(|known| e.eq_ignore_ascii_case(known)))
        };
        let flat = self.config.format == Format::Folder
            && self.place.read_dir().is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(picture)));
        if flat {
            "\n  the folder holds pictures itself: take them all and carve parts out of them, for instance\n  data: {train: [.], \
             validation: {fraction: {share: 0.1}}, test: {fraction: {share: 0.1}}}"
        } else {
            ""
        }
    }

    fn candidates(&self, name: &str) -> Vec<PathBuf> {
        let packed = (self.config.format == Format::Idx).then(|| self.place.join(format!("{name}.gz")));
        std::iter::once(self.place.join(name)).chain(packed).collect()
    }

    /// Files that start and end so, shorter names first: batch 2 before batch 10.
    fn list(&self, start: &str, end: &str) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in self.place.read_dir().map_err(|e| refusal!("cannot read {}: {e}", self.place.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| (name.len(), name.clone()));
        Ok(names.into_iter().map(|name| self.place.join(name)).collect())
    }
}
