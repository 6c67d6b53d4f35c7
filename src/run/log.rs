//! The log: to the terminal around the progress bars, and to the run folder as soon as there is one.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;

use super::progress::Stderr;

/// Lines wait in memory until a run folder is known.
enum Sink {
    Waiting(Vec<u8>),
    File(File),
}

static SINK: Mutex<Sink> = Mutex::new(Sink::Waiting(Vec::new()));

/// Send `tracing` events of `level` and above, or what the variable `RUST_LOG` says, to stderr and to the log file.
/// Once a process; a second call changes nothing.
pub fn init(level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let colors = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let terminal = layer().with_writer(|| Stderr).with_ansi(colors).with_target(false).without_time();
    let file = layer().with_writer(|| LogFile).with_ansi(false);
    let _ = tracing_subscriber::registry().with(filter).with(terminal).with(file).try_init();
}

/// Append to the file at `path` from now on, first of all what was logged so far.
///
/// # Errors
/// When the file cannot be written.
pub fn attach(path: &Path) -> Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    let mut file = File::options().create(true).append(true).open(path).with_context(context)?;
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Sink::Waiting(bytes) = &*sink {
        file.write_all(bytes).with_context(context)?;
    }
    *sink = Sink::File(file);
    Ok(())
}

struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *SINK.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Waiting(waiting) => waiting.write(bytes),
            Sink::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
