//! Work on tensors shared out over threads.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::Device;

use super::threads;

/// Apply `work` to every item and keep the order. On the CPU the items are shared out over threads that compute with one
/// libtorch thread each: many small tensor operations cost less than waking threads for every one of them. On a GPU, and
/// where the system starts no more threads, the items go one after the other.
pub fn spread<T: Send, R: Send>(device: Device, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    let threads = threads::count();
    let several = device == Device::Cpu && threads > 1 && items.len() > 1;
    match several.then(|| workers(threads)).flatten() {
        Some(workers) => workers.install(|| items.into_par_iter().map(work).collect()),
        None => items.into_iter().map(work).collect(),
    }
}

/// How many parts a piece of work is best cut into for [`spread`].
#[must_use]
pub fn parts(device: Device) -> usize {
    if device == Device::Cpu { threads::count() } else { 1 }
}

/// Types that threads of [`spread`] may read at the same time, although the compiler does not know it.
///
/// # Safety
/// Nothing that is reached through a shared reference may change: no cells, no reference counts of this crate, nothing made
/// when it is first needed. The one thing in it that is not [`Sync`] by itself is [`tch::Tensor`]: operations that do not
/// write in place (those whose names do not end in `_`) may run on the same tensor in many threads; `tch` does not say so
/// only because it cannot tell the two kinds apart.
pub unsafe trait ReadOnly {}

/// Something with tensors in it that several threads of [`spread`] read at once and none changes.
///
/// ```compile_fail
/// fn sent(_: impl Send) {}
/// sent(lvd::device::Read(&std::rc::Rc::new(1))); // its count of references would be changed by two threads
/// ```
pub struct Read<'a, T: ReadOnly>(pub &'a T);

// SAFETY: what `T` promises as `ReadOnly`.
unsafe impl<T: ReadOnly> Send for Read<'_, T> {}

/// Threads for [`spread`], made when they are first needed and again where their number has changed.
fn workers(threads: usize) -> Option<Arc<ThreadPool>> {
    static POOL: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.as_ref().is_none_or(|pool| pool.current_num_threads() != threads) {
        let builder = ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| tch::set_num_threads(1));
        *pool =
            builder.build().inspect_err(|error| tracing::warn!("computing on one thread: {error}")).ok().map(Arc::new);
    }
    pool.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_order_whatever_the_number_of_threads() {
        let before = threads::count();
        for count in [1, 2, 3] {
            crate::device::set_threads(Some(count)).unwrap();
            let seen = spread(Device::Cpu, (0..7).collect(), |i: i64| (i * i, rayon::current_num_threads()));
            assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 4, 9, 16, 25, 36]);
            assert!(count == 1 || seen.iter().all(|s| s.1 == count), "{count}: {seen:?}");
            assert_eq!(parts(Device::Cpu), count);
        }
        crate::device::set_threads(Some(before)).unwrap();
    }
}
