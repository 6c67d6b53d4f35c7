//! `lvd compress`, `lvd decompress`, `lvd codec-info`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::data::Split;
use crate::device::{self, DeviceChoice};
use crate::experiment::coding::{self, Done, Request};
use crate::experiment::decoding;
use crate::experiment::stage::Stage;

#[derive(Debug, Args)]
pub(super) struct CompressArgs {
    /// Run folder whose model codes.
    run: PathBuf,
    /// PNG and JPEG pictures, folders of them, arrays uint8 (.npy); without any, a split of the run's data.
    inputs: Vec<PathBuf>,
    /// The container to write; a file that is there is replaced.
    #[arg(short, long, value_name = "FILE.lvdz")]
    output: PathBuf,
    /// Stage whose model codes; the last one of distillation if not given.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// The pictures have 256 levels: bring them to the model's, v -> v * levels / 256, and code those.
    #[arg(long, requires = "inputs")]
    requantise: bool,
    /// Which part of the run's data.
    #[arg(long, value_enum, default_value = "test", conflicts_with = "inputs")]
    split: Split,
    /// Only the first so many pictures of it.
    #[arg(long, value_name = "N", conflicts_with = "inputs", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
    /// Root folder of the data sets, instead of the one that the run used.
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DecompressArgs {
    /// The container.
    #[arg(value_name = "FILE.lvdz")]
    file: PathBuf,
    /// Run folder of the model that it was made with.
    run: PathBuf,
    /// A new or empty folder for PNG files, or an array to write (.npy; a file that is there is replaced).
    #[arg(short, long, value_name = "DIR|FILE.npy")]
    output: PathBuf,
    /// Only the picture of this number, counted from 0.
    #[arg(long, value_name = "N")]
    only: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// The container.
    #[arg(value_name = "FILE.lvdz")]
    file: PathBuf,
    /// Print one JSON object, with a line of every picture.
    #[arg(long)]
    json: bool,
}

/// Code pictures and say how many bits they took.
pub(super) fn compress(args: &CompressArgs, cuda: Option<&Path>) -> Result<String> {
    device::open(DeviceChoice::Cpu, cuda)?;
    let request = Request {
        stage: args.stage,
        inputs: args.inputs.clone(),
        requantise: args.requantise,
        split: args.split,
        first: args.first.map(|count| count as usize),
        root: args.data_root.clone(),
    };
    let done = coding::compress(&args.run, &request, &args.output)?;
    let Done { pictures, pixels, bytes, model_bits, .. } = done;
    let dimensions = (pixels as f64).max(1.0);
    Ok(format!(
        "{}: {}, {pixels} bytes of pixels in {bytes}: {:.4} bits per dimension, {:.4} by the model; {}",
        args.output.display(),
        counted(pictures),
        bytes as f64 * 8.0 / dimensions,
        model_bits / dimensions,
        speed(&done)
    ))
}

/// Bring pictures back and say where they are.
pub(super) fn decompress(args: &DecompressArgs, cuda: Option<&Path>) -> Result<String> {
    device::open(DeviceChoice::Cpu, cuda)?;
    let done = decoding::decompress(&args.file, &args.run, &args.output, args.only)?;
    Ok(format!("{}: {}, {}", args.output.display(), counted(done.pictures), speed(&done)))
}

fn counted(pictures: usize) -> String {
    if pictures == 1 { "1 picture".to_owned() } else { format!("{pictures} pictures") }
}

fn speed(done: &Done) -> String {
    format!("{:.1} s, {:.3} MB/s", done.seconds, done.pixels as f64 / 1e6 / done.seconds.max(1e-9))
}

/// Say what a container holds.
pub(super) fn info(args: &InfoArgs) -> Result<String> {
    let mut info = decoding::info(&args.file)?;
    if args.json {
        return Ok(info.to_string());
    }
    let pictures = info.as_object_mut().and_then(|all| all.remove("pictures"));
    let mut lines: Vec<String> = info.as_object().into_iter().flatten().map(|(key, value)| line(key, value)).collect();
    let names = pictures.as_ref().and_then(Value::as_array).into_iter().flatten().take(1);
    lines.extend(names.map(|first| format!("first picture: {first}")));
    Ok(lines.join("\n"))
}

fn line(key: &str, value: &Value) -> String {
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("{}: {shown}", key.replace('_', " "))
}
