//! How long calls take.

use std::time::Instant;

/// The median time of so many calls in seconds; a call before them does not count.
pub fn median(repeats: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repeats / 2]
}
