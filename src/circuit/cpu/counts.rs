//! Sums of flows that several threads add to, always in the same order.
//!
//! Floats that are added up in another order give another sum. So every table has its turns: the blocks of examples one after
//! the other, and within a block the regions that read the table. Blocks are begun in their order and walked at the same pace,
//! so that hardly any thread waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::program::Shared;

/// The sums by table.
pub struct Counts<'a> {
    /// Whose turn it is, and the sums of one table.
    tables: Vec<Mutex<(usize, &'a mut [f32])>>,
    /// A thread has panicked: its turn never ends.
    broken: AtomicBool,
}

impl<'a> Counts<'a> {
    /// Sums of tables of these lengths, one after the other in some slices.
    pub fn new(slices: impl Iterator<Item = &'a mut [f32]>, lengths: &[usize]) -> Self {
        let (mut tables, mut lengths) = (Vec::with_capacity(lengths.len()), lengths.iter());
        for mut slice in slices {
            while !slice.is_empty() {
                let length = *lengths.next().expect("a length for every table");
                let (table, rest) = std::mem::take(&mut slice).split_at_mut(length);
                tables.push(Mutex::new((0, table)));
                slice = rest;
            }
        }
        Self { tables, broken: AtomicBool::new(false) }
    }

    /// A table's sums, when it is the turn of a reader in a block.
    pub fn turn(&self, shared: &Shared, block: usize) -> Turn<'_, 'a> {
        let turn = block * shared.readers + shared.turn;
        loop {
            let table = self.tables[shared.table].lock().unwrap_or_else(PoisonError::into_inner);
            if table.0 == turn {
                return Turn(table);
            }
            drop(table);
            assert!(!self.broken.load(Ordering::Relaxed), "another thread has panicked");
            std::thread::yield_now();
        }
    }

    /// Do some work; where it panics, those who wait for its turns panic too.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> T {
        let guard = Breaks(&self.broken);
        let done = work();
        std::mem::forget(guard);
        done
    }
}

/// The sums of one table, until the turn ends.
pub struct Turn<'l, 'a>(MutexGuard<'l, (usize, &'a mut [f32])>);

impl Turn<'_, '_> {
    /// The sums.
    pub fn sums(&mut self) -> &mut [f32] {
        self.0.1
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.0.0 += 1;
    }
}

/// Says on the way out of a panic that there was one.
struct Breaks<'a>(&'a AtomicBool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
