//! Discretised logistic inputs: the M-step that fits mean and scale to a table of target probabilities.
//!
//! ```text
//! p(x) = F((x + 1/2 - mu) / s) - F((x - 1/2 - mu) / s),   F the logistic function; x = 0 and the last value take the tails
//! ```
//!
//! Expected counts by value are sufficient for any family over a finite range, so the flow pass need not know the
//! family: a step first makes the table it would make for free categoricals, then [`Logistics::project`] replaces it by
//! a better member of the family: from the old parameters, or from the moments where those are far away, by a scoring step that
//! is kept only where it raises the expected log-likelihood. Every such step keeps EM's guarantee.

pub mod fit;

use std::ops::Range;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::Plan;
use crate::run::checkpoint::Named;
use crate::{device, require};
use fit::Fit;

/// Names of means and log-scales in a checkpoint.
const NAMES: [&str; 2] = ["mean", "log_scale"];

/// Mean and log-scale of every input distribution, `[tables, states]` each, by pool and segment.
#[derive(Debug)]
pub struct Logistics {
    fits: Vec<Vec<Fits>>,
}

/// Those of a segment, float64 `[tables, states]` on the CPU.
#[derive(Debug)]
struct Fits {
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
            circuit.plan().input_pools[pool].segments.iter().map(|s| Fits::moments(&s.values(inputs))).collect()
        };
        Self { fits: (0..circuit.plan().input_pools.len()).map(of).collect() }
    }

    /// Replace every input table of the circuit by the logistic that fits it best.
    pub fn project(&mut self, circuit: &mut Circuit) {
        circuit.update(|parameters: &mut Parameters, plan: &Plan| {
            for ((fits, inputs), pool) in self.fits.iter_mut().zip(&mut parameters.inputs).zip(&plan.input_pools) {
                for (fit, segment) in fits.iter_mut().zip(&pool.segments) {
                    fit.improve(&mut segment.values(inputs));
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

impl Fits {
    /// Those of the moments of a table `[tables, categories, states]`.
    fn moments(table: &Tensor) -> Self {
        let targets = Targets::new(table);
        let fits = (0..targets.count()).map(|i| Fit::moments(&targets.of(i))).collect::<Vec<_>>();
        Self::from_vec(&fits, targets.states)
    }

    fn from_vec(fits: &[Fit], states: usize) -> Self {
        let tensor = |of: fn(&Fit) -> f64| {
            Tensor::from_slice(&fits.iter().map(of).collect::<Vec<_>>()).view([-1, states as i64])
        };
        Self { mean: tensor(|fit| fit.mean), log_scale: tensor(|fit| fit.log_scale) }
    }

    /// Make every fit better under a table `[tables, categories, states]`, which becomes that of the fits.
    fn improve(&mut self, table: &mut Tensor) {
        let targets = Targets::new(table);
        let [mean, log_scale] = [&self.mean, &self.log_scale].map(|t| Vec::<f64>::try_from(t.flatten(0, 1)));
        let old: Vec<Fit> = mean
            .into_iter()
            .flatten()
            .zip(log_scale.into_iter().flatten())
            .map(|(mean, log_scale)| Fit { mean, log_scale })
            .collect();
        let parts: Vec<_> = (0..old.len()).step_by(targets.states).collect();
        let done = device::spread(Device::Cpu, parts, |first| {
            let fit = |i: usize| old[i].improved(&targets.of(i));
            (first..first + targets.states).map(fit).unzip::<Fit, Vec<f64>, Vec<Fit>, Vec<Vec<f64>>>()
        });
        let (fits, tables): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        *self = Self::from_vec(&fits.concat(), targets.states);
        let flat = tables.into_iter().flatten().flatten().collect::<Vec<f64>>();
        let size = [-1, targets.states as i64, targets.categories as i64];
        table.copy_(&Tensor::from_slice(&flat).view(size).transpose(1, 2));
    }
}

/// Target probabilities `[tables, categories, states]`.
struct Targets {
    numbers: Vec<f64>,
    categories: usize,
    states: usize,
}

impl Targets {
    fn new(table: &Tensor) -> Self {
        let [categories, states] = [1, 2].map(|d| table.size()[d] as usize);
        let numbers = Vec::try_from(table.to_device(Device::Cpu).to_kind(Kind::Double).reshape([-1]));
        Self { numbers: numbers.expect("numbers of a table"), categories, states }
    }

    /// How many distributions there are.
    fn count(&self) -> usize {
        self.numbers.len() / self.categories.max(1)
    }

    /// Those of one state of one table, numbered state by state.
    fn of(&self, i: usize) -> Vec<f64> {
        let (table, state) = (i / self.states, i % self.states);
        let table = &self.numbers[table * self.categories * self.states..][..self.categories * self.states];
        table.iter().skip(state).step_by(self.states).copied().collect()
    }
}
