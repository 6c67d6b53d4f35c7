//! Which device the user asks for, and making it ready.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::cuda;
use crate::refusal;

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
}
