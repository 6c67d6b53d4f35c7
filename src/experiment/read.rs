//! Reading an experiment: YAML, `--set` overrides, the schema, all problems at once.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value};

use super::config::Config;
use super::{bounds, explain};
use crate::data::Format;
use crate::data::config::EMBEDDED_LEVELS;
use crate::refusal::{Problems, unreadable};
use crate::run::RunFolder;
use crate::{refusal, require};

/// The JSON schema of experiment files.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// Larger experiment files, and deeper nesting in them, are no experiments.
const MOST_BYTES: u64 = 1 << 20;
const MOST_NESTED: usize = 64;

/// Read a file, apply overrides `key.path=value` (YAML values; `null` removes a key), and check everything.
///
/// # Errors
/// A refusal that lists every problem with its path.
pub fn read(path: &Path, overrides: &[String]) -> Result<Config> {
    let file = path.display().to_string();
    let mut value = parse(&text_of(path)?).map_err(|error| refusal!("{file}: {error}"))?;
    for text in overrides {
        apply(&mut value, text)?;
    }
    let config = resolve(value, &file)?;
    Ok(Config { data: config.data.clone().rooted(), ..config })
}

/// The file of an experiment that may be named in short: `mnist` is `experiments/mnist/default.yaml`, and `cifar10/context`
/// `experiments/cifar10/context.yaml`, where there are such files here.
///
/// # Errors
/// A refusal where there is neither.
pub fn named(experiment: &Path) -> Result<PathBuf> {
    if experiment.is_file() {
        return Ok(experiment.to_owned());
    }
    let place = Path::new("experiments").join(experiment);
    let short = [place.join("default.yaml"), place.with_extension("yaml")];
    let found = short.into_iter().find(|path| path.is_file());
    if let (None, false) = (&found, experiment.exists() || experiment.extension().is_some()) {
        return Err(refusal!(
            "{}: no such file, and no experiment of that name in the folder experiments/ of where you are\n  name a YAML file, or write one \
             by: lvd new NAME --data DIR",
            experiment.display()
        ));
    }
    Ok(found.unwrap_or_else(|| experiment.to_owned()))
}

/// The experiment of a run folder.
///
/// # Errors
/// A refusal that lists every problem with its path.
pub fn of_run(run: &RunFolder) -> Result<Config> {
    let path = run.config_path();
    let file = path.display().to_string();
    let config = resolve(parse(&text_of(&path)?).map_err(|error| refusal!("{file}: {error}"))?, &file)?;
    Ok(Config { data: config.data.clone().moved(), ..config })
}

fn text_of(path: &Path) -> Result<String> {
    let file = path.display();
    let found = path.metadata().map_err(|error| unreadable(path, &error))?;
    require!(found.is_file(), "{file}: is no file: expected an experiment in YAML");
    require!(found.len() <= MOST_BYTES, "{file}: has {} bytes: an experiment has at most {MOST_BYTES}", found.len());
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| refusal!("{file}: is no UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to()))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// YAML as a value: every key once, numbers finite.
fn parse(text: &str) -> Result<Value> {
    require!(nesting(text) <= MOST_NESTED, "brackets are nested more than {MOST_NESTED} deep");
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| refusal!("not YAML: {error}"))?;
    finite(&value, "")?;
    serde_json::to_value(&value).map_err(|error| refusal!("not an experiment: {error}"))
}

/// How deep brackets are nested, those in quotes included.
fn nesting(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

fn finite(value: &serde_yaml::Value, path: &str) -> Result<()> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        serde_yaml::Value::Number(number) => {
            let fine = number.as_f64().is_none_or(f64::is_finite);
            require!(fine, "{path}: expected a finite number, found {number}");
            Ok(())
        }
        serde_yaml::Value::Sequence(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| finite(item, &below(&i.to_string())))
        }
        serde_yaml::Value::Mapping(map) => {
            map.iter().try_for_each(|(key, value)| finite(value, &below(key.as_str().unwrap_or("?"))))
        }
        _ => Ok(()),
    }
}

/// Check a configuration value and give it types.
///
/// # Errors
/// A refusal that lists every problem with its path.
pub fn resolve(mut value: Value, what: &str) -> Result<Config> {
    patch_of_teachers(&mut value);
    let mut problems = Problems::default();
    explain::check(&schema(), &value, &mut problems);
    bounds::check(&value, &mut problems);
    problems.into_result(what)?;
    let mut config: Config = serde_json::from_value(value).map_err(|error| refusal!("{what}: {error}"))?;
    let mut problems = Problems::default();
    config.check(&mut problems);
    problems.into_result(what)?;
    if config.data.format == Format::Embedded {
        config.data.levels = EMBEDDED_LEVELS;
    }
    Ok(config)
}

/// Teachers whose patch is not given have that of the circuit.
fn patch_of_teachers(value: &mut Value) {
    let Some(size) = value.pointer("/patch/size").filter(|size| size.is_u64()).cloned() else { return };
    for teacher in ["/teacher", "/baselines/pixel_teacher"] {
        if let Some(teacher) = value.pointer_mut(teacher).and_then(Value::as_object_mut) {
            teacher.entry("patch").or_insert_with(|| size.clone());
        }
    }
}

/// Apply one `key.path=value`.
fn apply(value: &mut Value, text: &str) -> Result<()> {
    let (key, new) =
        text.split_once('=').ok_or_else(|| refusal!("--set {text}: expected key.path=value, found no '='"))?;
    require!(key.split('.').all(|part| !part.is_empty()), "--set {text}: the key has an empty part");
    let new = parse(new).map_err(|error| refusal!("--set {text}: {error}"))?;
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
