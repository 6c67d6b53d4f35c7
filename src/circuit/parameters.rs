//! The tables of a circuit, and tensors of the same shapes that hold expected counts.

use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

use super::plan::Plan;

/// One tensor per pool of the plan.
///
/// As parameters, `edges[p]` is `[tables, parent states, states]` with rows that sum to 1, `inputs[p]` is
/// `[rows, states]` with p(value | state) in columns that sum to 1 over each table's values, and ones in the rows for
/// missing values. As expected counts the same tensors hold numbers of examples, and zeros there.
#[derive(Debug)]
pub struct Parameters {
    /// Tables between a region's states and its parent's.
    pub edges: Vec<Tensor>,
    /// Tables of the inputs.
    pub inputs: Vec<Tensor>,
}

impl Parameters {
    /// All zeros: no counts yet.
    #[must_use]
    pub fn zeros(plan: &Plan, kind: Kind, device: Device) -> Self {
        let edges = plan.edge_pools.iter().map(|p| [p.tables, p.parent_states, p.states]);
        Self {
            edges: edges.map(|shape| Tensor::zeros(shape, (kind, device))).collect(),
            inputs: plan.input_pools.iter().map(|p| Tensor::zeros([p.rows(), p.states], (kind, device))).collect(),
        }
    }

    /// Every row uniform.
    #[must_use]
    pub fn uniform(plan: &Plan, kind: Kind, device: Device) -> Self {
        let mut all = Self::zeros(plan, kind, device);
        for (edges, pool) in all.edges.iter_mut().zip(&plan.edge_pools) {
            let _ = edges.fill_(1.0 / pool.states as f64);
        }
        for (inputs, pool) in all.inputs.iter_mut().zip(&plan.input_pools) {
            let _ = inputs.fill_(1.0);
            for segment in &pool.segments {
                let _ = segment.values(inputs).fill_(1.0 / segment.categories as f64);
            }
        }
        all
    }

    /// Multiply every entry by a number drawn evenly from `[1 - noise, 1 + noise]` and normalise again: breaks the
    /// symmetry between states. `0 <= noise < 1`.
    pub fn perturb(&mut self, plan: &Plan, noise: f64, rng: &mut impl Rng) {
        for edges in &mut self.edges {
            *edges *= noise_like(edges, noise, rng);
            let total = edges.sum_dim_intlist(-1, true, edges.kind());
            *edges /= total;
        }
        for (inputs, pool) in self.inputs.iter_mut().zip(&plan.input_pools) {
            for segment in &pool.segments {
                let mut values = segment.values(inputs);
                values *= noise_like(&values, noise, rng);
                let total = values.sum_dim_intlist(1, true, values.kind());
                values /= total;
            }
        }
    }

    /// `self <- keep * self + add * other`, entry by entry.
    pub fn blend(&mut self, keep: f64, other: &Self, add: f64) {
        let pairs = self.edges.iter_mut().zip(&other.edges).chain(self.inputs.iter_mut().zip(&other.inputs));
        for (mine, theirs) in pairs {
            let add = Tensor::from(add).to_kind(mine.kind()).to_device(mine.device());
            let _ = mine.g_mul_scalar_(keep).addcmul_(theirs, &add);
        }
    }

    /// `self <- self + other`, into the same memory; the kinds may differ.
    pub fn add(&self, other: &Self) {
        let pairs = self.edges.iter().zip(&other.edges).chain(self.inputs.iter().zip(&other.inputs));
        pairs.for_each(|(mine, theirs)| drop(mine.shallow_clone().g_add_(theirs)));
    }

    /// `self <- 0`.
    pub fn zero(&mut self) {
        self.edges.iter_mut().chain(&mut self.inputs).for_each(|t| drop(t.zero_()));
    }

    /// A copy in another precision.
    #[must_use]
    pub fn to_kind(&self, kind: Kind) -> Self {
        let converted = |all: &[Tensor]| all.iter().map(|t| t.totype(kind).copy()).collect();
        Self { edges: converted(&self.edges), inputs: converted(&self.inputs) }
    }

    /// `self <- factor * self`.
    pub fn scale(&mut self, factor: f64) {
        self.edges.iter_mut().chain(&mut self.inputs).for_each(|t| drop(t.g_mul_scalar_(factor)));
    }

    /// `self <- other`, into the same memory.
    pub fn assign(&mut self, other: &Self) {
        let pairs = self.edges.iter_mut().zip(&other.edges).chain(self.inputs.iter_mut().zip(&other.inputs));
        pairs.for_each(|(mine, theirs)| mine.copy_(theirs));
    }

    /// A copy that shares no memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = |all: &[Tensor]| all.iter().map(Tensor::copy).collect();
        Self { edges: copy(&self.edges), inputs: copy(&self.inputs) }
    }

    /// How many free numbers: every row of n probabilities has n - 1.
    #[must_use]
    pub fn count(plan: &Plan) -> usize {
        let edges: i64 = plan.edge_pools.iter().map(|p| p.tables * p.parent_states * (p.states - 1)).sum();
        let input = |states: i64, s: &super::plan::Segment| s.tables * (s.categories - 1) * states;
        let inputs: i64 = plan.input_pools.iter().flat_map(|p| p.segments.iter().map(|s| input(p.states, s))).sum();
        (edges + inputs) as usize
    }
}

/// Numbers drawn evenly from `[1 - noise, 1 + noise]`, one for each entry of a tensor; all 1 for no noise.
pub(super) fn noise_like(tensor: &Tensor, noise: f64, rng: &mut impl Rng) -> Tensor {
    if noise == 0.0 {
        return tensor.ones_like();
    }
    let draws: Vec<f32> =
        (0..tensor.numel()).map(|_| rng.random_range((1.0 - noise) as f32..(1.0 + noise) as f32)).collect();
    Tensor::from_slice(&draws).view(tensor.size().as_slice()).to_device(tensor.device()).to_kind(tensor.kind())
}
