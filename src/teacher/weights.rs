//! Named parameters of a network: drawn afresh from a seed, or taken from a checkpoint.
//!
//! Draws depend on the seed and the tensor's name alone, not on the order in which layers are made.

use crate::{random, refusal, require};
use anyhow::Result;
use rand::RngExt;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Tensors with the names they have in checkpoints, in a stable order.
pub type NamedTensors = Vec<(String, Tensor)>;

enum Source {
    Fresh(u64),
    Given(BTreeMap<String, Tensor>),
}

/// Hands out parameters by name while a network is put together.
pub(super) struct Weights {
    source: Source,
    device: Device,
    handed: NamedTensors,
}

impl Weights {
    pub fn fresh(seed: u64, device: Device) -> Self {
        Self { source: Source::Fresh(seed), device, handed: Vec::new() }
    }

    pub fn given(tensors: NamedTensors, device: Device) -> Self {
        Self { source: Source::Given(tensors.into_iter().collect()), device, handed: Vec::new() }
    }

    /// A parameter of this size; afresh, uniform in ±1/sqrt(`fan_in`).
    pub fn uniform(&mut self, name: &str, size: &[i64], fan_in: i64) -> Result<Tensor> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        self.take(name, size, Kind::Float, |seed| {
            let mut rng = random::rng(seed, name, 0);
            let count = size.iter().product::<i64>();
            let values: Vec<f32> = (0..count).map(|_| rng.random_range(-bound..bound)).collect();
            Tensor::from_slice(&values)
        })
    }

    /// A vector of f64; afresh, `value` everywhere.
    pub fn constant(&mut self, name: &str, length: i64, value: f64) -> Result<Tensor> {
        self.take(name, &[length], Kind::Double, |_| Tensor::full(length, value, (Kind::Double, Device::Cpu)))
    }

    fn take(&mut self, name: &str, size: &[i64], kind: Kind, draw: impl FnOnce(u64) -> Tensor) -> Result<Tensor> {
        let tensor = match &mut self.source {
            Source::Fresh(seed) => draw(*seed).reshape(size),
            Source::Given(tensors) => given(tensors, name, size, kind)?,
        };
        let tensor = tensor.f_to_device(self.device)?.copy();
        self.handed.push((name.to_owned(), tensor.shallow_clone()));
        Ok(tensor)
    }

    /// Everything handed out, after a check that the checkpoint held nothing else.
    pub fn finish(self) -> Result<NamedTensors> {
        if let Source::Given(left) = &self.source {
            require!(
                left.is_empty(),
                "teacher weights: tensor `{}` is not part of this network: the configuration differs from the one the \
                 weights were trained with",
                left.keys().next().map_or("", String::as_str)
            );
        }
        Ok(self.handed)
    }
}

/// The tensor `name` out of a checkpoint, of the right size and kind and finite.
pub(super) fn given(tensors: &mut BTreeMap<String, Tensor>, name: &str, size: &[i64], kind: Kind) -> Result<Tensor> {
    let tensor = tensors.remove(name).ok_or_else(|| {
        refusal!(
            "teacher weights: tensor `{name}` is missing: the configuration differs from the one the weights were \
             trained with, or the file is not a teacher's checkpoint"
        )
    })?;
    require!(
        tensor.size() == size && tensor.kind() == kind,
        "teacher weights: tensor `{name}`: expected {kind:?} {size:?}, found {:?} {:?}: the configuration differs from \
         the one the weights were trained with",
        tensor.kind(),
        tensor.size()
    );
    require!(
        bool::try_from(tensor.isfinite().all())?,
        "teacher weights: tensor `{name}` holds NaN or infinity: train the teacher again"
    );
    Ok(tensor)
}

/// A contiguous, detached copy on the CPU, as checkpoints hold it.
pub(super) fn saved(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu).copy().contiguous()
}
