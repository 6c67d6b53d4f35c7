//! An independent reference: float64, log space, one example at a time, plain vectors, no batching.
//!
//! Tables are kept by tie, apart from the engine's tensors; [`install`] and [`read`] are the only bridge between both.
#![allow(dead_code, reason = "every test binary uses its own part of the oracle")]

pub mod em;
pub mod random;
pub mod reference;

use std::collections::BTreeMap;

use lvd::circuit::Circuit;
use lvd::circuit::parameters::Parameters;
use lvd::circuit::plan::{Block, BlockInput, Plan, Select};
use lvd::structure::region_graph::{InputKind, RegionGraph};
use tch::{Kind, Tensor};

/// Numbers in rows.
pub type Matrix = Vec<Vec<f64>>;

/// Probabilities, or counts, by tie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// `[parent state][state]`.
    pub edges: BTreeMap<usize, Matrix>,
    /// `[value][state]`.
    pub inputs: BTreeMap<usize, Matrix>,
}

impl Tables {
    /// All zeros, in the shapes of a graph.
    pub fn zeros(graph: &RegionGraph) -> Self {
        let mut all = Self::default();
        for (r, region) in graph.regions().iter().enumerate() {
            all.edges.insert(region.tie, vec![vec![0.0; region.states]; graph.parent_states(r)]);
            if let Some(input) = region.input
                && let InputKind::Discrete { categories } = input.kind
            {
                all.inputs.insert(input.tie, vec![vec![0.0; region.states]; categories]);
            }
        }
        all
    }

    /// Entry by entry with another set of tables.
    pub fn zip(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        let matrix = |a: &Matrix, b: &Matrix| -> Matrix {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| combine(a, b)).collect()).collect()
        };
        let all = |a: &BTreeMap<usize, Matrix>, b: &BTreeMap<usize, Matrix>| {
            a.iter().map(|(tie, a)| (*tie, matrix(a, &b[tie]))).collect()
        };
        Self { edges: all(&self.edges, &other.edges), inputs: all(&self.inputs, &other.inputs) }
    }

    /// All numbers in a fixed order.
    pub fn flat(&self) -> Vec<f64> {
        self.edges.values().chain(self.inputs.values()).flatten().flatten().copied().collect()
    }
}

/// Write tables into a circuit.
pub fn install(circuit: &mut Circuit, tables: &Tables) {
    let graph = circuit.graph().clone();
    circuit.update(|parameters, plan| {
        for (block, row, r) in rows(plan) {
            let region = &graph.regions()[r];
            parameters.edges[block.pool].get(table(block, row)).copy_(&tensor(&tables.edges[&region.tie]));
            if let (Some((pool, start)), Some(input)) = (first_value(block, row), region.input) {
                let values = &tables.inputs[&input.tie];
                parameters.inputs[pool].narrow(0, start, values.len() as i64).copy_(&tensor(values));
            }
        }
    });
}

/// Read tables, or counts, laid out as those of a circuit.
pub fn read(circuit: &Circuit, parameters: &Parameters) -> Tables {
    let mut all = Tables::zeros(circuit.graph());
    for (block, row, r) in rows(circuit.plan()) {
        let region = &circuit.graph().regions()[r];
        all.edges.insert(region.tie, matrix(&parameters.edges[block.pool].get(table(block, row))));
        if let (Some((pool, start)), Some(input)) = (first_value(block, row), region.input) {
            let values = all.inputs.get_mut(&input.tie).expect("shapes of the graph");
            *values = matrix(&parameters.inputs[pool].narrow(0, start, values.len() as i64));
        }
    }
    all
}

/// The largest difference, relative where numbers are above 1; infinite where one is not a number.
pub fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference = |(a, b): (&f64, &f64)| {
        let d = (a - b).abs() / b.abs().max(1.0);
        match d.is_nan() {
            true if a.is_infinite() && a.total_cmp(b).is_eq() => 0.0,
            true => f64::INFINITY,
            false => d,
        }
    };
    found.iter().zip(expected).map(difference).fold(0.0, f64::max)
}

/// All numbers of a tensor.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1)).expect("a tensor of numbers")
}

/// A tensor `[rows, columns]`, float64.
pub fn tensor(matrix: &Matrix) -> Tensor {
    Tensor::from_slice(&matrix.concat()).view([matrix.len() as i64, -1])
}

fn matrix(tensor: &Tensor) -> Matrix {
    let columns = tensor.size()[1] as usize;
    numbers(tensor).chunks(columns).map(<[f64]>::to_vec).collect()
}

fn rows(plan: &Plan) -> impl Iterator<Item = (&Block, usize, usize)> {
    plan.blocks.iter().flat_map(|b| b.regions.iter().enumerate().map(move |(row, &r)| (b, row, r)))
}

fn table(block: &Block, row: usize) -> i64 {
    match &block.tables {
        Select::Range(start, _) => start + row as i64,
        Select::Rows(rows) => rows.int64_value(&[row as i64]),
    }
}

fn first_value(block: &Block, row: usize) -> Option<(usize, i64)> {
    match &block.input {
        Some(BlockInput::Discrete { pool, offsets, .. }) => Some((*pool, offsets.int64_value(&[row as i64, 0]))),
        _ => None,
    }
}
