//! EM steps by counting: the formulas of `lvd::em` on plain tables.

use std::collections::BTreeMap;

use lvd::circuit::FLOOR;
use lvd::structure::region_graph::RegionGraph;

use super::{Matrix, Tables};

/// A Dirichlet prior: even pseudocounts of edge rows, and those of input columns, even over the values.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    pub edges: f64,
    pub inputs: f64,
}

/// `normalise(counts + scale * prior)`, lifted by the floor that no probability is below.
pub fn normalise(counts: &Tables, prior: Prior, scale: f64) -> Tables {
    let mut tables = counts.clone();
    for row in tables.edges.values_mut().flatten() {
        let pseudocount = scale * prior.edges / row.len() as f64;
        let total: f64 = row.iter().map(|c| c + pseudocount).sum();
        let share = 1.0 - row.len() as f64 * FLOOR;
        for c in row {
            *c = share * (*c + pseudocount) / total + FLOOR;
        }
    }
    for table in tables.inputs.values_mut() {
        let pseudocount = scale * prior.inputs / table.len() as f64;
        for state in 0..table[0].len() {
            let total: f64 = table.iter().map(|row| row[state] + pseudocount).sum();
            let share = 1.0 - table.len() as f64 * FLOOR;
            for row in table.iter_mut() {
                row[state] = share * (row[state] + pseudocount) / total + FLOOR;
            }
        }
    }
    tables
}

/// Counts of the inputs with those of their back-off: `pseudocount` more, in a state's own share of each run of `run`
/// neighbouring values, even inside of the run.
pub fn back_off(counts: &Tables, pseudocount: f64, run: usize) -> Tables {
    let mut tables = counts.clone();
    for table in tables.inputs.values_mut() {
        for state in 0..table[0].len() {
            let all: f64 = table.iter().map(|row| row[state]).sum();
            if all == 0.0 {
                continue;
            }
            for values in table.chunks_mut(run) {
                let share = values.iter().map(|row| row[state]).sum::<f64>() / all;
                let each = pseudocount * share / values.len() as f64;
                for row in values {
                    row[state] += each;
                }
            }
        }
    }
    tables
}

/// log of the (improper) Dirichlet density of tables, up to a constant.
pub fn log_prior(tables: &Tables, prior: Prior) -> f64 {
    let all = |tables: &BTreeMap<usize, Matrix>, strength: f64, cells: &dyn Fn(&Matrix) -> usize| -> f64 {
        let one = |t: &Matrix| strength / cells(t) as f64 * t.iter().flatten().map(|p| p.ln()).sum::<f64>();
        tables.values().map(one).sum()
    };
    all(&tables.edges, prior.edges, &|t| t[0].len()) + all(&tables.inputs, prior.inputs, &Vec::len)
}

/// `TD(n) theta(n, c)`: expected use of every entry when `roots[tree]` is the weight of each tree.
pub fn top_down(graph: &RegionGraph, tables: &Tables, roots: &[f64]) -> Tables {
    let mut joint = Tables::zeros(graph);
    let mut order: Vec<usize> = (0..graph.regions().len()).collect();
    order.sort_by_key(|&r| graph.depths()[r]);
    let mut probabilities: Vec<Vec<f64>> = vec![Vec::new(); order.len()];
    for r in order {
        let region = &graph.regions()[r];
        let above = region.parent.map_or_else(|| vec![roots[graph.trees()[r]]], |p| probabilities[p].clone());
        let mut mine = vec![0.0; region.states];
        for (j, row) in tables.edges[&region.tie].iter().enumerate() {
            for (k, w) in row.iter().enumerate() {
                joint.edges.get_mut(&region.tie).expect("shapes")[j][k] += above[j] * w;
                mine[k] += above[j] * w;
            }
        }
        if let Some(table) = region.input.and_then(|i| tables.inputs.get(&i.tie).map(|t| (i.tie, t))) {
            let target = joint.inputs.get_mut(&table.0).expect("shapes");
            for (target, row) in target.iter_mut().zip(table.1) {
                target.iter_mut().zip(row).zip(&mine).for_each(|((t, p), m)| *t += p * m);
            }
        }
        probabilities[r] = mine;
    }
    joint
}
