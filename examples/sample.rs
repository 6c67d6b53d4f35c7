//! Draw pictures from the model of a run, from a program of your own, and write them side by side as a PNG.
//!
//! ```text
//! cargo run --release --example sample -- runs/digits samples.png 7
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use lvd::data::sheet::{Sheet, png};
use lvd::device::{self, DeviceChoice};
use lvd::experiment::stage::Stage;
use lvd::experiment::{models, read};
use lvd::random::rng;
use lvd::run::{RunFolder, atomic_write};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run: PathBuf = arguments.next().context("which run? sample RUN FILE.png [SEED]")?.into();
    let file: PathBuf = arguments.next().context("into which file? sample RUN FILE.png [SEED]")?.into();
    let seed: u64 = arguments.next().map_or(Ok(0), |seed| seed.parse()).context("the seed is a number")?;

    let folder = RunFolder::read(&run)?;
    let config = read::of_run(&folder)?;
    let device = device::open(DeviceChoice::Auto, None)?;
    device::set_threads(config.compute.threads)?;

    let model = models::load(&folder, &config, Stage::Joint, device)?;
    let patches = model.sample(64, &mut rng(seed, "samples of an example", 0)); // int64 [64, L, D]
    let pictures = model.view().display(&patches); // u8 [64, H, W, C]
    atomic_write(&file, png(&pictures, model.view().shape().levels, Sheet { a_row: 8, least: 64 })?)?;
    println!("{}", file.display());
    Ok(())
}
