//! Random streams by name: what is drawn depends on seed, purpose and step alone, never on what was drawn before.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The random stream of one purpose at one step: a function of its arguments alone, so that a resumed run draws what
/// an unbroken one draws, on every machine.
///
/// ```
/// use lvd::random::rng;
/// use rand::RngExt;
///
/// let draw = |step| rng(7, "epoch order", step).random_range(0..1_000_000u32);
/// assert_eq!(draw(3), draw(3));
/// assert_ne!(draw(3), draw(4));
/// ```
#[must_use]
pub fn rng(seed: u64, purpose: &str, step: u64) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(step.to_le_bytes())
        .chain_update(purpose)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// The random streams of one purpose in one pass over some pictures: a stream a picture, so that what is drawn for a
/// picture does not depend on the batch that it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// What is drawn.
    pub purpose: &'a str,
    /// Epoch, or number of the draw.
    pub pass: u64,
    /// Numbers of the pictures in their set, in the order of the batch.
    pub pictures: &'a [usize],
}

impl Draws<'_> {
    /// The stream of the i-th picture of the batch.
    #[must_use]
    pub fn of(&self, i: usize) -> ChaCha8Rng {
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(self.pass.to_le_bytes())
            .chain_update((self.pictures[i] as u64).to_le_bytes())
            .chain_update(self.purpose)
            .finalize();
        ChaCha8Rng::from_seed(digest.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_depends_on_every_argument_and_on_nothing_else() {
        let first = |seed, purpose, step| rng(seed, purpose, step).next_u64();
        assert_eq!(first(1, "em", 2), first(1, "em", 2));
        let others = [first(1, "em", 2), first(2, "em", 2), first(1, "em", 3), first(1, "kmeans", 2)];
        assert_eq!(others.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}
