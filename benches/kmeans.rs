//! Speed of k-means, as a share of this machine's matrix products in the same run; on the CPU, or with `--device cuda` on a
//! GPU.
//!
//! Flops that count are those of the inner products of points and centres, 2 K F a point: for assignments, and for a Lloyd step,
//! which also takes means and errors. The first centres (k-means++) have K - 1 passes over all points, one after the other, which
//! read 4 F bytes a point each: their rate is in GB/s beside that of a copy. Medians; nothing here is a test. Notes and history:
//! `benches/NOTES.md`.

mod timing;

use std::hint::black_box;

use lvd::group::Alone;
use lvd::latents::{FeatureChunks, KMeansConfig};
use lvd::random;
use tch::{Device, Kind, Tensor};
use timing::{median, product, seconds};

const POINTS: i64 = 100_000;
const FEATURES: i64 = 64;
/// Points of a product that is measured.
const PIECE: i64 = 4_000;
const REPEATS: usize = 5;
/// Lloyd steps that are timed together.
const STEPS: usize = 4;

/// Points in memory.
struct Points(Tensor);

impl FeatureChunks for Points {
    fn count(&self) -> usize {
        self.0.size()[0] as usize
    }

    fn patches(&self) -> usize {
        1
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        visit(self.0.shallow_clone())
    }
}

fn main() {
    let device = timing::device();
    let _guard = tch::no_grad_guard();
    println!("{POINTS} points of {FEATURES} numbers");
    println!(
        "{:>9} {:>8} {:>11} {:>11} {:>8} {:>11} {:>8} {:>10} {:>8} {:>8} {:>13}",
        "clusters",
        "gemm",
        "assign, ms",
        "GFLOP/s",
        "of gemm",
        "step, ms",
        "of gemm",
        "seeds, ms",
        "GB/s",
        "copy",
        "seeds in steps"
    );
    for clusters in [400, 1600] {
        measure(clusters, device);
    }
}

fn measure(clusters: i64, device: Device) {
    let points = Points(Tensor::randn([POINTS, FEATURES], (Kind::Float, device)));
    let gflop = 2.0 * (POINTS * FEATURES * clusters) as f64 / 1e9;
    // A product as large as all distances spends most of its time on fresh memory: a piece of it is the better measure.
    let gemm = product(device, PIECE, FEATURES, clusters) * (POINTS as f64 / PIECE as f64);
    let steps = |iterations| KMeansConfig {
        clusters: clusters as usize,
        iterations,
        tolerance: 0.0,
        ..KMeansConfig::default()
    };
    let centres = points.0.narrow(0, 0, clusters).copy();
    let rng = || random::rng(1, "bench", 0);
    let from =
        |centres: &Tensor| steps(STEPS - 1).fit_from(&points.0, centres.copy(), &mut rng()).expect("many points");
    let codebook = from(&centres);
    assert_eq!(codebook.inertia.len(), STEPS);
    let assign = median(device, REPEATS, || drop(black_box(codebook.assign(&points.0))));
    let step = median(device, REPEATS, || drop(black_box(from(&centres)))) / STEPS as f64;
    let fit = seconds(device, || drop(black_box(steps(1).fit(&points, 1, &Alone).expect("many points"))));
    let seeds = fit - 2.0 * step;
    let bytes = 4.0 * (POINTS * FEATURES) as f64 / 1e9;
    let copy = median(device, REPEATS, || drop(black_box(points.0.copy())));
    println!(
        "{clusters:>9} {:>8.1} {:>11.1} {:>11.1} {:>7.0}% {:>11.1} {:>7.0}% {:>10.0} {:>8.1} {:>8.1} {:>13.1}",
        gflop / gemm,
        1e3 * assign,
        gflop / assign,
        100.0 * gemm / assign,
        1e3 * step,
        100.0 * gemm / step,
        1e3 * seeds,
        bytes * clusters as f64 / seeds,
        2.0 * bytes / copy,
        seeds / step
    );
}
