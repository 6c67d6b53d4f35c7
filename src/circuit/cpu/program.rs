//! The order in which a tree's regions are walked, children before parents, and where their messages and tables lie.

use super::kernels::padded;
use crate::circuit::plan::{BlockInput, InputPool, Plan};
use crate::structure::region_graph::{InputKind, RegionGraph};

/// No message shrinks by more than so many factors of [`crate::circuit::FLOOR`] before it is rescaled. An input may be one
/// factor, a child as many as its S has: one for the sum over a message that was rescaled, and those of the message
/// since then.
const FACTORS: usize = 3;

/// A circuit for the walk.
#[derive(Debug)]
pub struct Program {
    /// All trees.
    pub trees: Vec<Tree>,
    /// Numbers of every table, pool by pool, those of edges first: a table's place in this list is its name.
    pub tables: Vec<usize>,
}

/// The regions of one tree.
#[derive(Debug)]
pub struct Tree {
    /// Children before parents, the root last.
    pub steps: Vec<Step>,
    /// Numbers of an example's messages where all are kept.
    pub kept: Place,
    /// The same where they make room for others.
    pub passing: Place,
}

/// Where the messages M and S of a region begin, in numbers of one example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// M.
    pub message: usize,
    /// S.
    pub sums: usize,
}

/// A region.
#[derive(Debug)]
pub struct Step {
    /// Its states.
    pub states: usize,
    /// States of its parent, or heads.
    pub above: usize,
    /// The table between them.
    pub table: Shared,
    /// Its input.
    pub leaf: Option<Leaf>,
    /// Steps of its children, each with whether the message is rescaled before it is multiplied by theirs.
    pub children: Vec<(usize, bool)>,
    /// Whether the message is rescaled when it is complete.
    pub rescale: bool,
    /// Whether it is a leaf that stands alone, below a parent (`super::alone`).
    pub alone: bool,
    /// Step of its parent.
    pub parent: Option<usize>,
    /// Its place where all messages are kept.
    pub kept: Place,
    /// Its place where messages make room for others.
    pub passing: Place,
}

/// A table that further regions of the tree may read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    /// The table.
    pub table: usize,
    /// How many regions read it.
    pub readers: usize,
    /// How many of those the downward pass visits before this one.
    pub turn: usize,
}

/// A discrete input.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Its table.
    pub table: Shared,
    /// Pool of the table.
    pub pool: usize,
    /// First row of the table in its pool.
    pub first: usize,
    /// The variable.
    pub variable: usize,
    /// The variable among those of all trees, one after the other.
    pub own: usize,
}

impl Program {
    /// For a circuit whose inputs are discrete and whose trees have tables of their own; none for others.
    #[must_use]
    pub fn new(graph: &RegionGraph, plan: &Plan) -> Option<Self> {
        let regions = graph.regions();
        if regions.iter().any(|r| r.input.is_some_and(|input| input.kind == InputKind::Soft)) {
            return None;
        }
        let mut children = vec![Vec::new(); regions.len()];
        for (r, region) in regions.iter().enumerate() {
            region.parent.into_iter().for_each(|p| children[p].push(r));
        }
        let named = named(graph, plan);
        let trees: Vec<Tree> =
            graph.roots().iter().map(|&root| Tree::new(graph, root, &mut children, &named)).collect();
        let program = Self { trees, tables: lengths(plan) };
        program.trees_are_apart().then_some(program)
    }

    fn trees_are_apart(&self) -> bool {
        let mut owner = vec![None; self.tables.len()];
        let of = |step: &Step| [Some(step.table.table), step.leaf.map(|leaf| leaf.table.table)];
        let all = self.trees.iter().enumerate().flat_map(|(t, tree)| tree.steps.iter().map(move |step| (t, step)));
        all.flat_map(|(t, step)| of(step).map(|table| (t, table)))
            .all(|(t, table)| table.is_none_or(|table| *owner[table].get_or_insert(t) == t))
    }
}

/// Table and input of a region, its readers not counted yet.
type Named = (usize, Option<Leaf>);

/// Numbers of every table, in the order of their names.
fn lengths(plan: &Plan) -> Vec<usize> {
    let edges = plan.edge_pools.iter().flat_map(|p| (0..p.tables).map(|_| p.parent_states * p.states));
    let table = |p: &InputPool| {
        p.segments.iter().flat_map(|s| (0..s.tables).map(|_| (s.categories + 1) * p.states)).collect::<Vec<_>>()
    };
    edges.chain(plan.input_pools.iter().flat_map(table)).map(|length| length as usize).collect()
}

/// Table and input of every region.
fn named(graph: &RegionGraph, plan: &Plan) -> Vec<Named> {
    let before = |pool: usize| plan.edge_pools[..pool].iter().map(|p| p.tables).sum::<i64>();
    let mut all = vec![(0, None); graph.regions().len()];
    for block in &plan.blocks {
        let offsets = match &block.input {
            Some(BlockInput::Discrete { offsets, .. }) => Vec::try_from(offsets.reshape([-1])).expect("rows of a pool"),
            _ => Vec::new(),
        };
        for (row, &r) in block.regions.iter().enumerate() {
            let leaf = match (&block.input, graph.regions()[r].input) {
                (Some(BlockInput::Discrete { pool, .. }), Some(input)) => Some(Leaf {
                    table: Shared { table: input_table(plan, *pool, offsets[row]), ..Shared::default() },
                    pool: *pool,
                    first: offsets[row] as usize,
                    variable: input.variable,
                    own: graph.trees()[r] * graph.variables() + input.variable,
                }),
                _ => None,
            };
            all[r] = ((before(block.pool) + block.tables.row(row)) as usize, leaf);
        }
    }
    all
}

/// The name of the input table that begins in a row of a pool.
fn input_table(plan: &Plan, pool: usize, first: i64) -> usize {
    let edges: i64 = plan.edge_pools.iter().map(|p| p.tables).sum();
    let earlier: i64 = plan.input_pools[..pool].iter().flat_map(|p| p.segments.iter().map(|s| s.tables)).sum();
    let within: i64 = plan.input_pools[pool]
        .segments
        .iter()
        .map(|s| ((first - s.start) / (s.categories + 1)).clamp(0, s.tables))
        .sum();
    (edges + earlier + within) as usize
}

impl Tree {
    /// The regions below a root; `children` are sorted, largest subtrees first, so that few messages wait for others.
    fn new(graph: &RegionGraph, root: usize, children: &mut [Vec<usize>], named: &[Named]) -> Self {
        let order = downward(root, children);
        let mut sizes = std::collections::HashMap::new();
        for &r in order.iter().rev() {
            sizes.insert(r, 1 + children[r].iter().map(|c| sizes[c]).sum::<usize>());
            children[r].sort_by_key(|c| std::cmp::Reverse(sizes[c]));
        }
        let mut order = downward(root, children);
        order.reverse();
        let place: std::collections::HashMap<usize, usize> = order.iter().enumerate().map(|(i, &r)| (r, i)).collect();
        let step = |&r: &usize| Step {
            states: graph.regions()[r].states,
            above: graph.parent_states(r),
            table: Shared { table: named[r].0, ..Shared::default() },
            leaf: named[r].1,
            children: children[r].iter().map(|c| (place[c], false)).collect(),
            rescale: false,
            alone: false,
            parent: graph.regions()[r].parent.map(|p| place[&p]),
            kept: Place::default(),
            passing: Place::default(),
        };
        let steps = order.iter().map(step).collect();
        let mut tree = Self { steps, kept: Place::default(), passing: Place::default() };
        tree.count_readers();
        tree.plan_rescaling();
        tree.place();
        tree
    }

    /// Number the readers of every table in the order of the downward pass.
    fn count_readers(&mut self) {
        let mut readers = std::collections::HashMap::new();
        for step in self.steps.iter_mut().rev() {
            for shared in [Some(&mut step.table), step.leaf.as_mut().map(|leaf| &mut leaf.table)].into_iter().flatten()
            {
                let count = readers.entry(shared.table).or_insert(0);
                shared.turn = *count;
                *count += 1;
            }
        }
        for step in &mut self.steps {
            for shared in [Some(&mut step.table), step.leaf.as_mut().map(|leaf| &mut leaf.table)].into_iter().flatten()
            {
                shared.readers = readers[&shared.table];
            }
        }
    }

    /// Say where messages are rescaled: as seldom as [`FACTORS`] allows.
    fn plan_rescaling(&mut self) {
        let mut factors: Vec<usize> = Vec::with_capacity(self.steps.len());
        for step in &mut self.steps {
            let (mut count, mut scaled) = (usize::from(step.leaf.is_some()), false);
            for (child, rescale) in &mut step.children {
                *rescale = count + factors[*child] > FACTORS;
                if *rescale {
                    (count, scaled) = (0, true);
                }
                count += factors[*child];
            }
            step.rescale = count + usize::from(scaled) > FACTORS;
            step.alone = step.leaf.is_some() && step.children.is_empty() && step.parent.is_some() && !step.rescale;
            factors.push(if step.rescale { 1 } else { count + usize::from(scaled) });
        }
    }

    /// Give every message its place. Where they make room, there is one M at a time, and a region's S takes the place of
    /// those of its children, which lie on top of all others.
    fn place(&mut self) {
        let (mut top, mut width) = (0, 0);
        for i in 0..self.steps.len() {
            let first = self.steps[i].children.iter().map(|(child, _)| self.steps[*child].passing.sums).min();
            let step = &mut self.steps[i];
            let place = Place { message: 0, sums: first.unwrap_or(top) };
            (step.kept, step.passing) = (self.kept, place);
            top = place.sums + padded(step.above);
            width = width.max(padded(step.states));
            self.kept.message += padded(step.states);
            self.kept.sums += padded(step.above);
            self.passing = Place { message: width, sums: self.passing.sums.max(top) };
        }
    }
}

/// The regions below a root, parents before children, of those the last first.
fn downward(root: usize, children: &[Vec<usize>]) -> Vec<usize> {
    let (mut open, mut order) = (vec![root], Vec::new());
    while let Some(r) = open.pop() {
        order.push(r);
        open.extend(&children[r]);
    }
    order
}
