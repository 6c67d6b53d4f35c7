//! A training as tensors and numbers, and back: everything that the next step depends on.

use super::{Best, LEVELS, Trainer};
use crate::teacher::weights::{NamedTensors, given, saved};
use crate::{refusal, require};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::Tensor;

/// The part of the state that is no tensor.
#[derive(Serialize, Deserialize, PartialEq)]
struct Position {
    config: Value,
    seed: u64,
    pictures: usize,
    step: u64,
    best_epoch: Option<usize>,
}

impl Trainer {
    /// Everything that a later [`Self::restore`] needs: contiguous tensors on the CPU, and a small record.
    ///
    /// # Errors
    /// Never on a configuration that came through serde.
    pub fn state(&self) -> Result<(NamedTensors, Value)> {
        let mut tensors: NamedTensors =
            self.live().iter().map(|(name, tensor)| (name.clone(), saved(tensor))).collect();
        // In a tensor rather than in JSON, which need not keep the last bit.
        let best_nats = self.best.as_ref().map_or(0.0, |best| best.nats);
        tensors.push(("nats".into(), Tensor::from_slice(&[self.train_nats, best_nats])));
        if let Some(best) = &self.best {
            tensors.extend(best.tensors.iter().map(|(name, tensor)| (format!("best.{name}"), tensor.copy())));
        }
        Ok((tensors, serde_json::to_value(self.position()?)?))
    }

    /// Go on from what [`Self::state`] gave, on a trainer made with the same arguments.
    ///
    /// # Errors
    /// When the record or a tensor does not belong to this training.
    pub fn restore(&mut self, tensors: NamedTensors, record: &Value) -> Result<()> {
        let position: Position = serde_json::from_value(record.clone())
            .map_err(|error| refusal!("teacher state: the record cannot be read: {error}: train the teacher again"))?;
        self.check_same(&position)?;
        let mut map: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let mut read = |name: &str, like: &Tensor| given(&mut map, name, &like.size(), like.kind());
        let nats: Vec<f64> = Vec::try_from(read("nats", &Tensor::from_slice(&[0f64, 0.0]))?)?;
        let live = self.live();
        let read_live: Vec<Tensor> = live.iter().map(|(name, like)| read(name, like)).collect::<Result<_>>()?;
        let best = position.best_epoch.map(|epoch| -> Result<Best> {
            let own = self.model.shared();
            let read_best = |(name, like): &(String, Tensor)| Ok((name.clone(), read(&format!("best.{name}"), like)?));
            Ok(Best { epoch, nats: nats[1], tensors: own.iter().map(read_best).collect::<Result<_>>()? })
        });
        self.best = best.transpose()?;
        self.step = position.step;
        self.train_nats = nats[0];
        let _guard = tch::no_grad_guard();
        for ((_, mut target), source) in live.into_iter().zip(read_live) {
            target.copy_(&source);
        }
        Ok(())
    }

    /// The tensors that steps change, sharing their memory with the trainer.
    fn live(&self) -> NamedTensors {
        let named = |prefix: &str, tensors: NamedTensors| -> NamedTensors {
            tensors.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)).collect()
        };
        let usage = LEVELS.iter().zip(&self.usage).flat_map(|(level, usage)| {
            [
                (format!("{level}.idle"), usage.idle.shallow_clone()),
                (format!("{level}.counts"), usage.counts.shallow_clone()),
            ]
        });
        let parts =
            [named("model", self.model.shared()), named("adam", self.adam.moments()), named("usage", usage.collect())];
        parts.into_iter().flatten().collect()
    }

    fn position(&self) -> Result<Position> {
        Ok(Position {
            config: serde_json::to_value(&self.config)?,
            seed: self.seed,
            pictures: self.train.len(),
            step: self.step,
            best_epoch: self.best.as_ref().map(|best| best.epoch),
        })
    }

    fn check_same(&self, found: &Position) -> Result<()> {
        let own = self.position()?;
        require!(
            found.config == own.config && found.seed == own.seed && found.pictures == own.pictures,
            "teacher state: it belongs to another training (config {}, seed {}, {} pictures), expected config {}, seed \
             {}, {} pictures: use the same settings or another run folder",
            found.config,
            found.seed,
            found.pictures,
            own.config,
            own.seed,
            own.pictures
        );
        let per_epoch = self.steps_per_epoch() as u64;
        require!(
            found.step <= self.steps() && found.best_epoch.is_none_or(|epoch| epoch as u64 * per_epoch <= found.step),
            "teacher state: step {} with best epoch {:?} is not possible in a training of {} steps: train the teacher \
             again",
            found.step,
            found.best_epoch,
            self.steps()
        );
        Ok(())
    }
}
