//! Files of the user's that a teacher is made of, known by their hash.

use std::path::Path;

use anyhow::Result;

use crate::require;
use crate::run::sha256_file;

/// SHA-256 of a file that the key `key` names, which must be the `expected` one where one is given.
///
/// # Errors
/// A refusal where there is no such file, or it is not the one that was named.
pub fn pin(path: &Path, expected: Option<&str>, key: &str) -> Result<String> {
    let file = path.display();
    require!(path.is_file(), "{file}: no such file: correct {key}");
    let found = sha256_file(path)?;
    let expected = expected.unwrap_or(&found);
    require!(
        found == expected,
        "{file}: its SHA-256 is {found}, expected {expected} as in teacher.sha256: fetch the right file or correct it"
    );
    Ok(found)
}
