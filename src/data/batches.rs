//! stub
use rand::seq::SliceRandom;
pub fn epoch_order(len:usize,seed:u64,purpose:&str)->Vec<usize>{let mut o:Vec<usize>=(0..len).collect(); o.shuffle(&mut crate::device::rng(seed,purpose,0)); o}
