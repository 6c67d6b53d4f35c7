//! First tables of HCLT patches: from quantile bins of the cluster's own values, or at random.
//!
//! The values of a variable are ranked and cut into as many equal bins as there are hidden states. Taking the bin for the
//! hidden state makes everything observed, so the first tables are normalised counts: of values in a bin for the inputs,
//! of pairs of bins for the edges.

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::PatchModel;
use super::config::HcltConfig;
use super::hclt::HcltPatches;
use crate::circuit::tree_tables::TreeTables;
use crate::structure::chow_liu::Parents;

/// Most floats that the one-hot bins of a start may take.
const ONE_HOT_FLOATS: usize = 64 << 20;
const PSEUDOCOUNT: f64 = 1.0;

/// Patches of every cluster, `[n_k, D]` each, to start from.
pub type Members = [Tensor];

/// Trees and marginals from each cluster's patches, tables from quantile bins.
///
/// # Errors
/// When a tree given by hand does not fit.
pub fn quantile(
    config: &HcltConfig,
    members: &Members,
    ranges: &[(i64, i64)],
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<HcltPatches> {
    let trees = trees(config, members, ranges)?;
    let marginals = marginals(members, ranges);
    let mut model = HcltPatches::uniform(config, trees.clone(), ranges, &marginals.to_device(device))?;
    for (k, patches) in members.iter().enumerate() {
        let tables = quantile_tables(config.states, patches, &trees[k], ranges, &marginals.get(k as i64), rng);
        model.set_tables(k, &tables, 0.0, rng);
    }
    Ok(model)
}

/// The same trees and marginals with tables at random: what EM makes of a circuit by itself.
///
/// # Errors
/// When a tree given by hand does not fit.
pub fn random(
    config: &HcltConfig,
    members: &Members,
    ranges: &[(i64, i64)],
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<HcltPatches> {
    let trees = trees(config, members, ranges)?;
    let mut model = HcltPatches::uniform(config, trees, ranges, &marginals(members, ranges).to_device(device))?;
    model.randomise(rng);
    Ok(model)
}

fn trees(config: &HcltConfig, members: &Members, ranges: &[(i64, i64)]) -> Result<Vec<Parents>> {
    if config.tree.is_shared() {
        let tree = config.tree.tree(&Tensor::cat(members, 0), ranges)?;
        return Ok(vec![tree; members.len()]);
    }
    members.iter().map(|patches| config.tree.tree(patches, ranges)).collect()
}

/// How often each value occurs: `[K, D, most categories]`, with one pseudocount shared out as the marginal of all
/// clusters together, which has one of its own shared out evenly.
fn marginals(members: &Members, ranges: &[(i64, i64)]) -> Tensor {
    let most = ranges.iter().map(|(low, high)| high - low + 1).max().unwrap_or(1);
    let counts: Vec<Tensor> = members.iter().map(|patches| histogram(patches, ranges, most)).collect();
    let counts = Tensor::stack(&counts, 0);
    let inside: Vec<Tensor> = ranges
        .iter()
        .map(|(low, high)| Tensor::arange(most, (Kind::Double, Device::Cpu)).lt(high - low + 1).to_kind(Kind::Double))
        .collect();
    let inside = Tensor::stack(&inside, 0);
    let even = &inside / inside.sum_dim_intlist(-1, true, Kind::Double);
    let normalise = |t: Tensor| &t / t.sum_dim_intlist(-1, true, Kind::Double);
    let all = normalise(counts.sum_dim_intlist(0, false, Kind::Double) + even);
    normalise(counts + all * PSEUDOCOUNT)
}

fn histogram(patches: &Tensor, ranges: &[(i64, i64)], most: i64) -> Tensor {
    let values = patches.to_kind(Kind::Int64);
    let columns = ranges.iter().enumerate().map(|(v, (low, _))| {
        let shifted: Tensor = values.select(1, v as i64) - *low;
        shifted.bincount(None::<&Tensor>, most).to_kind(Kind::Double)
    });
    Tensor::stack(&columns.collect::<Vec<_>>(), 0)
}

fn quantile_tables(
    states: usize,
    patches: &Tensor,
    parents: &Parents,
    ranges: &[(i64, i64)],
    marginals: &Tensor,
    rng: &mut ChaCha8Rng,
) -> TreeTables {
    let h = states as i64;
    let most = (ONE_HOT_FLOATS / (ranges.len() * states)).max(1) as i64;
    let values = patches.narrow(0, 0, patches.size()[0].min(most)).to_kind(Kind::Int64);
    let hot = quantile_bins(&values, h, rng).one_hot(h).to_kind(Kind::Float).transpose(0, 1).contiguous(); // [D, n, H]
    let bins = hot.sum_dim_intlist(1, false, Kind::Float); // [D, H]
    let (mut edges, mut inputs) = (Vec::new(), Vec::new());
    for (v, parent) in parents.iter().enumerate() {
        let mine = hot.get(v as i64);
        let pairs = match parent {
            Some(p) => hot.get(*p as i64).transpose(0, 1).matmul(&mine),
            None => bins.get(v as i64).unsqueeze(0),
        };
        let pairs: Tensor = pairs.to_kind(Kind::Double) + PSEUDOCOUNT / states as f64;
        edges.push(&pairs / pairs.sum_dim_intlist(1, true, Kind::Double));
        let (low, high) = ranges[v];
        let prior = marginals.get(v as i64).narrow(0, 0, high - low + 1).unsqueeze(-1) * PSEUDOCOUNT;
        let counts = Tensor::zeros([high - low + 1, h], (Kind::Float, Device::Cpu));
        let counts = counts.index_add(0, &(values.select(1, v as i64) - low), &mine).to_kind(Kind::Double) + prior;
        inputs.push(Some(&counts / counts.sum_dim_intlist(0, true, Kind::Double)));
    }
    TreeTables { edges, inputs }
}

/// The quantile bin `0..bins` of every value among the values of its variable: int64 `[n, D]`. Equal values are spread
/// over their bins at random.
fn quantile_bins(values: &Tensor, bins: i64, rng: &mut ChaCha8Rng) -> Tensor {
    let (n, d) = values.size2().expect("values are [n, D]");
    let jitter: Vec<f64> = (0..n * d).map(|_| rng.random::<f64>()).collect();
    let spread = values.to_kind(Kind::Double) + Tensor::from_slice(&jitter).view([n, d]);
    let ranks = spread.argsort(0, false).argsort(0, false);
    (ranks * bins).divide_scalar_mode(n.max(1), "floor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::rng;

    #[test]
    fn bins_hold_equal_shares_in_order() {
        let values = Tensor::from_slice(&[5i64, 1, 9, 3, 7, 0]).view([6, 1]);
        let bins: Vec<i64> = Vec::try_from(quantile_bins(&values, 3, &mut rng(0, "test", 0)).view(-1)).unwrap();
        assert_eq!(bins, [1, 0, 2, 1, 2, 0]);
    }

    #[test]
    fn marginals_mix_the_cluster_with_all_and_stay_normalised() {
        let members = [Tensor::from_slice(&[-1i64, -1]).view([2, 1]), Tensor::from_slice(&[1i64, 1]).view([2, 1])];
        let marginals = marginals(&members, &[(-1, 1)]);
        // All: (2, 0, 2) + 1/3 each over 5 = (7/15, 1/15, 7/15); first cluster: (2 + 7/15, 1/15, 7/15) / 3.
        for (value, expected) in [(0, (2.0 + 7.0 / 15.0) / 3.0), (1, 1.0 / 45.0), (2, 7.0 / 45.0)] {
            assert!((marginals.double_value(&[0, 0, value]) - expected).abs() < 1e-12);
        }
    }
}
