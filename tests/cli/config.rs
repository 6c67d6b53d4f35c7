//! What is refused of an experiment file, and how it is said.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{TINY, error, lvd, text, tiny};

fn plan(sets: &[&str]) -> String {
    let folder = tiny();
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    error(folder.path(), &["plan", "tiny.yaml"].into_iter().chain(sets).collect::<Vec<_>>(), 2)
}

#[test]
fn slips_are_told_with_their_key_the_choices_and_what_was_meant() {
    for (set, expected) in [
        (
            "patch.family.kind=hlct",
            "patch.family.kind: there is no 'hlct': did you mean 'hclt'? the choices are hclt, gaussian",
        ),
        ("patch.family={states: 2}", "patch.family: the key 'kind' is missing: expected one of hclt, gaussian"),
        ("patch.family=hclt", "patch.family: expected keys, such as {kind: hclt}, found \"hclt\""),
        ("patch.family.states=4.0", "patch.family.states: expected an integer, found 4.0\n    write 4"),
        ("patch.family.states=1e2", "patch.family.states: expected an integer, found 100.0\n    write 100"),
        ("patch.family.states=-1", "patch.family.states: expected at least 0, found -1"),
        ("patch.family.states=two", "patch.family.states: expected an integer, found \"two\""),
        (
            "data.format=mnist",
            "data.format: there is no 'mnist': the choices are embedded, photographs, idx, cifar10, npz, npy, folder",
        ),
        (
            "data.validation={lst: 5}",
            "data.validation: expected one of the keys last, fraction, files, found {\"lst\":5}",
        ),
        (
            "teacher.kind=vqvea",
            "teacher.kind: there is no 'vqvea': did you mean 'vqvae'? the choices are vqvae, pixel, torchscript",
        ),
        ("distill.soft.rule.kind=7", "distill.soft.rule.kind: expected one of average, decayed, anemone, found 7"),
        ("distill.tree.tying=none", "distill.tree.tying: there is no 'none': the choices are untied, displacement"),
        ("seed=.nan", "--set seed=.nan: : expected a finite number, found .nan"),
        ("color=gray", "color: there is no 'gray': did you mean 'grey'?"),
    ] {
        let message = plan(&[set]);
        assert!(message.contains(expected), "{set}: {message}");
    }
    let unknown = plan(&["distill.soft.epoch=3"]);
    assert!(
        unknown.contains("distill.soft: there is no key 'epoch': did you mean 'epochs'? the keys are epochs, batch"),
        "{unknown}"
    );
    let contract = plan(&["teacher={kind: torchscript, module: m.pt, patch: 4, contract: {input: {rnge: [0, 1]}}}"]);
    assert!(contract.contains("teacher.contract.input: there is no key 'rnge': did you mean 'range'?"), "{contract}");
}

#[test]
fn every_size_has_a_bound_and_absurd_ones_end_at_once() {
    for set in [
        "patch.family.states=9223372036854775808",
        "patch.family.states=4294967296",
        "patch.family.tree={kind: chow_liu, bins: 1000000000}",
        "teacher={kind: vqvae, patch: 4, codes_top: 9223372036854775808}",
        "teacher={kind: vqvae, patch: 4, hidden: 4294967296}",
        "patch.family={kind: gaussian, scales: 18446744073709551615}",
        "distill.growing={criterion: gain, rounds: 18446744073709551615, final_clusters: 10}",
        "distill.growing={criterion: gain, rounds: 1, final_clusters: 3000000000}",
        "latents.clusters=10000000000000",
        "compute.micro_batch=0",
        "compute.watched=99999999999",
        "distill.soft.pseudocount=1e300",
    ] {
        let started = Instant::now();
        let message = plan(&[set]);
        assert!(message.lines().count() <= 40, "{message}");
        assert!(started.elapsed() < Duration::from_secs(10), "{set}");
    }
    let resize = plan(&["data={format: folder, root: ., resize: {resize: [4000000000, 4000000000]}}"]);
    assert!(resize.contains("data.resize.resize.0: expected at most 4096, found 4000000000"), "{resize}");
}

#[test]
fn a_ring_of_pixels_lies_within_the_context() {
    let gate = |rest: &str| plan(&[&format!("patch={{size: 2, {rest}, family: {{kind: gaussian, scales: 2}}}}")]);
    for width in [0, 2] {
        let message = gate(&format!("context: 1, gate: {{kind: ring, width: {width}}}"));
        let expected = format!("patch.gate.width: expected at least 1 and at most patch.context, 1, found {width}");
        assert!(message.contains(&expected), "{message}");
    }
    let alone = gate("gate: {kind: ring}");
    assert!(alone.contains("patch.gate: expected none: the patches have no context"), "{alone}");
}

#[test]
fn plans_of_sizes_that_no_machine_holds_are_quick() {
    let folder = tiny();
    let sets = ["patch.family.states=8192", "latents.clusters=20000", "latents.sample=30000"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let started = Instant::now();
    let output = lvd(folder.path(), &["plan", "tiny.yaml"].into_iter().chain(sets).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn files_that_are_no_experiments_are_refused_in_a_few_lines() {
    let folder = tiny();
    let refused = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let message = error(folder.path(), &["plan", name], 2);
        assert!(message.lines().count() <= 40, "{message}");
        message
    };
    let nested = refused("nested.yaml", &b"[".repeat(100_000));
    assert_eq!(nested, "lvd: nested.yaml: brackets are nested more than 64 deep");
    let twice = refused("twice.yaml", format!("{TINY}\nseed: 4\n").as_bytes());
    assert!(twice.contains("duplicate entry with key \"seed\""), "{twice}");
    assert!(refused("binary.yaml", b"name: \xff\xfe\n").contains("is no UTF-8 text: byte 6 is wrong"));
    assert!(
        refused("long.yaml", &b"a: 1\n".repeat(300_000))
            .contains("has 1500000 bytes: an experiment has at most 1048576")
    );
    let many = (0..500).map(|i| format!("key{i}: 1")).collect::<Vec<_>>().join("\n");
    assert!(refused("many.yaml", many.as_bytes()).contains("and 4"), "the rest is counted");
    assert!(
        refused("infinite.yaml", TINY.replace("seed: 3", "seed: .inf").as_bytes())
            .contains("seed: expected a finite number")
    );
    assert_eq!(error(folder.path(), &["plan", "."], 2), "lvd: .: is no file: expected an experiment in YAML");
    std::fs::write(folder.path().join("bom.yaml"), format!("\u{feff}{}", TINY.trim_start())).unwrap();
    assert!(lvd(folder.path(), &["plan", "bom.yaml"]).status.success());
    let fifo = folder.path().join("fifo.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(error(folder.path(), &["plan", "fifo.yaml"], 2).contains("is no file"));
}

#[test]
fn names_that_lead_out_of_the_folder_of_runs_are_refused() {
    for name in ["../../x", "/tmp/x", "''", ".", "a/b", "\"a\\u0007b\"", ".hidden"] {
        let message = plan(&[&format!("name={name}")]);
        assert!(
            message.contains("name: expected 1 to 100 bytes without slashes, control characters"),
            "{name}: {message}"
        );
    }
}

#[test]
fn a_configuration_that_was_edited_in_a_run_folder_is_checked() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]).status.success());
    let path = folder.path().join("run/config.yaml");
    let edited =
        std::fs::read_to_string(&path).unwrap().replace("micro_batch: 32\n  watched", "micro_batch: 0\n  watched");
    std::fs::write(&path, edited).unwrap();
    let message = error(folder.path(), &["eval", "run"], 2);
    assert!(
        message.contains("run/config.yaml: ") && message.contains("compute.micro_batch: expected at least 1, found 0"),
        "{message}"
    );
}

/// Places of a value, as paths of keys.
fn places(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(path.clone());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        path.push(key);
        places(child, path, found);
        path.pop();
    }
}

fn mutated(place: usize, with: &Value) -> Value {
    let mut value: Value = serde_yaml::from_str(TINY).unwrap();
    let mut found = Vec::new();
    places(&value, &mut Vec::new(), &mut found);
    let mut at = &mut value;
    for key in &found[place % found.len()] {
        at = if at.is_array() { &mut at[key.parse::<usize>().unwrap()] } else { &mut at[key.as_str()] };
    }
    *at = with.clone();
    value
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn our_words_and_a_validator_of_schemas_agree_on_what_fits(place in 0usize..1000, with in 0usize..14) {
        let values = [
            json!(null), json!(3), json!(-3), json!(2.5), json!("hclt"), json!("decayed"), json!(true), json!([]), json!({}),
            json!({"kind": "linear", "from": 1.0, "to": 0.5}), json!({"kind": "gaussian", "scales": 3}), json!({"last": 3}),
            json!({"kind": "low_rank"}), json!([1, "a"]),
        ];
        let value = mutated(place, &values[with]);
        let schema = lvd::experiment::read::schema();
        let expected = jsonschema::validator_for(&schema).unwrap().is_valid(&value);
        let mut problems = lvd::refusal::Problems::default();
        lvd::experiment::explain::check(&schema, &value, &mut problems);
        let found = problems.into_result("x");
        prop_assert_eq!(found.is_ok(), expected, "{:?}\n{}", found.err(), value);
    }
}
