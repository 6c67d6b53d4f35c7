//! Any model that was exported as TorchScript, as a teacher.
//!
//! A module is code: whoever loads one runs it. It is loaded in evaluation mode, called with gradients off on its own
//! precision's terms (float32 in, float32 out), and looked at on two batch sizes before anything is computed with it.

pub mod archive;
mod arrangement;
pub mod contract;
pub mod export;
mod input;
pub mod inspect;
pub mod module;
mod nesting;

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::arrangement::Arrangement;
use self::contract::Contract;
use self::input::Preparation;
use self::module::Module;
use super::frame::Frame;
use super::pin::pin;
use super::{Bound, Teacher};
use crate::data::pictures::PictureShape;
use crate::refusal::Problems;
use crate::{random, refusal, require};

/// Name of the optional method that gives log p(x) of each picture in nats.
pub const LOG_LIKELIHOOD: &str = "log_likelihood";
/// Batches on which a module is looked at.
const BATCHES: [i64; 2] = [2, 3];
/// Other batches that are tried to tell a baked-in batch size from a module that fails on everything.
const OTHER_BATCHES: [i64; 8] = [1, 2, 3, 4, 8, 16, 32, 64];

/// A model that was exported as TorchScript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TorchScriptConfig {
    /// The module's file.
    pub module: PathBuf,
    /// Side of a circuit's patch in pixels.
    #[serde(default = "usual_patch")]
    pub patch: usize,
    /// SHA-256 of the file; another file is refused. Filled in when a run begins.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Keep features in the run folder between the passes of k-means (4 N L F bytes, removed afterwards): for modules
    /// that are slower than the disk.
    #[serde(default)]
    pub cache: bool,
    /// What the module expects and gives, as far as it does not say so itself.
    #[serde(default)]
    pub contract: Contract,
}

fn usual_patch() -> usize {
    4
}

impl TorchScriptConfig {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(self.patch > 0, format!("{path}.patch"), "must be at least 1");
        self.contract.check(&format!("{path}.contract"), problems);
    }

    /// The same with the hash of the file filled in.
    ///
    /// # Errors
    /// A refusal where there is no such file, or it is not the one that was named.
    pub fn pinned(&self) -> Result<Self> {
        let found = pin(&self.module, self.sha256.as_deref(), "teacher.module")?;
        Ok(Self { sha256: Some(found), ..self.clone() })
    }
}

/// A TorchScript module as a teacher for pictures of one shape.
pub struct TorchScript {
    module: Module,
    contract: Contract,
    frame: Frame,
    preparation: Preparation,
    arrangement: Arrangement,
    /// Features a patch; none for codes.
    width: Option<i64>,
}

impl TorchScript {
    /// Load the module and see that it keeps its contract on pictures of this shape.
    ///
    /// # Errors
    /// A refusal that names the first difference.
    pub fn open(config: &TorchScriptConfig, shape: PictureShape, device: Device) -> Result<Self> {
        let frame = Frame::new(shape, config.patch)?;
        let module = Module::open(&config.module, device)?;
        let own = module.archive().contract.clone().unwrap_or_default();
        let contract = config.contract.over(&own);
        let mut problems = Problems::default();
        contract.check("contract", &mut problems);
        problems.into_result(format!("{} with the experiment's contract", config.module.display()))?;
        Self::agree(module, contract, frame)
    }

    /// See that a loaded module keeps a contract.
    fn agree(module: Module, contract: Contract, frame: Frame) -> Result<Self> {
        let method = contract.method();
        let preparation = Preparation::new(&contract.input, frame.shape())
            .map_err(|error| refusal!("{}: {error}", module.path().display()))?;
        module.require(method)?;
        let arrangement = Arrangement::new(&contract.output, (frame.rows(), frame.columns()));
        let mut teacher = Self { module, contract, frame, preparation, arrangement, width: None };
        teacher.width = teacher.probe()?;
        Ok(teacher)
    }

    /// The contract that it keeps.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Features a patch, F; none for a teacher of codes.
    #[must_use]
    pub fn width(&self) -> Option<i64> {
        self.width
    }

    /// What the module gives for pixels u8 `[B, H, W, C]`, arranged as patches.
    fn look(&self, pixels: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let batch = self.preparation.batch(&pixels.f_to_device(self.module.device())?)?;
        let value = self.module.call(self.contract.method(), &batch)?;
        let arranged = module::tensor(value, self.contract.output.entry.as_ref())
            .and_then(|tensor| self.arrangement.arrange(&tensor, pixels.size()[0]));
        arranged.map_err(|error| self.named(&error))
    }

    fn named(&self, error: &anyhow::Error) -> anyhow::Error {
        refusal!("{}: {error}", self.module.about(self.contract.method()))
    }

    /// Look at noise in two batch sizes; the features a patch.
    fn probe(&self) -> Result<Option<i64>> {
        let [two, three] = BATCHES.map(|batch| (batch, noise(self.frame.shape(), batch)));
        let mut found = Vec::new();
        for (batch, pixels) in [&two, &three] {
            found.push(self.look(pixels).map_err(|error| self.baked(*batch, error))?);
        }
        let again = self.look(&two.1)?;
        let widths: Vec<Option<i64>> = found.iter().map(|patches| patches.size().get(2).copied()).collect();
        let compared = || -> Result<()> {
            require!(
                widths[0] == widths[1],
                "gives {} features a patch for 2 pictures and {} for 3: features must not depend on the batch",
                widths[0].unwrap_or(0),
                widths[1].unwrap_or(0)
            );
            require!(
                !constant(&found[1])?,
                "gives the same features for every patch of random pictures: k-means would collapse"
            );
            require!(
                same(&found[0], &again)?,
                "gives other features when the same pictures are shown again: export it in evaluation mode (model.eval()) \
                 and without random numbers"
            );
            require!(
                same(&found[0], &found[1].narrow(0, 0, BATCHES[0]))?,
                "features of a picture depend on the others in its batch: export it in evaluation mode (model.eval()), in \
                 which batch normalisation uses its running means"
            );
            Ok(())
        };
        compared().map_err(|error| self.named(&error))?;
        Ok(widths[0])
    }

    /// The error, or that only batches of another size fail.
    fn baked(&self, batch: i64, error: anyhow::Error) -> anyhow::Error {
        let works = |&size: &i64| size != batch && self.look(&noise(self.frame.shape(), size)).is_ok();
        let Some(size) = OTHER_BATCHES.iter().find(|size| works(size)) else { return error };
        let message = error.to_string();
        let about = format!("{}: ", self.module.about(self.contract.method()));
        let message = message.strip_prefix(&about).unwrap_or(&message);
        refusal!(
            "{about}works on a batch of {size} and not of {batch}: the batch size was baked in by tracing: write -1 or \
             flatten for it in reshapes, or use torch.jit.script ({message})"
        )
    }
}

impl Teacher for TorchScript {
    fn name(&self) -> &'static str {
        "torchscript"
    }

    fn grid(&self) -> (usize, usize) {
        (self.frame.rows(), self.frame.columns())
    }

    fn code_count(&self) -> Option<usize> {
        self.contract.output.codes
    }

    fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        self.frame.check(pixels)?;
        let found = self.look(pixels)?;
        let width = found.size().get(2).copied();
        require!(
            width == self.width,
            "{}: gives {} features a patch for {} pictures and {} for 2: features must not depend on the batch",
            self.module.about(self.contract.method()),
            width.unwrap_or(0),
            pixels.size()[0],
            self.width.unwrap_or(0)
        );
        Ok(found)
    }

    fn bound(&self, pixels: &Tensor) -> Result<Option<Bound>> {
        self.frame.check(pixels)?;
        if self.module.archive().method(LOG_LIKELIHOOD).is_err() {
            return Ok(None);
        }
        let _guard = tch::no_grad_guard();
        let batch = self.preparation.values(&pixels.f_to_device(self.module.device())?);
        let value = self.module.call(LOG_LIKELIHOOD, &batch)?;
        let about = self.module.about(LOG_LIKELIHOOD);
        let nats = module::tensor(value, None).map_err(|error| refusal!("{about}: {error}"))?;
        require!(
            nats.size() == [pixels.size()[0]] && nats.is_floating_point(),
            "{about}: expected one log-likelihood in nats a picture, Float [{}], found {:?} {:?}",
            pixels.size()[0],
            nats.kind(),
            nats.size()
        );
        let finite = bool::try_from(nats.isfinite().all())?;
        require!(finite, "{about}: gives NaN or infinity on {} pictures", pixels.size()[0]);
        let decoder = -nats.to_kind(Kind::Double);
        Ok(Some(Bound { codes: decoder.zeros_like(), decoder }))
    }
}

/// Random pictures, the same ones for every module.
fn noise(shape: PictureShape, batch: i64) -> Tensor {
    use rand::RngExt;
    let mut rng = random::rng(0, "torchscript noise", 0);
    let [h, w, c] = [shape.height, shape.width, shape.channels].map(|n| n as i64);
    let bytes: Vec<u8> = (0..batch * h * w * c).map(|_| rng.random_range(0..shape.levels) as u8).collect();
    Tensor::from_slice(&bytes).reshape([batch, h, w, c])
}

/// Whether two looks at the same pictures agree: features up to rounding, codes but for ties.
fn same(one: &Tensor, other: &Tensor) -> Result<bool> {
    if one.size() != other.size() {
        return Ok(false);
    }
    if one.kind() == Kind::Int64 {
        let differing = f64::try_from(one.ne_tensor(other).to_kind(Kind::Double).mean(Kind::Double))?;
        return Ok(differing <= 0.01);
    }
    Ok(one.allclose(other, 1e-3, 1e-3, true))
}

/// Whether all patches have the same features `[B, L, D]`; codes may.
fn constant(patches: &Tensor) -> Result<bool> {
    let first = patches.narrow(0, 0, 1).narrow(1, 0, 1);
    Ok(patches.dim() == 3 && bool::try_from(patches.eq_tensor(&first).all())?)
}
