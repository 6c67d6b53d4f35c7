//! What is observed: integers with gaps, or log-likelihood vectors.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::plan::Plan;
use crate::require;

/// The evidence of a batch of B examples, laid out for the blocks' look-ups.
#[derive(Debug)]
pub struct Evidence {
    pub(super) input: Observed,
    /// Examples in the batch.
    pub examples: i64,
}

#[derive(Debug)]
pub(super) enum Observed {
    /// Row of the value in its input table, int64 `[V, B]`; the same for all trees.
    Shared(Tensor),
    /// The same with evidence of its own for every tree, `[T * V, B]`.
    PerTree(Tensor),
    /// Log-likelihoods in nats `[V, B, K]`.
    Soft(Tensor),
}

impl Evidence {
    /// Integers `[B, V]` in `0..categories`, of which those count that are true in `observed` `[B, V]`, all of them where
    /// there is none; every tree sees the same.
    ///
    /// # Errors
    /// When the shape does not fit or an observed value is out of range.
    pub fn shared(values: &Tensor, observed: Option<&Tensor>, plan: &Plan) -> Result<Self> {
        let (examples, variables) = values.size2()?;
        let observed = observed.map(|observed| observed.transpose(0, 1));
        let rows = table_rows(&values.transpose(0, 1), observed.as_ref(), plan, variables)?;
        Ok(Self { input: Observed::Shared(rows), examples })
    }

    /// Integers `[T, B, V]`, and which of them count: tree t sees `values[t]` and `observed[t]`.
    ///
    /// # Errors
    /// When the shape does not fit or an observed value is out of range.
    pub fn per_tree(values: &Tensor, observed: Option<&Tensor>, plan: &Plan) -> Result<Self> {
        let (trees, examples, variables) = values.size3()?;
        require!(trees == plan.trees, "the evidence is for {trees} trees, the circuit has {}", plan.trees);
        let observed = observed.map(|observed| observed.transpose(1, 2));
        let rows = table_rows(&values.transpose(1, 2), observed.as_ref(), plan, variables)?;
        let rows = rows.reshape([trees * variables, examples]);
        Ok(Self { input: Observed::PerTree(rows), examples })
    }

    /// Log-likelihoods in nats `[B, V, K]` of every state of every soft input.
    ///
    /// # Errors
    /// When the number of variables does not fit.
    pub fn soft(log_likelihoods: &Tensor, plan: &Plan) -> Result<Self> {
        let (examples, variables, _) = log_likelihoods.size3()?;
        let expected = plan.categories.size()[0];
        require!(variables == expected, "the evidence has {variables} variables, the circuit has {expected}");
        Ok(Self { input: Observed::Soft(log_likelihoods.transpose(0, 1).contiguous()), examples })
    }

    /// Log-likelihoods `[B, T * heads]` with 0 where an example says nothing at all.
    pub(super) fn without_the_silent(&self, plan: &Plan, log_likelihood: Tensor) -> Tensor {
        let Some(silent) = self.silent(plan) else { return log_likelihood };
        let by_tree = log_likelihood.view([self.examples, plan.trees, plan.heads]);
        let silent = if silent.dim() == 1 { silent.unsqueeze(1) } else { silent.transpose(0, 1) };
        by_tree.masked_fill(&silent.unsqueeze(-1), 0.0).view(log_likelihood.size().as_slice())
    }

    /// 1 where an example says nothing at all (every value missing), by tree or for all: bool `[B]` or `[T, B]`.
    pub(super) fn silent(&self, plan: &Plan) -> Option<Tensor> {
        let variables = plan.categories.size()[0];
        match &self.input {
            Observed::Shared(rows) => Some(rows.eq_tensor(&plan.categories).all_dim(0, false)),
            Observed::PerTree(rows) => {
                let rows = rows.view([plan.trees, variables, -1]);
                Some(rows.eq_tensor(&plan.categories).all_dim(1, false))
            }
            Observed::Soft(_) => None,
        }
    }
}

/// Rows inside a table for values `[.., V, B]`: the value itself, or the row of ones behind the last category where it was
/// not observed.
fn table_rows(values: &Tensor, observed: Option<&Tensor>, plan: &Plan, variables: i64) -> Result<Tensor> {
    let expected = plan.categories.size()[0];
    require!(variables == expected, "the evidence has {variables} variables, the circuit has {expected}");
    let values = values.to_device(plan.categories.device()).to_kind(Kind::Int64);
    let missing = observed.map(|observed| observed.to_device(values.device()).logical_not());
    let values = missing.as_ref().map_or_else(|| values.shallow_clone(), |missing| values.masked_fill(missing, 0));
    if values.numel() > 0 {
        let excess = (&values - &plan.categories).max().int64_value(&[]);
        require!(excess < 0, "the evidence holds a value that is {} too large for its variable", excess + 1);
        let least = values.min().int64_value(&[]);
        require!(least >= 0, "the evidence holds a value that is {} too small for its variable", -least);
    }
    let rows = missing.map_or_else(|| values.shallow_clone(), |m| plan.categories.where_self(&m, &values));
    Ok(rows.contiguous())
}
