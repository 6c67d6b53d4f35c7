//! Trees and region graphs against brute force.

mod oracle;

use lvd::circuit::evidence::Evidence;
use lvd::refusal::Problems;
use lvd::structure::chow_liu::{self, Parents};
use lvd::structure::config::TreeConfig;
use lvd::structure::hclt;
use lvd::structure::region_graph::{Region, RegionGraph};
use oracle::random::{self, Case};
use oracle::{numbers, tensor};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

fn matrix(v: usize, rng: &mut impl Rng) -> Vec<Vec<f64>> {
    let mut weights = vec![vec![0.0; v]; v];
    for (a, b) in (0..v).flat_map(|a| (0..a).map(move |b| (a, b))) {
        weights[a][b] = rng.random();
        weights[b][a] = weights[a][b];
    }
    weights
}

/// The tree of a Pruefer sequence, as edges.
fn pruefer(sequence: &[usize], v: usize) -> Vec<(usize, usize)> {
    let mut degree = vec![1; v];
    for &s in sequence {
        degree[s] += 1;
    }
    let mut edges = Vec::new();
    for &s in sequence {
        let leaf = (0..v).find(|&n| degree[n] == 1).unwrap();
        edges.push((leaf, s));
        degree[leaf] -= 1;
        degree[s] -= 1;
    }
    let last: Vec<usize> = (0..v).filter(|&n| degree[n] == 1).collect();
    edges.push((last[0], last[1]));
    edges
}

fn depth(parents: &Parents) -> usize {
    let up = |v: usize| std::iter::successors(Some(v), |&v| parents[v]).count() - 1;
    (0..parents.len()).map(up).max().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_spanning_tree_weighs_more(seed in any::<u64>()) {
        let weights = matrix(5, &mut ChaCha8Rng::seed_from_u64(seed));
        let parents = chow_liu::maximum_spanning_tree(&tensor(&weights));
        let found: f64 = parents.iter().enumerate().filter_map(|(v, p)| p.map(|p| weights[v][p])).sum();
        let of = |code: usize| pruefer(&[code / 25, code / 5 % 5, code % 5], 5);
        let best = (0..125).map(|c| of(c).iter().map(|&(a, b)| weights[a][b]).sum()).fold(0.0, f64::max);
        prop_assert!((found - best).abs() < 1e-12);
    }

    #[test]
    fn no_other_root_is_less_deep(seed in any::<u64>(), v in 1..20usize) {
        let parents = chow_liu::maximum_spanning_tree(&tensor(&matrix(v, &mut ChaCha8Rng::seed_from_u64(seed))));
        prop_assert_eq!(parents.iter().filter(|p| p.is_none()).count(), 1);
        let turned = |root: usize| {
            let mut turned = parents.clone();
            let path: Vec<usize> = std::iter::successors(Some(root), |&v| parents[v]).collect();
            path.windows(2).for_each(|w| turned[w[1]] = Some(w[0]));
            turned[root] = None;
            turned
        };
        prop_assert!((0..v).all(|root| depth(&turned(root)) >= depth(&parents)));
    }

    #[test]
    fn mutual_information_is_that_of_the_counts(seed in any::<u64>(), n in 1..60usize, pseudocount in 0.0..2.0) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows: Vec<[i64; 3]> = (0..n).map(|_| std::array::from_fn(|_| rng.random_range(0..4))).collect();
        let found = numbers(&chow_liu::mutual_information(
            &Tensor::from_slice(&rows.concat()).view([-1, 3]), 4, pseudocount));
        for (u, v) in (0..3).flat_map(|u| (0..3).filter(move |v| *v != u).map(move |v| (u, v))) {
            let p = |a: i64, b: i64| {
                let hits = rows.iter().filter(|r| r[u] == a && r[v] == b).count() as f64;
                (hits + pseudocount / 16.0) / (n as f64 + pseudocount)
            };
            let sum = |f: &dyn Fn(i64) -> f64| (0..4).map(f).sum::<f64>();
            let expected = sum(&|a| sum(&|b| {
                let (row, column) = (sum(&|b| p(a, b)), sum(&|a| p(a, b)));
                if p(a, b) > 0.0 { p(a, b) * (p(a, b) / (row * column)).ln() } else { 0.0 }
            }));
            prop_assert!((found[u * 3 + v] - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn every_valid_graph_turns_invalid_by_one_wrong_parent(case in random::case()) {
        let graph = random::graph(&Case { bare: 2, trees: 1, ..case }, &mut case.rng());
        let mut regions: Vec<Region> = graph.regions().to_vec();
        let leaf = (0..regions.len()).max_by_key(|&r| graph.depths()[r]).unwrap();
        let root = graph.roots()[0];
        regions[root].parent = Some(leaf);
        let message = RegionGraph::new(regions, graph.variables()).unwrap_err().to_string();
        prop_assert!(message.ends_with("following its parents goes round in a circle"), "{}", message);
    }
}

#[test]
fn chow_liu_finds_the_tree_that_made_the_data() {
    let parents = vec![Some(2), Some(2), None, Some(1), Some(3), Some(2)];
    let graph = hclt::forest(std::slice::from_ref(&parents), 3, &[3; 6]).unwrap();
    let mut tables = random::tables(&graph, 0.2, &mut ChaCha8Rng::seed_from_u64(1));
    for table in tables.edges.values_mut().filter(|t| t.len() == 3).chain(tables.inputs.values_mut()) {
        (0..3).for_each(|j| table[j][j] += 3.0);
    }
    let tables = oracle::em::normalise(&tables, oracle::em::Prior { edges: 0.0, inputs: 0.0 }, 1.0);
    let circuit = random::circuit(&graph, &tables, Kind::Double);
    let values = circuit.sample(0, 4000, None, &mut ChaCha8Rng::seed_from_u64(2));
    assert!(Evidence::shared(&values, None, circuit.plan()).is_ok());
    let config: TreeConfig = serde_json::from_str(r#"{"kind": "chow_liu", "bins": 3}"#).unwrap();
    let found = config.tree(&values, &[(0, 2); 6]).unwrap();
    let edges = |parents: &Parents| {
        let mut edges: Vec<_> =
            parents.iter().enumerate().filter_map(|(v, p)| p.map(|p| (v.min(p), v.max(p)))).collect();
        edges.sort_unstable();
        edges
    };
    assert_eq!(edges(&found), edges(&parents));
    assert_eq!(depth(&found), 2);
}

#[test]
fn mistakes_in_a_tree_are_named() {
    let values = Tensor::from_slice(&[0i64, 1, 2]).view([1, 3]);
    let given = TreeConfig::Given { parents: vec![None, Some(0)] };
    assert_eq!(
        given.tree(&values, &[(0, 2); 3]).unwrap_err().to_string(),
        "the tree given by hand has 2 variables, the data have 3"
    );
    let mut problems = Problems::default();
    let config = TreeConfig::ChowLiu { bins: 1, pseudocount: -1.0, examples: 0, shared: false };
    config.check("patch.tree", &mut problems);
    assert_eq!(
        problems.into_result("x.yaml").unwrap_err().to_string(),
        "x.yaml: 3 problems\n  patch.tree.bins: expected at least 2, found 1\n  patch.tree.pseudocount: expected 0 or \
         more, found -1\n  patch.tree.examples: expected at least 2, found 0"
    );
    assert_eq!(hclt::forest(&[vec![None]], 2, &[3, 3]).unwrap_err().to_string(), "tree 0 has 1 variables, expected 2");
}
