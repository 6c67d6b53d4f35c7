//! Chow-Liu trees: the maximum spanning tree of pairwise mutual information (Chow and Liu, 1968).
//!
//! Values are binned to a few levels; with one-hot rows `E_n` of length V*B the joint counts of all pairs are one GEMM,
//! `J = sum_n E_n E_n^T`, and
//!
//! ```text
//! I(u; v) = sum_ab p(a, b) ln( p(a, b) / (p(a) p(b)) )      nats, with a pseudocount shared out over the cells
//! ```

use petgraph::algo::min_spanning_tree;
use petgraph::data::Element;
use petgraph::graph::UnGraph;
use tch::{Kind, Tensor};

/// A tree of regions: the parent of each, none for the root. Region v observes variable v; where there are more regions than
/// variables, those behind observe nothing.
pub type Parents = Vec<Option<usize>>;

/// Examples in one go, at most.
const CHUNK: i64 = 1024;
/// Numbers of a table of joint counts, or of one-hot rows, in memory at once.
const TABLE: i64 = 1 << 24;

/// Pairwise mutual information in nats, `[V, V]` float64 on the CPU, of binned values `[N, V]` in `0..bins`, for some
/// variables at a time with all others: memory stays below [`memory`].
///
/// `pseudocount` is spread evenly over the `bins * bins` cells of every pair.
pub fn mutual_information(binned: &Tensor, bins: i64, pseudocount: f64) -> Tensor {
    let (_, v) = binned.size2().expect("binned values are [N, V]");
    let block = block(v, bins);
    let rows = (0..v).step_by(block as usize).map(|first| {
        let joint = joint_counts(binned, bins, first, block.min(v - first));
        information(&joint, bins, pseudocount, binned.size()[0]).to_device(tch::Device::Cpu)
    });
    Tensor::cat(&rows.collect::<Vec<_>>(), 0)
}

/// Bytes that [`mutual_information`] takes at most: a block of joint counts in both precisions and their terms.
#[must_use]
pub fn memory(variables: usize, bins: usize) -> f64 {
    let (v, bins) = (variables as f64, bins as f64);
    let block = block(variables as i64, bins as i64) as f64;
    block * bins * v * bins * (4.0 + 4.0 * 8.0) + (TABLE as f64).min(CHUNK as f64 * v * bins) * 12.0
}

/// How many variables are looked at together.
fn block(variables: i64, bins: i64) -> i64 {
    (TABLE / (bins * bins * variables).max(1)).clamp(1, variables.max(1))
}

/// Joint counts of `count` variables from `first` on with all variables: float32 `[count * bins, V * bins]`.
fn joint_counts(binned: &Tensor, bins: i64, first: i64, count: i64) -> Tensor {
    let (n, v) = binned.size2().expect("binned values are [N, V]");
    let chunk = (TABLE / (v * bins).max(1)).clamp(16, CHUNK);
    let mut joint = Tensor::zeros([count * bins, v * bins], (Kind::Float, binned.device()));
    for start in (0..n).step_by(chunk as usize) {
        let some = binned.narrow(0, start, chunk.min(n - start)).to_kind(Kind::Int64);
        let hot = some.one_hot(bins).to_kind(Kind::Float).reshape([-1, v * bins]);
        let mine = hot.narrow(1, first * bins, count * bins);
        let _ = joint.addmm_(&mine.transpose(0, 1), &hot);
    }
    joint
}

/// Mutual information `[A, V]` from joint counts `[A * bins, V * bins]` of `n` examples.
fn information(joint: &Tensor, bins: i64, pseudocount: f64, n: i64) -> Tensor {
    let (rows, columns) = joint.size2().expect("joint counts are a matrix");
    let cells = (bins * bins) as f64;
    let joint = joint.to_kind(Kind::Double).view([rows / bins, bins, columns / bins, bins]).permute([0, 2, 1, 3]);
    let p = (joint + pseudocount / cells) / (n as f64 + pseudocount);
    let rows = p.sum_dim_intlist(3, true, Kind::Double);
    let columns = p.sum_dim_intlist(2, true, Kind::Double);
    let terms = &p * (&p / (rows * columns)).log();
    terms.nan_to_num(0.0, None, None).sum_dim_intlist([2, 3].as_slice(), false, Kind::Double)
}

/// Map integers in `low..=high` to `0..bins` by equal width: `[N, V]` to `[N, V]` int64.
pub fn bin(values: &Tensor, low: i64, high: i64, bins: i64) -> Tensor {
    (values.to_kind(Kind::Int64) - low)
        .g_mul_scalar(bins)
        .divide_scalar_mode(high - low + 1, "floor")
        .clamp(0, bins - 1)
}

/// The maximum spanning tree of a symmetric weight matrix `[V, V]`, rooted at its centre (least depth).
///
/// Ties are broken by the order of the variables, so the tree is a function of the matrix.
#[must_use]
pub fn maximum_spanning_tree(weights: &Tensor) -> Parents {
    let v = weights.size()[0] as usize;
    let flat: Vec<f64> = Vec::try_from(weights.contiguous().view(-1)).expect("a float64 matrix on the CPU");
    let mut graph = UnGraph::<(), f64>::with_capacity(v, v * v / 2);
    let nodes: Vec<_> = (0..v).map(|_| graph.add_node(())).collect();
    for a in 0..v {
        for b in a + 1..v {
            graph.add_edge(nodes[a], nodes[b], -flat[a * v + b]);
        }
    }
    let mut neighbours = vec![Vec::new(); v];
    for element in min_spanning_tree(&graph) {
        if let Element::Edge { source, target, .. } = element {
            neighbours[source].push(target);
            neighbours[target].push(source);
        }
    }
    root_at(&neighbours, centre(&neighbours))
}

/// The Chow-Liu tree of binned values `[N, V]` in `0..bins`.
#[must_use]
pub fn chow_liu(binned: &Tensor, bins: i64, pseudocount: f64) -> Parents {
    maximum_spanning_tree(&mutual_information(binned, bins, pseudocount))
}

/// The regions at most so many edges away from each as `hops` says for it, itself first, with their distance in edges.
#[must_use]
pub fn neighbourhoods(parents: &Parents, hops: impl Fn(usize) -> usize) -> Vec<Vec<(usize, usize)>> {
    let mut neighbours = vec![Vec::new(); parents.len()];
    for (child, parent) in parents.iter().enumerate().filter_map(|(c, p)| p.map(|p| (c, p))) {
        neighbours[child].push(parent);
        neighbours[parent].push(child);
    }
    let around = |start: usize| {
        let mut found = vec![(start, None, 0)];
        let (mut next, hops) = (0, hops(start));
        while next < found.len() && found[next].2 < hops {
            let (node, from, distance) = found[next];
            let further = neighbours[node].iter().filter(|&&n| Some(n) != from);
            found.extend(further.map(|&n| (n, Some(node), distance + 1)));
            next += 1;
        }
        found.into_iter().map(|(node, _, distance)| (node, distance)).collect()
    };
    (0..parents.len()).map(around).collect()
}

/// The middle of the longest path of a tree.
fn centre(neighbours: &[Vec<usize>]) -> usize {
    let (end, _) = farthest(neighbours, 0);
    let (other, parents) = farthest(neighbours, end);
    let mut path = vec![other];
    while let Some(parent) = parents[path[path.len() - 1]] {
        path.push(parent);
    }
    path[path.len() / 2]
}

fn farthest(neighbours: &[Vec<usize>], start: usize) -> (usize, Parents) {
    let parents = root_at(neighbours, start);
    let depth = |mut node: usize| {
        let mut depth = 0;
        while let Some(parent) = parents[node] {
            node = parent;
            depth += 1;
        }
        depth
    };
    let end = (0..neighbours.len()).max_by_key(|&n| (depth(n), std::cmp::Reverse(n))).unwrap_or(start);
    (end, parents)
}

fn root_at(neighbours: &[Vec<usize>], root: usize) -> Parents {
    let mut parents = vec![None; neighbours.len()];
    let mut queue = std::collections::VecDeque::from([root]);
    while let Some(node) = queue.pop_front() {
        for &next in &neighbours[node] {
            if next != root && parents[next].is_none() && parents[node] != Some(next) {
                parents[next] = Some(node);
                queue.push_back(next);
            }
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutual_information_of_a_copy_is_its_entropy_and_of_strangers_zero() {
        let rows = [0i64, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1]; // columns 0 and 1 are equal, column 2 is independent of both
        let information = mutual_information(&Tensor::from_slice(&rows).view([4, 3]), 2, 0.0);
        assert!((information.double_value(&[0, 1]) - 2f64.ln()).abs() < 1e-6);
        assert!(information.double_value(&[0, 2]).abs() < 1e-6);
    }

    #[test]
    fn a_chain_is_found_and_rooted_in_its_middle() {
        let weights = [
            [0., 9., 1., 1., 1.],
            [9., 0., 8., 2., 1.],
            [1., 8., 0., 7., 1.],
            [1., 2., 7., 0., 6.],
            [1., 1., 1., 6., 0.],
        ];
        let flat: Vec<f64> = weights.concat();
        let parents = maximum_spanning_tree(&Tensor::from_slice(&flat).view([5, 5]));
        assert_eq!(parents, [Some(1), Some(2), None, Some(2), Some(3)]);
    }

    #[test]
    fn neighbourhoods_reach_as_far_as_asked() {
        let found = neighbourhoods(&vec![Some(1), Some(2), None, Some(2), Some(3)], |_| 2);
        assert_eq!(found[2], [(2, 0), (1, 1), (3, 1), (0, 2), (4, 2)]);
        assert_eq!(found[4], [(4, 0), (3, 1), (2, 2)]);
    }

    #[test]
    fn binning_is_even_and_covers_both_ends() {
        let binned = bin(&Tensor::from_slice(&[-255i64, 0, 1, 255]), -255, 255, 2);
        assert_eq!(Vec::<i64>::try_from(binned).unwrap(), [0, 0, 1, 1]);
    }
}
