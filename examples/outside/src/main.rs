//! How many bits per dimension a trained model needs for pictures, and for their lower halves once the upper ones are known.
//!
//! ```text
//! outside RUN [PICTURES]      a run folder; a folder of PNG and JPEG pictures, .npy, ...: else the run's test pictures
//! ```

use std::path::Path;

use anyhow::{Context, Result};
use lvd::data::{Format, Split};
use lvd::device::{self, DeviceChoice};
use lvd::evaluate::bits_per_dimension;
use lvd::experiment::subject::{Subject, Wanted};
use lvd::mixture::mask::Mask;
use lvd::query::conditional::log_likelihood;
use lvd::random::Draws;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run = arguments.next().context("which run? outside RUN [PICTURES]")?;
    let data = arguments.next().map(|path| {
        let format =
            Format::of_path(Path::new(&path)).context("PICTURES: neither a folder nor a file of a known ending")?;
        Ok::<_, anyhow::Error>((path.into(), format))
    });
    let data = data.transpose()?;
    let wanted =
        Wanted { stage: None, requantise: data.is_some(), data, split: Split::Test, protocol: None, root: None };
    let device = device::open(DeviceChoice::Auto, None)?;
    let Subject { config, stage, model, pictures, .. } = Subject::open(Path::new(&run), &wanted, device)?;

    let [height, width] = model.view().size().map(|side| side as i64);
    let upper_half = Mask::top(height, width);
    let all = model.view().dimensions();
    let lower = all - upper_half.pixels() * model.view().grid.channels;
    println!("stage {stage}: bits per dimension, and those of the lower half given the upper");
    for number in 0..pictures.len().min(8) {
        // Where the model is a density, noise makes it a bound on the probability of whole numbers.
        let draws = Draws { seed: config.seed, purpose: "noise of outside", pass: 0, pictures: &[number] };
        let evidence = model.evidence(&pictures.batch(&[number])?, model.readings()[0], &draws)?;
        let nats = log_likelihood(&model, &evidence)?.double_value(&[0]);
        let upper = log_likelihood(&model, &model.observe(evidence, &upper_half)?)?.double_value(&[0]);
        println!("{number}\t{:.4}\t{:.4}", bits_per_dimension(-nats, all), bits_per_dimension(upper - nats, lower));
    }
    Ok(())
}
