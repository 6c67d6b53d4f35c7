//! Discretised logistic inputs: the M-step that fits mean and scale to a table of target probabilities.
//!
//! ```text
//! p(x) = F((x + 1/2 - mu) / s) - F((x - 1/2 - mu) / s),   F the logistic function; x = 0 and the last value take the tails
//! ```
//!
//! Expected counts by value are sufficient for any family over a finite range, so the flow pass need not know the
//! family: a step first makes the table it would make for free categoricals, then [`Logistics::project`] replaces it by
//! the best member of the family it can find (moments and the old parameters as starts, then scoring steps that are kept
//! only where they raise the expected log-likelihood). Every such step keeps EM's guarantee.

use std::ops::Range;

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::circuit::parameters::Parameters;
use crate::circuit::plan::Plan;
use crate::circuit::{Circuit, FLOOR};
use crate::require;
use crate::run::checkpoint::Named;

/// Names of means and log-scales in a checkpoint.
const NAMES: [&str; 2] = ["mean", "log_scale"];
const STEPS: usize = 4;
const SMALLEST_LOG_SCALE: f64 = -3.0;

/// Mean and log-scale of every input distribution, `[tables, states]` each, by pool and segment.
#[derive(Debug)]
pub struct Logistics {
    fits: Vec<Vec<Fit>>,
}

#[derive(Debug)]
struct Fit {
    mean: Tensor,
    log_scale: Tensor,
}

impl Logistics {
    /// Moments of the circuit's present tables.
    #[must_use]
    pub fn from_moments(circuit: &Circuit) -> Self {
        let _guard = tch::no_grad_guard();
        let of = |pool: usize| {
            let inputs = &circuit.parameters().inputs[pool];
            circuit.plan().input_pools[pool].segments.iter().map(|s| Fit::moments(&s.values(inputs))).collect()
        };
        Self { fits: (0..circuit.plan().input_pools.len()).map(of).collect() }
    }

    /// Replace every input table of the circuit by the logistic that fits it best.
    pub fn project(&mut self, circuit: &mut Circuit) {
        circuit.update(|parameters: &mut Parameters, plan: &Plan| {
            for ((fits, inputs), pool) in self.fits.iter_mut().zip(&mut parameters.inputs).zip(&plan.input_pools) {
                for (fit, segment) in fits.iter_mut().zip(&pool.segments) {
                    let mut values = segment.values(inputs);
                    fit.improve(&values.to_kind(Kind::Double));
                    values.copy_(&fit.log_table(segment.categories).exp());
                }
            }
        });
    }

    /// Means and log-scales by tree, variable and state: `[T, V, H]` each, float64.
    #[must_use]
    pub fn by_variable(&self, circuit: &Circuit) -> Vec<(String, Tensor)> {
        let states = circuit.plan().input_pools.first().map_or(0, |pool| pool.states);
        let shape = [circuit.plan().trees, circuit.graph().variables() as i64, states];
        let all = [(); 2].map(|()| Tensor::zeros(shape, (Kind::Double, circuit.device())));
        self.each(circuit, |tree, variable, numbers| {
            for (all, number) in all.iter().zip(numbers) {
                all.get(tree).get(variable).copy_(&number);
            }
        });
        NAMES.into_iter().map(str::to_owned).zip(all).collect()
    }

    /// Take up tensors of [`Logistics::by_variable`], of which this circuit's trees are the `trees`-th.
    ///
    /// # Errors
    /// When one is missing, has another shape or is not finite.
    pub fn restore(&mut self, circuit: &Circuit, saved: &Named, trees: &Range<usize>) -> Result<()> {
        let states = circuit.plan().input_pools.first().map_or(0, |pool| pool.states);
        let shape = [-1, circuit.graph().variables() as i64, states];
        let [mean, log_scale] = NAMES.map(|name| saved.doubles(name, &shape));
        let all = [mean?, log_scale?];
        let fits = all.iter().all(|tensor| tensor.size()[0] >= trees.end as i64);
        require!(fits, "tensor {} of the checkpoint holds too few trees", saved.name(NAMES[0]));
        self.each(circuit, |tree, variable, numbers| {
            for (all, mut number) in all.iter().zip(numbers) {
                number.copy_(&all.get(trees.start as i64 + tree).get(variable));
            }
        });
        Ok(())
    }

    /// Tree, variable, and views of mean and log-scale `[states]` of every input table.
    fn each(&self, circuit: &Circuit, mut visit: impl FnMut(i64, i64, [Tensor; 2])) {
        for (fits, pool) in self.fits.iter().zip(&circuit.plan().input_pools) {
            for (fit, segment) in fits.iter().zip(&pool.segments) {
                for (table, (&tree, &variable)) in (0..).zip(segment.trees.iter().zip(&segment.variables)) {
                    visit(tree as i64, variable as i64, [fit.mean.get(table), fit.log_scale.get(table)]);
                }
            }
        }
    }
}

impl Fit {
    /// Mean and scale by the first two moments of a table `[tables, categories, states]`.
    fn moments(table: &Tensor) -> Self {
        let table = table.to_kind(Kind::Double);
        let x = Tensor::arange(table.size()[1], (Kind::Double, table.device())).unsqueeze(-1);
        let mean = (&table * &x).sum_dim_intlist(1, false, Kind::Double);
        let variance = (&table * (&x - mean.unsqueeze(1)).square()).sum_dim_intlist(1, false, Kind::Double);
        let scale = variance.clamp_min(1e-4).sqrt() * (3f64.sqrt() / std::f64::consts::PI);
        Self { mean, log_scale: scale.log().clamp_min(SMALLEST_LOG_SCALE) }
    }

    /// log p(x) for every value: `[tables, categories, states]`, normalised and nowhere below the floor.
    fn log_table(&self, categories: i64) -> Tensor {
        let (below, above) = self.tails(categories);
        // F(b) - F(a) without cancellation on the right-hand side: where both are large use F(-a) - F(-b).
        let flip = below.gt(0.0);
        let p =
            (above.neg().where_self(&flip, &below).sigmoid() - below.neg().where_self(&flip, &above).sigmoid()).abs();
        let p = p.clamp_min(FLOOR);
        let total = p.sum_dim_intlist(1, true, Kind::Double);
        (p / total).log()
    }

    /// Arguments of the logistic function at the lower and upper end of every value's interval.
    fn tails(&self, categories: i64) -> (Tensor, Tensor) {
        let x = Tensor::arange(categories, (Kind::Double, self.mean.device())).unsqueeze(-1);
        let scale = self.log_scale.exp().unsqueeze(1);
        let centred = x - self.mean.unsqueeze(1);
        let below: Tensor = (&centred - 0.5) / &scale;
        let above: Tensor = (&centred + 0.5) / &scale;
        let _ = below.narrow(1, 0, 1).fill_(f64::NEG_INFINITY);
        let _ = above.narrow(1, categories - 1, 1).fill_(f64::INFINITY);
        (below, above)
    }

    /// Expected log-likelihood under target probabilities: `[tables, states]`.
    fn objective(&self, target: &Tensor) -> Tensor {
        (target * self.log_table(target.size()[1])).sum_dim_intlist(1, false, Kind::Double)
    }

    fn improve(&mut self, target: &Tensor) {
        let mut best = self.objective(target);
        self.keep_better(&Self::moments(target), target, &mut best);
        for _ in 0..STEPS {
            let (mean_step, scale_step) = self.scoring_step(target);
            for shrink in [1.0, 0.25] {
                let mean = &self.mean + &mean_step * shrink;
                let log_scale = (&self.log_scale + &scale_step * shrink).clamp_min(SMALLEST_LOG_SCALE);
                self.keep_better(&Self { mean, log_scale }, target, &mut best);
            }
        }
    }

    /// Take the candidate's parameters where they raise the objective.
    fn keep_better(&mut self, candidate: &Self, target: &Tensor, best: &mut Tensor) {
        let objective = candidate.objective(target);
        let better = objective.gt_tensor(best);
        self.mean = candidate.mean.where_self(&better, &self.mean);
        self.log_scale = candidate.log_scale.where_self(&better, &self.log_scale);
        *best = objective.where_self(&better, best);
    }

    /// Scoring steps of both parameters: gradient over the second moment of the score, each clamped to one scale.
    fn scoring_step(&self, target: &Tensor) -> (Tensor, Tensor) {
        let (below, above) = self.tails(target.size()[1]);
        let density = |u: &Tensor| (u.sigmoid() * u.neg().sigmoid()).nan_to_num(0.0, None, None);
        let p = self.log_table(target.size()[1]).exp();
        let (low, high) = (density(&below), density(&above));
        let scale = self.log_scale.exp();
        let by_mean = (&low - &high) / (&p * scale.unsqueeze(1));
        let by_scale = (&low * below.nan_to_num(0.0, 0.0, 0.0) - &high * above.nan_to_num(0.0, 0.0, 0.0)) / &p;
        let sum = |t: Tensor| (target * t).sum_dim_intlist(1, false, Kind::Double);
        let (gm, gs) = (sum(by_mean.shallow_clone()), sum(by_scale.shallow_clone()));
        let (mm, ss, ms) = (sum(by_mean.square()), sum(by_scale.square()), sum(by_mean * by_scale));
        let det = (&mm * &ss - ms.square()).clamp_min(1e-12);
        let mean_step = ((&ss * &gm - &ms * &gs) / &det).maximum(&-&scale).minimum(&scale);
        let scale_step = ((&mm * &gs - &ms * &gm) / &det).clamp(-1.0, 1.0);
        (mean_step, scale_step)
    }
}
