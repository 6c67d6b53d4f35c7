//! Expected counts to new parameters: one EM step, its schedules and priors. No epoch loop, no data.
//!
//! With expected counts C of a batch, a Dirichlet prior of strength a spread as q over a row, and step size eta:
//!
//! ```text
//! average   theta <- (1 - eta) theta + eta normalise(C + a q)
//! decayed   S <- (1 - eta) S + eta C N / |batch|,          theta = normalise(S + a q)
//! anemone   theta <- normalise(h C / |batch| + (1 - h) TD theta + a q / N)      (Liu et al., arXiv 2505.19982)
//! ```
//!
//! Tables that a step makes are finite, normalised and nowhere below [`FLOOR`], but for edges that were cut (hard zeros),
//! which stay cut. Discretised logistics have means and scales instead of tables; [`logistic`] keeps those in bounds.

pub mod config;
pub mod back_off;
pub mod schedule;
pub mod top_down;
pub mod logistic;
pub mod in_place;

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::circuit::flows::Statistics;
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::Plan;
use crate::circuit::{Circuit, FLOOR};
use crate::require;
use crate::run::checkpoint::{Named, prefixed};
use back_off::BackOff;
pub use config::{EmConfig, InputFamily, Rule};
use logistic::Logistics;

/// Turns statistics into parameters, with what has to be remembered between steps.
#[derive(Debug)]
pub struct Learner {
    rule: Rule,
    pseudocount: f64,
    /// Pseudocounts of the inputs by row `[rows, 1]`.
    input_prior: Vec<Tensor>,
    back_off: Option<BackOff>,
    /// Examples in the whole data set.
    examples: f64,
    /// Decayed statistics, or momentum.
    memory: Option<Parameters>,
    /// Trees that remember nothing yet: at their first step they take what their tables stand for.
    fresh: BTreeSet<usize>,
    steps: u32,
    logistics: Option<Logistics>,
    /// Which edges are cut, for tables that have such.
    cut: Vec<Option<Tensor>>,
}

/// How a learner takes a step.
type Way = fn(&mut Learner, &mut Circuit, Statistics, f64);

impl Learner {
    /// A learner for a data set of `examples` examples. `marginals` holds, for every input pool, the distribution
    /// `[rows, 1]` that each table's pseudocount follows.
    #[must_use]
    pub fn new(
        config: &EmConfig,
        family: InputFamily,
        examples: f64,
        circuit: &Circuit,
        marginals: Vec<Tensor>,
    ) -> Self {
        let input_prior = marginals.into_iter().map(|m| m.to_kind(circuit.kind()) * config.input_pseudocount).collect();
        let logistics = (family == InputFamily::DiscretisedLogistic).then(|| Logistics::from_moments(circuit));
        Self {
            rule: config.rule,
            pseudocount: config.pseudocount,
            input_prior,
            back_off: None,
            examples,
            memory: None,
            fresh: if config.rule == Rule::Decayed {
                (0..circuit.plan().trees as usize).collect()
            } else {
                BTreeSet::new()
            },
            steps: 0,
            logistics,
            cut: cut(circuit),
        }
    }

    /// The same with inputs, of ordered values, that back off.
    #[must_use]
    pub fn with_back_off(self, back_off: Option<BackOff>) -> Self {
        Self { back_off, ..self }
    }

    /// One EM step of size `eta` in (0, 1] from the statistics of a batch; none from an empty batch.
    pub fn step(&mut self, circuit: &mut Circuit, statistics: Statistics, eta: f64) {
        let way = if self.goes_table_by_table(circuit) { Self::in_place } else { Self::by_passes };
        self.step_by(way, circuit, statistics, eta);
    }

    /// The same by libtorch's passes on every device: what the one pass over the tables is measured against.
    pub fn step_by_passes(&mut self, circuit: &mut Circuit, statistics: Statistics, eta: f64) {
        self.step_by(Self::by_passes, circuit, statistics, eta);
    }

    fn step_by(&mut self, way: Way, circuit: &mut Circuit, statistics: Statistics, eta: f64) {
        let _guard = tch::no_grad_guard();
        if statistics.weight <= 0.0 {
            return;
        }
        self.steps += 1;
        way(self, circuit, statistics, eta);
        if let Some(logistics) = &mut self.logistics {
            logistics.project(circuit);
        }
    }

    /// Whether [`in_place`] can take the step.
    fn goes_table_by_table(&self, circuit: &Circuit) -> bool {
        let known = match self.rule {
            Rule::Average => true,
            Rule::Decayed => self.memory.is_some() && self.fresh.is_empty(),
            Rule::Anemone { .. } => false,
        };
        known && circuit.kind() == Kind::Float && circuit.device() == Device::Cpu
    }

    fn in_place(&mut self, circuit: &mut Circuit, statistics: Statistics, eta: f64) {
        let weight = statistics.weight;
        let mut sums = statistics.into_sums(circuit);
        let rates = match self.rule {
            Rule::Average => [0.0, 1.0, eta],
            _ => [1.0 - eta, eta * self.examples / weight, 1.0],
        };
        let [keep, add, mix] = rates.map(|rate| rate as f32);
        let priors =
            in_place::Priors { edges: self.pseudocount, inputs: &self.input_prior, back_off: self.back_off.as_ref() };
        let memory = self.memory.as_mut();
        circuit.update(|tables, plan| {
            in_place::step(in_place::Rates { keep, add, mix }, &priors, plan, &mut sums, memory, tables);
        });
    }

    fn by_passes(&mut self, circuit: &mut Circuit, statistics: Statistics, eta: f64) {
        let weight = statistics.weight;
        let mut counts = statistics.into_counts(circuit);
        match self.rule {
            Rule::Average => {
                self.normalise(circuit, &mut counts, 1.0);
                circuit.update(|old, _| old.blend(1.0 - eta, &counts, eta));
            }
            Rule::Decayed => {
                self.begin_memory(circuit, &counts, 1.0 / weight);
                self.remember(circuit, &mut counts, 1.0 - eta, eta * self.examples / weight);
                self.normalise(circuit, &mut counts, 1.0);
                circuit.update(|old, _| *old = counts);
            }
            Rule::Anemone { share, momentum } => {
                self.remember(circuit, &mut counts, momentum, (1.0 - momentum) / weight);
                let correction = 1.0 / (1.0 - momentum.powi(self.steps as i32));
                let share = share * eta;
                let mut mixed = top_down::joint(circuit, &counts, correction);
                mixed.blend(1.0 - share, &counts, share * correction);
                self.normalise(circuit, &mut mixed, 1.0 / self.examples);
                circuit.update(|old, _| *old = mixed);
            }
        }
    }

    /// Let trees that remember nothing begin with what their tables stand for.
    fn begin_memory(&mut self, circuit: &Circuit, counts: &Parameters, scale: f64) {
        if self.fresh.is_empty() {
            return;
        }
        let present = self.present(circuit, counts, scale);
        match &self.memory {
            Some(memory) => self.fresh.iter().for_each(|&tree| circuit.copy_tree(memory, tree, circuit, &present)),
            None => self.memory = Some(present),
        }
        self.fresh.clear();
    }

    /// Take over what another learner of the same kind remembers of a tree that both circuits have.
    pub fn take_over(&mut self, circuit: &Circuit, other: &Self, others: &Circuit, tree: usize) {
        self.steps = other.steps;
        if let Some(theirs) = other.memory.as_ref().filter(|_| !other.fresh.contains(&tree)) {
            let zeros = || Parameters::zeros(circuit.plan(), circuit.kind(), circuit.device());
            circuit.copy_tree(self.memory.get_or_insert_with(zeros), tree, others, theirs);
            self.fresh.remove(&tree);
        }
    }

    /// The counts that the present parameters stand for, as if they had been learned from the whole data set; trees get
    /// the shares that the batch gave them.
    fn present(&self, circuit: &Circuit, counts: &Parameters, scale: f64) -> Parameters {
        let mut joint = top_down::joint(circuit, counts, scale);
        joint.scale(self.examples);
        joint
    }

    /// `memory <- keep * memory + add * counts`; the counts become a copy of the memory, whose buffers the new tables
    /// then take over: fresh ones of this size would cost more than the arithmetic.
    fn remember(&mut self, circuit: &Circuit, counts: &mut Parameters, keep: f64, add: f64) {
        let zeros = || Parameters::zeros(circuit.plan(), circuit.kind(), circuit.device());
        let memory = self.memory.get_or_insert_with(zeros);
        memory.blend(keep, counts, add);
        counts.assign(memory);
    }

    /// `counts <- normalise(counts + prior * scale)`; rows with neither counts nor prior take the circuit's tables.
    fn normalise(&self, circuit: &Circuit, counts: &mut Parameters, scale: f64) {
        let plan = circuit.plan();
        for (edges, old) in counts.edges.iter_mut().zip(&circuit.parameters().edges) {
            let states = edges.size()[2] as f64;
            let _ = edges.g_add_scalar_(self.pseudocount * scale / states);
            normalise_rows(edges, old, -1);
        }
        for (edges, cut) in counts.edges.iter_mut().zip(&self.cut) {
            if let Some(cut) = cut {
                let total = edges.masked_fill_(cut, 0.0).sum_dim_intlist(-1, true, edges.kind());
                let _ = edges.g_div_(&total);
            }
        }
        for (pool, shape) in plan.input_pools.iter().enumerate() {
            let inputs = &mut counts.inputs[pool];
            if let Some(back_off) = &self.back_off {
                shape.segments.iter().for_each(|segment| back_off.add(pool, segment, inputs, scale));
            }
            *inputs += &self.input_prior[pool] * scale;
            let old = &circuit.parameters().inputs[pool];
            for segment in &shape.segments {
                normalise_rows(&mut segment.values(inputs), &segment.values(old), 1);
                let _ = segment.of(inputs).narrow(1, segment.categories, 1).fill_(1.0);
            }
        }
    }

    /// Tensors that a later [`Learner::restore`] needs to go on as if nothing had happened, tree by tree (see
    /// [`Circuit::by_variable`]).
    #[must_use]
    pub fn state(&self, circuit: &Circuit) -> Vec<(String, Tensor)> {
        let trees = circuit.plan().trees;
        let fresh: Vec<i64> = (0..trees).map(|tree| i64::from(self.fresh.contains(&(tree as usize)))).collect();
        let mut named = vec![
            ("steps".to_owned(), Tensor::full([trees], i64::from(self.steps), (Kind::Int64, Device::Cpu))),
            ("fresh".to_owned(), Tensor::from_slice(&fresh)),
        ];
        if self.rule != Rule::Average {
            let nothing = || Parameters::zeros(circuit.plan(), circuit.kind(), circuit.device());
            let memory =
                self.memory.as_ref().map_or_else(|| circuit.by_variable(&nothing()), |m| circuit.by_variable(m));
            named.extend(prefixed("memory", memory));
        }
        named.extend(self.logistics.iter().flat_map(|l| prefixed("logistic", l.by_variable(circuit))));
        named
    }

    /// Take up the state of [`Learner::state`]; this circuit's trees are the `trees`-th of those saved.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or is not finite.
    pub fn restore(&mut self, circuit: &Circuit, saved: &Named, trees: &Range<usize>) -> Result<()> {
        self.cut = cut(circuit);
        let of_trees = |name| saved.integers(name, &[-1]);
        let (steps, fresh) = (of_trees("steps")?, of_trees("fresh")?);
        let enough = steps.len() >= trees.end && fresh.len() >= trees.end;
        require!(enough, "tensor {} of the checkpoint holds too few trees", saved.name("steps"));
        self.steps = steps[trees.clone()].iter().copied().max().unwrap_or(0) as u32;
        self.fresh = (0..trees.len()).filter(|tree| fresh[trees.start + tree] != 0).collect();
        if self.rule != Rule::Average {
            let memory = Parameters::zeros(circuit.plan(), circuit.kind(), circuit.device());
            circuit.put_by_variable(&memory, &saved.under("memory"), trees)?;
            self.memory = Some(memory);
        }
        self.logistics.as_mut().map_or(Ok(()), |l| l.restore(circuit, &saved.under("logistic"), trees))
    }
}

/// Which edges of a circuit are cut, pool by pool; none where a pool has no such edge.
fn cut(circuit: &Circuit) -> Vec<Option<Tensor>> {
    let pool = |table: &Tensor| {
        let cut = table.eq(0.0);
        bool::try_from(cut.any()).unwrap_or(false).then_some(cut)
    };
    circuit.parameters().edges.iter().map(pool).collect()
}

/// `(1 - n f) rows / total + f`, with f = [`FLOOR`] and the total over the n entries along `dim`, in one pass; where the
/// total is 0 take `old`.
fn normalise_rows(rows: &mut Tensor, old: &Tensor, dim: i64) {
    let kind = rows.kind();
    let total = rows.sum_dim_intlist(dim, true, kind);
    let length = rows.numel() as f64 / total.numel() as f64;
    let factor = total.reciprocal() * (1.0 - length * FLOOR);
    let floor = Tensor::from(FLOOR).to_kind(kind).to_device(rows.device());
    let lifted = floor.addcmul_out(rows, &*rows, &factor);
    let empty = total.le(0.0);
    if bool::try_from(empty.any()).unwrap_or(true) {
        rows.copy_(&old.where_self(&empty, &lifted));
    }
}

/// The same distribution over values for every input: `[rows, 1]` a pool, even over the categories.
#[must_use]
pub fn uniform_marginals(plan: &Plan, circuit: &Circuit) -> Vec<Tensor> {
    input_marginals(plan, circuit, |_, _, categories| {
        Tensor::full([categories], 1.0 / categories as f64, (Kind::Double, circuit.device()))
    })
}

/// Marginals by variable and tree, `of(variable, tree, categories) -> [categories]`, laid out as `[rows, 1]` a pool.
#[must_use]
pub fn input_marginals(plan: &Plan, circuit: &Circuit, of: impl Fn(usize, usize, i64) -> Tensor) -> Vec<Tensor> {
    let pools = plan.input_pools.iter().map(|pool| {
        let out = Tensor::zeros([pool.rows(), 1], (Kind::Double, circuit.device()));
        for segment in &pool.segments {
            for (t, (&variable, &tree)) in segment.variables.iter().zip(&segment.trees).enumerate() {
                segment.values(&out).get(t as i64).squeeze_dim(-1).copy_(&of(variable, tree, segment.categories));
            }
        }
        out
    });
    pools.collect()
}
