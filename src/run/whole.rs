//! The bar of a whole run: which part it is at, and how long it will still take. Expected times are those that were told
//! before, times what the parts behind took in place of what was expected of them; the part that runs is told by its own bar.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::{progress, told};

/// The run that is under way.
static RUN: Mutex<Option<Whole>> = Mutex::new(None);

struct Whole {
    bar: ProgressBar,
    parts: Vec<Part>,
    /// When the part that runs began.
    began: Option<(usize, Instant)>,
}

/// A part of a run.
#[derive(Clone, Debug, Default)]
struct Part {
    name: String,
    /// Seconds that it is expected to take; none where that is not known.
    expected: Option<f64>,
    /// Seconds that it took; none before its end, 0 where it was there.
    took: Option<f64>,
}

/// Show a bar over parts with the seconds that each is expected to take.
pub fn begin(parts: Vec<(String, Option<f64>)>) {
    let parts: Vec<Part> = parts.into_iter().map(|(name, expected)| Part { name, expected, took: None }).collect();
    let style = ProgressStyle::with_template("{prefix:>16} {wide_bar} part {pos} of {len} {elapsed} {told}");
    let style =
        style.expect("the template is right").with_key("told", |_: &ProgressState, out: &mut dyn fmt::Write| {
            // The lock is taken where a part begins; a drawing that comes between shows nothing.
            let told = RUN.try_lock().ok().and_then(|run| run.as_ref().map(Whole::told));
            let _ = out.write_str(&told.unwrap_or_default());
        });
    let bar = progress::add(ProgressBar::new(parts.len() as u64).with_style(style).with_prefix("run"));
    bar.enable_steady_tick(Duration::from_secs(1));
    if let Ok(mut run) = RUN.lock() {
        *run = Some(Whole { bar, parts, began: None });
    }
}

/// A part begins.
pub fn enter(name: &str) {
    with(|run| {
        if let Some(place) = run.place(name) {
            run.began = Some((place, Instant::now()));
            run.bar.set_position(place as u64 + 1);
        }
    });
}

/// A part is done, or was there before.
pub fn passed(name: &str) {
    with(|run| {
        let Some(place) = run.place(name) else { return };
        let began = run.began.take_if(|(part, _)| *part == place);
        run.parts[place].took = Some(began.map_or(0.0, |(_, began)| began.elapsed().as_secs_f64()));
    });
}

/// The run is done.
pub fn end() {
    let run = RUN.lock().ok().and_then(|mut run| run.take());
    if let Some(run) = run {
        run.bar.finish_and_clear();
        if let Some((took, expected)) = known(&run.parts) {
            let (took, expected) = (told::seconds(took), told::seconds(expected));
            tracing::debug!("parts of the run that had been told to take {expected} took {took}");
        }
    }
}

fn with(change: impl FnOnce(&mut Whole)) {
    if let Ok(mut run) = RUN.lock()
        && let Some(run) = run.as_mut()
    {
        change(run);
    }
}

impl Whole {
    /// The part of this name that is still to be done.
    fn place(&self, name: &str) -> Option<usize> {
        self.parts.iter().position(|part| part.name == name && part.took.is_none())
    }

    fn told(&self) -> String {
        let at = |(place, began): (usize, Instant)| {
            (place, began.elapsed().as_secs_f64(), progress::share(&self.parts[place].name))
        };
        left(&self.parts, self.began.map(at))
    }
}

/// Seconds that parts took in all, and those expected, of the parts where both are known.
fn known(parts: &[Part]) -> Option<(f64, f64)> {
    let both = parts.iter().filter_map(|part| Some((part.took.filter(|took| *took > 0.0)?, part.expected?)));
    let (took, expected) = both.fold((0.0, 0.0), |(a, b), (took, expected)| (a + took, b + expected));
    (expected > 0.0).then_some((took, expected))
}

/// What is left of a run, in words; `now` is the part that runs, its seconds so far, and the share of it that is done where
/// its own bar says so.
fn left(parts: &[Part], now: Option<(usize, f64, Option<f64>)>) -> String {
    let known = known(parts);
    let ratio = known.map_or(1.0, |(took, expected)| took / expected);
    let (mut seconds, mut open) = (0.0, false);
    for (place, part) in parts.iter().enumerate().filter(|(_, part)| part.took.is_none()) {
        let expected = part.expected.map(|expected| expected * ratio);
        let rest = match now {
            Some((current, spent, Some(share))) if current == place && share > 0.0 => Some(spent / share - spent),
            Some((current, spent, _)) if current == place => expected.map(|expected| (expected - spent).max(0.0)),
            _ => expected,
        };
        seconds += rest.unwrap_or(0.0);
        open |= rest.is_none();
    }
    let name = now.map_or("", |(place, ..)| &parts[place].name);
    let error = known.map_or(String::new(), |(took, expected)| {
        format!(", so far {:+.0} % against what was expected", (took / expected - 1.0) * 100.0)
    });
    format!("{name}: {} {} left{error}", if open { "over" } else { "about" }, told::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, expected: Option<f64>, took: Option<f64>) -> Part {
        Part { name: name.to_owned(), expected, took }
    }

    #[test]
    fn what_is_left_is_the_rest_of_this_part_and_all_later_ones_at_the_pace_so_far() {
        let mut parts = vec![
            part("teacher", None, Some(40.0)),
            part("soft", Some(10.0), Some(20.0)),
            part("tree", Some(0.0), Some(0.0)),
            part("joint", Some(30.0), None),
            part("test", Some(5.0), None),
        ];
        // All goes half as fast as expected: 60 s for the part that runs, of which 15 are gone, and 10.
        let told = left(&parts, Some((3, 15.0, None)));
        assert_eq!(told, "joint: about 55 s left, so far +100 % against what was expected");
        // Its own bar knows better: a tenth took 15 s.
        assert!(left(&parts, Some((3, 15.0, Some(0.1)))).starts_with("joint: about 2 min 25 s left"));
        parts[4].expected = None;
        assert!(left(&parts, Some((3, 15.0, None))).starts_with("joint: over 45 s left"));
        assert_eq!(left(&[part("teacher", None, None)], Some((0, 3.0, Some(0.5)))), "teacher: about 3.0 s left");
    }
}
