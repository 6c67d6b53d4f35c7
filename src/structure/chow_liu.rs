//! Chow-Liu trees: the maximum spanning tree of pairwise mutual information (Chow and Liu, 1968).
//!
//! Values are binned to a few levels; [`mutual_information`] says how pairs of variables are counted.

use petgraph::algo::min_spanning_tree;
use petgraph::data::Element;
use petgraph::graph::UnGraph;
use tch::{Kind, Tensor};

pub use super::information::{memory, mutual_information};

/// A tree of regions: the parent of each, none for the root. Region v observes variable v; where there are more regions than
/// variables, those behind observe nothing.
pub type Parents = Vec<Option<usize>>;

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
