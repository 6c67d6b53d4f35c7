//! Pictures that are to be compressed: files of the user's, or a split of a run's data.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::coding_names::Names;
use super::config::Config;
use super::eval::check_same;
use crate::data::pictures::{PictureShape, Pictures};
use crate::data::{self, Split, folder, npz};
use crate::run::RunFolder;
use crate::{refusal, require};

/// Pictures and what they are called: a name for each that came from a file of its own.
pub struct Input {
    /// The pictures.
    pub pictures: Pictures,
    /// Paths without their endings, parts divided by `/`, no two the same.
    pub names: Vec<Option<String>>,
}

/// A split of the run's data, or its first pictures.
///
/// # Errors
/// A refusal where the data are not those of the run, or hold fewer pictures.
pub fn of_split(run: &RunFolder, config: &Config, split: Split, first: Option<usize>) -> Result<Input> {
    let pictures = data::open(&config.data, config.seed)?.part(split).clone();
    check_same(run, split, &pictures)?;
    let count = first.unwrap_or(pictures.len());
    require!(count <= pictures.len(), "--first is {count}, but the {split} split holds {} pictures", pictures.len());
    Ok(Input { pictures: pictures.select(0..count), names: vec![None; count] })
}

/// Files of the user's: PNG and JPEG pictures, folders of such, arrays (.npy); all of the model's shape, or of any height and
/// width, each file then by itself. Values beyond the model's levels are brought to these where `requantise` says so.
///
/// # Errors
/// A refusal that names the file which is none of these or does not fit.
pub fn of_files(inputs: &[PathBuf], model: PictureShape, any_size: bool, requantise: bool) -> Result<Vec<Input>> {
    let (mut parts, mut names, mut taken) = (Vec::new(), Vec::new(), Names::default());
    let shape = PictureShape { levels: 256, ..model };
    let levelled = |pictures: Pictures, input: &Path| {
        if requantise {
            return pictures.requantised(model.levels);
        }
        let hint = if model.levels < 256 { "\n  --requantise brings 256 levels to the model's" } else { "" };
        pictures.of_levels(model.levels).map_err(|error| refusal!("{}: {error}{hint}", input.display()))
    };
    for input in inputs {
        if has_ending(input, &["npy"]) {
            let pictures = npz::open_npy(input, shape.levels)?;
            let found = pictures.shape();
            let size = if any_size { found } else { shape };
            require!(
                found == PictureShape { height: size.height, width: size.width, ..shape },
                "{}: the pictures are {found}, the model was trained for {shape}",
                input.display()
            );
            names.extend(vec![None; pictures.len()]);
            parts.push(levelled(pictures, input)?);
            continue;
        }
        let (root, paths) = if input.is_dir() {
            (input.as_path(), folder::paths(input)?)
        } else {
            require!(
                has_ending(input, &["png", "jpg", "jpeg"]),
                "{}: expected a picture (.png, .jpg, .jpeg), a folder of pictures or an array (.npy)",
                input.display()
            );
            (input.parent().unwrap_or(Path::new("")), vec![input.clone()])
        };
        if any_size {
            for path in &paths {
                let [height, width] = folder::size_of(path)?;
                let size = PictureShape { height, width, ..shape };
                parts.push(levelled(folder::open_files(std::slice::from_ref(path), size)?, path)?);
            }
        } else {
            parts.push(levelled(folder::open_files(&paths, shape)?, input)?);
        }
        for path in &paths {
            let name = name(path.strip_prefix(root).unwrap_or(path)).ok_or_else(|| {
                refusal!("{}: its name is not UTF-8, as names in containers are: rename it", path.display())
            })?;
            names.push(Some(taken.free(&name, |_| true)));
        }
    }
    let mut left = names.into_iter();
    let own = |pictures: Pictures| Input { names: left.by_ref().take(pictures.len()).collect(), pictures };
    Ok(parts.into_iter().map(own).collect())
}

/// Whether a path ends so.
#[must_use]
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let found = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    endings.iter().any(|ending| found.eq_ignore_ascii_case(ending))
}

/// A path without its ending, parts divided by `/`; none where it is not UTF-8.
fn name(path: &Path) -> Option<String> {
    let path = path.with_extension("");
    let parts: Option<Vec<_>> = path.iter().map(OsStr::to_str).collect();
    Some(parts?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_endings_and_differ() {
        let mut taken = Names::default();
        let names = ["a/b.png", "a/b.jpg", "c.x.png", "a/b.jpeg"]
            .map(|path| taken.free(&name(Path::new(path)).unwrap(), |_| true));
        assert_eq!(names, ["a/b", "a/b-2", "c.x", "a/b-3"]);
    }
}
