//! The same numbers on every device: likelihoods, flows, EM steps, Gaussians and k-means in float32, on the CPU and on a
//! GPU where there is one, against float64 references on the CPU. Without a GPU the tests named `cuda` say that they skip.

mod oracle;

use lvd::circuit::Circuit;
use lvd::circuit::evidence::Evidence;
use lvd::circuit::flows::Statistics;
use lvd::device::{self, DeviceChoice};
use lvd::em::{self, EmConfig, InputFamily, Learner, Rule};
use lvd::group::Alone;
use lvd::latents::{FeatureChunks, KMeansConfig};
use lvd::patch::config::GaussianConfig;
use lvd::patch::gaussian::{GaussianPatches, start};
use lvd::patch::{Infer, Learn};
use lvd::structure::hclt::{self, Tying};
use lvd::structure::region_graph::RegionGraph;
use oracle::random::{self, Case};
use oracle::reference::{Reference, Seen};
use oracle::{Matrix, Tables, distance, numbers, read, tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;

/// One test for every device and body.
macro_rules! on_every_device {
    ($($body:ident),* $(,)?) => {
        mod cpu {
            $(#[test] fn $body() { super::$body(tch::Device::Cpu); })*
        }
        mod cuda {
            $(#[test] fn $body() {
                match super::gpu() {
                    Some(device) => super::$body(device),
                    None => eprintln!("skipped: no GPU that libtorch can use"),
                }
            })*
        }
    };
}

on_every_device!(
    likelihoods_and_flows,
    posteriors_of_soft_evidence,
    em_steps,
    densities_and_em_of_gaussians,
    centres_of_k_means
);

fn gpu() -> Option<Device> {
    device::open(DeviceChoice::Auto, None).ok().filter(|device| device.is_cuda())
}

/// A circuit in float32 on the device, with the reference's tables.
fn circuit(graph: &RegionGraph, tables: &Tables, device: Device) -> Circuit {
    let mut circuit = Circuit::uniform(graph.clone(), Kind::Float, device);
    oracle::install(&mut circuit, tables);
    circuit
}

/// What the reference says of a batch: log-likelihoods `[B][T]` and counts.
fn expected(graph: &RegionGraph, tables: &Tables, seen: &[Vec<Vec<Seen>>], weights: &Matrix) -> (Vec<f64>, Tables) {
    let reference = Reference::new(graph, tables);
    let mut counts = Tables::zeros(graph);
    let mut nats = Vec::new();
    for (b, weights) in weights.iter().enumerate() {
        for (t, batch) in seen.iter().enumerate() {
            nats.push(reference.log_likelihood(t, &batch[b]));
            reference.add_flows(t, &batch[b], weights[t], &mut counts, None);
        }
    }
    (nats, counts)
}

fn likelihoods_and_flows(device: Device) {
    for (seed, trees) in [(1, 1), (2, 5), (3, 40)] {
        let case = Case::new(seed, trees, 6, 33);
        let mut rng = case.rng();
        let graph = random::forest(&case, &mut rng);
        let tables = random::tables(&graph, 3.0, &mut rng);
        let seen = random::seen(&case, &graph, &mut rng);
        let weights = random::weights(&case, &mut rng);
        let (nats, counts) = expected(&graph, &tables, &seen, &weights);
        let circuit = circuit(&graph, &tables, device);
        let messages = circuit.forward(&random::evidence(&case, &seen, circuit.plan()), true).unwrap();
        assert!(distance(&numbers(&messages.log_likelihood), &nats) < TOLERANCE, "{trees} trees");
        let mut statistics = Statistics::new(&circuit);
        let _ = circuit.flows(&messages, &tensor(&weights).to_device(device), &mut statistics);
        let found = read(&circuit, &statistics.into_counts(&circuit));
        assert!(distance(&found.flat(), &counts.flat()) < TOLERANCE, "{trees} trees");
    }
}

fn posteriors_of_soft_evidence(device: Device) {
    let graph = hclt::latent_tree(&vec![Some(1), None, Some(1), Some(2)], 2, 3, None, Tying::Untied).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let tables = random::tables(&graph, 2.0, &mut rng);
    let reference = Reference::new(&graph, &tables);
    let examples: Vec<Vec<Vec<f64>>> =
        (0..20).map(|_| (0..4).map(|_| (0..3).map(|_| rng.random_range(-300.0..0.0)).collect()).collect()).collect();
    let mut posteriors = Vec::new();
    for example in &examples {
        let seen: Vec<Seen> = example.iter().map(|v| Seen::Soft(v.clone())).collect();
        let mut posterior = vec![vec![0.0; 3]; 4];
        reference.add_flows(0, &seen, 1.0, &mut Tables::zeros(&graph), Some(&mut posterior));
        posteriors.extend(posterior.concat());
    }
    let circuit = circuit(&graph, &tables, device);
    let soft = Tensor::from_slice(&examples.concat().concat()).view([20, 4, 3]).to_device(device);
    let messages = circuit.forward(&Evidence::soft(&soft, circuit.plan()).unwrap(), true).unwrap();
    assert!(distance(&numbers(&circuit.posterior(&messages).unwrap()), &posteriors) < TOLERANCE);
}

fn em_steps(device: Device) {
    for rule in [Rule::Average, Rule::Decayed, Rule::Anemone { share: 0.4, momentum: 0.9 }] {
        let case = Case::new(5, 3, 5, 40);
        let mut rng = case.rng();
        let graph = random::forest(&case, &mut rng);
        let tables = random::tables(&graph, 2.0, &mut rng);
        let seen = random::seen(&case, &graph, &mut rng);
        let stepped = |kind: Kind, device: Device| {
            let mut circuit = Circuit::uniform(graph.clone(), kind, device);
            oracle::install(&mut circuit, &tables);
            let config = EmConfig { rule, ..EmConfig::default() };
            let marginals = em::uniform_marginals(circuit.plan(), &circuit);
            let mut learner = Learner::new(&config, InputFamily::Categorical, 120.0, &circuit, marginals);
            for _ in 0..3 {
                let messages = circuit.forward(&random::evidence(&case, &seen, circuit.plan()), true).unwrap();
                let mut statistics = Statistics::new(&circuit);
                let _ = circuit.flows(&messages, &messages.log_likelihood.ones_like(), &mut statistics);
                learner.step(&mut circuit, statistics, 0.5);
            }
            read(&circuit, circuit.parameters()).flat()
        };
        let apart = distance(&stepped(Kind::Float, device), &stepped(Kind::Double, Device::Cpu));
        assert!(apart < TOLERANCE, "{rule:?}: {apart}");
    }
}

fn densities_and_em_of_gaussians(device: Device) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut patches = |level: f64| {
        let values: Vec<f64> = (0..600 * 8)
            .map(|i| level + 3.0 * f64::from(i % 8) + rng.random_range(0.0..20.0) * rng.random::<f64>())
            .collect();
        Tensor::from_slice(&values).view([600, 8])
    };
    let members = [patches(20.0), patches(90.0)];
    let all = Tensor::cat(&members, 0);
    let trained = |double: bool, device: Device| {
        let config = GaussianConfig { scales: 3, double, ordered_window: 1e9, ..GaussianConfig::default() };
        let mut model: GaussianPatches = start::from_members(&config, &members, &[(0, 255); 8], device).unwrap();
        let seen = model.complete(&all.to_device(device));
        model.begin(&EmConfig::default(), 1200.0);
        for _ in 0..3 {
            let posterior = model.log_likelihood(&seen).unwrap().softmax(1, Kind::Double);
            model.accumulate(&seen, &posterior).unwrap();
            model.step(0.5);
        }
        let few = model.complete(&all.narrow(0, 550, 100).to_device(device));
        let half = Tensor::from_slice(&[true, true, false, true, false, false, true, true]);
        let ordered = lvd::patch::PatchEvidence::new(
            &all.narrow(0, 550, 100).to_kind(Kind::Int64).to_device(device),
            lvd::patch::Reading::Ordered,
        );
        let mut found = numbers(&model.log_likelihood(&few).unwrap());
        found.extend(numbers(&model.log_likelihood(&few.with_observed(&half)).unwrap()));
        // Of the other cluster's patches the ordered reading is far in the tails.
        found.extend(numbers(&model.log_likelihood(&ordered).unwrap().amax([1i64].as_slice(), false)));
        found
    };
    let apart = distance(&trained(false, device), &trained(true, Device::Cpu));
    assert!(apart < TOLERANCE, "{apart}");
}

struct Points(Tensor);

impl FeatureChunks for Points {
    fn count(&self) -> usize {
        self.0.size()[0] as usize
    }

    fn patches(&self) -> usize {
        1
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.0.split(64, 0).into_iter().try_for_each(visit)
    }
}

fn centres_of_k_means(device: Device) {
    // Three blobs far apart: rounding cannot move a point from one to another.
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let values: Vec<f32> = (0..300 * 4).map(|i| (i / 4 % 3 * 100) as f32 + rng.random_range(0.0..10.0f32)).collect();
    let points = Points(Tensor::from_slice(&values).view([300, 4]).to_device(device));
    let codebook = KMeansConfig { clusters: 3, ..KMeansConfig::default() }.fit(&points, 1, &Alone).unwrap();
    let mut found: Vec<Vec<f64>> = numbers(&codebook.centres).chunks(4).map(<[f64]>::to_vec).collect();
    found.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut means = vec![vec![0.0; 4]; 3];
    for (i, value) in values.iter().enumerate() {
        means[i / 4 % 3][i % 4] += f64::from(*value) / 100.0;
    }
    assert!(distance(&found.concat(), &means.concat()) < TOLERANCE);
    assert_eq!(codebook.centres.device(), device);
}
