//! Speed of Chow-Liu trees' mutual information, as a share of this machine's matrix products in the same run; on the CPU, or with
//! `--device cuda` on a GPU.
//!
//! All pairs of V variables with B values each, N examples. Flops that count are those of the one-hot product that gives the joint
//! counts of every pair once, N V^2 B^2 (2 for every entry of one half of a symmetric matrix), whether or not they are made
//! that way. The tree itself is timed apart. Medians; nothing here is a test. Notes and history: `benches/NOTES.md`.

mod timing;

use std::hint::black_box;

use lvd::structure::chow_liu;
use tch::{Device, Kind, Tensor};
use timing::{median, product, seconds};

const EXAMPLES: i64 = 10_000;
const BINS: i64 = 16;

fn main() {
    let device = timing::device();
    let _guard = tch::no_grad_guard();
    println!("{EXAMPLES} examples, {BINS} values");
    println!(
        "{:>10} {:>8} {:>16} {:>10} {:>8} {:>10}",
        "variables", "gemm", "information, ms", "GFLOP/s", "of gemm", "tree, ms"
    );
    for (variables, repeats) in [(48, 7), (784, 1)] {
        measure(variables, repeats, device);
    }
}

/// Values of which four in five are 0, as in digits.
fn binned(variables: i64, device: Device) -> Tensor {
    let options = (Kind::Float, device);
    let ink = Tensor::rand([EXAMPLES, variables], options).lt(0.2);
    (Tensor::rand([EXAMPLES, variables], options) * BINS as f64).to_kind(Kind::Int64) * ink
}

fn measure(variables: i64, repeats: usize, device: Device) {
    let values = binned(variables, device);
    let width = variables * BINS;
    // Products of the sizes that a block of variables has.
    let (rows, chunk) = (width.min(1328), 1024);
    let gemm = 2.0 * (rows * width * chunk) as f64 / 1e9 / product(device, rows, chunk, width);
    let gflop = (EXAMPLES * width * width) as f64 / 1e9;
    let call = || drop(black_box(chow_liu::mutual_information(&values, BINS, 1.0)));
    let information = if repeats > 1 { median(device, repeats, call) } else { seconds(device, call) };
    let weights = chow_liu::mutual_information(&values.narrow(0, 0, 500), BINS, 1.0);
    let tree = median(Device::Cpu, 3, || drop(black_box(chow_liu::maximum_spanning_tree(&weights))));
    println!(
        "{variables:>10} {gemm:>8.1} {:>16.1} {:>10.1} {:>7.0}% {:>10.1}",
        1e3 * information,
        gflop / information,
        100.0 * gflop / information / gemm,
        1e3 * tree
    );
}
