//! Shared bytes that need not be in memory: mapped files, and mapped unnamed temporary files for what must be
//! unpacked or decoded first.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use memmap2::Mmap;

use crate::refusal::Refusal;
use crate::{refusal, require};

/// Bytes that many pictures share: owned, built in, or mapped.
pub type Source = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Open a file of the user's.
///
/// # Errors
/// A refusal where there is no such file.
pub fn open_file(path: &Path) -> Result<File> {
    let refused = |reason: &dyn std::fmt::Display| refusal!("cannot open {}: {reason}", path.display());
    // Looked at first: opening a pipe would wait for its other end.
    let found = path.metadata().map_err(|e| refused(&e))?;
    require!(found.is_file(), "cannot open {}: it is no regular file", path.display());
    File::open(path).map_err(|e| refused(&e))
}

/// Map a file; nothing is read before it is used.
///
/// # Errors
/// A refusal where there is no such file; a fault where the system cannot map it.
pub fn map(path: &Path) -> Result<Source> {
    map_handle(&open_file(path)?).with_context(|| format!("cannot map {}", path.display()))
}

/// Map what `write` writes into a temporary file without a name (in `TMPDIR`, else the system's temporary folder),
/// which the system frees when the last user is gone.
///
/// # Errors
/// Those of `write`; a fault where the temporary file cannot be written.
pub fn spool(write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<Source> {
    let place = std::env::temp_dir();
    let about = || format!("cannot write a temporary file in {} (set TMPDIR to another folder)", place.display());
    let file = tempfile::tempfile().with_context(about)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &file);
    write(&mut buffered).map_err(|error| if error.is::<Refusal>() { error } else { error.context(about()) })?;
    buffered.flush().with_context(about)?;
    drop(buffered);
    map_handle(&file).with_context(about)
}

/// Copy all, telling a broken input from a full disk.
///
/// # Errors
/// What `broken` makes of an error of the input; a fault where the output cannot be written.
pub fn copy(
    input: &mut impl Read,
    out: &mut impl Write,
    broken: impl Fn(std::io::Error) -> anyhow::Error,
) -> Result<()> {
    let mut block = vec![0; 1 << 16];
    loop {
        match input.read(&mut block).map_err(&broken)? {
            0 => return Ok(()),
            read => out.write_all(&block[..read])?,
        }
    }
}

fn map_handle(file: &File) -> Result<Source> {
    // SAFETY: the map is only read. A file that another program cuts short meanwhile ends this one by a signal, as
    // with every mapped file; image sets are not edited while they are in use.
    Ok(Arc::new(unsafe { Mmap::map(file) }?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spooled_bytes_come_back() {
        let source = spool(|out| Ok(out.write_all(b"abc")?)).unwrap();
        assert_eq!((*source).as_ref(), b"abc");
        assert!((*spool(|_| Ok(())).unwrap()).as_ref().is_empty());
    }

    #[test]
    fn missing_files_and_folders_are_refused() {
        let message = |p: &str| map(Path::new(p)).err().unwrap().to_string();
        assert_eq!(message("/no/such/file"), "cannot open /no/such/file: No such file or directory (os error 2)");
        assert_eq!(message("/"), "cannot open /: it is no regular file");
    }
}
