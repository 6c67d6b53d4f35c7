//! Speed of Gaussian patches, as a share of this machine's matrix products in the same run; on the CPU, or with
//! `--device cuda` on a GPU.
//!
//! An E-step (log-likelihoods under all components) and an EM step (E-step, posterior-weighted statistics, M-step) of
//! patches of 8 x 8 x 3 numbers. Flops that count: the triangle of every whitening, D^2 for a patch and component, and
//! 3 D^2 for every pair whose statistics are kept (its distance once more, and its outer product). Medians; nothing here is
//! a test. Notes and history: `benches/NOTES.md`.

mod timing;

use std::hint::black_box;

use lvd::em::EmConfig;
use lvd::patch::config::GaussianConfig;
use lvd::patch::gaussian::start;
use lvd::patch::{Infer, Learn};
use lvd::random;
use rand::RngExt;
use tch::{Device, Kind, Tensor};
use timing::median;

const SIDE: i64 = 8;
const DIMENSIONS: i64 = SIDE * SIDE * 3;
const PATCHES: i64 = 4096;
/// Micro-batches of an EM step.
const MICRO: usize = 16;
const REPEATS: usize = 5;

fn main() {
    let device = timing::device();
    let _guard = tch::no_grad_guard();
    println!("{PATCHES} patches of {DIMENSIONS} numbers a micro-batch, {MICRO} of them a step");
    println!(
        "{:>10} {:>12} {:>10} {:>10} {:>12} {:>10} {:>8} {:>8} {:>8}",
        "components", "E patches/s", "GFLOP/s", "gemm", "EM patches/s", "GFLOP/s", "kept", "E/gemm", "EM/gemm"
    );
    for components in [16, 64, 256] {
        measure(components, device);
    }
}

/// Smooth patches of different brightness and contrast, dequantised.
fn patches(count: i64, seed: u64) -> Tensor {
    let mut rng = random::rng(seed, "bench", 0);
    let mut out = Vec::with_capacity((count * DIMENSIONS) as usize);
    for _ in 0..count {
        let (base, contrast) = (rng.random_range(30.0..220f32), rng.random_range(0.0..3f32).exp());
        let mut value = base;
        for _ in 0..DIMENSIONS {
            value = 0.9 * value + 0.1 * base + contrast * rng.random_range(-1.0..1f32);
            out.push(value.clamp(0.0, 255.0).floor() + rng.random::<f32>());
        }
    }
    Tensor::from_slice(&out).view([count, DIMENSIONS])
}

fn measure(components: i64, device: Device) {
    let members: Vec<Tensor> = (0..components).map(|k| patches(1000, k as u64)).collect();
    let ranges = vec![(0, 255); DIMENSIONS as usize];
    let mut model = start::from_members(&GaussianConfig::default(), &members, &ranges, device).expect("enough patches");
    let x = patches(PATCHES, 1 << 20).to_device(device);
    let seen = model.complete(&x);
    let whitener = Tensor::rand([DIMENSIONS, DIMENSIONS], (Kind::Float, device));
    let gemm = median(device, REPEATS, || {
        for _ in 0..components {
            let _ = black_box(x.matmul(&whitener));
        }
    });
    // A whitening's triangle has half the D^2 multiplications and additions of a plain product.
    let square = (PATCHES * DIMENSIONS * DIMENSIONS) as f64 / 1e9;
    let rate = 2.0 * square * components as f64 / gemm;
    let expectation = median(device, REPEATS, || {
        let _ = black_box(model.log_likelihood(&seen).expect("patches fit"));
    });
    model.begin(&EmConfig::default(), 6e5);
    let mut kept = 0.0;
    let whole = median(device, REPEATS, || {
        for _ in 0..MICRO {
            let posterior = model.log_likelihood(&seen).expect("patches fit").softmax(1, Kind::Float);
            kept = posterior.ge(1e-3).sum(Kind::Int64).double_value(&[]) / PATCHES as f64;
            model.accumulate(&seen, &posterior).expect("patches fit");
        }
        model.step(0.1);
    }) / MICRO as f64;
    let e_rate = square * components as f64 / expectation;
    let em_rate = square * (components as f64 + 3.0 * kept) / whole;
    println!(
        "{components:>10} {:>12.0} {e_rate:>10.1} {rate:>10.1} {:>12.0} {em_rate:>10.1} {kept:>8.1} {:>7.0}% {:>7.0}%",
        PATCHES as f64 / expectation,
        PATCHES as f64 / whole,
        100.0 * e_rate / rate,
        100.0 * em_rate / rate
    );
}
