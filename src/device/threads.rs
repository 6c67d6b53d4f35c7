//! How many threads of the CPU compute.

use std::sync::OnceLock;

use anyhow::Result;

use crate::require;

/// Compute with this many threads on the CPU from now on; without a number, with as many as libtorch chose for itself. Call
/// it before data are opened: what was shared out before keeps its threads.
///
/// # Errors
/// A refusal when the number is zero or beyond any machine.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    static CHOSEN: OnceLock<usize> = OnceLock::new();
    let chosen = *CHOSEN.get_or_init(count);
    let wanted = threads.unwrap_or(chosen);
    require!((1..=4096).contains(&wanted), "threads: expected 1 to 4096, found {wanted}");
    if wanted != count() {
        tch::set_num_threads(wanted as i32);
    }
    tracing::debug!("threads of the CPU: {wanted}");
    Ok(())
}

/// Threads that libtorch computes with on the CPU, where it is called.
pub(super) fn count() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_are_checked_and_those_of_libtorch_come_back() {
        let chosen = count();
        for wrong in [0, 4097] {
            let error = set_threads(Some(wrong)).unwrap_err();
            assert_eq!(error.to_string(), format!("threads: expected 1 to 4096, found {wrong}"));
        }
        set_threads(Some(chosen + 1)).unwrap();
        assert_eq!(crate::device::describe(tch::Device::Cpu).threads, chosen + 1);
        set_threads(None).unwrap();
        assert_eq!(count(), chosen);
    }
}
