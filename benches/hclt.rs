//! Speed of the circuit engine on the CPU, as ratios inside one run.
//!
//! 1. An EM step (forward, flows, statistics, M-step) of hidden Chow-Liu trees over 784 variables with 256 categories,
//!    256 examples, against the rate of `bmm` on the same shapes, and by size of the micro-batch.
//! 2. A forest of patch circuits: forward alone, and forward with flows.
//!
//! Medians; nothing here is a test. Notes and history: `benches/NOTES.md`.

use std::hint::black_box;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::plan::Block;
use lvd::em::{self, EmConfig, InputFamily, Learner};
use lvd::structure::chow_liu::{self, Parents};
use lvd::structure::hclt;
use lvd::{device, random};
use rand::{Rng, RngExt};
use rustix::time::ClockId;
use tch::{Device, Kind, Tensor};

const CATEGORIES: usize = 256;
const BATCH: i64 = 256;
const REPEATS: usize = 7;

fn main() {
    device::keep_freed_memory();
    println!("{} threads", tch::get_num_threads());
    let _guard = tch::no_grad_guard();
    for states in [32, 64] {
        pixels(states);
    }
    forest(Seeing::Same);
    forest(Seeing::Own);
}

/// A clock in seconds. With one thread it counts the thread's own time, so that a busy machine disturbs less; else it is
/// the wall's.
fn clock() -> f64 {
    let id = if tch::get_num_threads() == 1 { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
    let now = rustix::time::clock_gettime(id);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Seconds of a call: the median of `repeats`, after one that does not count.
fn median(repeats: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = clock();
            call();
            clock() - start
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repeats / 2]
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

fn circuit(trees: &[Parents], states: usize, rng: &mut impl Rng) -> Circuit {
    let categories = vec![CATEGORIES; trees[0].len()];
    let graph = hclt::forest(trees, states, &categories).expect("trees");
    let mut circuit = Circuit::uniform(graph, Kind::Float, Device::Cpu);
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

fn pixels(states: usize) {
    let mut rng = random::rng(0, "bench", states as u64);
    let mut circuit = circuit(&[grid_tree(28, 28, &mut rng)], states, &mut rng);
    let depth = circuit.graph().depths().iter().max().copied().unwrap_or(0);
    let blocks = circuit.plan().blocks.len();
    println!(
        "\nHCLT, 784 variables, {CATEGORIES} categories, {states} states, batch {BATCH}; depth {depth}, {blocks} blocks"
    );
    let data = values(&[BATCH, 784], &mut rng);
    let gflop = flops(&circuit) * BATCH as f64 / 1e9;
    println!(
        "  {:>11} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>9}",
        "micro-batch", "forward", "flows", "M-step", "step ms", "examples/s", "GFLOP/s", "bmm", "layers", "step/bmm"
    );
    let mut best = (f64::INFINITY, 0);
    for micro in [256, 128, 64, 32, 16] {
        let [forward, flows, m_step, whole, plain, layers] = measure(&mut circuit, &data, micro);
        println!(
            "  {micro:>11} {forward:>9.1} {flows:>9.1} {m_step:>9.1} {whole:>9.1} {:>11.0} {:>9.1} {:>9.1} {:>8.0}% {:>8.1}x",
            BATCH as f64 / whole * 1e3,
            gflop / whole * 1e3,
            gflop / plain * 1e3,
            100.0 * plain / layers,
            whole / plain
        );
        if whole < best.0 {
            best = (whole, micro);
        }
    }
    println!("  best micro-batch: {}", best.1);
}

/// Milliseconds, medians: forward, flows, M-step, all three, and the step's matrix products as plain ones and as the
/// passes call them.
fn measure(circuit: &mut Circuit, data: &Tensor, micro: i64) -> [f64; 6] {
    let marginals = em::uniform_marginals(circuit.plan(), circuit);
    let mut learner = Learner::new(&EmConfig::default(), InputFamily::Categorical, 6e4, circuit, marginals);
    let mut products = Products::new(circuit, micro);
    let mut rounds = Vec::new();
    for _ in 0..REPEATS {
        let [forward, flows, m_step] = em_step(circuit, &mut learner, data, micro);
        let (plain, layers) = (median(1, || products.plain()), median(1, || products.layers()));
        rounds.push([forward, flows, m_step, forward + flows + m_step, plain, layers]);
    }
    std::array::from_fn(|column| {
        let mut seconds: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        seconds.sort_by(f64::total_cmp);
        1e3 * seconds[REPEATS / 2]
    })
}

/// Seconds of forward, flows and M-step of one EM step.
fn em_step(circuit: &mut Circuit, learner: &mut Learner, data: &Tensor, micro: i64) -> [f64; 3] {
    let start = clock();
    let mut statistics = Statistics::new(circuit);
    let weights = Tensor::ones([micro, 1], (Kind::Float, Device::Cpu));
    let mut forward = 0.0;
    for chunk in data.split(micro, 0) {
        let now = clock();
        let evidence = Evidence::shared(&chunk, None, circuit.plan()).expect("values in range");
        let messages = circuit.forward(&evidence, true).expect("evidence fits");
        forward += clock() - now;
        black_box(circuit.flows(&messages, &weights, &mut statistics));
    }
    let passes = clock() - start;
    learner.step(circuit, statistics, 0.5);
    [forward, passes - forward, clock() - start - passes]
}

/// The operands of all matrix products of a step.
struct Products {
    /// By block: messages `[R, B, K]`, flows from above `[R, B, K']`, tables `[R, K', K]`, the same as `[R, K, K']`, counts.
    blocks: Vec<[Tensor; 5]>,
    chunks: i64,
}

impl Products {
    fn new(circuit: &Circuit, micro: i64) -> Self {
        let ones = |shape: [i64; 3]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let block = |block: &Block| {
            let (r, k, above) = (block.regions.len() as i64, block.states, parent_states(circuit, block.pool));
            [[r, micro, k], [r, micro, above], [r, above, k], [r, k, above], [r, above, k]].map(ones)
        };
        Self { blocks: circuit.plan().blocks.iter().map(block).collect(), chunks: BATCH / micro }
    }

    /// Plain products of contiguous `[R, B, K] x [R, K, K']` with as many flops as a step.
    fn plain(&self) {
        for [messages, _, _, turned, _] in (0..3 * self.chunks).flat_map(|_| &self.blocks) {
            let _ = black_box(messages.bmm(turned));
        }
    }

    /// The products as the passes call them.
    fn layers(&mut self) {
        for _ in 0..self.chunks {
            for [messages, above, tables, _, counts] in &mut self.blocks {
                let _ = black_box(messages.bmm(&tables.transpose(1, 2)));
                let _ = black_box(above.bmm(tables));
                let _ = counts.baddbmm_(&above.transpose(1, 2), messages);
            }
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

fn forest(seeing: Seeing) {
    const TREES: i64 = 64;
    const VARIABLES: i64 = 48;
    let mut rng = random::rng(0, "bench forest", 0);
    let trees: Vec<Parents> = (0..TREES).map(|_| grid_tree(4, 12, &mut rng)).collect();
    let circuit = circuit(&trees, 16, &mut rng);
    let blocks = circuit.plan().blocks.len();
    println!(
        "\nforest of {TREES} trees, {VARIABLES} variables, {CATEGORIES} categories, 16 states; {blocks} blocks; evidence {seeing:?}"
    );
    println!("  {:>11} {:>16} {:>23}", "patches", "forward patch/s", "forward+flows patch/s");
    for batch in [16, 32, 64, 128, 256, 512] {
        let data = match seeing {
            Seeing::Same => values(&[batch, VARIABLES], &mut rng),
            Seeing::Own => values(&[TREES, batch, VARIABLES], &mut rng),
        };
        let see = || match seeing {
            Seeing::Same => Evidence::shared(&data, None, circuit.plan()),
            Seeing::Own => Evidence::per_tree(&data, None, circuit.plan()),
        };
        let weights = Tensor::full([batch, TREES], 1.0 / TREES as f64, (Kind::Float, Device::Cpu));
        let repeats = (1024 / batch).max(3) as usize;
        let forward = median(repeats, || {
            let _ = black_box(circuit.log_likelihood(&see().expect("values in range")).expect("evidence fits"));
        });
        let mut statistics = Statistics::new(&circuit);
        let both = median(repeats, || {
            let messages = circuit.forward(&see().expect("values in range"), true).expect("evidence fits");
            circuit.flows(&messages, &weights, &mut statistics);
        });
        println!("  {batch:>11} {:>16.0} {:>23.0}", batch as f64 / forward, batch as f64 / both);
    }
}
