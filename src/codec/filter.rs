//! Beliefs on a tree of hidden states while evidence comes in, one node after the other.
//!
//! The filter stands on one node at a time. Messages towards that node are kept; going to another one passes a message
//! along every edge between the two, so neighbours cost one product of a table and a vector, and a whole walk in
//! depth-first order two an edge. Messages add up to 1: nothing underflows however much was seen.

use super::walk::normalise;

/// After so many messages a product of them is brought back to a sum of 1.
const OFTEN: usize = 16;

/// A tree's shape and tables.
#[derive(Debug)]
pub struct Tree {
    /// The parent of every node; none at the root.
    pub parents: Vec<Option<usize>>,
    /// The children of every node, in rising order.
    pub children: Vec<Vec<usize>>,
    /// Edges from the root.
    pub depth: Vec<usize>,
    /// States of a node: H.
    pub states: usize,
    /// p(state | state of the parent) `[V, H, H]`, a row for every state of the parent; anything at the root.
    pub edges: Vec<f32>,
}

/// The nodes of a tree, every one after its parent and a subtree in one piece; none where it is no tree with one root.
#[must_use]
pub fn depth_first(parents: &[Option<usize>]) -> Option<Vec<usize>> {
    let mut children = vec![Vec::new(); parents.len()];
    let mut stack = Vec::new();
    for (node, parent) in parents.iter().enumerate().rev() {
        match parent {
            None => stack.push(node),
            Some(parent) => children.get_mut(*parent)?.push(node),
        }
    }
    let one_root = stack.len() == 1;
    let mut order = Vec::with_capacity(parents.len());
    while let Some(node) = stack.pop() {
        order.push(node);
        stack.extend(&children[node]);
    }
    (one_root && order.len() == parents.len()).then_some(order)
}

impl Tree {
    /// Of the parents of all nodes and their tables `[V, H, H]`; none where the parents are no tree with one root.
    #[must_use]
    pub fn new(parents: Vec<Option<usize>>, states: usize, edges: Vec<f32>) -> Option<Self> {
        let order = depth_first(&parents)?;
        let mut children = vec![Vec::new(); parents.len()];
        let mut depth = vec![0; parents.len()];
        for &node in &order {
            if let Some(parent) = parents[node] {
                depth[node] = depth[parent] + 1;
            }
        }
        for (node, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(node);
            }
        }
        Some(Self { parents, children, depth, states, edges })
    }

    /// The first node of a walk: the root.
    #[must_use]
    pub fn root(&self) -> usize {
        self.depth.iter().position(|&depth| depth == 0).unwrap_or(0)
    }

    fn edge(&self, node: usize) -> &[f32] {
        let size = self.states * self.states;
        &self.edges[node * size..(node + 1) * size]
    }
}

/// Messages of one tree towards the node that the filter stands on.
#[derive(Debug)]
pub struct Filter {
    states: usize,
    /// Product of the likelihoods observed at a node `[V, H]`.
    evidence: Vec<f64>,
    /// From a node to its parent `[V, H]`; only where something was seen below.
    upward: Vec<f64>,
    /// From its parent to a node, or the prior at the root `[V, H]`.
    downward: Vec<f64>,
    /// Whether evidence was seen at a node.
    observed: Vec<bool>,
    /// Whether the message of a node to its parent says anything.
    says: Vec<bool>,
    /// Whether evidence came to a node's subtree since its message was sent.
    stale: Vec<bool>,
    here: usize,
    belief: Vec<f64>,
    scratch: Vec<f64>,
    path: Vec<usize>,
}

impl Filter {
    /// For a tree, before anything is known.
    #[must_use]
    pub fn new(tree: &Tree) -> Self {
        let (nodes, states) = (tree.parents.len(), tree.states);
        Self {
            states,
            evidence: vec![1.0; nodes * states],
            upward: vec![1.0; nodes * states],
            downward: vec![1.0; nodes * states],
            observed: vec![false; nodes],
            says: vec![false; nodes],
            stale: vec![false; nodes],
            here: tree.root(),
            belief: vec![0.0; states],
            scratch: vec![0.0; states],
            path: Vec::new(),
        }
    }

    /// Forget everything; the state of the root has these probabilities `[H]`.
    pub fn start(&mut self, tree: &Tree, prior: &[f64]) {
        self.here = tree.root();
        self.observed.fill(false);
        self.says.fill(false);
        self.stale.fill(false);
        let (start, end) = self.span(self.here);
        self.downward[start..end].copy_from_slice(prior);
    }

    /// p(state of the node | what was seen) `[H]`.
    pub fn marginal(&mut self, tree: &Tree, node: usize) -> &[f64] {
        self.go(tree, node);
        let (start, end) = self.span(node);
        self.belief.copy_from_slice(&self.downward[start..end]);
        let mut belief = std::mem::take(&mut self.belief);
        self.gather(tree, node, None, &mut belief);
        normalise(&mut belief);
        self.belief = belief;
        &self.belief
    }

    /// Likelihoods `[H]` of what was seen at a node.
    pub fn observe(&mut self, tree: &Tree, node: usize, likelihood: &[f64]) {
        self.go(tree, node);
        let (start, end) = self.span(node);
        let evidence = &mut self.evidence[start..end];
        if self.observed[node] {
            evidence.iter_mut().zip(likelihood).for_each(|(all, one)| *all *= one);
        } else {
            evidence.copy_from_slice(likelihood);
        }
        normalise(evidence);
        self.observed[node] = true;
        self.stale[node] = true;
    }

    /// p(what was seen | state of the root) `[H]`, up to a factor.
    pub fn likelihood(&mut self, tree: &Tree, out: &mut [f64]) {
        let root = tree.root();
        self.go(tree, root);
        out.fill(1.0);
        self.gather(tree, root, None, out);
    }

    fn span(&self, node: usize) -> (usize, usize) {
        (node * self.states, (node + 1) * self.states)
    }

    /// Multiply by the evidence at a node and by the messages of its children but one.
    fn gather(&self, tree: &Tree, node: usize, but: Option<usize>, into: &mut [f64]) {
        if self.observed[node] {
            multiply(into, self.of(&self.evidence, node));
        }
        let children = tree.children[node].iter().filter(|&&child| Some(child) != but && self.says[child]);
        for (number, &child) in children.enumerate() {
            multiply(into, self.of(&self.upward, child));
            if number % OFTEN == OFTEN - 1 {
                normalise(into);
            }
        }
    }

    fn of<'a>(&self, all: &'a [f64], node: usize) -> &'a [f64] {
        let (start, end) = self.span(node);
        &all[start..end]
    }

    /// Stand on another node.
    fn go(&mut self, tree: &Tree, node: usize) {
        let mut path = std::mem::take(&mut self.path);
        let mut target = node;
        while self.here != target {
            if tree.depth[target] > tree.depth[self.here] {
                path.push(target);
                target = tree.parents[target].expect("a node below another has a parent");
            } else if tree.depth[self.here] > tree.depth[target] || tree.parents[target].is_some() {
                self.ascend(tree);
            } else {
                unreachable!("a tree has one root");
            }
        }
        while let Some(next) = path.pop() {
            self.descend(tree, next);
        }
        self.path = path;
    }

    fn ascend(&mut self, tree: &Tree) {
        let here = self.here;
        let parent = tree.parents[here].expect("the root is above all");
        if self.stale[here] {
            let mut own = std::mem::take(&mut self.scratch);
            own.fill(1.0);
            self.gather(tree, here, None, &mut own);
            let (start, end) = self.span(here);
            let rows = tree.edge(here).chunks_exact(self.states);
            self.upward[start..end].iter_mut().zip(rows).for_each(|(out, row)| *out = dot(row, &own));
            normalise(&mut self.upward[start..end]);
            self.scratch = own;
            self.stale[here] = false;
            self.says[here] = true;
            self.stale[parent] = true;
        }
        self.here = parent;
    }

    fn descend(&mut self, tree: &Tree, child: usize) {
        let (start, end) = self.span(self.here);
        let mut own = std::mem::take(&mut self.scratch);
        own.copy_from_slice(&self.downward[start..end]);
        self.gather(tree, self.here, Some(child), &mut own);
        normalise(&mut own);
        let (start, end) = self.span(child);
        let out = &mut self.downward[start..end];
        out.fill(0.0);
        for (row, &weight) in tree.edge(child).chunks_exact(self.states).zip(&own) {
            if weight > 0.0 {
                out.iter_mut().zip(row).for_each(|(sum, &p)| *sum += weight * f64::from(p));
            }
        }
        self.scratch = own;
        self.here = child;
    }
}

fn multiply(product: &mut [f64], factors: &[f64]) {
    product.iter_mut().zip(factors).for_each(|(product, factor)| *product *= factor);
}

/// The sum of products, in eight parts so that a compiler may take them side by side: the order is written here.
#[must_use]
pub fn dot(row: &[f32], column: &[f64]) -> f64 {
    let mut parts = [0.0f64; 8];
    let (rows, rest) = row.as_chunks::<8>();
    let (columns, rest_of_column) = column.as_chunks::<8>();
    for (a, b) in rows.iter().zip(columns) {
        for i in 0..8 {
            parts[i] += f64::from(a[i]) * b[i];
        }
    }
    let tail: f64 = rest.iter().zip(rest_of_column).map(|(&a, b)| f64::from(a) * b).sum();
    ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7])) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p(states of all nodes) by the tables, for a tree of 5 nodes with 2 states.
    fn joint(tree: &Tree, root: &[f64], states: usize) -> f64 {
        let state = |node: usize| states >> node & 1;
        let edge = |node: usize, parent: usize| f64::from(tree.edge(node)[state(parent) * 2 + state(node)]);
        (0..5).map(|node| tree.parents[node].map_or(root[state(node)], |parent| edge(node, parent))).product()
    }

    #[test]
    fn marginals_are_those_of_all_states_in_whatever_order_evidence_comes() {
        let parents = vec![Some(3), Some(3), Some(1), None, Some(1)];
        let edges = (0..5u8).flat_map(|n| [0.9 - f32::from(n) * 0.1, 0.1 + f32::from(n) * 0.1, 0.3, 0.7]).collect();
        let (tree, root) = (Tree::new(parents, 2, edges).unwrap(), [0.4, 0.6]);
        let mut filter = Filter::new(&tree);
        for order in [[0usize, 1, 2, 3, 4], [4, 2, 0, 1, 3], [3, 1, 2, 4, 0]] {
            filter.start(&tree, &root);
            let mut evidence = [[1.0; 2]; 5];
            for (step, node) in order.into_iter().enumerate() {
                let weight = |states: usize| {
                    let seen = (0..5).map(|n| evidence[n][states >> n & 1]).product::<f64>();
                    seen * joint(&tree, &root, states)
                };
                let total: f64 = (0..32).map(weight).sum();
                let one: f64 = (0..32).filter(|states| states >> node & 1 == 1).map(weight).sum();
                let found = filter.marginal(&tree, node);
                assert!((found[1] - one / total).abs() < 1e-7, "{order:?} {node}: {found:?} {}", one / total);
                let likelihood = [0.2 + 0.1 * step as f64, 0.9];
                filter.observe(&tree, node, &likelihood);
                evidence[node] = likelihood;
            }
        }
    }

    #[test]
    fn only_trees_with_one_root_are_walked() {
        assert_eq!(depth_first(&[Some(2), Some(2), None, Some(0)]), Some(vec![2, 0, 3, 1]));
        assert!(depth_first(&[None, None]).is_none());
        assert!(depth_first(&[Some(1), Some(0), None]).is_none());
        assert!(depth_first(&[None, Some(7)]).is_none());
    }

    #[test]
    fn a_thousand_children_do_not_underflow() {
        let parents = std::iter::once(None).chain(std::iter::repeat_n(Some(0), 1500)).collect::<Vec<_>>();
        let edges = vec![0.5; 1501 * 4];
        let tree = Tree::new(parents, 2, edges).unwrap();
        let mut filter = Filter::new(&tree);
        filter.start(&tree, &[0.25, 0.75]);
        (1..1501).for_each(|node| filter.observe(&tree, node, &[0.3, 0.1]));
        assert!((filter.marginal(&tree, 0)[0] - 0.25).abs() < 1e-9);
    }
}
