//! Score pictures with the model of a run, from a program of your own: log p(x) of every picture in nats, then their mean
//! in bits per dimension. The same numbers as `lvd eval RUN --per-image`.
//!
//! ```text
//! cargo run --release --example score -- runs/digits joint
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use lvd::data::{self, Split};
use lvd::device::{self, DeviceChoice};
use lvd::experiment::stage::Stage;
use lvd::experiment::{models, read};
use lvd::mixture::score::{Measure, code_lengths};
use lvd::run::RunFolder;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run: PathBuf = arguments.next().context("which run? score RUN [STAGE]")?.into();
    let stage = arguments.next().unwrap_or_else(|| Stage::Joint.name().to_owned());
    let stage = Stage::ALL.into_iter().find(|known| known.name() == stage).context("there is no such stage")?;

    let folder = RunFolder::read(&run)?;
    let config = read::of_run(&folder)?;
    let device = device::open(DeviceChoice::Auto, None)?;
    device::set_threads(config.compute.threads)?;

    let model = models::load(&folder, &config, stage, device)?;
    // Pictures from anywhere do: data::open_pictures reads files, Pictures::from_bytes takes bytes.
    let pictures = data::open(&config.data, config.seed)?.part(Split::Test).clone();

    let measure = Measure::plain(&model, config.seed, stage.micro_batch(&config));
    let lengths = code_lengths(&model, &pictures, pictures.len(), &measure, |_| {})?;
    for (i, nats) in lengths.total.iter().enumerate() {
        println!("{i}\t{:.4}", -nats);
    }
    let score = lengths.score(pictures.shape().dimensions());
    eprintln!("{:.4} +- {:.4} bits per dimension", score.bits_per_dimension, score.standard_error);
    Ok(())
}
