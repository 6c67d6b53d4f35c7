//! Several runs side by side: what each is called (the keys in which they differ), its last model, and means over seeds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::escape;
use super::summary::Summary;
use crate::run::results::{Role, Row};

/// Letters of a label, at most; where more would be needed, folders are named.
const MOST_LETTERS: usize = 60;
/// Keys that make no model different.
const APART: [&str; 5] = ["name", "data.root", "compute.threads", "compute.micro_batch", "seed"];

/// The last model of a run, in every reading: what distillation ends with, else the last row.
#[must_use]
pub fn last(run: &Summary) -> Vec<&Row> {
    let of = |role| run.rows.iter().rfind(|row| row.role == role);
    let last = of(Role::Student).or_else(|| of(Role::Step)).or(run.rows.last());
    last.map_or_else(Vec::new, |last| run.rows.iter().filter(|row| row.stage == last.stage).collect())
}

/// Seconds of all stages of a run.
#[must_use]
pub fn seconds(run: &Summary) -> f64 {
    let stages: BTreeMap<&str, f64> = run.rows.iter().map(|row| (row.stage.as_str(), row.seconds)).collect();
    stages.values().sum()
}

/// What each run is called: its name, or where several have the same name what it has in other keys, else its folder.
#[must_use]
pub fn labels(runs: &[Summary]) -> Vec<String> {
    let names: BTreeSet<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    if names.len() == runs.len() {
        return runs.iter().map(|run| run.name.clone()).collect();
    }
    let all = settings(runs);
    let keys = varying(&all, true);
    // Keys that only some runs have, as those of another family, say little.
    let keys: Vec<String> =
        keys.into_iter().filter(|key| all.iter().all(|settings| settings.contains_key(key))).collect();
    let label = |settings: &BTreeMap<String, String>| told(settings, &keys);
    let labels: Vec<String> = all.iter().map(label).collect();
    let different: BTreeSet<&String> = labels.iter().collect();
    if different.len() == runs.len() && labels.iter().all(|label| label.chars().count() <= MOST_LETTERS) {
        return labels;
    }
    runs.iter().map(|run| escape::line(&run.folder.display().to_string())).collect()
}

/// Runs that differ in their seed alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// In what they differ from the others.
    pub label: String,
    /// How many there are.
    pub runs: usize,
    /// Reading of the last model.
    pub reading: String,
    /// Mean over the runs, bits per dimension.
    pub mean: f64,
    /// Standard deviation over the runs; none of one run.
    pub deviation: Option<f64>,
}

/// Means over seeds; none where no two runs differ in their seed alone.
#[must_use]
pub fn over_seeds(runs: &[Summary]) -> Vec<Group> {
    let all = settings(runs);
    let keys = varying(&all, false);
    let mut groups: BTreeMap<(Vec<String>, String), (String, Vec<f64>)> = BTreeMap::new();
    for (run, settings) in runs.iter().zip(&all) {
        let values: Vec<String> = keys.iter().map(|key| settings.get(key).cloned().unwrap_or_default()).collect();
        for row in last(run) {
            let group = groups.entry((values.clone(), row.reading.clone())).or_default();
            group.0 = told(settings, &keys);
            group.1.push(row.bits_per_dimension);
        }
    }
    let several = groups.values().any(|(_, found)| found.len() > 1);
    let group = |((_, reading), (label, found)): ((Vec<String>, String), (String, Vec<f64>))| {
        let n = found.len() as f64;
        let mean = found.iter().sum::<f64>() / n;
        let square: f64 = found.iter().map(|x| (x - mean) * (x - mean)).sum();
        let label = if label.is_empty() { "all".to_owned() } else { label };
        Group { label, runs: found.len(), reading, mean, deviation: (n > 1.0).then(|| (square / (n - 1.0)).sqrt()) }
    };
    if several { groups.into_iter().map(group).collect() } else { Vec::new() }
}

/// `key=value` of some keys; of a key the last part.
fn told(settings: &BTreeMap<String, String>, keys: &[String]) -> String {
    let one = |key: &String| {
        let last = key.rsplit('.').next().unwrap_or(key);
        let others = keys.iter().filter(|other| other.rsplit('.').next() == Some(last)).count();
        let same = others > 1 || (APART.contains(&last) && last != key);
        format!("{}={}", if same { key } else { last }, settings.get(key).map_or("-", String::as_str))
    };
    escape::line(&keys.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Keys whose values are not the same in all runs.
fn varying(all: &[BTreeMap<String, String>], with_seed: bool) -> Vec<String> {
    let keys: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let counts = |key: &&String| !APART.contains(&key.as_str()) || (with_seed && key.as_str() == "seed");
    let differs = |key: &&String| all.windows(2).any(|pair| pair[0].get(*key) != pair[1].get(*key));
    keys.into_iter().filter(counts).filter(differs).cloned().collect()
}

/// The configurations as values by key.
fn settings(runs: &[Summary]) -> Vec<BTreeMap<String, String>> {
    let one = |run: &Summary| {
        let mut found = BTreeMap::new();
        flatten(&run.settings, String::new(), &mut found);
        found
    };
    runs.iter().map(one).collect()
}

fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, path, into);
            }
        }
        Value::String(text) => {
            into.insert(path, text.clone());
        }
        other => {
            into.insert(path, other.to_string());
        }
    }
}
