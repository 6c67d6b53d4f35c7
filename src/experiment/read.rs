//! Reading an experiment: YAML, `--set` overrides, the schema, all problems at once.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value};

use super::config::Config;
use crate::refusal::Problems;
use crate::{refusal, require};

/// The JSON schema of experiment files.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// Read a file, apply overrides `key.path=value` (YAML values; `null` removes a key), and check everything.
///
/// # Errors
/// A refusal that lists every problem with its path.
pub fn read(path: &Path, overrides: &[String]) -> Result<Config> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| refusal!("{file}: cannot be read: {error}"))?;
    let mut value: Value = serde_yaml::from_str(&text).map_err(|error| refusal!("{file}: not YAML: {error}"))?;
    for text in overrides {
        apply(&mut value, text)?;
    }
    resolve(value, &file)
}

/// Check a configuration value and give it types.
///
/// # Errors
/// A refusal that lists every problem with its path.
pub fn resolve(value: Value, what: &str) -> Result<Config> {
    let mut problems = Problems::default();
    let schema = schema();
    let validator = jsonschema::validator_for(&schema)?;
    for error in validator.iter_errors(&value) {
        let path = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
        problems.check(false, if path.is_empty() { "(top level)".to_owned() } else { path }, error.to_string());
    }
    problems.into_result(what)?;
    let config: Config = serde_json::from_value(value).map_err(|error| refusal!("{what}: {error}"))?;
    let mut problems = Problems::default();
    config.check(&mut problems);
    problems.into_result(what)?;
    Ok(config)
}

/// Apply one `key.path=value`.
fn apply(value: &mut Value, text: &str) -> Result<()> {
    let (key, new) =
        text.split_once('=').ok_or_else(|| refusal!("--set {text}: expected key.path=value, found no '='"))?;
    require!(key.split('.').all(|part| !part.is_empty()), "--set {text}: the key has an empty part");
    let new: Value =
        serde_yaml::from_str(new).map_err(|error| refusal!("--set {text}: the value is not YAML: {error}"))?;
    let mut at = value;
    for part in key.split('.') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = match at {
            Value::Object(map) => map.entry(part).or_insert(Value::Null),
            Value::Array(list) => {
                let length = list.len();
                let item = part.parse::<usize>().ok().and_then(|i| list.get_mut(i));
                item.ok_or_else(|| refusal!("--set {text}: '{part}' is no index of a list of {length}"))?
            }
            _ => return Err(refusal!("--set {text}: what stands before '{part}' is a single value, it has no keys")),
        };
    }
    *at = new;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn overrides_reach_into_maps_and_lists_and_make_what_is_missing() {
        let mut value = json!({"a": {"b": [1, 2]}, "c": 1});
        for text in ["a.b.1=5", "d.e=[x, 2.5]", "c=null"] {
            apply(&mut value, text).unwrap();
        }
        assert_eq!(value, json!({"a": {"b": [1, 5]}, "c": null, "d": {"e": ["x", 2.5]}}));
    }

    #[test]
    fn overrides_that_lead_nowhere_say_where_they_end() {
        let mut value = json!({"a": [1], "c": 1});
        let mut error = |text: &str| apply(&mut value, text).unwrap_err().to_string();
        assert_eq!(error("a"), "--set a: expected key.path=value, found no '='");
        assert_eq!(error("a..b=1"), "--set a..b=1: the key has an empty part");
        assert_eq!(error("a.4=1"), "--set a.4=1: '4' is no index of a list of 1");
        assert_eq!(error("c.d=1"), "--set c.d=1: what stands before 'd' is a single value, it has no keys");
    }
}
