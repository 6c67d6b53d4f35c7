//! log p(patch | cluster) of all training patches on the disk, for stages in which patch circuits stay as they are.
//!
//! A stage that trains the latent tree alone needs the same numbers in every epoch, and all circuits take far longer to tell
//! them than the tree takes to learn from them. They are kept as differences to each patch's best cluster in half floats
//! (11 bits), the best itself in float32: clusters with a share of e^-d in a patch are known to 2^-11 d nats.

use std::path::PathBuf;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::Session;
use crate::data::batches::Batch;
use crate::mixture::Mixture;
use crate::patch::PatchEvidence;
use crate::run::array::{ArrayWriter, MappedArray};
use crate::run::{interrupt, progress};

/// The least that a half float tells apart from minus infinity.
const LEAST: f64 = -65504.0;

/// What the circuits of a model say about all training patches.
pub struct Likelihoods {
    /// log p(patch | best cluster), float32 `[N, L]`.
    best: MappedArray,
    /// The clusters' distances below it, half floats `[N, L, K]`.
    below: MappedArray,
}

impl Likelihoods {
    /// What an earlier session of the stage kept in its folder, or what the model says now, kept there. `evidence` cuts a batch
    /// of pictures into patches.
    ///
    /// # Errors
    /// Faults of data and disk.
    pub fn kept(
        session: &Session,
        model: &Mixture,
        evidence: impl Fn(&Batch) -> Result<PatchEvidence>,
    ) -> Result<Self> {
        let paths = ["best.npy", "below.npy"].map(|name| session.stage.state(name));
        // The second file gets its name last.
        if !paths[1].exists() {
            write(session, model, &paths, evidence)?;
        }
        Ok(Self { best: MappedArray::open(&paths[0])?, below: MappedArray::open_halves(&paths[1])? })
    }

    /// log p(patch | cluster) in nats of some training pictures, float32 `[B, L, K]`.
    pub fn of(&self, pictures: &[usize], device: Device) -> Tensor {
        let below = self.below.rows(pictures).to_device(device).to_kind(Kind::Float);
        below + self.best.rows(pictures).to_device(device).unsqueeze(-1)
    }

    /// The most probable cluster of every patch under a model with these patch circuits, int64 `[N, L]` on the CPU.
    ///
    /// # Errors
    /// [`crate::refusal::Interrupted`] when the user stops it.
    pub fn codes(&self, session: &Session, model: &Mixture) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let all: Vec<usize> = (0..self.below.shape()[0]).collect();
        let codes = all.chunks(session.micro_batch).map(|pictures| {
            interrupt::check()?;
            let (_, posterior) = model.posterior(&self.of(pictures, model.patches().device()))?;
            Ok(posterior.argmax(-1, false).to_device(Device::Cpu))
        });
        Ok(Tensor::cat(&codes.collect::<Result<Vec<_>>>()?, 0))
    }
}

/// One pass of all circuits over all training pictures, in their order.
fn write(
    session: &Session,
    model: &Mixture,
    paths: &[PathBuf; 2],
    evidence: impl Fn(&Batch) -> Result<PatchEvidence>,
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let pictures = session.train.len();
    let bar = progress::bar(&format!("{}: likelihoods", session.name), pictures as u64);
    let [mut best, mut below] = [&paths[0], &paths[1]].map(|path| ArrayWriter::new(path, pictures));
    for batch in session.train.batches(0..pictures, session.micro_batch) {
        interrupt::check()?;
        let batch = batch?;
        let found = model.patch_log_likelihood(&evidence(&batch)?)?;
        let largest = found.amax([-1i64].as_slice(), true);
        below.append(&(found - &largest).clamp_min(LEAST).to_kind(Kind::Half))?;
        best.append(&largest.squeeze_dim(-1).to_kind(Kind::Float))?;
        bar.inc(batch.indices.len() as u64);
    }
    let _ = best.finish()?;
    let _ = below.finish()?;
    bar.finish_and_clear();
    Ok(())
}
