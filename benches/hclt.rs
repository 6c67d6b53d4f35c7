//! Speed of the circuit engine, as ratios inside one run; on the CPU, or with `--device cuda` on a GPU.
//!
//! 1. An EM step of hidden Chow-Liu trees over 784 variables with 256 categories, 256 examples, against its matrix products.
//! 2. A forest of patch circuits: likelihoods alone, and with flows and statistics.
//! 3. With the argument `quad_tree` that step on a quad tree over the variables, and nothing else.
//!
//! Everything by libtorch's passes and, on the CPU, by our own, which take turns. On a GPU also: for how much of an E-step
//! the GPU is at work, and how long it waits for the next operation.
//!
//! Medians; nothing here is a test. Notes and history: `benches/NOTES.md`.

mod timing;

use std::hint::black_box;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::plan::Block;
use lvd::em::{self, EmConfig, InputFamily, Learner};
use lvd::random;
use lvd::structure::chow_liu::{self, Parents};
use lvd::structure::hclt;
use lvd::structure::quad_tree::quad_tree;
use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};
use timing::{REPEATS, kernels, large, medians, seconds};

const CATEGORIES: usize = 256;
const BATCH: i64 = 256;

fn main() {
    let device = timing::device();
    let _guard = tch::no_grad_guard();
    if std::env::args().any(|argument| argument == "quad_tree") {
        for states in [32, 64, 128] {
            pixels("quad tree", &quad_tree(28, 28, 1), states, device);
        }
        return;
    }
    for states in [32, 64] {
        let mut rng = random::rng(0, "bench", states as u64);
        pixels("HCLT", &grid_tree(28, 28, &mut rng), states, device);
    }
    forest(Seeing::Same, device);
    forest(Seeing::Own, device);
}

/// The tree of a picture with random links between neighbours: as deep as one learned from digits.
fn grid_tree(rows: usize, columns: usize, rng: &mut impl Rng) -> Parents {
    let v = rows * columns;
    let mut weights = vec![0.0; v * v];
    for (a, b) in (0..v).flat_map(|a| [(a, a + 1), (a, a + columns)]) {
        if b < v && (b == a + columns || b % columns > 0) {
            let weight = rng.random_range(0.5..1.0);
            weights[a * v + b] = weight;
            weights[b * v + a] = weight;
        }
    }
    chow_liu::maximum_spanning_tree(&Tensor::from_slice(&weights).view([v as i64, v as i64]))
}

/// Four values in five are 0, as in digits.
fn values(shape: &[i64], rng: &mut impl Rng) -> Tensor {
    let all = 0..shape.iter().product::<i64>();
    let values: Vec<i64> =
        all.map(|_| if rng.random_bool(0.8) { 0 } else { rng.random_range(0..CATEGORIES as i64) }).collect();
    Tensor::from_slice(&values).view(shape)
}

fn circuit(trees: &[Parents], variables: usize, states: usize, rng: &mut impl Rng, device: Device) -> Circuit {
    let categories = vec![CATEGORIES; variables];
    let graph = hclt::forest(trees, states, &categories).expect("trees");
    let mut circuit = Circuit::uniform(graph, Kind::Float, device);
    circuit.update(|parameters, plan| parameters.perturb(plan, 0.5, rng));
    circuit
}

/// Multiplications and additions of the sum layers for one example: forward 2 a table entry, flows 4.
fn flops(circuit: &Circuit) -> f64 {
    circuit
        .plan()
        .blocks
        .iter()
        .map(|b| 6 * b.regions.len() as i64 * b.states * parent_states(circuit, b.pool))
        .sum::<i64>() as f64
}

fn parent_states(circuit: &Circuit, pool: usize) -> i64 {
    circuit.plan().edge_pools[pool].parent_states
}

fn pixels(name: &str, tree: &Parents, states: usize, device: Device) {
    let mut rng = random::rng(0, "bench tables", states as u64);
    let mut circuit = circuit(std::slice::from_ref(tree), 784, states, &mut rng, device);
    let depth = circuit.graph().depths().iter().max().copied().unwrap_or(0);
    let blocks = circuit.plan().blocks.len();
    println!(
        "\n{name}, 784 variables, {CATEGORIES} categories, {states} states, batch {BATCH}; depth {depth}, {blocks} blocks"
    );
    let data = values(&[BATCH, 784], &mut rng).to_device(device);
    let gflop = flops(&circuit) * BATCH as f64 / 1e9;
    let [zeros, passes, walk, m_passes, m_step, plain] = measure(&mut circuit, &data);
    println!(
        "  products of the same shapes: {plain:.1} ms, {:.1} GFLOP/s; large products: {:.1} GFLOP/s; zeros for statistics: {zeros:.1} ms",
        gflop / plain * 1e3,
        large(device)
    );
    println!(
        "  {:>8} {:>9} {:>9} {:>9} {:>9} {:>11} {:>13}",
        "", "E-step", "GFLOP/s", "M-step", "step", "examples/s", "step/products"
    );
    let ways = [("passes", passes, m_passes), ("ours", walk, m_step)];
    for (name, e_step, m_step) in ways.into_iter().take(if device.is_cuda() { 1 } else { 2 }) {
        let step = zeros + e_step + m_step;
        println!(
            "  {name:>8} {e_step:>9.1} {:>9.1} {m_step:>9.1} {step:>9.1} {:>11.0} {:>12.1}x",
            gflop / e_step * 1e3,
            BATCH as f64 / step * 1e3,
            step / plain
        );
    }
    if device.is_cuda() {
        gaps(&circuit, &data, passes);
    } else {
        println!("  passes/ours: E-step {:.2}, M-step {:.2}", passes / walk, m_passes / m_step);
    }
}

/// For how much of an E-step's milliseconds a GPU is at work.
fn gaps(circuit: &Circuit, data: &Tensor, e_step: f64) {
    let evidence = Evidence::shared(data, None, circuit.plan()).expect("values in range");
    let weights = Tensor::ones([BATCH, 1], (Kind::Float, data.device()));
    let mut statistics = Statistics::new(circuit);
    let busy = kernels(data.device(), 4.0, || {
        let messages = circuit.forward(&evidence, true).expect("evidence fits");
        black_box(circuit.flows(&messages, &weights, &mut statistics));
    });
    match busy.map(|seconds| 1e3 * seconds) {
        Some(ms) => {
            println!("  kernels: {ms:.1} ms, {:.0} % of the E-step; the rest is launch gaps", 100.0 * ms / e_step);
        }
        None => println!("  kernels: not told apart from launch gaps, since the step waits for results in between"),
    }
}

/// Milliseconds, medians of rounds in which they take turns: zeros to add statistics to; E-step (likelihoods, flows,
/// statistics) by libtorch's passes and by the walk; M-step by libtorch's passes and in one; and the matrix products of a step
/// by themselves.
fn measure(circuit: &mut Circuit, data: &Tensor) -> [f64; 6] {
    let device = data.device();
    let marginals = em::uniform_marginals(circuit.plan(), circuit);
    let mut learner = Learner::new(&EmConfig::default(), InputFamily::Categorical, 6e4, circuit, marginals);
    let products = Products::new(circuit, device);
    let weights = Tensor::ones([BATCH, 1], (Kind::Float, device));
    let mut rounds = Vec::new();
    for _ in 0..=REPEATS {
        let mut passed = Statistics::new(circuit);
        let passes = seconds(device, || {
            let evidence = Evidence::shared(data, None, circuit.plan()).expect("values in range");
            let messages = circuit.forward(&evidence, true).expect("evidence fits");
            black_box(circuit.flows(&messages, &weights, &mut passed));
        });
        let m_passes = seconds(device, || learner.step_by_passes(circuit, passed, 0.5));
        let mut walked = None;
        let zeros = seconds(device, || walked = Some(Statistics::new(circuit)));
        let mut walked = walked.expect("made above");
        let walk = seconds(device, || {
            let evidence = Evidence::shared(data, None, circuit.plan()).expect("values in range");
            let _ = black_box(circuit.accumulate(&evidence, &weights, &mut walked).expect("evidence fits"));
        });
        let m_step = seconds(device, || learner.step(circuit, walked, 0.5));
        rounds.push([zeros, passes, walk, m_passes, m_step, seconds(device, || products.all())]);
    }
    medians(&rounds[1..]).map(|seconds| 1e3 * seconds)
}

/// The operands of the matrix products of a step, by block: messages `[R, B, K]`, tables `[R, K, K']`.
struct Products(Vec<[Tensor; 2]>);

impl Products {
    fn new(circuit: &Circuit, device: Device) -> Self {
        let ones = |shape: [i64; 3]| Tensor::ones(shape, (Kind::Float, device));
        let block = |block: &Block| {
            let (r, k, above) = (block.regions.len() as i64, block.states, parent_states(circuit, block.pool));
            [[r, BATCH, k], [r, k, above]].map(ones)
        };
        Self(circuit.plan().blocks.iter().map(block).collect())
    }

    /// As many flops as a step.
    fn all(&self) {
        for [messages, tables] in (0..3).flat_map(|_| &self.0) {
            let _ = black_box(messages.bmm(tables));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Seeing {
    /// Every tree sees the same patches.
    Same,
    /// Every tree sees patches of its own.
    Own,
}

fn forest(seeing: Seeing, device: Device) {
    const TREES: i64 = 64;
    const VARIABLES: i64 = 48;
    let mut rng = random::rng(0, "bench forest", 0);
    let trees: Vec<Parents> = (0..TREES).map(|_| grid_tree(4, 12, &mut rng)).collect();
    let circuit = circuit(&trees, VARIABLES as usize, 16, &mut rng, device);
    let blocks = circuit.plan().blocks.len();
    println!(
        "\nforest of {TREES} trees, {VARIABLES} variables, {CATEGORIES} categories, 16 states; {blocks} blocks; evidence {seeing:?}"
    );
    let gflop = flops(&circuit) / 1e9;
    println!("  large products: {:.1} GFLOP/s", large(device));
    println!("  {:>9} {:>28} {:>28} {:>14}", "patches/s", "likelihood", "with flows and statistics", "walk, GFLOP/s");
    println!("  {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>8}", "patches", "passes", "walk", "", "passes", "walk", "");
    for batch in [32, 128, 512] {
        let data = match seeing {
            Seeing::Same => values(&[batch, VARIABLES], &mut rng),
            Seeing::Own => values(&[TREES, batch, VARIABLES], &mut rng),
        }
        .to_device(device);
        let see = || match seeing {
            Seeing::Same => Evidence::shared(&data, None, circuit.plan()).expect("values in range"),
            Seeing::Own => Evidence::per_tree(&data, None, circuit.plan()).expect("values in range"),
        };
        let weights = Tensor::full([batch, TREES], 1.0 / TREES as f64, (Kind::Float, device));
        let mut statistics = Statistics::new(&circuit);
        let rounds: Vec<[f64; 4]> = (0..=(1024 / batch).max(3))
            .map(|_| {
                [
                    seconds(device, || drop(black_box(circuit.forward(&see(), false)))),
                    seconds(device, || drop(black_box(circuit.log_likelihood(&see())))),
                    seconds(device, || {
                        let messages = circuit.forward(&see(), true).expect("evidence fits");
                        circuit.flows(&messages, &weights, &mut statistics);
                    }),
                    seconds(device, || drop(black_box(circuit.accumulate(&see(), &weights, &mut statistics)))),
                ]
            })
            .collect();
        let [passed, walked, passes, walk] = medians(&rounds[1..]).map(|seconds| batch as f64 / seconds);
        println!(
            "  {batch:>9} {passed:>9.0} {walked:>9.0} {:>7.2}x {passes:>9.0} {walk:>9.0} {:>7.2}x {:>14.1}",
            walked / passed,
            walk / passes,
            gflop * walk
        );
    }
}
