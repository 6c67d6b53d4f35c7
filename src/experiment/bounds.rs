//! The largest number that every key of an experiment may have. They are far beyond what a machine of today computes, and
//! keep sizes that are computed from them in range.

use serde_json::Value;

use crate::refusal::Problems;

/// Keys with a bound of their own, in the order of the bounds.
const BOUNDS: [(&[&str], u64); 9] = [
    (&["context"], 32),
    (&["repeat", "residual_blocks", "mixtures", "scales"], 64),
    (&["rounds", "restarts", "patience", "steps", "restart_after"], 10_000),
    (&["size", "patch", "resize", "center_crop", "components", "threads", "units"], 4_096),
    (&["states", "hidden", "residual", "embedding", "decoder", "rank"], 8_192),
    (&["clusters", "final_clusters", "codes", "codes_bottom", "codes_top", "bins", "run", "forest", "parents"], 65_536),
    (&["iterations", "epochs", "micro_batch"], 1_000_000),
    (&["sample", "examples", "start_examples", "held_out", "watched", "train_limit", "last", "batch"], 1_000_000_000),
    (&["seed"], u64::MAX),
];
/// For all other integers, and the magnitude of all other numbers.
const OTHERS: u64 = 1_000_000_000;

/// Note every number beyond its bound.
pub fn check(value: &Value, problems: &mut Problems) {
    walk(value, "", "", problems);
}

fn walk(value: &Value, path: &str, key: &str, problems: &mut Problems) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(value, &path, name, problems);
            }
        }
        // Entries of a list are numbers of the list's key.
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                walk(value, &format!("{path}.{i}"), key, problems);
            }
        }
        Value::Number(number) => {
            let most = BOUNDS.iter().find(|(keys, _)| keys.contains(&key)).map_or(OTHERS, |(_, most)| *most);
            let fits = number.as_u64().map_or(number.as_f64().is_some_and(|x| x.abs() <= most as f64), |n| n <= most);
            problems.check(fits, path, format!("expected at most {most}, found {number}"));
        }
        _ => {}
    }
}
