//! How the C library's allocator treats large blocks.

/// Blocks up to this size come from memory that the process keeps (the largest value glibc takes).
const KEPT_BLOCK: libc::c_int = 32 << 20;
/// Free memory at the end of the heap is kept up to this size.
const KEPT_HEAP: libc::c_int = 1 << 30;

/// Keep freed memory instead of giving it back: tensors of a micro-batch come and go thousands of times, and fetching
/// fresh zeroed pages for each of them costs more than the arithmetic on them. Call it first in `main`.
pub fn keep_freed_memory() {
    // SAFETY: mallopt only sets parameters of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_HEAP);
        libc::mallopt(libc::M_TOP_PAD, KEPT_BLOCK);
    }
}
