//! Ctrl-C: the first asks the run to save and stop at the next step, the second ends the process at once; where there is
//! nothing to save, so does the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::atomic;
use crate::refusal::Interrupted;

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether there is nothing to save.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Listen for Ctrl-C (and a request to terminate) from now on. Once a process. A write beyond the limit of a file's size
/// (`ulimit -f`) becomes an error of that write, where it would end the process.
///
/// # Errors
/// When the process has a handler already.
pub fn install() -> Result<()> {
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default()).context("SIGXFSZ cannot be listened for")?;
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) || AT_ONCE.load(Ordering::SeqCst) {
            atomic::forget_temporaries();
            // SAFETY: ends the process without running destructors, which other threads may still be using.
            unsafe { libc::_exit(130) }
        }
        tracing::warn!("stopping after this step; once more to stop at once");
    })
    .context("Ctrl-C cannot be listened for")
}

/// End the process at the first Ctrl-C from now on: there is nothing to save.
pub fn end_at_once() {
    AT_ONCE.store(true, Ordering::SeqCst);
}

/// Whether the user has asked to stop.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// To be called between steps, when everything is saved.
///
/// # Errors
/// [`Interrupted`] when the user has asked to stop.
pub fn check() -> Result<()> {
    if requested() { Err(Interrupted.into()) } else { Ok(()) }
}
