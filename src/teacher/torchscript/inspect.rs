//! `lvd teacher inspect`: what a module is, what it gives, how fast, and whether it keeps its contract.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use tch::{Device, IValue, Tensor};

use super::archive::Method;
use super::contract::{Contract, ModuleInput};
use super::input::Preparation;
use super::module::{Module, Parameters};
use super::{BATCHES, Frame, Teacher, TorchScript, noise};
use crate::data::pictures::PictureShape;
use crate::run::sha256_file;

/// Pictures a batch when speed is measured.
const BATCH: i64 = 64;
/// Seconds that speed is measured for.
const SECONDS: f64 = 1.0;
/// Sides of patches that are tried where none is given.
const PATCHES: [usize; 6] = [4, 8, 2, 16, 1, 32];

/// What to look at.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The module's file.
    pub module: PathBuf,
    /// Pictures that it is shown.
    pub shape: PictureShape,
    /// Side of a patch in pixels; where not given, the first of a few that the module's grid goes with.
    pub patch: Option<usize>,
    /// What is known beside the module's own contract.
    pub contract: Contract,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Findings {
    file: String,
    bytes: u64,
    sha256: String,
    libtorch: String,
    device: String,
    methods: Vec<String>,
    described: bool,
    contract: Contract,
    parameters: Vec<String>,
    saved_on: Vec<String>,
    outputs: Vec<String>,
    patch: Option<usize>,
    features: Option<i64>,
    pictures_a_second: Option<f64>,
    meets_contract: bool,
    difference: Option<String>,
}

/// Look at a module.
///
/// # Errors
/// A refusal where the file is not TorchScript or cannot be loaded; everything else goes into the findings.
pub fn inspect(candidate: &Candidate, device: Device) -> Result<Findings> {
    let module = Module::open(&candidate.module, device)?;
    let own = module.archive().contract.clone();
    let contract = candidate.contract.over(&own.clone().unwrap_or_default());
    let parameters = module.parameters()?.iter().map(describe_parameters).collect();
    let mut findings = Findings {
        file: candidate.module.display().to_string(),
        bytes: candidate.module.metadata()?.len(),
        sha256: sha256_file(&candidate.module)?,
        libtorch: crate::device::libtorch_version(),
        device: crate::device::describe(device).device,
        methods: module.archive().methods.iter().map(Method::signature).collect(),
        described: own.is_some(),
        parameters,
        saved_on: module.archive().devices.clone(),
        outputs: BATCHES.iter().map(|&batch| output(&module, &contract, candidate.shape, batch)).collect(),
        contract: contract.clone(),
        patch: None,
        features: None,
        pictures_a_second: None,
        meets_contract: false,
        difference: None,
    };
    match agree(candidate, module, &contract) {
        Ok(teacher) => measure(&teacher, candidate.shape, &mut findings)?,
        Err(error) => findings.difference = Some(error.to_string()),
    }
    Ok(findings)
}

impl Findings {
    /// Where the module breaks its contract, if it does.
    #[must_use]
    pub fn difference(&self) -> Option<&str> {
        self.difference.as_deref()
    }
}

/// The module as a teacher, with the patch asked for or the first that goes.
fn agree(candidate: &Candidate, module: Module, contract: &Contract) -> Result<TorchScript> {
    let (path, device) = (candidate.module.clone(), module.device());
    let divides =
        |patch: &usize| candidate.shape.height.is_multiple_of(*patch) && candidate.shape.width.is_multiple_of(*patch);
    let all: Vec<usize> = PATCHES.into_iter().filter(divides).collect();
    let patches = candidate.patch.map_or(all, |patch| vec![patch]);
    let mut module = Some(module);
    let mut first = None;
    for patch in patches {
        let module = module.take().map_or_else(|| Module::open(&path, device), Ok)?;
        let frame = Frame::new(candidate.shape, patch)?;
        match TorchScript::agree(module, contract.clone(), frame) {
            Ok(teacher) => return Ok(teacher),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| crate::refusal!("no patch of {PATCHES:?} divides pictures of {}", candidate.shape)))
}

/// Speed, and what only many pictures show.
fn measure(teacher: &TorchScript, shape: PictureShape, findings: &mut Findings) -> Result<()> {
    let (rows, _) = teacher.grid();
    findings.patch = Some(shape.height / rows);
    findings.features = teacher.width();
    let pixels = noise(shape, BATCH);
    let features = teacher.features(&pixels)?;
    if teacher.width().is_some() && !bool::try_from(features.isfinite().all())? {
        let place = Vec::<i64>::try_from(features.isfinite().logical_not().nonzero().get(0))?;
        findings.difference = Some(format!(
            "random picture {}, patch {}: feature {} is {}, expected a finite number",
            place[0],
            place[1],
            place[2],
            features.double_value(&place)
        ));
        return Ok(());
    }
    let (started, mut shown) = (Instant::now(), 0);
    while shown == 0 || started.elapsed().as_secs_f64() < SECONDS {
        let features = teacher.features(&pixels)?;
        let _ = f64::try_from(features.sum(tch::Kind::Double))?; // waits for a GPU
        shown += BATCH;
    }
    findings.pictures_a_second = Some(shown as f64 / started.elapsed().as_secs_f64());
    findings.meets_contract = true;
    Ok(())
}

fn describe_parameters(parameters: &Parameters) -> String {
    format!("{} {:?} numbers in {} tensors", parameters.numbers, parameters.kind, parameters.tensors)
}

/// What the method gives for a batch of noise, or what it raises.
fn output(module: &Module, contract: &Contract, shape: PictureShape, batch: i64) -> String {
    let stated = contract.input.range.is_some() || contract.input.mean.is_some();
    let range = Some([0.0, 1.0]); // for a look alone: a contract without values is not kept
    let input = if stated { contract.input.clone() } else { ModuleInput { range, ..contract.input.clone() } };
    let look = || -> Result<String> {
        module.require(contract.method())?;
        let prepared = Preparation::new(&input, shape)?.batch(&noise(shape, batch).f_to_device(module.device())?)?;
        let value = module.call(contract.method(), &prepared)?;
        Ok(format!("{:?} -> {}", prepared.size(), describe(&value)))
    };
    look().unwrap_or_else(|error| format!("batch of {batch}: {error}"))
}

fn describe(value: &IValue) -> String {
    let tensor = |tensor: &Tensor| format!("{:?} {:?}", tensor.kind(), tensor.size());
    match value {
        IValue::Tensor(found) => tensor(found),
        IValue::Tuple(list) | IValue::GenericList(list) => {
            format!("({})", list.iter().map(describe).collect::<Vec<_>>().join(", "))
        }
        IValue::TensorList(list) => format!("[{}]", list.iter().map(tensor).collect::<Vec<_>>().join(", ")),
        IValue::GenericDict(dict) => {
            let entry = |(key, value): &(IValue, IValue)| match key {
                IValue::String(name) => format!("'{name}': {}", describe(value)),
                other => format!("{other:?}: {}", describe(value)),
            };
            format!("{{{}}}", dict.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        IValue::None => "None".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Findings {
    /// One JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts")
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11} {value}");
        };
        line("module", &format!("{} ({} bytes)", self.file, self.bytes));
        line("sha256", &self.sha256);
        self.methods.iter().for_each(|method| line("method", method));
        let own = if self.described { "the module's own lvd.json" } else { "the module carries no lvd.json" };
        line("contract", &format!("{} ({own})", serde_json::to_string(&self.contract).expect("a contract is JSON")));
        line("calls", self.contract.method());
        let none = ["none (weights are constants of the code, or buffers)".to_owned()];
        let parameters = if self.parameters.is_empty() { &none[..] } else { &self.parameters };
        for some in parameters {
            line("parameters", some);
        }
        line("saved on", &if self.saved_on.is_empty() { "no device named".into() } else { self.saved_on.join(", ") });
        self.outputs.iter().for_each(|output| line("dry run", output));
        if let Some(patch) = self.patch {
            let what = self.features.map_or("one code".to_owned(), |width| format!("{width} features"));
            line("patches", &format!("{patch} x {patch} pixels, {what} each"));
        }
        if let Some(speed) = self.pictures_a_second {
            line("speed", &format!("{speed:.0} pictures/s in batches of {BATCH} on {}", self.device));
        }
        match &self.difference {
            None => line("verdict", "meets the contract"),
            Some(difference) => line("verdict", &format!("does not meet the contract: {difference}")),
        }
        text
    }
}
