//! Files that are whole or not there: written to a temporary name, synced, renamed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Write `bytes` to `path` so that a reader, or a crash at any moment, sees the old file or the new one.
///
/// # Errors
/// When the folder cannot be written to or the disk is full.
pub fn atomic_write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    atomically(path, |temporary| fs::write(temporary, bytes).map_err(Into::into))
}

/// Like [`atomic_write`] for a writer that wants a path: `fill` writes, or replaces, the file of the name it is given.
///
/// # Errors
/// When `fill` fails, the folder cannot be written to or the disk is full; the file at `path` is then as it was.
pub fn atomically(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    write_and_rename(path, fill).with_context(|| format!("{}: cannot be written", path.display()))
}

fn write_and_rename(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // A device or a pipe is written to as it is: renaming would put a file in its place.
    if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fill(path);
    }
    let temporary = temporary_beside(path)?;
    let mode = temporary.as_file().metadata()?.permissions();
    let temporary = temporary.into_temp_path();
    fill(&temporary)?;
    let file = File::open(&temporary)?;
    file.set_permissions(mode)?;
    file.sync_all()?;
    may_be_killed();
    temporary.persist(path)?;
    may_be_killed();
    File::open(folder_of(path))?.sync_all()?;
    Ok(())
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file in the folder of `path`, to be renamed to it.
pub(super) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let readable = fs::Permissions::from_mode(0o666); // less the user's umask, unlike a temporary file's own mode
    let made =
        tempfile::Builder::new().prefix(".new-").suffix(".tmp").permissions(readable).tempfile_in(folder_of(path))?;
    remember(made.path());
    Ok(made)
}

/// Temporary files and folders of this process; most of them have got their names since.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// How many are remembered before those that are gone are forgotten.
const MANY: usize = 256;

/// A temporary file or folder is there.
pub fn remember(path: &Path) {
    let mut all = TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MANY {
        all.retain(|path| path.exists());
    }
    all.push(path.to_owned());
}

/// Remove what is left of them: the process is about to end. What cannot be removed stays.
pub(super) fn forget_temporaries() {
    // A thread that is just remembering one is not waited for.
    let Ok(all) = TEMPORARIES.try_lock() else { return };
    for path in all.iter() {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Remove a file or a folder with all in it; nothing where there is none.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    may_be_killed();
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("{}: cannot be removed", path.display()))?;
    may_be_killed();
    Ok(())
}

/// End the process, as a kill would, at the file operation of this number: for tests of resumption. They set the variable;
/// nobody else should.
const KILL_AT: &str = "LVD_TEST_KILL_AT_FILE_OPERATION";

/// To be called before and after every change of the disk that a reader could see.
pub(super) fn may_be_killed() {
    static LIMIT: LazyLock<Option<usize>> = LazyLock::new(|| std::env::var(KILL_AT).ok()?.parse().ok());
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    if let Some(limit) = *LIMIT
        && COUNT.fetch_add(1, Ordering::SeqCst) == limit
    {
        // SAFETY: ends the process at once; nothing runs afterwards.
        unsafe { libc::_exit(137) }
    }
}

/// Whether a file's name is one that a killed [`atomically`] may leave behind.
#[must_use]
pub fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

/// SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let context = || format!("{}: cannot be read", path.display());
    let mut file = io::BufReader::with_capacity(1 << 20, File::open(path).with_context(context)?);
    let mut hasher = HashWriter(Sha256::new());
    io::copy(&mut file, &mut hasher).with_context(context)?;
    Ok(hex::encode(hasher.0.finalize()))
}

struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        atomic_write(&path, "old").unwrap();
        let error = atomically(&path, |temporary| {
            fs::write(temporary, "half")?;
            anyhow::bail!("disk full")
        });
        assert_eq!(format!("{:#}", error.unwrap_err()), format!("{}: cannot be written: disk full", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        atomic_write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn the_hash_is_the_published_one_of_abc() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, appendix B.1
        assert_eq!(sha256_file(&path).unwrap(), known);
    }
}
