//! The order of work: regions grouped into blocks, blocks ordered by depth, with the indices that connect them.

use std::collections::{BTreeMap, HashMap, HashSet};

use tch::{Device, Tensor};

use crate::structure::region_graph::{InputKind, RegionGraph};

/// Rows of the first dimension of a tensor: a view where they lie side by side, else a copy.
#[derive(Debug)]
pub enum Select {
    /// `start..start + len`.
    Range(i64, i64),
    /// Any rows.
    Rows(Tensor),
}

impl Select {
    fn new(rows: &[usize], device: Device) -> Self {
        if rows.windows(2).all(|w| w[1] == w[0] + 1) {
            return Self::Range(rows.first().map_or(0, |&r| r as i64), rows.len() as i64);
        }
        let rows: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
        Self::Rows(Tensor::from_slice(&rows).to_device(device))
    }

    /// The selected rows.
    pub fn of(&self, tensor: &Tensor) -> Tensor {
        match self {
            Self::Range(start, len) => tensor.narrow(0, *start, *len),
            Self::Rows(rows) => tensor.index_select(0, rows),
        }
    }

    /// The i-th of the selected rows.
    #[must_use]
    pub fn row(&self, i: usize) -> i64 {
        match self {
            Self::Range(start, _) => start + i as i64,
            Self::Rows(rows) => rows.int64_value(&[i as i64]),
        }
    }

    /// `tensor[rows] = value`.
    pub fn set(&self, tensor: &mut Tensor, value: &Tensor) {
        match self {
            Self::Range(start, len) => tensor.narrow(0, *start, *len).copy_(value),
            Self::Rows(rows) => drop(tensor.index_copy_(0, rows, value)),
        }
    }

    /// `tensor[rows] += value`, adding up rows that are named twice.
    pub fn add(&self, tensor: &mut Tensor, value: &Tensor) {
        match self {
            Self::Range(start, len) => drop(tensor.narrow(0, *start, *len).g_add_(value)),
            Self::Rows(rows) => drop(tensor.index_add_(0, rows, value)),
        }
    }
}

/// Tables of one shape `[tables, parent states, states]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgePool {
    /// How many tables.
    pub tables: i64,
    /// Rows: states of the parent.
    pub parent_states: i64,
    /// Columns: states of the region.
    pub states: i64,
}

/// Input tables of one number of states, as rows `[rows, states]`: one row per category of every table, and one row of
/// ones behind each table for a missing value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPool {
    /// States of the regions that read it.
    pub states: i64,
    /// Runs of tables with the same number of categories.
    pub segments: Vec<Segment>,
}

/// A run of tables with the same number of categories inside an [`InputPool`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First row.
    pub start: i64,
    /// How many tables.
    pub tables: i64,
    /// Categories of each; a table takes `categories + 1` rows.
    pub categories: i64,
    /// The variable that each table's first reader observes.
    pub variables: Vec<usize>,
    /// The tree that each table's first reader belongs to.
    pub trees: Vec<usize>,
}

impl InputPool {
    /// Rows of the pool.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.segments.iter().map(|s| s.tables * (s.categories + 1)).sum()
    }
}

impl Segment {
    /// This run as `[tables, categories + 1, states]`; a view.
    pub fn of(&self, pool: &Tensor) -> Tensor {
        let rows = self.categories + 1;
        pool.narrow(0, self.start, self.tables * rows).view([self.tables, rows, -1])
    }

    /// Without the rows for missing values: `[tables, categories, states]`; a view.
    pub fn values(&self, pool: &Tensor) -> Tensor {
        self.of(pool).narrow(1, 0, self.categories)
    }
}

/// What the regions of a block read.
#[derive(Debug)]
pub enum BlockInput {
    /// Rows `offset + value` of an input pool.
    Discrete {
        /// Which pool.
        pool: usize,
        /// First row of each region's table: int64 `[R, 1]`.
        offsets: Tensor,
        /// The variable each region reads.
        variables: Select,
        /// Row `tree * variables + variable` of evidence that differs between trees.
        per_tree: Select,
    },
    /// Vectors of log-likelihoods by variable.
    Soft {
        /// The variable each region reads.
        variables: Select,
    },
}

/// The j-th children of some regions of a block.
#[derive(Debug)]
pub struct Children {
    /// Block of the children.
    pub block: usize,
    /// Rows of this block that have such a child.
    pub parents: Select,
    /// Their children's rows in `block`.
    pub children: Select,
}

/// Regions of one depth and one shape.
#[derive(Debug)]
pub struct Block {
    /// Indices into the region graph, in the order of the block's rows; those with most children first.
    pub regions: Vec<usize>,
    /// States of each region.
    pub states: i64,
    /// Which edge pool.
    pub pool: usize,
    /// Which of its tables, by row of the block.
    pub tables: Select,
    /// Leaf, if the regions have one.
    pub input: Option<BlockInput>,
    /// Block of the parents and their rows in it; none for roots.
    pub parents: Option<(usize, Select)>,
    /// Children, first children first.
    pub children: Vec<Children>,
    /// Rows `0..inner` have children.
    pub inner: i64,
    /// Tree of each row: int64 `[R]`.
    pub trees: Tensor,
}

/// All blocks, by depth, roots first.
#[derive(Debug)]
pub struct Plan {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Shapes of edge tables.
    pub edge_pools: Vec<EdgePool>,
    /// Shapes of input tables.
    pub input_pools: Vec<InputPool>,
    /// Number of trees.
    pub trees: i64,
    /// Heads of every tree.
    pub heads: i64,
    /// Categories of each variable, int64 `[V, 1]`: the row of a missing value.
    pub categories: Tensor,
}

struct Layout<'a> {
    graph: &'a RegionGraph,
    children: Vec<Vec<usize>>,
    blocks: Vec<Vec<usize>>,
    place: Vec<(usize, usize)>,
}

impl<'a> Layout<'a> {
    fn new(graph: &'a RegionGraph) -> Self {
        let regions = graph.regions();
        let mut children = vec![Vec::new(); regions.len()];
        let mut levels: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (r, region) in regions.iter().enumerate() {
            levels.entry(graph.depths()[r]).or_default().push(r);
            region.parent.into_iter().for_each(|p| children[p].push(r));
        }
        let mut layout = Self { graph, children, blocks: Vec::new(), place: vec![(0, 0); regions.len()] };
        for level in levels.into_values() {
            layout.add_level(level);
        }
        layout
    }

    /// Split the regions of one depth by shape and by their parents' block.
    fn add_level(&mut self, level: Vec<usize>) {
        let mut groups: BTreeMap<(usize, usize, Option<bool>), Vec<usize>> = BTreeMap::new();
        for r in level {
            let region = &self.graph.regions()[r];
            let discrete = region.input.map(|i| i.kind != InputKind::Soft);
            groups.entry((region.parent.map_or(0, |p| self.place[p].0), region.states, discrete)).or_default().push(r);
        }
        for mut block in groups.into_values() {
            block.sort_by_key(|&r| (std::cmp::Reverse(self.children[r].len()), r));
            block.iter().enumerate().for_each(|(row, &r)| self.place[r] = (self.blocks.len(), row));
            self.blocks.push(block);
        }
    }

    /// Number the tables of edges in the order of the blocks, so that untied tables are views.
    fn edges(&self) -> (Vec<EdgePool>, Vec<(usize, usize)>) {
        let (mut pools, mut ids): (Vec<EdgePool>, _) = (Vec::new(), HashMap::new());
        let mut tables = vec![(0, 0); self.place.len()];
        for &r in self.blocks.iter().flatten() {
            let region = &self.graph.regions()[r];
            let shape = (self.graph.parent_states(r) as i64, region.states as i64);
            let pool = pools.iter().position(|p| (p.parent_states, p.states) == shape).unwrap_or_else(|| {
                pools.push(EdgePool { tables: 0, parent_states: shape.0, states: shape.1 });
                pools.len() - 1
            });
            tables[r] = *ids.entry(region.tie).or_insert_with(|| {
                pools[pool].tables += 1;
                (pool, pools[pool].tables as usize - 1)
            });
        }
        (pools, tables)
    }

    /// Give every input table its rows; returns the pools and each region's pool and first row.
    fn inputs(&self) -> (Vec<InputPool>, Vec<(usize, i64)>) {
        let mut groups: BTreeMap<(usize, usize), Vec<(usize, usize)>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for &r in self.blocks.iter().flatten() {
            let region = &self.graph.regions()[r];
            if let Some(input) = region.input
                && let InputKind::Discrete { categories } = input.kind
                && seen.insert(input.tie)
            {
                groups.entry((region.states, categories)).or_default().push((input.tie, r));
            }
        }
        let (mut pools, mut rows): (Vec<InputPool>, HashMap<usize, (usize, i64)>) = (Vec::new(), HashMap::new());
        for ((states, categories), tables) in groups {
            if pools.last().is_none_or(|p| p.states != states as i64) {
                pools.push(InputPool { states: states as i64, segments: Vec::new() });
            }
            let pool = pools.len() - 1;
            let start = pools[pool].rows();
            for (t, &(tie, _)) in tables.iter().enumerate() {
                rows.insert(tie, (pool, start + (t * (categories + 1)) as i64));
            }
            let regions = self.graph.regions();
            pools[pool].segments.push(Segment {
                start,
                tables: tables.len() as i64,
                categories: categories as i64,
                variables: tables.iter().filter_map(|&(_, r)| regions[r].input.map(|i| i.variable)).collect(),
                trees: tables.iter().map(|&(_, r)| self.graph.trees()[r]).collect(),
            });
        }
        let of = |r: usize| self.graph.regions()[r].input.and_then(|i| rows.get(&i.tie).copied()).unwrap_or((0, 0));
        let first = (0..self.place.len()).map(of).collect();
        (pools, first)
    }

    fn block(
        &self,
        regions: &[usize],
        tables: &[(usize, usize)],
        first_rows: &[(usize, i64)],
        device: Device,
    ) -> Block {
        let first = &self.graph.regions()[regions[0]];
        let rows: Vec<usize> = regions.iter().map(|&r| tables[r].1).collect();
        let parents: Vec<usize> =
            regions.iter().filter_map(|&r| self.graph.regions()[r].parent.map(|p| self.place[p].1)).collect();
        let trees: Vec<i64> = regions.iter().map(|&r| self.graph.trees()[r] as i64).collect();
        Block {
            regions: regions.to_vec(),
            states: first.states as i64,
            pool: tables[regions[0]].0,
            tables: Select::new(&rows, device),
            input: self.block_input(regions, first_rows, device),
            parents: first.parent.map(|p| (self.place[p].0, Select::new(&parents, device))),
            children: self.children(regions, device),
            inner: regions.iter().filter(|&&r| !self.children[r].is_empty()).count() as i64,
            trees: Tensor::from_slice(&trees).to_device(device),
        }
    }

    fn block_input(&self, regions: &[usize], first_rows: &[(usize, i64)], device: Device) -> Option<BlockInput> {
        let graph = self.graph;
        let kind = graph.regions()[regions[0]].input?.kind;
        let variables: Vec<usize> =
            regions.iter().filter_map(|&r| graph.regions()[r].input.map(|i| i.variable)).collect();
        if kind == InputKind::Soft {
            return Some(BlockInput::Soft { variables: Select::new(&variables, device) });
        }
        let row = |(&r, v): (&usize, &usize)| graph.trees()[r] * graph.variables() + v;
        let per_tree: Vec<usize> = regions.iter().zip(&variables).map(row).collect();
        let offsets: Vec<i64> = regions.iter().map(|&r| first_rows[r].1).collect();
        Some(BlockInput::Discrete {
            pool: first_rows[regions[0]].0,
            offsets: column(&offsets, device),
            variables: Select::new(&variables, device),
            per_tree: Select::new(&per_tree, device),
        })
    }

    fn children(&self, block: &[usize], device: Device) -> Vec<Children> {
        let mut groups: BTreeMap<(usize, usize), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (row, r) in block.iter().enumerate() {
            for (rank, &child) in self.children[*r].iter().enumerate() {
                let (b, child_row) = self.place[child];
                let group = groups.entry((rank, b)).or_default();
                group.0.push(row);
                group.1.push(child_row);
            }
        }
        let select = |rows: &[usize]| Select::new(rows, device);
        groups
            .into_iter()
            .map(|((_, b), (p, c))| Children { block: b, parents: select(&p), children: select(&c) })
            .collect()
    }
}

impl Plan {
    /// Group the regions of a graph; index tensors go to the device.
    #[must_use]
    pub fn new(graph: &RegionGraph, device: Device) -> Self {
        let layout = Layout::new(graph);
        let (edge_pools, tables) = layout.edges();
        let (input_pools, first_rows) = layout.inputs();
        let blocks = layout.blocks.iter().map(|regions| layout.block(regions, &tables, &first_rows, device)).collect();
        let categories: Vec<i64> = graph.categories().iter().map(|&c| c as i64).collect();
        let categories = column(&categories, device);
        Self {
            blocks,
            edge_pools,
            input_pools,
            trees: graph.roots().len() as i64,
            heads: graph.heads() as i64,
            categories,
        }
    }
}

fn column(values: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(values).to_device(device).unsqueeze(1)
}
