//! Circuits as tensors: a region graph's tables, its upward pass (likelihoods) and its downward pass (flows).
//!
//! Regions of one depth and one shape form a **block** and are evaluated by one batched matrix product. Numbers are
//! probabilities in linear space: every message is divided by its sum over the states, whose logarithm goes into a float64
//! total per example. That is safe as long as no table entry is below [`FLOOR`], which `em` guarantees for what it
//! makes: between two divisions a message shrinks by at most `FLOOR.powi(3)`, which float32 can hold. States more than
//! about 80 nats below the best of their region vanish, harmlessly.
//!
//! On the CPU, likelihoods and flows of discrete inputs come from a walk over the trees instead ([`cpu`]).

pub mod plan;
pub mod parameters;
pub mod evidence;
pub mod cpu;
pub mod forward;
pub mod flows;
pub mod moments;
pub mod mixing;
pub mod sample;
pub mod maximise;
pub mod tree_tables;
pub mod by_variable;
pub mod prune;
pub mod grow;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::structure::region_graph::RegionGraph;
use cpu::Walk;
use parameters::Parameters;
use plan::Plan;

/// No probability that `em` makes is smaller than this (before the final normalisation of its row).
pub const FLOOR: f64 = 1e-10;

/// A region graph with its tables.
#[derive(Debug)]
pub struct Circuit {
    graph: RegionGraph,
    plan: Plan,
    parameters: Parameters,
    /// Input tables with rows divided by their largest entry, and the logarithms of those; none where trees are walked, whose
    /// other passes are few and divide the rows that they read.
    scaled: Vec<(Tensor, Tensor)>,
    /// The trees for the CPU, where they can be walked.
    walk: Option<Walk>,
}

impl Circuit {
    /// A circuit whose tables are all uniform, of the given precision, on the device.
    #[must_use]
    pub fn uniform(graph: RegionGraph, kind: Kind, device: Device) -> Self {
        let plan = Plan::new(&graph, device);
        let parameters = Parameters::uniform(&plan, kind, device);
        let walk = Walk::new(&graph, &plan, kind, device);
        let mut circuit = Self { graph, plan, parameters, scaled: Vec::new(), walk };
        circuit.update(|_, _| ());
        circuit
    }

    /// The regions.
    #[must_use]
    pub fn graph(&self) -> &RegionGraph {
        &self.graph
    }

    /// How the regions are evaluated.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The tables.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Change the tables in place.
    pub fn update<T>(&mut self, change: impl FnOnce(&mut Parameters, &Plan) -> T) -> T {
        let _guard = tch::no_grad_guard();
        let result = change(&mut self.parameters, &self.plan);
        match &mut self.walk {
            Some(walk) => walk.update(&self.parameters),
            None => self.scale_inputs(),
        }
        result
    }

    fn scale_inputs(&mut self) {
        let empty = |inputs: &Tensor| (inputs.empty_like(), Tensor::new());
        if self.scaled.is_empty() {
            self.scaled = self.parameters.inputs.iter().map(empty).collect();
        }
        for (inputs, (scaled, logarithms)) in self.parameters.inputs.iter().zip(&mut self.scaled) {
            let top = inputs.amax(-1, true).clamp_min_(f64::from(f32::MIN_POSITIVE));
            let _ = inputs.div_out(scaled, &top);
            *logarithms = top.squeeze_dim(-1).log_();
        }
    }

    /// Device of the tables.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.edges[0].device()
    }

    /// Precision of the tables and messages.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.parameters.edges[0].kind()
    }

    /// log p(evidence) in nats under every head of every tree of the forest: float64 `[B, T * heads]`.
    ///
    /// # Errors
    /// When the evidence does not fit the graph.
    pub fn log_likelihood(&self, evidence: &evidence::Evidence) -> Result<Tensor> {
        let walked = self.walk.as_ref().and_then(|walk| walk.log_likelihood(evidence, &self.parameters));
        match walked {
            Some(found) => Ok(evidence.without_the_silent(&self.plan, found)),
            None => Ok(self.forward(evidence, false)?.log_likelihood),
        }
    }
}
