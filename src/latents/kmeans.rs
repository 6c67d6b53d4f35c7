//! k-means: k-means++ (Arthur and Vassilvitskii 2007) and Lloyd steps on a sample.
//!
//! Distances are in float32, sums of centres in float64. Clusters that lose all points get the points with the largest
//! errors. The inertia never rises between steps (up to rounding).

use super::codebook::{nearest, pieces};
use super::{Codebook, FeatureChunks, each_checked, rows};
use crate::circuit::cpu::memory::{numbers, numbers_mut};
use crate::group::{Alone, Group, Sum, sum_number};
use crate::refusal::Problems;
use crate::run::interrupt;
use crate::{device, random, require};
use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How features become clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansConfig {
    /// Clusters, K.
    pub clusters: usize,
    /// Lloyd steps at most.
    pub iterations: usize,
    /// Starts from different centres; the one with the least inertia is kept.
    pub restarts: usize,
    /// Patches the centres are fitted on, drawn evenly from all.
    pub sample: usize,
    /// Steps end when the inertia falls by less than this share of itself.
    pub tolerance: f64,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self { clusters: 64, iterations: 100, restarts: 1, sample: 262_144, tolerance: 1e-5 }
    }
}

impl KMeansConfig {
    /// Note what is wrong with the values, each under `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(
            (1..=65_536).contains(&self.clusters),
            format!("{path}.clusters"),
            format!("must be from 1 to 65536, found {}", self.clusters),
        );
        for (key, value) in [("iterations", self.iterations), ("restarts", self.restarts)] {
            problems.check(value > 0, format!("{path}.{key}"), "must be at least 1");
        }
        problems.check(
            self.sample >= self.clusters,
            format!("{path}.sample"),
            format!("must be at least the {} clusters, found {}", self.clusters, self.sample),
        );
        problems.check(
            self.tolerance >= 0.0 && self.tolerance < 1.0,
            format!("{path}.tolerance"),
            format!("must be from 0 to below 1, found {}", self.tolerance),
        );
    }

    /// Fit centres on a sample of the source drawn by the seed; they live where the features do. Every Lloyd step sums over
    /// the group.
    ///
    /// # Errors
    /// When there are fewer patches, or fewer distinct features, than clusters, or features that are not finite.
    pub fn fit(&self, source: &dyn FeatureChunks, seed: u64, group: &dyn Group) -> Result<Codebook> {
        let mut problems = Problems::default();
        self.check("latents", &mut problems);
        problems.into_result("k-means")?;
        require!(
            source.count() >= self.clusters,
            "k-means: {} patches are too few for {} clusters: lower latents.clusters or use more pictures",
            source.count(),
            self.clusters
        );
        let _guard = tch::no_grad_guard();
        let points = sample(source, self.sample, seed)?; // [n, F]
        let mut best: Option<Codebook> = None;
        for restart in 0..self.restarts {
            let mut rng = random::rng(seed, "k-means centres", restart as u64);
            let found = self.lloyd(&points, plus_plus(&points, self.clusters, &mut rng)?, group)?;
            if best.as_ref().is_none_or(|best| found.inertia.last() < best.inertia.last()) {
                best = Some(found);
            }
        }
        Ok(best.expect("at least one restart"))
    }

    /// Fit centres on points `[n, F]` from those given `[k, F]` and further ones, drawn as for a fresh start.
    ///
    /// # Errors
    /// When the points take too few distinct values.
    pub fn fit_from(&self, points: &Tensor, centres: Tensor, rng: &mut ChaCha8Rng) -> Result<Codebook> {
        let _guard = tch::no_grad_guard();
        self.lloyd(points, add_centres(points, centres, self.clusters, rng)?, &Alone)
    }

    /// Lloyd steps until the inertia stands still; the last inertia is that of the centres returned.
    fn lloyd(&self, points: &Tensor, mut centres: Tensor, group: &dyn Group) -> Result<Codebook> {
        let mut inertia: Vec<f64> = Vec::new();
        loop {
            interrupt::check()?;
            let mut sweep = Sweep::new(points, &centres);
            sweep.statistics(&mut |tensor| group.sum(tensor))?;
            let still = inertia.last().is_some_and(|before| before - sweep.inertia <= self.tolerance * before);
            inertia.push(sweep.inertia);
            let done = inertia.len() > self.iterations || sweep.inertia == 0.0 || (still && !sweep.has_empty());
            if done {
                return Ok(Codebook { centres, inertia });
            }
            centres = sweep.new_centres(points);
        }
    }
}

/// Where the points stand with respect to some centres.
struct Sweep {
    /// Sum of the points of each cluster, f64 `[K, F]`.
    sums: Tensor,
    /// Points of each cluster, f64 `[K]`.
    counts: Tensor,
    /// Squared distance of each point to its centre, f32 `[n]`.
    errors: Tensor,
    inertia: f64,
}

impl Sweep {
    fn new(points: &Tensor, centres: &Tensor) -> Self {
        let clusters = centres.size()[0];
        let ids = nearest(points, centres);
        let mut sums = Tensor::zeros(centres.size(), (Kind::Double, points.device()));
        let errors: Vec<Tensor> = pieces(points.size()[0], points.size()[1], points.device())
            .map(|(start, length)| {
                let (points, ids) = (points.narrow(0, start, length), ids.narrow(0, start, length));
                let _ = sums.index_add_(0, &ids, &points.to_kind(Kind::Double));
                squared_distance(&points, &centres.index_select(0, &ids))
            })
            .collect();
        let errors = Tensor::cat(&errors, 0);
        let inertia = f64::try_from(errors.sum(Kind::Double)).expect("a number");
        Self { sums, counts: ids.bincount(None::<Tensor>, clusters).to_kind(Kind::Double), errors, inertia }
    }

    /// Hand out what has to be summed over all parts of the points: sums, counts, and the inertia.
    fn statistics(&mut self, sum: &mut Sum) -> Result<()> {
        sum(&self.sums)?;
        sum(&self.counts)?;
        sum_number(&mut self.inertia, sum)
    }

    fn has_empty(&self) -> bool {
        bool::try_from(self.counts.eq(0.0).any()).expect("a truth value")
    }

    /// The clusters' means; an empty cluster takes one of the points with the largest errors.
    fn new_centres(&self, points: &Tensor) -> Tensor {
        let means = (&self.sums / self.counts.clamp_min(1.0).unsqueeze(1)).to_kind(Kind::Float);
        let empty = self.counts.eq(0.0).nonzero().squeeze_dim(1);
        let (_, farthest) = self.errors.topk(empty.size()[0], 0, true, true);
        means.index_copy(0, &empty, &points.index_select(0, &farthest))
    }
}

/// `|x - c|^2` row by row, without cancellation, f32 `[n]`.
fn squared_distance(points: &Tensor, centres: &Tensor) -> Tensor {
    (points - centres).square().sum_dim_intlist(1, false, Kind::Float)
}

/// Patches drawn evenly from all, or all if they are few: `[n, F]`.
fn sample(source: &dyn FeatureChunks, wanted: usize, seed: u64) -> Result<Tensor> {
    let count = source.count();
    let mut chosen: Vec<usize> = if wanted >= count {
        (0..count).collect()
    } else {
        rand::seq::index::sample(&mut random::rng(seed, "k-means sample", 0), count, wanted).into_vec()
    };
    chosen.sort_unstable();
    let (mut parts, mut next) = (Vec::new(), 0);
    each_checked(source, &mut |first, chunk| {
        let end = first + chunk.size()[0] as usize;
        let here = chosen[next..].partition_point(|&patch| patch < end);
        let rows: Vec<i64> = chosen[next..next + here].iter().map(|&patch| (patch - first) as i64).collect();
        parts.push(chunk.index_select(0, &Tensor::from_slice(&rows).to_device(chunk.device())));
        next += here;
        Ok(())
    })?;
    Ok(Tensor::cat(&parts, 0))
}

/// First centres: each is a point drawn with probability proportional to its squared distance to those before.
fn plus_plus(points: &Tensor, clusters: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let first = points.get(rng.random_range(0..points.size()[0])).unsqueeze(0);
    add_centres(points, first, clusters, rng)
}

/// The centres `[k, F]` with more of them drawn, until there are `clusters`.
fn add_centres(points: &Tensor, mut centres: Tensor, clusters: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    if centres.size()[0] >= clusters as i64 {
        return Ok(centres);
    }
    let (count, points) = (points.size()[0], points.contiguous());
    let mut nearest = Tensor::full(count, f64::INFINITY, (Kind::Float, points.device()));
    for k in 0..centres.size()[0] {
        lower(&mut nearest, &points, &centres.get(k));
    }
    while centres.size()[0] < clusters as i64 {
        interrupt::check()?;
        let total = nearest.cumsum(0, Kind::Double);
        let sum = total.double_value(&[-1]);
        refuse_too_few_distinct(sum, centres.size()[0] as usize, count, clusters)?;
        let target = Tensor::full(1, rng.random::<f64>() * sum, (Kind::Double, points.device()));
        let found = target.searchsorted(&total, false, true, "right", None::<Tensor>);
        let new = points.get(found.int64_value(&[0]).min(count - 1));
        lower(&mut nearest, &points, &new);
        centres = Tensor::cat(&[centres, new.unsqueeze(0)], 0);
    }
    Ok(centres)
}

/// Lower the squared distances `[n]` of points `[n, F]` to the nearest centre, where a further centre `[F]` is nearer.
fn lower(nearest: &mut Tensor, points: &Tensor, centre: &Tensor) {
    let device = points.device();
    if device != Device::Cpu {
        let piece = |(start, length)| squared_distance(&points.narrow(0, start, length), &centre.unsqueeze(0));
        let distances: Vec<Tensor> = pieces(points.size()[0], points.size()[1], device).map(piece).collect();
        *nearest = nearest.minimum(&Tensor::cat(&distances, 0));
        return;
    }
    let width = points.size()[1] as usize;
    let part = (points.size()[0] as usize).div_ceil(device::parts(device)).max(1);
    let items = numbers_mut(nearest).chunks_mut(part).zip(numbers(points).chunks(part * width)).collect();
    let centre = centre.contiguous();
    let centre = numbers(&centre);
    device::spread(device, items, |(nearest, points): (&mut [f32], &[f32])| rows::lower(nearest, points, centre));
}

/// With nothing left at a distance, every point equals one of the `found` centres.
fn refuse_too_few_distinct(sum: f64, found: usize, points: i64, clusters: usize) -> Result<()> {
    let apart = sum > 0.0;
    require!(
        apart || found > 1,
        "k-means: the features of all {points} patches are equal: the teacher tells no patches apart, train it longer \
         or choose other features"
    );
    require!(
        apart,
        "k-means: the features of {points} patches take only {found} values, too few for {clusters} clusters: lower \
         latents.clusters or choose other features"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Features in memory, cut into chunks.
    struct Rows {
        features: Tensor,
        patches: usize,
        chunk: usize,
    }

    impl FeatureChunks for Rows {
        fn count(&self) -> usize {
            self.features.size()[0] as usize
        }
        fn patches(&self) -> usize {
            self.patches
        }
        fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
            self.features.split(self.chunk as i64, 0).into_iter().try_for_each(visit)
        }
    }

    fn rows(values: &[f32], width: usize) -> Rows {
        Rows { features: Tensor::from_slice(values).reshape([-1, width as i64]), patches: 2, chunk: 3 }
    }

    fn config(clusters: usize) -> KMeansConfig {
        KMeansConfig { clusters, ..KMeansConfig::default() }
    }

    fn refused(config: &KMeansConfig, source: &Rows) -> String {
        let error = config.fit(source, 1, &Alone).unwrap_err();
        assert!(error.downcast_ref::<crate::refusal::Refusal>().is_some());
        error.to_string()
    }

    #[test]
    fn two_blobs_are_found_by_hand() {
        let source = rows(&[0.0, 0.0, 1.0, 0.0, 10.0, 10.0, 0.0, 2.0, 10.0, 14.0, 1.0, 2.0], 2);
        let codebook = config(2).fit(&source, 7, &Alone).unwrap();
        let mut centres: Vec<Vec<f32>> = Vec::try_from(&codebook.centres).unwrap();
        centres.sort_by(|a, b| a[0].total_cmp(&b[0]));
        assert_eq!(centres, [[0.5, 1.0], [10.0, 12.0]]);
        // 4 (0.25 + 1) + 2 * 4
        assert_eq!(codebook.inertia.last(), Some(&13.0));
        let assigned = codebook.assign_all(&source).unwrap();
        let same = |a: [usize; 2], b: [usize; 2]| assigned.picture(a[0])[a[1]] == assigned.picture(b[0])[b[1]];
        assert!(same([0, 0], [0, 1]) && same([0, 0], [1, 1]) && same([0, 0], [2, 1]) && same([1, 0], [2, 0]));
        assert!(!same([0, 0], [1, 0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_inertia_never_rises_and_is_what_brute_force_says(
            values in prop::collection::vec(-5f32..5.0, 60..240), clusters in 1usize..9, seed in 0u64..1000
        ) {
            let values = &values[..values.len() / 3 * 3];
            let source = Rows { chunk: 7, ..rows(values, 3) };
            let codebook = KMeansConfig { tolerance: 0.0, ..config(clusters) }.fit(&source, seed, &Alone).unwrap();
            for pair in codebook.inertia.windows(2) {
                prop_assert!(pair[1] <= pair[0] * (1.0 + 1e-6), "{:?}", codebook.inertia);
            }
            let centres: Vec<Vec<f32>> = Vec::try_from(&codebook.centres).unwrap();
            let distance = |x: &[f32], c: &[f32]| x.iter().zip(c).map(|(x, c)| f64::from(x - c).powi(2)).sum::<f64>();
            let least = |x: &[f32]| centres.iter().map(|c| distance(x, c)).fold(f64::INFINITY, f64::min);
            let brute: f64 = values.chunks(3).map(least).sum();
            let last = *codebook.inertia.last().unwrap();
            prop_assert!((brute - last).abs() < 1e-4 * brute.max(1.0), "{brute} {last}");
        }
    }

    #[test]
    fn empty_clusters_take_the_points_with_the_largest_errors() {
        let points = Tensor::from_slice(&[0f32, 1.0, 2.0, 50.0]).reshape([4, 1]);
        let centres = Tensor::from_slice(&[1f32, 900.0]).reshape([2, 1]);
        let sweep = Sweep::new(&points, &centres);
        assert!(sweep.has_empty());
        let moved: Vec<f32> = Vec::try_from(sweep.new_centres(&points).flatten(0, -1)).unwrap();
        assert_eq!(moved, [53.0 / 4.0, 50.0]);
        let settled = config(2).lloyd(&points, centres, &Alone).unwrap();
        assert_eq!(settled.inertia.last(), Some(&2.0));
    }

    #[test]
    fn two_halves_summed_at_the_seam_are_one_whole() {
        let values: Vec<f32> = (0..60u32).map(|i| (i * 7919 % 101) as f32).collect();
        let points = Tensor::from_slice(&values).reshape([-1, 2]);
        let centres = Tensor::from_slice(&[10f32, 20.0, 60.0, 60.0, 90.0, 10.0]).reshape([3, 2]);
        let whole = Sweep::new(&points, &centres);
        let mut others = Vec::new();
        let mut second = Sweep::new(&points.narrow(0, 17, 13), &centres);
        let keep = |tensor: &Tensor| {
            others.push(tensor.copy());
            Ok(())
        };
        second.statistics(&mut { keep }).unwrap();
        let mut others = others.into_iter();
        let mut first = Sweep::new(&points.narrow(0, 0, 17), &centres);
        first
            .statistics(&mut |tensor| {
                let _ = tensor.shallow_clone().g_add_(&others.next().unwrap());
                Ok(())
            })
            .unwrap();
        assert!((first.inertia - whole.inertia).abs() < 1e-9 * whole.inertia);
        assert_eq!(first.new_centres(&points), whole.new_centres(&points));
    }

    #[test]
    fn a_seed_gives_the_same_centres_whatever_the_chunks() {
        let values: Vec<f32> = (0..400u32).map(|i| (i * 7919 % 1009) as f32).collect();
        let fit = |chunk, seed| {
            let source = Rows { chunk, ..rows(&values, 2) };
            KMeansConfig { sample: 50, restarts: 3, ..config(5) }.fit(&source, seed, &Alone).unwrap()
        };
        assert_eq!(fit(200, 1).centres, fit(9, 1).centres);
        assert_ne!(fit(200, 1).centres, fit(200, 2).centres);
    }

    #[test]
    fn features_that_cannot_be_clustered_are_refused() {
        assert_eq!(
            refused(&config(4), &rows(&[0.0, 1.0, 2.0], 1)),
            "k-means: 3 patches are too few for 4 clusters: lower latents.clusters or use more pictures"
        );
        assert_eq!(
            refused(&config(2), &rows(&[3.0; 6], 1)),
            "k-means: the features of all 6 patches are equal: the teacher tells no patches apart, train it longer or \
             choose other features"
        );
        assert_eq!(
            refused(&config(3), &rows(&[3.0, 4.0, 3.0, 4.0], 1)),
            "k-means: the features of 4 patches take only 2 values, too few for 3 clusters: lower latents.clusters or \
             choose other features"
        );
        assert_eq!(
            refused(&config(1), &rows(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0], 2)),
            "features: picture 1, patch 1: feature 1 is NaN, expected a finite number: the teacher that made it is \
             broken, train it again"
        );
        assert_eq!(
            refused(&config(0), &rows(&[0.0, 1.0], 1)),
            "k-means: 1 problem\n  latents.clusters: must be from 1 to 65536, found 0"
        );
    }
}
