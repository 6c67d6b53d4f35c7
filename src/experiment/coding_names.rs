//! What decoded pictures are called: their own names or numbers, no two the same.

use std::collections::HashSet;
use std::path::{Component, Path};

use anyhow::Result;

use crate::codec::Header;
use crate::require;

/// Bytes of a part of a name, at most: file systems take 255, and an ending comes behind.
const MOST: usize = 251;

/// Names that are taken.
#[derive(Debug, Default)]
pub struct Names(HashSet<String>);

impl Names {
    /// The name that is wanted, or the first of `name-2`, `name-3`, ... that is free and `fits`; it is taken from then on.
    pub fn free(&mut self, wanted: &str, fits: impl Fn(&str) -> bool) -> String {
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut all = std::iter::once(wanted.to_owned()).chain(numbered);
        all.find(|name| fits(name) && self.0.insert(name.clone())).expect("there is always another number")
    }
}

/// The file of every picture, below the folder that they are brought back to. A number, or the same name again, gives way by a
/// `-2` behind it; so does the file of a picture that is called like a folder of others.
///
/// # Errors
/// A refusal of names that lead out of the folder or that no file can have.
pub fn files(container: &Path, header: &Header) -> Result<Vec<String>> {
    let stored = header.index.iter().map(|picture| picture.name.as_deref());
    for (number, name) in stored.clone().enumerate() {
        check(container, number, name)?;
    }
    let mut folders = HashSet::new();
    for name in stored.clone().flatten() {
        folders.extend(Path::new(name).ancestors().skip(1).map(|folder| folder.to_string_lossy().into_owned()));
    }
    let mut names = Names::default();
    let mut of = |wanted: &str| {
        let name = names.free(wanted, |name| !folders.contains(&format!("{name}.png")));
        format!("{name}.png")
    };
    // Pictures with names of their own come first, so that numbers give way to them.
    let mut all: Vec<Option<String>> = stored.clone().map(|name| name.map(&mut of)).collect();
    for (number, file) in all.iter_mut().enumerate().filter(|(_, file)| file.is_none()) {
        *file = Some(of(&format!("{number:06}")));
    }
    Ok(all.into_iter().flatten().collect())
}

fn check(container: &Path, number: usize, name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let shown = container.display();
    let inside = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    require!(inside, "{shown}: picture {number} has the name {name:?}, which leads out of the folder");
    let fine = name.split('/').all(|part| (1..=MOST).contains(&part.len()) && !part.contains('\0'));
    require!(
        fine,
        "{shown}: picture {number} has a name that no file can have: {:?}",
        name.chars().take(80).collect::<String>()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Stored;

    fn named(names: &[Option<&str>]) -> Result<Vec<String>> {
        let stored =
            |name: Option<&str>| Stored { length: 0, size: None, check: [0; 8], name: name.map(str::to_owned) };
        let header = Header {
            model: [0; 32],
            stage: "soft".to_owned(),
            color: "grey".to_owned(),
            channels: 1,
            levels: 256,
            size: [1, 1],
            index: names.iter().copied().map(stored).collect(),
        };
        files(Path::new("x.lvdz"), &header)
    }

    #[test]
    fn no_two_pictures_share_a_file_and_none_is_a_folder() {
        let names = [None, Some("000000"), Some("a"), Some("a"), Some("x"), Some("x.png/y"), None];
        let found = named(&names).unwrap();
        assert_eq!(found, ["000000-2.png", "000000.png", "a.png", "a-2.png", "x-2.png", "x.png/y.png", "000006.png"]);
    }

    #[test]
    fn whatever_a_file_was_called_it_may_be_called_again() {
        for name in ["a\nb", "\u{1b}[31m", &"a".repeat(251), "...", "a b"] {
            assert_eq!(named(&[Some(name)]).unwrap(), [format!("{name}.png")]);
        }
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        for name in ["", "..", "../a", "/a", "a/../b"] {
            assert!(named(&[Some(name)]).unwrap_err().to_string().contains("which leads out of the folder"), "{name}");
        }
        for name in ["a/", "a\u{0}b", &"a".repeat(300)] {
            assert!(named(&[Some(name)]).unwrap_err().to_string().contains("a name that no file can have"), "{name}");
        }
    }
}
