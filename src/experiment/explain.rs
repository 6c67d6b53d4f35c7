//! What does not fit about an experiment, key by key: the file against the schema, in words that name the choices.
//!
//! It reads the part of JSON schema that `schemars` writes for our types. Where a value may be one of several kinds, the
//! kind that it names (`kind`, `criterion`, or its only key) decides which of them it is held against.

use serde_json::{Map, Value};

use crate::refusal::Problems;

/// Note all that is wrong with `value`.
pub fn check(schema: &Value, value: &Value, problems: &mut Problems) {
    Walk { root: schema, problems }.check(schema, value, "");
}

struct Walk<'a, 'b> {
    root: &'a Value,
    problems: &'b mut Problems,
}

impl Walk<'_, '_> {
    fn note(&mut self, path: &str, message: String) {
        self.problems.check(false, if path.is_empty() { "(top level)" } else { path }, message);
    }

    fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        let root = self.root;
        if let Some(name) = schema["$ref"].as_str() {
            return self.check(root.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null), value, path);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            return self.one_of(choices, value, path);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            return self.any_of(choices, value, path);
        }
        if !self.kind(schema, value, path) {
            return;
        }
        match value {
            Value::Object(map) => self.object(schema, map, path),
            Value::Array(items) => self.array(schema, items, path),
            Value::String(text) => self.string(schema, text, path),
            Value::Number(number) => {
                let least = schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY);
                if number.as_f64().is_some_and(|found| found < least) {
                    self.note(path, format!("expected at least {least}, found {number}"));
                }
            }
            _ => {}
        }
    }

    /// Whether the value is of a type that is allowed.
    fn kind(&mut self, schema: &Value, value: &Value, path: &str) -> bool {
        let allowed: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        if allowed.iter().any(|kind| is_a(value, kind)) {
            return true;
        }
        let names: Vec<&str> = allowed.iter().filter(|kind| **kind != "null").map(|kind| in_words(kind)).collect();
        let mut message = format!("expected {}, found {}", names.join(" or "), shown(value));
        if let Some(number) = value.as_f64().filter(|n| allowed.contains(&"integer") && n.fract() == 0.0) {
            message = format!("{message}\n    write {number:.0}");
        }
        self.note(path, message);
        false
    }

    fn object(&mut self, schema: &Value, map: &Map<String, Value>, path: &str) {
        let Some(known) = schema["properties"].as_object() else { return };
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                self.note(path, format!("the key '{key}' is missing"));
            }
        }
        for (key, value) in map {
            if let Some(schema) = known.get(key) {
                self.check(schema, value, &below(path, key));
                continue;
            }
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            self.note(path, format!("there is no key {}{}", quoted(key), instead(key, &names, "the keys are")));
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &str) {
        let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        let count = items.len() as u64;
        if least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most) {
            let expected = least.or(most).unwrap_or(0);
            self.note(path, format!("expected a list of {expected}, found {count}"));
        }
        for (i, item) in items.iter().enumerate() {
            self.check(&schema["items"], item, &below(path, &i.to_string()));
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        let choices: Vec<&str> = match (&schema["const"], &schema["enum"]) {
            (Value::String(one), _) => vec![one],
            (_, Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        if !choices.contains(&text) {
            self.note(path, format!("there is no {}{}", quoted(text), instead(text, &choices, "the choices are")));
        }
    }

    /// Any of several types, null among them where a key may be left open.
    fn any_of(&mut self, choices: &[Value], value: &Value, path: &str) {
        if value.is_null() && choices.iter().any(|choice| choice["type"] == "null") {
            return;
        }
        let others: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        let fitting = others.iter().find(|choice| choice["type"].as_str().is_some_and(|kind| is_a(value, kind)));
        match (others.as_slice(), fitting) {
            ([only], _) => self.check(only, value, path),
            (_, Some(choice)) => self.check(choice, value, path),
            (_, None) => {
                let names: Vec<&str> =
                    others.iter().filter_map(|choice| choice["type"].as_str()).map(in_words).collect();
                self.note(path, format!("expected {}, found {}", names.join(" or "), shown(value)));
            }
        }
    }

    /// The one kind that a value says it is of.
    fn one_of(&mut self, choices: &[Value], value: &Value, path: &str) {
        if let Some(tag) = tag(choices) {
            return self.tagged(choices, tag, value, path);
        }
        let words: Vec<&str> = choices.iter().flat_map(words).collect();
        let keys: Vec<&str> = choices.iter().filter_map(only_key).collect();
        match value {
            Value::String(text) if words.contains(&text.as_str()) => {}
            Value::Object(map) if !keys.is_empty() => {
                match choices.iter().find(|choice| only_key(choice).is_some_and(|key| map.contains_key(key))) {
                    Some(choice) => self.check(choice, value, path),
                    None => {
                        self.note(
                            path,
                            format!("expected one of the keys {}, found {}", keys.join(", "), shown(value)),
                        );
                    }
                }
            }
            Value::String(text) => {
                let all = [words, keys].concat();
                self.note(path, format!("there is no {}{}", quoted(text), instead(text, &all, "the choices are")));
            }
            _ => match choices.iter().find(|choice| plain(choice).is_some()) {
                Some(choice) if words.is_empty() && keys.is_empty() => self.check(choice, value, path),
                _ => {
                    let all = [words, keys].concat();
                    self.note(path, format!("expected one of {}, found {}", all.join(", "), shown(value)));
                }
            },
        }
    }

    fn tagged(&mut self, choices: &[Value], tag: &str, value: &Value, path: &str) {
        let names: Vec<&str> = choices.iter().filter_map(|c| c["properties"][tag]["const"].as_str()).collect();
        let Some(map) = value.as_object() else {
            let example = names.first().unwrap_or(&"...");
            return self.note(path, format!("expected keys, such as {{{tag}: {example}}}, found {}", shown(value)));
        };
        match map.get(tag) {
            None => self.note(path, format!("the key '{tag}' is missing: expected one of {}", names.join(", "))),
            Some(Value::String(name)) => {
                if let Some(i) = names.iter().position(|known| known == name) {
                    return self.check(&choices[i], value, path);
                }
                let hint = instead(name, &names, "the choices are");
                self.note(&below(path, tag), format!("there is no {}{hint}", quoted(name)));
            }
            Some(other) => {
                self.note(&below(path, tag), format!("expected one of {}, found {}", names.join(", "), shown(other)));
            }
        }
    }
}

/// The key by whose constant value objects are told apart, if all are.
fn tag(choices: &[Value]) -> Option<&'static str> {
    ["kind", "criterion"]
        .into_iter()
        .find(|tag| choices.iter().all(|choice| choice["properties"][tag]["const"].is_string()))
}

/// The words that a choice stands for.
fn words(choice: &Value) -> Vec<&str> {
    let several = choice["enum"].as_array().into_iter().flatten();
    choice["const"].as_str().into_iter().chain(several.filter_map(Value::as_str)).collect()
}

/// The key of a choice that has one.
fn only_key(choice: &Value) -> Option<&str> {
    choice["required"].as_array().filter(|keys| keys.len() == 1)?[0].as_str()
}

/// A choice of another type than words and keys.
fn plain(choice: &Value) -> Option<&str> {
    choice["type"].as_str().filter(|kind| !matches!(*kind, "string" | "object"))
}

/// Whether a value is of a type of the schema's.
fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}

fn below(path: &str, key: &str) -> String {
    let key: String = key.chars().flat_map(char::escape_debug).take(60).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn in_words(kind: &str) -> &str {
    match kind {
        "integer" => "an integer",
        "number" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "keys with values",
        other => other,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.chars().flat_map(char::escape_debug).take(60).collect::<String>())
}

/// A value in a line, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { format!("{}...", text.chars().take(57).collect::<String>()) }
}

/// What else could be meant: the nearest of the names where one is near, else all of them.
fn instead(text: &str, names: &[&str], introduction: &str) -> String {
    let near = names.iter().map(|name| (strsim::jaro_winkler(text, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, name)) if likeness > 0.8 => {
            format!(": did you mean '{name}'? {introduction} {}", names.join(", "))
        }
        _ => format!(": {introduction} {}", names.join(", ")),
    }
}
