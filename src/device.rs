//! Where tensors live and what computes: the device, the CUDA library, threads, memory, faults.
//!
//! One binary serves CPU and GPU: it is linked to the CPU part of libtorch, and [`open`] loads the CUDA part when a
//! device asks for it. [`open`] must come before any other use of libtorch, and [`set_threads`] right after it.

mod choice;
mod cuda;
mod description;
pub mod fault;
mod machine;
mod memory;
mod spread;
mod threads;

pub use choice::{DeviceChoice, open};
pub use description::{Description, describe};
pub use machine::{libtorch_version, peak_memory};
pub use memory::keep_freed_memory;
pub use spread::{Read, ReadOnly, parts, spread};
pub use threads::set_threads;
