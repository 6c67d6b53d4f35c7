//! The other way: a teacher of this program as a TorchScript module that Python can open, with its contract inside.
//!
//! The features are traced on two pictures. A trace knows one method, so the module has `features` and no
//! `log_likelihood`. What is written is opened again and compared before it gets its name.

use std::path::Path;

use anyhow::{Result, ensure};
use tch::{CModule, Kind, Tensor};

use super::archive::add_contract;
use super::contract::{Contract, ModuleInput, ModuleOutput};
use super::noise;
use crate::data::pictures::PictureShape;
use crate::run::atomically;
use crate::teacher::Teacher;

/// Name of the archive's root.
const NAME: &str = "teacher.pt";
/// The method of an exported module.
const METHOD: &str = "features";
/// Batches on which the module is compared with the teacher.
const BATCHES: [i64; 2] = [2, 5];
/// Features of the two may differ by this.
const TOLERANCE: f64 = 1e-5;

/// Write a teacher on the CPU for pictures of this shape.
///
/// # Errors
/// When the file cannot be written, or the module does not give the teacher's features.
pub fn export(teacher: &dyn Teacher, shape: PictureShape, path: &Path) -> Result<()> {
    let contract = contract(shape);
    atomically(path, |temporary| {
        // libtorch names the archive's root after the file: a name of its own would make other bytes of every export.
        let folder = tempfile::tempdir_in(temporary.parent().unwrap_or(Path::new(".")))?;
        let named = folder.path().join(NAME);
        trace(teacher, shape)?.save(&named)?;
        std::fs::rename(&named, temporary)?;
        add_contract(temporary, &contract)?;
        compare(teacher, shape, temporary)
    })
}

/// Levels go in as they are: the module makes bytes of them again.
fn contract(shape: PictureShape) -> Contract {
    let [height, width, channels] = [shape.height, shape.width, shape.channels].map(|n| n as i64);
    let range = Some([0.0, (shape.levels - 1) as f64]);
    let input = ModuleInput { range, size: Some([height, width]), channels: Some(channels), ..ModuleInput::default() };
    Contract { method: Some(METHOD.to_owned()), input, output: ModuleOutput::default() }
}

fn trace(teacher: &dyn Teacher, shape: PictureShape) -> Result<CModule> {
    let _guard = tch::no_grad_guard();
    let pictures = floats(&noise(shape, BATCHES[0]));
    let mut failed = None;
    let mut features = |inputs: &[Tensor]| {
        let pixels = inputs[0].permute([0, 2, 3, 1]).round().to_kind(Kind::Uint8);
        let found = teacher.features(&pixels).map_err(|error| failed = Some(error));
        vec![found.unwrap_or(pixels)]
    };
    let module = CModule::create_by_tracing("Teacher", METHOD, &[pictures], &mut features)?;
    failed.map_or(Ok(module), Err)
}

/// See that the written module gives the teacher's features.
fn compare(teacher: &dyn Teacher, shape: PictureShape, path: &Path) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let twin = CModule::load(path)?;
    for batch in BATCHES {
        let pixels = noise(shape, batch);
        let found = twin.method_ts(METHOD, &[floats(&pixels)])?;
        let distance = (teacher.features(&pixels)? - found).abs().max().double_value(&[]);
        ensure!(distance <= TOLERANCE, "the exported module's features differ from the teacher's by {distance}");
    }
    Ok(())
}

/// Pixels u8 `[B, H, W, C]` as the module wants them.
fn floats(pixels: &Tensor) -> Tensor {
    pixels.permute([0, 3, 1, 2]).to_kind(Kind::Float).contiguous()
}
