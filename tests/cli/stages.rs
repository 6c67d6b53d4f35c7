//! What is redone when the configuration or a file changes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{error, lvd, text, tiny};

/// The stages that a command did, by what it says of each: `started` or `reused`.
fn stages(stderr: &[u8]) -> BTreeMap<String, &'static str> {
    let said = text(stderr);
    let of = |line: &str| -> Vec<(String, &'static str)> {
        if let Some((_, reused)) = line.split_once("done before, reused: ") {
            return reused.split(", ").map(|stage| (stage.to_owned(), "reused")).collect();
        }
        let started = line.strip_suffix(": started").and_then(|rest| rest.rsplit(' ').next());
        started.map(|stage| (stage.to_owned(), "started")).into_iter().collect()
    };
    said.lines().flat_map(|line| of(line.trim_end())).collect()
}

fn run(folder: &Path, sets: &[&str]) -> (BTreeMap<String, &'static str>, String) {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["run", "tiny.yaml", "--run-dir", "run"].into_iter().chain(sets).collect();
    let output = lvd(folder, &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    (stages(&output.stderr), text(&output.stderr))
}

/// The stages that `lvd plan` says would be reused.
fn planned(folder: &Path, sets: &[&str]) -> Vec<String> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["plan", "tiny.yaml", "--run-dir", "run"].into_iter().chain(sets).collect();
    let output = lvd(folder, &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan = text(&output.stdout);
    let reused = plan.lines().filter(|line| line.contains("done, reused"));
    reused.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

fn reused(stages: &BTreeMap<String, &'static str>) -> Vec<String> {
    stages.iter().filter(|(_, what)| **what == "reused").map(|(stage, _)| stage.clone()).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

const ALL: [&str; 8] = ["em_only", "hard", "joint", "latents", "pixel_hclt", "soft", "teacher", "tree"];

#[test]
fn a_changed_key_redoes_the_stages_that_it_concerns_and_no_others_and_plan_says_so() {
    let folder = tiny();
    let (first, _) = run(folder.path(), &[]);
    assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), ALL);
    assert!(reused(&first).is_empty());
    // (changed keys, what stays): each change is on top of those before.
    let changes = [
        ("name=other", &ALL[..]),
        ("compute.micro_batch=16", &ALL),
        ("distill.joint.epochs=1", &["em_only", "hard", "latents", "pixel_hclt", "soft", "teacher", "tree"]),
        ("distill.tree.em.epochs=2", &["hard", "latents", "pixel_hclt", "soft", "teacher"]),
        ("baselines.pixel_hclt.em.epochs=2", &["em_only", "hard", "joint", "latents", "soft", "teacher", "tree"]),
        ("compute.watched=40", &["latents", "teacher"]),
        ("latents.clusters=2", &["pixel_hclt", "teacher"]),
        ("seed=4", &[]),
    ];
    let mut sets = Vec::new();
    for (change, stays) in changes {
        sets.push(change);
        assert_eq!(sorted(planned(folder.path(), &sets)), stays, "plan, {change}");
        let (done, said) = run(folder.path(), &sets);
        assert_eq!(reused(&done), stays, "{change}: {said}");
        let key = change.split('=').next().unwrap();
        assert!(said.contains(&format!("config.yaml: {key}: ")), "{said}");
    }
    let config = std::fs::read_to_string(folder.path().join("run/config.yaml")).unwrap();
    assert!(config.contains("clusters: 2") && config.contains("seed: 4"), "{config}");
}

#[test]
fn a_changed_run_ends_where_a_fresh_one_does() {
    let folder = tiny();
    run(folder.path(), &[]);
    run(folder.path(), &["latents.clusters=2"]);
    let fresh = ["run", "tiny.yaml", "--run-dir", "fresh", "--set", "latents.clusters=2"];
    assert!(lvd(folder.path(), &fresh).status.success());
    let bits = |run: &str| -> Vec<f64> {
        let text = std::fs::read(folder.path().join(run).join("results.json")).unwrap();
        let rows: Value = serde_json::from_slice(&text).unwrap();
        rows.as_array().unwrap().iter().map(|row| row["bits_per_dimension"].as_f64().unwrap()).collect()
    };
    assert_eq!(bits("run"), bits("fresh"));
}

#[test]
fn stages_after_one_whose_files_have_changed_are_done_again() {
    let folder = tiny();
    run(folder.path(), &[]);
    // The soft model of a run with another number of epochs, with the record that belongs to it.
    let other = ["run", "tiny.yaml", "--run-dir", "other", "--set", "distill.soft.epochs=1"];
    assert!(lvd(folder.path(), &other).status.success());
    let path = |run: &str, file: &str| folder.path().join(run).join("soft").join(file);
    let record =
        |run: &str| -> Value { serde_json::from_slice(&std::fs::read(path(run, "record.json")).unwrap()).unwrap() };
    let mut forged = record("run");
    let mut saved = lvd::run::checkpoint::load(&path("other", "model.safetensors"), tch::Device::Cpu).unwrap();
    saved.metadata.insert("inputs".to_owned(), forged["fingerprint"].as_str().unwrap().to_owned());
    let tensors: Vec<_> = saved.tensors.into_iter().collect();
    lvd::run::checkpoint::save(&path("run", "model.safetensors"), &tensors, &saved.metadata).unwrap();
    forged["files"]["model.safetensors"] = lvd::run::sha256_file(&path("run", "model.safetensors")).unwrap().into();
    std::fs::write(path("run", "record.json"), forged.to_string()).unwrap();
    let message = error(folder.path(), &["eval", "run", "--stage", "tree"], 2);
    assert!(message.contains("run: stage tree was made from another configuration"), "{message}");
    let (done, _) = run(folder.path(), &[]);
    assert_eq!(reused(&done), ["hard", "latents", "pixel_hclt", "soft", "teacher"]);
}

#[test]
fn a_moved_folder_of_data_with_equal_pictures_is_no_change_and_other_pictures_are_refused() {
    let folder = tiny();
    let pictures =
        ndarray::Array3::from_shape_fn((60, 8, 8), |(n, r, c)| ((n * 7 + r * 31 + c * 13 + n * r * c) % 17) as u8);
    for place in ["a", "b"] {
        std::fs::create_dir_all(folder.path().join(place)).unwrap();
        ndarray_npy::write_npy(folder.path().join(place).join("train.npy"), &pictures).unwrap();
    }
    let yaml = std::fs::read_to_string(folder.path().join("tiny.yaml")).unwrap();
    let data = "data: {format: npy, levels: 17, validation: {last: 10}, test: {last: 10}}";
    let yaml = yaml.replace("data: {format: embedded, train_limit: 96}", data);
    std::fs::write(folder.path().join("tiny.yaml"), yaml).unwrap();
    run(folder.path(), &["data.root=a"]);
    let (moved, _) = run(folder.path(), &["data.root=b"]);
    assert_eq!(reused(&moved), ALL);
    ndarray_npy::write_npy(folder.path().join("b/train.npy"), &(16 - &pictures)).unwrap();
    let message = error(folder.path(), &["run", "tiny.yaml", "--run-dir", "run", "--set", "data.root=b"], 2);
    assert!(message.contains("data or weights are not those of the run (SHA-256, there -> now)"), "{message}");
    // Other pictures by another key are a changed experiment.
    let (other, _) = run(folder.path(), &["data.root=b", "data.train_limit=20"]);
    assert!(reused(&other).is_empty());
}

#[test]
fn the_root_of_the_environment_is_recorded_and_gives_way_where_the_folder_has_moved() {
    let folder = tiny();
    let pictures = ndarray::Array3::from_shape_fn((60, 8, 8), |(n, r, c)| ((n * 7 + r * 31 + c * 13) % 17) as u8);
    std::fs::create_dir_all(folder.path().join("sets")).unwrap();
    ndarray_npy::write_npy(folder.path().join("sets/train.npy"), &pictures).unwrap();
    let data = "data={format: npy, levels: 17, validation: {last: 10}, test: {last: 10}}";
    let with = |root: &str, arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("lvd").unwrap();
        command.current_dir(folder.path()).env("LVD_DATA", root).args(arguments).output().unwrap()
    };
    assert!(with("sets", &["run", "tiny.yaml", "--run-dir", "run", "--set", data]).status.success());
    let config = std::fs::read_to_string(folder.path().join("run/config.yaml")).unwrap();
    assert!(config.contains("root: sets\n"), "{config}");
    assert!(lvd(folder.path(), &["eval", "run"]).status.success());
    std::fs::rename(folder.path().join("sets"), folder.path().join("moved")).unwrap();
    assert!(error(folder.path(), &["eval", "run"], 2).contains("sets is no folder"));
    assert!(with("moved", &["eval", "run"]).status.success());
    // A root that is given is never another one.
    let wrong = with("moved", &["plan", "tiny.yaml", "--set", data, "--set", "data.root=nowhere"]);
    assert!(text(&wrong.stderr).contains("nowhere is no folder"), "{}", text(&wrong.stderr));
}

#[test]
fn em_of_no_epochs_is_no_row() {
    let folder = tiny();
    run(folder.path(), &["distill.joint.epochs=0", "baselines={}"]);
    let rows: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.path().join("run/results.json")).unwrap()).unwrap();
    let last = rows.last().unwrap();
    assert_eq!((&last["stage"], &last["role"]), (&"tree".into(), &"student".into()));
}

#[test]
fn eval_takes_the_last_stage_of_distillation_growing_included_and_lists_the_stages() {
    let folder = tiny();
    let growing =
        "distill.growing={criterion: gain, rounds: 1, final_clusters: 4, examples: 64, em: {epochs: 1, batch: 32}}";
    let arguments = ["run", "tiny.yaml", "--run-dir", "run", "--set", growing];
    let output = lvd(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for stage in ["joint", "tree"] {
        let report: Value = serde_json::from_slice(&lvd(folder.path(), &["eval", "run", "--json"]).stdout).unwrap();
        assert_eq!(report["stage"], *stage);
        std::fs::remove_dir_all(folder.path().join("run").join(stage)).unwrap();
    }
    let report: Value = serde_json::from_slice(&lvd(folder.path(), &["eval", "run", "--json"]).stdout).unwrap();
    assert_eq!(report["stage"], "growing");
    let unknown = lvd(folder.path(), &["eval", "run", "--stage", "tre"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = text(&unknown.stderr);
    assert!(said.contains("hard, soft, growing, tree, joint, em_only, pixel_hclt"), "{said}");
    let none = error(folder.path(), &["eval", "run", "--stage", "latents"], 2);
    assert!(none.contains("stage latents leaves no circuit"), "{none}");
    assert_eq!(
        error(folder.path(), &["eval", "run", "--stage", "joint"], 2),
        "lvd: run: stage joint is not done\n  finish it by `lvd run`"
    );
}

#[test]
fn a_pixel_teacher_is_a_row_and_a_run_of_its_own_that_is_the_run_with_such_a_teacher() {
    let folder = tiny();
    let vqvae = "teacher={kind: vqvae, patch: 4, hidden: 4, residual: 2, embedding: 4, codes_bottom: 4, codes_top: 4, decoder: [4], epochs: 1, batch: 16}";
    let sets = [vqvae, "baselines={pixel_teacher: {features: contrast_orientation, components: 3}}"];
    let (first, said) = run(folder.path(), &sets);
    assert!(reused(&first).is_empty(), "{said}");
    let pixel = "teacher={kind: pixel, features: contrast_orientation, components: 3}";
    let alone = ["run", "tiny.yaml", "--run-dir", "alone", "--set", "baselines={}", "--set", pixel];
    assert!(lvd(folder.path(), &alone).status.success());
    let rows = |run: &str| -> Vec<Value> {
        serde_json::from_slice(&std::fs::read(folder.path().join(run).join("results.json")).unwrap()).unwrap()
    };
    let (mine, theirs) = (rows("run").pop().unwrap(), rows("alone").pop().unwrap());
    assert_eq!((&mine["stage"], &mine["role"]), (&"pixel_teacher".into(), &"baseline".into()));
    assert_eq!(mine["bits_per_dimension"], theirs["bits_per_dimension"]);
    let eval = lvd(folder.path(), &["eval", "run/pixel_teacher", "--json"]);
    let eval: Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert_eq!(eval["bits_per_dimension"], theirs["bits_per_dimension"]);
    // All of it is there: nothing is done again, and the plan knows.
    assert_eq!(planned(folder.path(), &sets).len(), 12);
    let (again, said) = run(folder.path(), &sets);
    assert!(again.values().all(|what| *what == "reused"), "{said}");
    let other = error(
        folder.path(),
        &["run", "tiny.yaml", "--set", "baselines={pixel_teacher: {patch: 2}}", "--run-dir", "other"],
        2,
    );
    assert!(other.contains("baselines.pixel_teacher.patch: expected 4 as in patch.size, found 2"), "{other}");
}

#[test]
fn a_tree_learns_from_kept_likelihoods_what_it_learns_from_those_made_anew() {
    let folder = tiny();
    let measured = |cache: &str| -> Vec<f64> {
        let _ = run(folder.path(), &["distill.tree.em={epochs: 2, batch: 64}", cache]);
        let lines = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of = |line: Value| [line["valid_bpd"].as_f64(), line["train_bpd"].as_f64()];
        lines.filter(|line| line["stage"] == "tree").flat_map(of).flatten().collect()
    };
    let [anew, kept] = ["distill.tree.cache=false", "distill.tree.cache=true"].map(measured);
    // Validation before and after both epochs, training in both.
    assert_eq!((anew.len(), kept.len()), (5, 5));
    assert!(anew.iter().zip(&kept).all(|(a, b)| (a - b).abs() < 1e-3) && anew != kept, "{anew:?} {kept:?}");
    let left = std::fs::read_dir(folder.path().join("run/tree")).unwrap().map(|file| file.unwrap().path());
    assert!(left.map(|file| file.extension() == Some("npy".as_ref())).all(|kept| !kept));
}
