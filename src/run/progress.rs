//! Progress bars on stderr, and a way to write to stderr around them. Hidden when stderr is no terminal.

use std::io::{self, Write};
use std::sync::{LazyLock, Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
/// The bar that was made last.
static NEWEST: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// A bar of `length` steps. Its message (`set_message`) stands at the end of the line; `finish_and_clear` removes it.
#[must_use]
pub fn bar(label: &str, length: u64) -> ProgressBar {
    let template = "{prefix:>16} {wide_bar} {pos}/{len} {elapsed} (left {eta}) {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    let bar = add(ProgressBar::new(length).with_style(style).with_prefix(label.to_owned()));
    if let Ok(mut newest) = NEWEST.lock() {
        *newest = Some(bar.downgrade());
    }
    bar
}

/// Draw a bar below the others.
pub(super) fn add(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// The share that is done of the bar that was made last, where it has this label and is not gone.
pub(super) fn share(label: &str) -> Option<f64> {
    let newest = NEWEST.try_lock().ok()?;
    let bar = newest.as_ref()?.upgrade().filter(|bar| bar.prefix() == label && !bar.is_finished())?;
    Some(bar.position() as f64 / bar.length().filter(|length| *length > 0)? as f64)
}

/// Whether anybody sees bars.
#[must_use]
pub fn is_seen() -> bool {
    !BARS.is_hidden()
}

/// Show no bars from now on.
pub fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Standard error, with the bars taken away while something is written.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A stderr that is closed or full is no fault of the run.
        let _ = BARS.suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_counts_whether_it_is_seen_or_not() {
        let bar = bar("patch circuits", 3);
        bar.inc(2);
        bar.set_message("4.92 bpd");
        assert_eq!((bar.position(), bar.length(), bar.message().as_str()), (2, Some(3), "4.92 bpd"));
        bar.finish_and_clear();
    }
}
