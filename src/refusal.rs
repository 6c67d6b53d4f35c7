//! What the user got wrong, as opposed to what went wrong: a [`Refusal`] anywhere in an error's chain means exit
//! code 2 (input, configuration, usage). Every other error is a fault while running, exit code 1.

use std::path::Path;
use std::{fmt, io};

/// An error that the user can mend: it names the thing, what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Build an [`anyhow::Error`] holding a [`Refusal`] from a format string.
#[macro_export]
macro_rules! refusal {
    ($($part:tt)*) => { anyhow::Error::new($crate::refusal::Refusal(format!($($part)*))) };
}

/// Return early with a [`Refusal`] unless the condition holds.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($part:tt)*) => { if !$condition { return Err($crate::refusal!($($part)*)); } };
}

/// The step was finished and saved because the user asked to stop (Ctrl-C): exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: the last step is saved, the same command goes on from there")]
pub struct Interrupted;

/// What it means that the file at `path` cannot be read: a refusal where the user named another thing than a file that can
/// be, a fault where disk or memory failed.
#[must_use]
pub fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    use io::ErrorKind as Kind;
    let text = format!("{}: cannot be read: {error}", path.display());
    match error.kind() {
        Kind::NotFound
        | Kind::PermissionDenied
        | Kind::IsADirectory
        | Kind::NotADirectory
        | Kind::InvalidFilename
        | Kind::InvalidInput
        | Kind::InvalidData => anyhow::Error::new(Refusal(text)),
        _ => anyhow::Error::msg(text),
    }
}

/// All problems of a configuration, each with the path of the key it is about (`em.step.eta`), collected so that
/// a user sees them at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<(String, String)>);

/// Problems that are told, at most.
const MOST: usize = 18;

impl Problems {
    /// Note a problem at `path` unless `holds`.
    pub fn check(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.0.push((path.into(), message.into()));
        }
    }

    /// One [`Refusal`] listing every problem, or nothing to say.
    ///
    /// # Errors
    /// When at least one problem was noted.
    pub fn into_result(self, what: impl fmt::Display) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let count = self.0.len();
        let mut lines: Vec<String> =
            self.0.iter().take(MOST).map(|(path, message)| format!("\n  {path}: {message}")).collect();
        if count > MOST {
            lines.push(format!("\n  and {} more", count - MOST));
        }
        let noun = if count == 1 { "problem" } else { "problems" };
        Err(crate::refusal!("{what}: {count} {noun}{}", lines.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_mistakes_and_failing_disks_and_memories_are_faults() {
        let told = |kind| unreadable(Path::new("a/b"), &io::Error::from(kind));
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::IsADirectory] {
            assert!(told(kind).is::<Refusal>(), "{kind}");
        }
        for kind in [io::ErrorKind::OutOfMemory, io::ErrorKind::Other, io::ErrorKind::StaleNetworkFileHandle] {
            assert!(!told(kind).is::<Refusal>(), "{kind}");
        }
        assert_eq!(told(io::ErrorKind::OutOfMemory).to_string(), "a/b: cannot be read: out of memory");
    }
}
