//! Speed of training the VQ-VAE-2, as a share of this machine's matrix products in the same run; on the CPU, or with
//! `--device cuda` on a GPU.
//!
//! A gradient step at the batch of an experiment, on its pictures: `digits`, `photographs`, and the widths of the paper on the
//! latter's tiles. Flops that count are those of convolutions and affine maps, from their shapes, three times forward (the gradient
//! takes two products more of each), and forward alone for the search of codes. A convolution is counted, and its rate measured, as the
//! product of pixels x (inputs x kernel) x outputs that it is. Medians over the steps of an epoch; nothing here is a test. Notes
//! and history: `benches/NOTES.md`.

mod timing;

use std::ops::ControlFlow;

use lvd::data::embedded::digits;
use lvd::data::photographs::photographs;
use lvd::data::pictures::{PictureShape, Pictures};
use lvd::data::split::Split;
use lvd::teacher::training::Trainer;
use lvd::teacher::{TeacherConfig, VqVaeConfig};
use tch::Device;
use timing::{clock, medians, product};

/// Steps that are timed, at most; the first ones set the codebooks and warm up.
const STEPS: usize = 40;
const WARM: usize = 5;

fn main() {
    let device = timing::device();
    println!(
        "{:>22} {:>6} {:>9} {:>11} {:>9} {:>9} {:>9} {:>9}",
        "", "batch", "step, ms", "pictures/s", "GFLOP", "GFLOP/s", "gemm", "of gemm"
    );
    let tiles = || [Split::Train, Split::Valid].map(|split| photographs(split).expect("part of the program"));
    let small = [Split::Train, Split::Valid].map(|split| digits(split).expect("part of the program"));
    measure("digits", &of(include_str!("../experiments/digits/default.yaml")), small, device);
    let config = of(include_str!("../experiments/photographs/default.yaml"));
    measure("photographs", &config, tiles(), device);
    let paper = VqVaeConfig {
        hidden: 128,
        residual: 64,
        embedding: 64,
        codes_bottom: 1024,
        codes_top: 1024,
        decoder: vec![256, 512, 512],
        batch: 64,
        ..config
    };
    measure("photographs, paper's", &paper, tiles(), device);
}

/// The teacher of an experiment.
fn of(experiment: &str) -> VqVaeConfig {
    let mut all: serde_yaml::Value = serde_yaml::from_str(experiment).expect("an experiment of this project");
    let teacher = std::mem::take(&mut all["teacher"]);
    match serde_yaml::from_value(teacher).expect("a teacher's settings") {
        TeacherConfig::VqVae(config) => config,
        _ => panic!("expected an experiment with a VQ-VAE-2"),
    }
}

/// A product `[rows, inner] x [inner, columns]`, and how often a step makes one of that size.
#[derive(Clone, Copy)]
struct Product {
    rows: i64,
    inner: i64,
    columns: i64,
    times: i64,
}

/// The products of a step, from shapes: as `teacher::{encoder, decoder, quantiser}` build the layers.
struct Products {
    batch: i64,
    all: Vec<Product>,
}

impl Products {
    fn new(config: &VqVaeConfig, shape: PictureShape) -> Self {
        let mut products = Self { batch: config.batch as i64, all: Vec::new() };
        let [hidden, residual, embedding] = [config.hidden, config.residual, config.embedding].map(|n| n as i64);
        let bottom = products.halving(config, shape.channels as i64, config.patch.ilog2(), shape.height as i64);
        let top = products.halving(config, hidden, 1, bottom + bottom % 2);
        products.add(top, hidden, embedding, 1);
        products.add(top, 9 * embedding, hidden, 1);
        products.blocks(config, top, [hidden, residual]);
        products.add(top, hidden, 16 * embedding, 1); // the transposed convolution
        products.add(bottom, hidden + embedding, embedding, 1);
        let pixel = |c: usize| (1 + 2 * c + c * (c - 1) / 2) * config.mixtures * config.patch * config.patch;
        let hidden_layers = config.decoder.iter().map(|&n| n as i64);
        let widths: Vec<i64> =
            std::iter::once(2 * embedding).chain(hidden_layers).chain([pixel(shape.channels) as i64]).collect();
        for pair in widths.windows(2) {
            products.add(bottom, pair[0], pair[1], 1);
        }
        for (side, codes) in [(bottom, config.codes_bottom), (top, config.codes_top)] {
            products.all.push(Product {
                rows: products.batch * side * side,
                inner: embedding,
                columns: codes as i64,
                times: 1,
            });
        }
        products
    }

    /// A layer at `side * side` places of every picture, and its two gradients.
    fn add(&mut self, side: i64, inner: i64, columns: i64, layers: i64) {
        self.all.push(Product { rows: self.batch * side * side, inner, columns, times: 3 * layers });
    }

    fn blocks(&mut self, config: &VqVaeConfig, side: i64, [outer, inner]: [i64; 2]) {
        let blocks = config.residual_blocks as i64;
        self.add(side, 9 * outer, inner, blocks);
        self.add(side, inner, outer, blocks);
    }

    /// Halvings and what follows them; the side that is left.
    fn halving(&mut self, config: &VqVaeConfig, inputs: i64, times: u32, mut side: i64) -> i64 {
        let hidden = config.hidden as i64;
        let mut channels = inputs;
        for i in 0..times {
            let next = if i == 0 { (hidden / 2).max(1) } else { hidden };
            side /= 2;
            self.add(side, 16 * channels, next, 1);
            channels = next;
        }
        self.add(side, 9 * channels, hidden, 1);
        self.blocks(config, side, [hidden, config.residual as i64]);
        side
    }

    /// 10^9 flops of a step.
    fn gflop(&self) -> f64 {
        let flop = |p: &Product| 2 * p.rows * p.inner * p.columns * p.times;
        self.all.iter().map(flop).sum::<i64>() as f64 / 1e9
    }

    /// Seconds that plain products of these sizes take.
    fn seconds(&self, device: Device) -> f64 {
        self.all.iter().map(|p| p.times as f64 * product(device, p.rows, p.inner, p.columns)).sum()
    }
}

fn measure(name: &str, config: &VqVaeConfig, [train, valid]: [Pictures; 2], device: Device) {
    let products = Products::new(config, train.shape());
    let (gflop, plain) = (products.gflop(), products.seconds(device));
    let mut trainer = Trainer::new(config, train, valid, device, 1).expect("pictures of one shape");
    let (mut rounds, mut before) = (Vec::new(), clock(device));
    let ending = trainer.run(&mut |_, progress| {
        let now = clock(device);
        // The last step of an epoch has fewer pictures and a look at the validation set.
        if progress.epoch_end.is_none() {
            rounds.push([now - before]);
        }
        before = clock(device);
        Ok(if rounds.len() < STEPS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    ending.expect("a loss that is finite");
    let [step] = medians(&rounds[WARM..]);
    println!(
        "{name:>22} {:>6} {:>9.2} {:>11.0} {gflop:>9.3} {:>9.1} {:>9.1} {:>8.0}%",
        config.batch,
        1e3 * step,
        config.batch as f64 / step,
        gflop / step,
        gflop / plain,
        100.0 * plain / step
    );
}
