//! One round of `benches/peers/training.py`: likelihoods and an EM step of a hidden Chow-Liu tree on the first pictures of a file.
//!
//! Prints a line of JSON: the tree, free parameters, and pictures a second of likelihoods and of whole EM steps (likelihoods, flows,
//! statistics, M-step), by the clock and by the processor time of all threads. Nothing here is a test.

mod timing;

use std::hint::black_box;
use std::path::PathBuf;

use clap::Parser;
use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::circuit::parameters::Parameters;
use lvd::data::idx;
use lvd::em::{self, EmConfig, InputFamily, Learner};
use lvd::random;
use lvd::structure::{chow_liu, hclt};
use serde_json::json;
use tch::{Kind, Tensor};
use timing::{clock, medians, processor};

/// Pictures that the tree is learned from, and values of a pixel that it tells apart.
const EXAMPLES: usize = 1_000;
const BINS: i64 = 4;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    shared: timing::Options,
    /// Grey pictures, an IDX file.
    #[arg(long)]
    pictures: PathBuf,
    /// Hidden states of a variable.
    #[arg(long, default_value_t = 32)]
    states: usize,
    /// Pictures a step.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Steps of which the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

fn main() {
    let options = Options::parse();
    let device = options.shared.open();
    let _guard = tch::no_grad_guard();
    let pictures = idx::open(&options.pictures, 256).expect("an IDX file of grey pictures");
    let some = |count: usize| {
        let indices: Vec<usize> = (0..count.min(pictures.len())).collect();
        pictures.batch(&indices).expect("pictures that can be read").flatten(1, -1).to_kind(Kind::Int64)
    };
    let parents = chow_liu::chow_liu(&chow_liu::bin(&some(EXAMPLES), 0, 255, BINS), BINS, 1.0);
    let categories = vec![256; parents.len()];
    let graph = hclt::forest(std::slice::from_ref(&parents), options.states, &categories).expect("a tree");
    let mut circuit = Circuit::uniform(graph, Kind::Float, device);
    circuit.update(|parameters, plan| parameters.perturb(plan, 0.5, &mut random::rng(0, "bench", 0)));
    let parameters = Parameters::count(circuit.plan());
    let data = some(options.batch).to_device(device);
    let pictures = data.size()[0] as f64;
    let marginals = em::uniform_marginals(circuit.plan(), &circuit);
    let mut learner = Learner::new(&EmConfig::default(), InputFamily::Categorical, 6e4, &circuit, marginals);
    let weights = Tensor::ones([data.size()[0], 1], (Kind::Float, device));
    let mut rounds = Vec::new();
    for _ in 0..=options.repeats {
        let [before, used] = [clock(device), processor()];
        let evidence = Evidence::shared(&data, None, circuit.plan()).expect("values in range");
        drop(black_box(circuit.log_likelihood(&evidence).expect("evidence fits")));
        let [between, used_between] = [clock(device), processor()];
        let mut statistics = Statistics::new(&circuit);
        let evidence = Evidence::shared(&data, None, circuit.plan()).expect("values in range");
        let _ = black_box(circuit.accumulate(&evidence, &weights, &mut statistics).expect("evidence fits"));
        learner.step(&mut circuit, statistics, 0.1);
        let [after, used_after] = [clock(device), processor()];
        rounds.push([between - before, used_between - used, after - between, used_after - used_between]);
    }
    let [forward, forward_used, step, step_used] = medians(&rounds[1..]).map(|seconds| pictures / seconds);
    let tree: Vec<i64> = parents.iter().map(|parent| parent.map_or(-1, |parent| parent as i64)).collect();
    println!(
        "{}",
        json!({
            "parameters": parameters,
            "forward": [forward, forward_used],
            "step": [step, step_used],
            "tree": tree,
        })
    );
}
