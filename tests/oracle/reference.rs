//! Likelihoods and flows by the textbook, region by region.

use lvd::structure::region_graph::RegionGraph;

use super::{Matrix, Tables};

/// What is known of one variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Nothing.
    Missing,
    /// Its value.
    Value(usize),
    /// Log-likelihoods of the states that read it.
    Soft(Vec<f64>),
}

/// A graph with tables.
pub struct Reference<'a> {
    graph: &'a RegionGraph,
    tables: &'a Tables,
    children: Vec<Vec<usize>>,
}

impl<'a> Reference<'a> {
    pub fn new(graph: &'a RegionGraph, tables: &'a Tables) -> Self {
        let mut children = vec![Vec::new(); graph.regions().len()];
        for (r, region) in graph.regions().iter().enumerate() {
            region.parent.into_iter().for_each(|p| children[p].push(r));
        }
        Self { graph, tables, children }
    }

    /// log p(seen) under one tree.
    pub fn log_likelihood(&self, tree: usize, seen: &[Seen]) -> f64 {
        let root = self.graph.roots()[tree];
        self.sum(root, &self.messages(root, seen)[root])[0]
    }

    /// Add `weight` times the expected counts of one example to `counts`, and to `posterior` `[variable][state]` those of
    /// the states with soft inputs.
    pub fn add_flows(
        &self,
        tree: usize,
        seen: &[Seen],
        weight: f64,
        counts: &mut Tables,
        mut posterior: Option<&mut Matrix>,
    ) {
        let root = self.graph.roots()[tree];
        let messages = self.messages(root, seen);
        let mut open = vec![(root, vec![weight])];
        while let Some((r, above)) = open.pop() {
            let region = &self.graph.regions()[r];
            let total = self.sum(r, &messages[r]);
            let mut flow = vec![0.0; region.states];
            for (j, row) in self.tables.edges[&region.tie].iter().enumerate() {
                for (k, w) in row.iter().enumerate() {
                    let edge = if total[j] > f64::NEG_INFINITY {
                        above[j] * (w.ln() + messages[r][k] - total[j]).exp()
                    } else {
                        0.0
                    };
                    counts.edges.get_mut(&region.tie).expect("shapes")[j][k] += edge;
                    flow[k] += edge;
                }
            }
            if let Some(input) = region.input {
                let target = match (&seen[input.variable], &mut posterior) {
                    (Seen::Value(x), _) => Some(&mut counts.inputs.get_mut(&input.tie).expect("shapes")[*x]),
                    (Seen::Soft(_), Some(posterior)) => Some(&mut posterior[input.variable]),
                    _ => None,
                };
                target.into_iter().flatten().zip(&flow).for_each(|(t, f)| *t += f);
            }
            open.extend(self.children[r].iter().map(|&c| (c, flow.clone())));
        }
    }

    /// The logarithms of `m_r` for every region below and with `root`.
    fn messages(&self, root: usize, seen: &[Seen]) -> Matrix {
        let mut messages = vec![Vec::new(); self.graph.regions().len()];
        self.fill(root, seen, &mut messages);
        messages
    }

    fn fill(&self, r: usize, seen: &[Seen], messages: &mut Matrix) {
        let region = &self.graph.regions()[r];
        let mut message = vec![0.0; region.states];
        if let Some(input) = region.input {
            for (k, m) in message.iter_mut().enumerate() {
                *m = match &seen[input.variable] {
                    Seen::Missing => 0.0,
                    Seen::Value(x) => self.tables.inputs[&input.tie][*x][k].ln(),
                    Seen::Soft(given) => given[k],
                };
            }
        }
        for &child in &self.children[r] {
            self.fill(child, seen, messages);
            message.iter_mut().zip(self.sum(child, &messages[child])).for_each(|(m, s)| *m += s);
        }
        messages[r] = message;
    }

    /// The logarithm of `sum_k W[j, k] m(k)` for every state j of the parent.
    fn sum(&self, r: usize, message: &[f64]) -> Vec<f64> {
        let row = |row: &Vec<f64>| log_sum_exp(row.iter().zip(message).map(|(w, m)| w.ln() + m));
        self.tables.edges[&self.graph.regions()[r].tie].iter().map(row).collect()
    }
}

fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY { top } else { top + terms.map(|t| (t - top).exp()).sum::<f64>().ln() }
}
