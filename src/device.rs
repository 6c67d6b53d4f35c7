//! Where tensors live and where randomness comes from: the device, the CUDA library, threads, seeds.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The random stream of one purpose at one step: a function of its arguments alone, so that a resumed run draws what
/// an unbroken one draws, on every machine.
#[must_use]
pub fn rng(seed: u64, purpose: &str, step: u64) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(step.to_le_bytes())
        .chain_update(purpose)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// Let the C library keep freed memory for the next tensor instead of giving it back to the system: a step frees and
/// wants the same hundred megabytes again, and fresh pages cost a fifth of its time or more. Call it first in `main`.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator, which glibc guards by its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 28);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
