//! Where tensors live: the device, the CUDA library, threads.
//!
//! One binary serves CPU and GPU: it is linked to the CPU part of libtorch, and [`open`] loads the CUDA part when a
//! device asks for it. [`open`] must come before any other use of libtorch, and [`set_threads`] right after it.

mod cuda;
pub mod fault;
mod machine;
mod memory;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::Result;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tch::Device;

pub use machine::{libtorch_version, peak_memory};
pub use memory::keep_freed_memory;

use crate::{refusal, require};

/// Which device the user asks for; as text `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU where one can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || refusal!("device '{text}': expected auto, cpu, cuda or cuda:N such as cuda:0");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$",
            "description": "auto (a GPU where one can be used), cpu, cuda (the first GPU) or cuda:N",
        })
    }
}

/// Make the chosen device ready. For `auto` and `cuda` the CUDA part of libtorch is loaded, from `libtorch_cuda` (a
/// folder) where given; what stands in the way is a log line for `auto`, which then means the CPU.
///
/// # Errors
/// A refusal that says what to do, when a GPU was asked for by name and cannot be used.
pub fn open(choice: DeviceChoice, libtorch_cuda: Option<&Path>) -> Result<Device> {
    let index = match choice {
        DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Auto => 0,
        DeviceChoice::Cuda(index) => index,
    };
    match cuda::load(libtorch_cuda).and_then(|()| cuda::check_index(index)) {
        Ok(()) => Ok(Device::Cuda(index)),
        Err(obstacle) if choice == DeviceChoice::Auto => {
            obstacle.log();
            Ok(Device::Cpu)
        }
        Err(obstacle) => Err(refusal!("device {choice}: {obstacle}")),
    }
}

/// Compute with this many threads on the CPU; without a number libtorch decides. Once a process, before tensors are used: all
/// pools of threads have that many.
///
/// # Errors
/// When the number is zero or beyond any machine.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    if let Some(count) = threads {
        require!((1..=4096).contains(&count), "threads: expected 1 to 4096, found {count}");
        tch::set_num_threads(count as i32);
    }
    // The pool of whoever works without one of its own, such as hashing and decoding. A second call changes nothing.
    let _ = ThreadPoolBuilder::new().num_threads(parts(Device::Cpu)).build_global();
    Ok(())
}

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

/// Describe a device that [`open`] gave.
#[must_use]
pub fn describe(device: Device) -> Description {
    let (label, name) = match device {
        Device::Cuda(index) => (format!("cuda:{index}"), cuda::gpu_name(index)),
        _ => ("cpu".to_owned(), machine::cpu_name()),
    };
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    Description { device: label, name: name.unwrap_or_else(|| "unknown".to_owned()), threads }
}

/// Apply `work` to every item and keep the order. On the CPU the items are shared out over threads that compute with one
/// libtorch thread each: many small tensor operations cost less than waking threads for every one of them. On a GPU the
/// items go one after the other.
pub fn spread<T: Send, R: Send>(device: Device, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    let threads = tch::get_num_threads();
    if device != Device::Cpu || threads < 2 || items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    workers(threads as usize).install(|| items.into_par_iter().map(work).collect())
}

/// How many parts a piece of work is best cut into for [`spread`].
#[must_use]
pub fn parts(device: Device) -> usize {
    if device == Device::Cpu { usize::try_from(tch::get_num_threads()).unwrap_or(1) } else { 1 }
}

/// Types whose shared references may be read by several threads at once.
///
/// # Safety
/// All that a type reaches through a shared reference must be safe to read from many threads at the same time: plain data,
/// and libtorch's tensors as long as no thread writes to them. (`tch` does not make tensors `Sync` only because it cannot tell
/// reading from writing.) It must hold no `Cell`, no `Rc` and no interior mutability without a lock.
pub unsafe trait SharedRead {}

/// Something with tensors in it that several threads of [`spread`] read at once and none changes.
pub struct Read<'a, T: SharedRead>(pub &'a T);

// SAFETY: what `SharedRead` promises.
unsafe impl<T: SharedRead> Send for Read<'_, T> {}

/// Threads for [`spread`], made when they are first needed.
fn workers(threads: usize) -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    let pool = || ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| tch::set_num_threads(1)).build();
    POOL.get_or_init(|| pool().expect("the system can start threads"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn choices_are_read_and_written_as_text() {
        for (text, choice, written) in [
            ("auto", DeviceChoice::Auto, "auto"),
            ("cpu", DeviceChoice::Cpu, "cpu"),
            ("cuda", DeviceChoice::Cuda(0), "cuda:0"),
            ("cuda:3", DeviceChoice::Cuda(3), "cuda:3"),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), written);
            assert_eq!(serde_json::to_string(&choice).unwrap(), format!("\"{written}\""));
            assert_eq!(serde_json::from_str::<DeviceChoice>(&format!("\"{text}\"")).unwrap(), choice);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.is::<crate::refusal::Refusal>());
            assert_eq!(
                error.to_string(),
                format!("device '{text}': expected auto, cpu, cuda or cuda:N such as cuda:0")
            );
        }
    }

    #[test]
    fn a_missing_gpu_is_refused_by_name_and_passed_over_by_auto() {
        if cuda::driver().is_ok() {
            eprintln!("skipped: this machine has a CUDA driver");
            return;
        }
        assert_eq!(open(DeviceChoice::Auto, None).unwrap(), Device::Cpu);
        let error = open(DeviceChoice::Cuda(1), None).unwrap_err();
        assert!(error.is::<crate::refusal::Refusal>());
        let text = error.to_string();
        assert!(text.starts_with("device cuda:1: no CUDA driver (libcuda.so.1"), "{text}");
        assert!(text.ends_with("or use --device cpu"), "{text}");
    }

    #[test]
    fn thread_counts_are_checked() {
        assert_eq!(set_threads(Some(0)).unwrap_err().to_string(), "threads: expected 1 to 4096, found 0");
        set_threads(Some(1)).unwrap();
        assert_eq!(describe(Device::Cpu).threads, 1);
    }
}
