//! What a device is called.

use serde::{Deserialize, Serialize};
use tch::Device;

use super::{cuda, machine, threads};

/// What a device is, for the manifest of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The model's name as its maker gives it, or `unknown`.
    pub name: String,
    /// Threads that libtorch uses on the CPU.
    pub threads: usize,
}

/// Describe a device that [`open`](super::open) gave.
#[must_use]
pub fn describe(device: Device) -> Description {
    let (label, name) = match device {
        Device::Cuda(index) => (format!("cuda:{index}"), cuda::gpu_name(index)),
        _ => ("cpu".to_owned(), machine::cpu_name()),
    };
    Description { device: label, name: name.unwrap_or_else(|| "unknown".to_owned()), threads: threads::count() }
}
