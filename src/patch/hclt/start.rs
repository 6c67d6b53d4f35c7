//! First tables of HCLT patches: random, or from hidden states that every example is given.
//!
//! With a state for every hidden variable everything is observed, so the first tables are normalised counts: of values
//! and states for the inputs, of pairs of states for the edges. States are quantile bins of the variable's own values, or
//! clusters of the values around it, which see more than the variable: EM from there ends far better on large trees. A region
//! that observes nothing has clusters of the values in and around its scope in either case.

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::forest::Width;
use super::trees::HcltPatches;
use crate::circuit::tree_tables::TreeTables;
use crate::device;
use crate::group::Alone;
use crate::latents::{FeatureChunks, KMeansConfig};
use crate::patch::config::{HcltConfig, Start};
use crate::patch::model::Grow;
use crate::structure::chow_liu::{self, Parents};

/// How many edges of the tree the neighbourhood of a variable reaches.
const HOPS: usize = 4;
/// Weight of a neighbour's value by edge.
const DECAY: f32 = 0.7;
/// Numbers that the clusters of a region that observes nothing are found from, at most: examples times variables around it.
const NUMBERS: usize = 1 << 21;
const PSEUDOCOUNT: f64 = 1.0;
/// Share of every input's prior that is even over its range.
const EVEN: f64 = 0.1;

/// Patches of every cluster, `[n_k, D]` each, to start from.
pub type Members = [Tensor];

/// Trees and marginals from each cluster's patches, and tables as `from` says.
///
/// # Errors
/// When a tree given by hand does not fit.
pub fn from_members(
    config: &HcltConfig,
    members: &Members,
    ranges: &[(i64, i64)],
    from: Start,
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<HcltPatches> {
    let trees = trees(config, members, ranges)?;
    let marginals = marginals(members, ranges);
    let width = Width { heads: 1, states: config.states };
    let mut model = HcltPatches::uniform(config, trees.clone(), width, ranges, &marginals.to_device(device))?;
    if from == Start::Random {
        model.randomise(rng);
        return Ok(model);
    }
    for (k, patches) in members.iter().enumerate() {
        let values = patches.to_kind(Kind::Int64);
        let hidden = match from {
            Start::Neighbourhoods => neighbourhoods(&values, &trees[k], 0, config.states, rng)?,
            _ => quantiles(&values, &trees[k], config.states, rng)?,
        };
        let tables = counted_tables(&values, &hidden, config.states, &trees[k], ranges, &marginals.get(k as i64));
        model.set_tables(k, &tables, 0.0, rng);
    }
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
/// clusters together, which has one of its own shared out evenly. A share of [`EVEN`] is even over the range: a value that
/// training never saw then costs about `log2(categories n / (EVEN a))` bits under a state of n patches whose inputs have `a`
/// pseudocounts (25 bits for 10,000 patches, one pseudocount and 256 values), not the floor's 33.
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
    let all = normalise(counts.sum_dim_intlist(0, false, Kind::Double) + &even);
    normalise(counts + all * PSEUDOCOUNT) * (1.0 - EVEN) + even * EVEN
}

fn histogram(patches: &Tensor, ranges: &[(i64, i64)], most: i64) -> Tensor {
    let values = patches.to_kind(Kind::Int64);
    let columns = ranges.iter().enumerate().map(|(v, (low, _))| {
        let shifted: Tensor = values.select(1, v as i64) - *low;
        shifted.bincount(None::<&Tensor>, most).to_kind(Kind::Double)
    });
    Tensor::stack(&columns.collect::<Vec<_>>(), 0)
}

/// Normalised counts where everything is observed: the values `[n, D]` and the hidden states `[n, regions]`.
fn counted_tables(
    values: &Tensor,
    hidden: &Tensor,
    states: usize,
    parents: &Parents,
    ranges: &[(i64, i64)],
    marginals: &Tensor,
) -> TreeTables {
    let hot = |v: usize| hidden.select(1, v as i64).one_hot(states as i64).to_kind(Kind::Float); // [n, H]
    let (mut edges, mut inputs) = (Vec::new(), Vec::new());
    for (v, parent) in parents.iter().enumerate() {
        let mine = hot(v);
        let pairs = match parent {
            Some(p) => hot(*p).transpose(0, 1).matmul(&mine),
            None => mine.sum_dim_intlist(0, true, Kind::Float),
        };
        let pairs: Tensor = pairs.to_kind(Kind::Double) + PSEUDOCOUNT / states as f64;
        edges.push(&pairs / pairs.sum_dim_intlist(1, true, Kind::Double));
        let Some((low, high)) = ranges.get(v) else {
            inputs.push(None);
            continue;
        };
        let prior = marginals.get(v as i64).narrow(0, 0, high - low + 1).unsqueeze(-1) * PSEUDOCOUNT;
        let counts = Tensor::zeros([high - low + 1, states as i64], (Kind::Float, Device::Cpu));
        let counts = counts.index_add(0, &(values.select(1, v as i64) - *low), &mine).to_kind(Kind::Double) + prior;
        inputs.push(Some(&counts / counts.sum_dim_intlist(0, true, Kind::Double)));
    }
    TreeTables { edges, inputs }
}

/// Quantile bins of the variables, and clusters for regions that observe nothing: int64 `[n, regions]`.
fn quantiles(values: &Tensor, parents: &Parents, states: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let (_, variables) = values.size2()?;
    let bins = quantile_bins(values, states as i64, rng);
    if parents.len() as i64 == variables {
        return Ok(bins);
    }
    Ok(Tensor::cat(&[bins, neighbourhoods(values, parents, variables as usize, states, rng)?], 1))
}

/// The fewest edges from every region down to a variable: 0 for those that observe one.
fn heights(parents: &Parents, variables: usize) -> Vec<usize> {
    let mut heights = vec![usize::MAX; parents.len()];
    for v in 0..variables {
        for (height, r) in std::iter::successors(Some(v), |&r| parents[r]).enumerate() {
            heights[r] = heights[r].min(height);
        }
    }
    heights
}

/// Which of `states` clusters the values around each region from `first` on fall into, by k-means: int64 `[n, regions]`.
/// Around a region are the variables at most [`HOPS`] edges further away in the tree than the nearest one in its scope, the
/// weight of their values falling with every edge; equal values are spread by noise.
fn neighbourhoods(
    values: &Tensor,
    parents: &Parents,
    first: usize,
    states: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let (n, variables) = values.size2()?;
    let spread = spread_out(values, rng).to_kind(Kind::Float);
    let clusters = states.min(n as usize);
    let heights = heights(parents, variables as usize);
    let mut around = chow_liu::neighbourhoods(parents, |r| heights[r].saturating_add(HOPS));
    for around in &mut around {
        around.retain(|(v, _)| (*v as i64) < variables);
    }
    let sample = |(r, around): (usize, Vec<_>)| {
        let all = KMeansConfig::default().sample;
        let most = if (r as i64) < variables { all } else { (NUMBERS / around.len()).max(clusters).min(all) };
        (around, KMeansConfig { clusters, iterations: 10, sample: most, ..KMeansConfig::default() })
    };
    let around = around.into_iter().enumerate().skip(first).map(sample);
    let work: Vec<_> =
        around.map(|(around, kmeans)| (around, kmeans, rng.random::<u64>(), spread.shallow_clone())).collect();
    let cluster = |(around, kmeans, seed, values): (Vec<(usize, usize)>, KMeansConfig, u64, Tensor)| {
        let variables: Vec<i64> = around.iter().map(|(v, _)| *v as i64).collect();
        let weights: Vec<f32> = around.iter().map(|(_, hops)| DECAY.powi(*hops as i32 - around[0].1 as i32)).collect();
        let points = Points(values.index_select(1, &Tensor::from_slice(&variables)) * Tensor::from_slice(&weights));
        kmeans.fit(&points, seed, &Alone)?.assign(&points.0)
    };
    let columns: Result<Vec<Tensor>> = device::spread(Device::Cpu, work, cluster).into_iter().collect();
    Ok(Tensor::stack(&columns?, 1))
}

/// Points `[n, F]` as a source of features.
struct Points(Tensor);

impl FeatureChunks for Points {
    fn count(&self) -> usize {
        self.0.size()[0] as usize
    }

    fn patches(&self) -> usize {
        1
    }

    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        visit(self.0.shallow_clone())
    }
}

/// Values plus noise from `[0, 1)`, float64.
fn spread_out(values: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
    let noise: Vec<f64> = (0..values.numel()).map(|_| rng.random::<f64>()).collect();
    values.to_kind(Kind::Double) + Tensor::from_slice(&noise).view(values.size().as_slice())
}

/// The quantile bin `0..bins` of every value among the values of its variable: int64 `[n, D]`. Equal values are spread
/// over their bins at random.
fn quantile_bins(values: &Tensor, bins: i64, rng: &mut ChaCha8Rng) -> Tensor {
    let n = values.size()[0];
    let ranks = spread_out(values, rng).argsort(0, false).argsort(0, false);
    (ranks * bins).divide_scalar_mode(n.max(1), "floor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::model::Infer;
    use crate::random::rng;
    use crate::structure::config::TreeConfig;

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
        // All: (2, 0, 2) + 1/3 each over 5 = (7/15, 1/15, 7/15); first cluster: (2 + 7/15, 1/15, 7/15) / 3; a tenth is even.
        for (value, expected) in [(0, (2.0 + 7.0 / 15.0) / 3.0), (1, 1.0 / 45.0), (2, 7.0 / 45.0)] {
            let expected = 0.9 * expected + 0.1 / 3.0;
            assert!((marginals.double_value(&[0, 0, value]) - expected).abs() < 1e-12);
        }
    }

    /// Patches of nine values that share one hidden coin, `[n, 9]`: each value says little of it, all together much.
    fn coins(n: i64) -> Tensor {
        let mut rng = rng(5, "coins", 0);
        let rows = (0..n).flat_map(|_| {
            let coin = rng.random_range(0..2i64);
            (0..9).map(|_| 6 * coin + rng.random_range(0..13)).collect::<Vec<_>>()
        });
        Tensor::from_slice(&rows.collect::<Vec<_>>()).view([n, 9])
    }

    fn started(patches: Tensor, states: usize, from: Start) -> HcltPatches {
        let parents = (0..patches.size()[1] as usize).map(|v| v.checked_sub(1)).collect();
        let config = HcltConfig { states, tree: TreeConfig::Given { parents }, ..HcltConfig::default() };
        let ranges = vec![(0, 18); patches.size()[1] as usize];
        from_members(&config, &[patches], &ranges, from, Device::Cpu, &mut rng(3, "test", 0)).unwrap()
    }

    fn mean(model: &HcltPatches, patches: &Tensor) -> f64 {
        model.log_likelihood(&model.complete(patches)).unwrap().mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn neighbourhoods_know_what_single_values_do_not() {
        let (train, test) = (coins(4000), coins(5000).narrow(0, 4000, 1000));
        let [alone, around] =
            [Start::Quantile, Start::Neighbourhoods].map(|from| mean(&started(train.copy(), 4, from), &test));
        assert!(around > alone + 0.2, "{around} against {alone} nats");
    }

    #[test]
    fn neighbourhoods_repeat_and_cope_with_constant_values_and_few_patches() {
        let patches = Tensor::full([3, 4], 7, (Kind::Int64, Device::Cpu));
        let [first, again] = [(); 2].map(|()| started(patches.copy(), 8, Start::Neighbourhoods));
        let found = mean(&first, &patches);
        assert!(found.is_finite() && found <= 0.0, "{found}");
        assert_eq!(found.to_bits(), mean(&again, &patches).to_bits());
    }
}
