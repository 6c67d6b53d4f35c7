//! Hidden Chow-Liu trees, variable by variable: `P(x_v | seen)` of every tree that is still possible, mixed by their weights.
//!
//! Heads of one tree differ in the distribution of the root's state only, so a mixture of them is one tree whose root has
//! the mixture of theirs; heads are told apart when the patch is complete.

use anyhow::Result;

use super::filter::{Filter, Tree, depth_first, dot};
use super::tables::{doubles, floats, tree};
use super::walk::{Boundary, PatchWalk, Walk, normalise, reweigh, reweigh_entries};
use crate::require;
use crate::run::checkpoint::Named;

/// The parameters of all trees.
#[derive(Debug)]
pub struct Forest {
    trees: Vec<Tree>,
    heads: usize,
    states: usize,
    /// p(state of the root) `[T, E, H]`.
    roots: Vec<f64>,
    /// p(value | state) `[T, D, V, H]`.
    inputs: Vec<f32>,
    /// The most values of a variable: V.
    most: usize,
    /// Values of every variable.
    symbols: Vec<usize>,
    /// The variables in the order of the walk.
    order: Vec<usize>,
}

impl Forest {
    /// From a model's tensors (docs/format.md) and the inclusive ranges of a patch's variables. One tree is walked depth
    /// first, so that beliefs travel along its edges, past the regions that observe nothing; several, which have no order in
    /// common, as a patch is read.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit, and where the parents are no tree.
    pub fn from_tensors(saved: &Named, ranges: &[(i64, i64)]) -> Result<Self> {
        let d = ranges.len();
        let parents = saved.integers("trees", &[-1, -1])?;
        let regions = saved.tensor("trees", &[-1, -1])?.size()[1].max(0) as usize;
        require!(
            regions >= d,
            "tensor {} of the checkpoint has {regions} regions a tree, expected one for each of {d} variables at least",
            saved.name("trees")
        );
        let t = parents.len() / regions;
        let (roots, sizes) = doubles(saved, "roots", &[t as i64, -1, -1])?;
        let (heads, states) = (sizes[1], sizes[2]);
        let (edges, _) = floats(saved, "edges", &[t as i64, regions as i64, states as i64, states as i64])?;
        let symbols: Vec<usize> = ranges.iter().map(|(low, high)| (high - low + 1) as usize).collect();
        let most = symbols.iter().copied().max().unwrap_or(1);
        let (inputs, _) = floats(saved, "inputs", &[t as i64, d as i64, most as i64, states as i64])?;
        require!(t > 0 && heads > 0 && states > 0, "the checkpoint holds no trees");
        let tables = edges.chunks_exact(regions * states * states);
        let trees =
            parents.chunks_exact(regions).zip(tables).map(|(parents, edges)| tree(parents, states, edges.to_vec()));
        let trees: Vec<Tree> = trees.collect::<Result<_>>()?;
        let mut order = if t == 1 { depth_first(&trees[0].parents).unwrap_or_default() } else { (0..d).collect() };
        order.retain(|&region| region < d);
        Ok(Self { trees, heads, states, roots, inputs, most, symbols, order })
    }

    /// Number of clusters K: heads of all trees.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.trees.len() * self.heads
    }

    /// The order of the walk.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// p(value | state) of a tree's variable: rows of values `[V, H]`.
    fn inputs(&self, tree: usize, variable: usize) -> &[f32] {
        let size = self.most * self.states;
        let start = (tree * self.symbols.len() + variable) * size;
        &self.inputs[start..start + self.symbols[variable] * self.states]
    }

    fn roots(&self, tree: usize) -> std::slice::ChunksExact<'_, f64> {
        let size = self.heads * self.states;
        self.roots[tree * size..(tree + 1) * size].chunks_exact(self.states)
    }
}

/// A tree that is still possible.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tree: usize,
    weight: f64,
}

/// A walk through the variables of one patch after the other.
#[derive(Debug)]
pub struct HcltWalk<'a> {
    model: &'a Forest,
    filters: Vec<Filter>,
    entries: Vec<Entry>,
    /// Beliefs about the next variable's state, `[H]` for every entry.
    beliefs: Vec<f64>,
    /// P(next < v), one more number than there are values.
    cumulative: Vec<f64>,
    next: usize,
    /// Weights of the heads that the patch began with `[K]`.
    prior: Vec<f64>,
    products: Vec<f64>,
    states: Vec<f64>,
}

impl<'a> HcltWalk<'a> {
    /// Walks through patches of this model.
    #[must_use]
    pub fn new(model: &'a Forest) -> Self {
        Self {
            model,
            filters: model.trees.iter().map(Filter::new).collect(),
            entries: Vec::new(),
            beliefs: Vec::new(),
            cumulative: Vec::new(),
            next: 0,
            prior: vec![0.0; model.clusters()],
            products: Vec::new(),
            states: vec![0.0; model.states],
        }
    }

    /// Beliefs and probabilities of the next variable.
    fn prepare(&mut self) {
        let Some(&variable) = self.model.order.get(self.next) else { return };
        let (model, states) = (self.model, self.model.states);
        self.beliefs.clear();
        self.cumulative.clear();
        self.cumulative.resize(model.symbols[variable] + 1, 0.0);
        for entry in &self.entries {
            let belief = self.filters[entry.tree].marginal(&model.trees[entry.tree], variable);
            self.beliefs.extend_from_slice(belief);
            let rows = model.inputs(entry.tree, variable).chunks_exact(states);
            for (sum, row) in self.cumulative[1..].iter_mut().zip(rows) {
                *sum += entry.weight * dot(row, belief);
            }
        }
        normalise(&mut self.cumulative[1..]);
        let mut sum = 0.0;
        for value in &mut self.cumulative {
            sum += *value;
            *value = sum;
        }
        *self.cumulative.last_mut().expect("a variable has values") = 1.0;
    }
}

impl Walk for HcltWalk<'_> {
    fn variable(&self) -> usize {
        self.model.order[self.next]
    }

    fn symbols(&self) -> usize {
        self.cumulative.len() - 1
    }

    fn boundary(&self, v: usize, out: &mut Boundary) {
        out.cumulative = self.cumulative[v];
    }

    fn guess(&self, share: f64) -> usize {
        self.cumulative.partition_point(|&below| below <= share).saturating_sub(1)
    }

    fn observe(&mut self, v: usize, _: &Boundary, _: &Boundary) -> f64 {
        let (model, states, variable) = (self.model, self.model.states, self.variable());
        let row = |tree: usize| &model.inputs(tree, variable)[v * states..(v + 1) * states];
        self.products.clear();
        let beliefs = self.beliefs.chunks_exact(states);
        self.products.extend(self.entries.iter().zip(beliefs).map(|(e, belief)| e.weight * dot(row(e.tree), belief)));
        let probability = reweigh_entries(&mut self.entries, &self.products, |entry, weight| Entry { weight, ..entry });
        if probability > 0.0 {
            for entry in &self.entries {
                self.states.iter_mut().zip(row(entry.tree)).for_each(|(out, &p)| *out = f64::from(p));
                self.filters[entry.tree].observe(&model.trees[entry.tree], variable, &self.states);
            }
        }
        self.next += 1;
        self.prepare();
        probability
    }
}

impl PatchWalk for HcltWalk<'_> {
    fn start(&mut self, log_weights: &[f64]) {
        let (model, heads) = (self.model, self.model.heads);
        let most = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (weight, log) in self.prior.iter_mut().zip(log_weights) {
            *weight = libm::exp(log - most);
        }
        normalise(&mut self.prior);
        self.products.clear();
        self.products.extend(self.prior.chunks_exact(heads).map(|heads| heads.iter().sum::<f64>()));
        let entries = &mut self.entries;
        entries.clear();
        reweigh(&self.products, |tree, weight| entries.push(Entry { tree, weight }));
        for entry in &self.entries {
            self.states.fill(0.0);
            let own = &self.prior[entry.tree * heads..(entry.tree + 1) * heads];
            for (root, weight) in model.roots(entry.tree).zip(own) {
                self.states.iter_mut().zip(root).for_each(|(sum, p)| *sum += weight * p);
            }
            normalise(&mut self.states);
            self.filters[entry.tree].start(&model.trees[entry.tree], &self.states);
        }
        self.next = 0;
        self.prepare();
    }

    fn evidence(&mut self, out: &mut [f64]) {
        let (model, heads) = (self.model, self.model.heads);
        out.fill(0.0);
        for entry in &self.entries {
            self.filters[entry.tree].likelihood(&model.trees[entry.tree], &mut self.states);
            let span = entry.tree * heads..(entry.tree + 1) * heads;
            let own = &mut out[span.clone()];
            let mut total = 0.0;
            for ((out, root), weight) in own.iter_mut().zip(model.roots(entry.tree)).zip(&self.prior[span]) {
                *out = root.iter().zip(&self.states).map(|(p, state)| p * state).sum();
                total += weight * *out;
            }
            let factor = if total >= f64::MIN_POSITIVE { entry.weight / total } else { 0.0 };
            for out in own {
                *out *= factor;
            }
        }
        normalise(out);
    }
}
