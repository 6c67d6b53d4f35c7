//! Pictures read a batch at a time: in what order an epoch goes through them, and reading them ahead of the consumer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use tch::Tensor;

use super::pictures::Pictures;
use crate::random;

/// All of `0..len` in the order of an epoch, a function of the seed and the epoch alone.
#[must_use]
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut random::rng(seed, "epoch order", epoch));
    order
}

/// Pictures and where in their set they stand.
#[derive(Debug)]
pub struct Batch {
    /// Places in the set.
    pub indices: Vec<usize>,
    /// u8 `[B, H, W, C]`, on the CPU.
    pub pixels: Tensor,
    /// Which pixels are there, bool `[B, H, W]`; none where all are.
    pub observed: Option<Tensor>,
}

impl Batch {
    /// The rows that belong to these pictures of a tensor with a row a picture of the set, `[N, ..]` -> `[B, ..]`.
    pub fn rows_of(&self, all: &Tensor) -> Tensor {
        let rows: Vec<i64> = self.indices.iter().map(|&i| i as i64).collect();
        all.index_select(0, &Tensor::from_slice(&rows))
    }
}

impl Pictures {
    /// The pictures of these places in this order, `size` at a time (the last batch may be smaller); each batch is read when it
    /// is asked for, and is an error where a place is none of the set's.
    ///
    /// # Panics
    /// When batches of no picture are asked for.
    pub fn batches(&self, places: impl IntoIterator<Item = usize>, size: usize) -> impl Iterator<Item = Result<Batch>> {
        assert!(size > 0, "a batch has at least one picture");
        let mut left = places.into_iter();
        std::iter::from_fn(move || {
            let indices: Vec<usize> = left.by_ref().take(size).collect();
            (!indices.is_empty()).then(|| {
                self.batch(&indices).map(|pixels| {
                    let observed = self.observed(&indices);
                    Batch { indices, pixels, observed }
                })
            })
        })
    }
}

/// Reads batches on a thread of its own, a few ahead of its consumer, and counts how long the consumer waits.
pub struct Prefetcher {
    batches: Receiver<Result<Batch>>,
    left: usize,
    waited: Duration,
}

impl Prefetcher {
    /// Batches of `size` pictures (the last may be smaller) of `order`, at most `ahead` of them waiting.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(pictures: Pictures, order: Vec<usize>, size: usize, ahead: usize) -> Result<Self> {
        let (sender, batches) = sync_channel(ahead);
        let left = order.len().div_ceil(size);
        let reader = thread::Builder::new().name("prefetch".to_owned());
        reader
            .spawn(move || read(&pictures, order, size, &sender))
            .context("cannot start a thread to read pictures")?;
        Ok(Self { batches, left, waited: Duration::ZERO })
    }

    /// Batches not yet taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Seconds that the consumer has waited for batches so far.
    #[must_use]
    pub fn seconds_waited(&self) -> f64 {
        self.waited.as_secs_f64()
    }
}

/// Send all batches; stops early when the consumer is gone or a batch cannot be read.
fn read(pictures: &Pictures, order: Vec<usize>, size: usize, sender: &SyncSender<Result<Batch>>) {
    for batch in pictures.batches(order, size) {
        let last = batch.is_err();
        if sender.send(batch).is_err() || last {
            return;
        }
    }
}

impl Iterator for Prefetcher {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let start = Instant::now();
        let batch = self.batches.recv().context("the thread that reads pictures has ended").and_then(|batch| batch);
        self.waited += start.elapsed();
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pictures::PictureShape;

    fn ten() -> Pictures {
        let shape = PictureShape { height: 1, width: 1, channels: 1, levels: 256 };
        Pictures::from_bytes((0..10).collect(), shape).unwrap()
    }

    #[test]
    fn an_epoch_visits_every_picture_once_in_its_own_order() {
        let order = epoch_order(100, 1, 2);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(order, epoch_order(100, 1, 2));
        assert_ne!(order, epoch_order(100, 1, 3));
        assert_ne!(order, epoch_order(100, 2, 2));
        assert!(epoch_order(0, 1, 2).is_empty());
    }

    #[test]
    fn batches_come_in_order_with_their_pixels() {
        let order = vec![9, 3, 5, 0, 7];
        let mut prefetcher = Prefetcher::new(ten(), order.clone(), 2, 1).unwrap();
        let ahead: Vec<Batch> = prefetcher.by_ref().map(Result::unwrap).collect();
        assert!(prefetcher.seconds_waited() >= 0.0);
        for batches in [ahead, ten().batches(order, 2).map(Result::unwrap).collect()] {
            assert_eq!(batches.iter().map(|b| &b.indices[..]).collect::<Vec<_>>(), [&[9, 3][..], &[5, 0], &[7]]);
            let pixels = batches.iter().flat_map(|b| Vec::<u8>::try_from(b.pixels.reshape([-1])).unwrap());
            assert_eq!(pixels.collect::<Vec<_>>(), [9, 3, 5, 0, 7]);
        }
        assert_eq!(ten().batches(0..4, 2).count(), 2);
        assert_eq!(ten().batches(0..0, 2).count(), 0);
    }

    #[test]
    fn a_place_that_is_none_spoils_its_own_batch_only() {
        let pictures = ten();
        let mut batches = pictures.batches([9, 10, 8], 1);
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "picture 10 was asked for, but there are 10");
        assert_eq!(batches.next().unwrap().unwrap().indices, [8]);
        assert!(batches.next().is_none());
    }

    #[test]
    fn rows_are_those_of_the_pictures() {
        let batch = ten().batches([7, 2], 2).next().unwrap().unwrap();
        let squares: Vec<i64> = (0..10).map(|i| i * i).collect();
        assert_eq!(Vec::<i64>::try_from(batch.rows_of(&Tensor::from_slice(&squares))).unwrap(), [49, 4]);
    }

    #[test]
    fn errors_reach_the_consumer_and_end_the_epoch() {
        let mut prefetcher = Prefetcher::new(ten(), vec![0, 10, 1], 1, 4).unwrap();
        assert!(prefetcher.next().unwrap().is_ok());
        let error = prefetcher.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "picture 10 was asked for, but there are 10");
        assert!(prefetcher.next().is_none());
    }

    #[test]
    fn a_consumer_may_leave_early() {
        let mut prefetcher = Prefetcher::new(ten(), (0..10).collect(), 1, 1).unwrap();
        assert!(prefetcher.next().unwrap().is_ok());
        drop(prefetcher);
    }
}
