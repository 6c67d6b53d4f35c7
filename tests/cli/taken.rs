//! Runs that begin with the model of another run.

use std::path::Path;

use ndarray::{Array1, Array3};
use serde_json::Value;

use super::{error, json, lvd, text, tiny};

/// Distil in a folder of its own, without baselines.
fn distil(folder: &Path, run: &str, sets: &[&str]) -> String {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["distill", "tiny.yaml", "--set", "baselines={}", "--run-dir", run].into_iter().chain(sets).collect();
    let output = lvd(folder, &arguments);
    assert!(output.status.success(), "{run}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// log p(x) of every picture of a split.
fn nats(folder: &Path, run: &str, stage: &str, split: &str) -> Array1<f64> {
    json(folder, &["eval", run, "--stage", stage, "--split", split, "--json", "--per-image", "nats.npy"]);
    ndarray_npy::read_npy(folder.join("nats.npy")).unwrap()
}

fn manifest(folder: &Path, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(run).join("manifest.json")).unwrap()).unwrap()
}

const NOTHING: [&str; 3] = ["distill.soft.epochs=0", "distill.tree.em.epochs=0", "distill.joint.epochs=0"];

/// Experiments, and the stages of distillation that each has.
fn kinds() -> Vec<(&'static str, Vec<&'static str>, &'static [&'static str])> {
    const WITH_TREE: &[&str] = &["taken", "soft", "tree", "joint"];
    const WINDOWS: &str = "distill={hard: {epochs: 1, batch: 32}, soft: {epochs: 1, batch: 32}}";
    let windows = |patch| vec![patch, "teacher.patch=2", WINDOWS];
    vec![
        ("a tree for each cluster", vec![], WITH_TREE),
        (
            "shared tables, hidden states, back-off",
            vec![
                "distill.tree.tying=displacement",
                "distill.tree.hidden=2",
                "distill.soft.back_off={pseudocount: 2.0, run: 3}",
                "distill.tree.codes=teacher",
            ],
            WITH_TREE,
        ),
        ("logistic inputs", vec!["patch.family.inputs=discretised_logistic"], WITH_TREE),
        ("Gaussians", vec!["patch.family={kind: gaussian, scales: 3, start_examples: 100}"], WITH_TREE),
        (
            "Gaussians of low rank and a transform",
            vec![
                "patch.family={kind: gaussian, scales: 2, start_examples: 100, covariance: {kind: low_rank, rank: 2}}",
                "transform=cdf53_integer",
            ],
            WITH_TREE,
        ),
        (
            "a network that weighs experts",
            windows(
                "patch={size: 2, context: 1, gate: {kind: network, units: 4}, family: {kind: gaussian, scales: 2}}",
            ),
            &["taken", "soft"],
        ),
        (
            "a ring that weighs experts",
            windows("patch={size: 2, context: 2, gate: {kind: ring, width: 1}, family: {kind: gaussian, scales: 2}}"),
            &["taken", "soft"],
        ),
    ]
}

#[test]
fn a_run_that_learns_nothing_has_the_likelihoods_of_the_one_that_it_began_with() {
    for (name, sets, stages) in kinds() {
        let folder = tiny();
        distil(folder.path(), "source", &sets);
        let last = stages[stages.len() - 1];
        let expected = nats(folder.path(), "source", last, "test");
        // Patches that see others have no tree and no joint EM, whose keys would be refused.
        let nothing = if stages.len() > 2 { &NOTHING[..] } else { &NOTHING[..1] };
        let said = distil(folder.path(), "warm", &[&sets, nothing, &["init_from=source"]].concat());
        assert!(!said.contains("teacher: started") && !said.contains("hard: started"), "{name}: {said}");
        for stage in stages {
            assert_eq!(nats(folder.path(), "warm", stage, "test"), expected, "{name}, stage {stage}");
        }
        assert!(!folder.path().join("warm/teacher").exists(), "{name}");
        // What is asked of the new run does not need the old one.
        std::fs::remove_dir_all(folder.path().join("source")).unwrap();
        assert_eq!(nats(folder.path(), "warm", last, "test"), expected, "{name}");
    }
}

/// Other pictures: digits turned dark for bright, every tenth of them for validation, as many for test.
fn new_pictures(folder: &Path) -> &'static str {
    let pictures = Array3::from_shape_fn((80, 8, 8), |(n, r, c)| (16 - (n * 3 + r * (1 + n % 4) + c * c) % 17) as u8);
    ndarray_npy::write_npy(folder.join("new.npy"), &pictures).unwrap();
    "data={format: npy, root: ., train: [new.npy], validation: {last: 10}, test: {last: 10}, levels: 17}"
}

#[test]
fn a_step_of_em_on_new_pictures_does_not_lower_their_likelihood() {
    let gaussian = "patch.family={kind: gaussian, scales: 3, start_examples: 100}";
    for family in ["seed=3", gaussian] {
        let folder = tiny();
        let data = new_pictures(folder.path());
        distil(folder.path(), "source", &[family]);
        // Full batches and full steps, and almost no prior: the theorem of EM.
        let full =
            "{epochs: 1, batch: 0, step: {kind: constant, eta: 1.0}, pseudocount: 1.0e-6, input_pseudocount: 1.0e-6}";
        let steps = ["soft", "tree.em", "joint"].map(|stage| format!("distill.{stage}={full}"));
        let mut sets = vec!["init_from=source", data, family];
        sets.extend(steps.iter().map(String::as_str));
        distil(folder.path(), "warm", &sets);
        let mean = |run, stage| nats(folder.path(), run, stage, "train").mean().unwrap();
        let found = ["taken", "soft", "tree", "joint"].map(|stage| mean("warm", stage));
        assert!(found.windows(2).all(|pair| pair[0] <= pair[1] + 1e-3), "{family}: {found:?}");
        // A step moves much where pictures are of another kind.
        assert!(found[1] > found[0] + 1.0, "{family}: {found:?}");
    }
}

#[test]
fn a_run_that_was_broken_off_ends_where_an_unbroken_one_does() {
    let folder = tiny();
    let data = new_pictures(folder.path());
    distil(folder.path(), "source", &[]);
    let sets = ["init_from=source", data, "compute.micro_batch=16", "distill.soft.epochs=4"];
    let sets = [&sets[..], &["distill.soft.batch=16", "distill.joint.batch=16", "distill.joint.epochs=4"]].concat();
    distil(folder.path(), "whole", &sets);
    // Killed at one file operation after the other until it comes through.
    let mut kills = 0;
    for operation in (1..).step_by(7) {
        let arguments = ["distill", "tiny.yaml", "--set", "baselines={}", "--run-dir", "parts"];
        let arguments = arguments.into_iter().chain(sets.iter().flat_map(|set| ["--set", *set]));
        let mut command = assert_cmd::Command::cargo_bin("lvd").unwrap();
        command.current_dir(folder.path()).args(arguments).env_remove("RUST_LOG");
        let output = command.env("LVD_TEST_KILL_AT_FILE_OPERATION", operation.to_string()).output().unwrap();
        match output.status.code() {
            Some(0) => break,
            Some(137) => kills += 1,
            other => panic!("{other:?}: {}", text(&output.stderr)),
        }
    }
    assert!(kills > 3, "{kills}");
    for stage in ["taken", "soft", "tree", "joint"] {
        let model = |run: &str| std::fs::read(folder.path().join(run).join(stage).join("model.safetensors")).unwrap();
        assert!(model("whole") == model("parts"), "{stage}");
    }
}

#[test]
fn a_run_that_was_trained_on_is_taken_anew_and_its_model_is_in_the_manifest() {
    let folder = tiny();
    distil(folder.path(), "source", &[]);
    let hash = |run: &str| lvd::run::sha256_file(&folder.path().join(run).join("joint/model.safetensors")).unwrap();
    let warm = |sets: &[&str]| distil(folder.path(), "warm", &[&["init_from=source"], sets].concat());
    assert!(warm(&[]).contains("taken: started"));
    assert_eq!(manifest(folder.path(), "warm")["weights"]["taken"], hash("source"));
    let again = warm(&[]);
    assert!(again.contains("done before, reused: taken, soft, tree, joint"), "{again}");
    // Keys of the teacher and of hard EM move nothing.
    let again = warm(&["teacher={kind: pixel, features: contrast_orientation}", "distill.hard.epochs=3"]);
    assert!(again.contains("done before, reused: taken, soft, tree, joint"), "{again}");
    let before = hash("source");
    distil(folder.path(), "source", &["distill.joint.epochs=3"]);
    assert_ne!(hash("source"), before);
    let changed = warm(&[]);
    assert!(changed.contains("init_sha256: ") && changed.contains("taken: started"), "{changed}");
    assert_eq!(manifest(folder.path(), "warm")["weights"]["taken"], hash("source"));
    // A run may go on from one that went on itself, and back to a teacher.
    distil(folder.path(), "third", &["init_from=warm"]);
    assert_eq!(manifest(folder.path(), "third")["weights"]["taken"], hash("warm"));
    assert!(distil(folder.path(), "third", &[]).contains("teacher: started"));
}

#[test]
fn a_plan_and_a_table_say_where_a_run_begins() {
    let folder = tiny();
    distil(folder.path(), "source", &[]);
    let sets = ["--set", "init_from=source", "--set", "baselines.pixel_hclt=null", "--run-dir", "warm"];
    let plan = text(&lvd(folder.path(), &[&["plan", "tiny.yaml"], &sets[..]].concat()).stdout);
    assert!(plan.contains("\nstart      the model of stage joint of source (SHA-256 "), "{plan}");
    assert!(
        plan.contains("in place of teacher, latents and hard EM: teacher and distill.hard are not used\n"),
        "{plan}"
    );
    let stages: Vec<&str> =
        plan.lines().filter(|line| line.contains("to do")).filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(stages, ["taken", "soft", "tree", "joint", "em_only"]);
    assert!(!folder.path().join("warm").exists());
    let run = lvd(folder.path(), &[&["run", "tiny.yaml"], &sets[..]].concat());
    assert!(text(&run.stdout).contains("model of another run (init_from)"), "{}", text(&run.stderr));
    assert!(lvd(folder.path(), &["report", "warm"]).status.success());
    let line = text(&lvd(folder.path(), &["ask", "warm", "--stage", "soft"]).stdout);
    assert!(line.starts_with("reading exact\n"), "{line}");
    // Points of a sweep.
    let sweep = ["sweep", "tiny.yaml", "--set", "init_from=source", "--set", "seed=1,2", "--set", "baselines={}"];
    let swept = lvd(folder.path(), &[&sweep[..], &["--sweep-dir", "s"]].concat());
    assert!(text(&swept.stdout).contains("2 of 2 points finished"), "{}", text(&swept.stderr));
}

#[test]
fn what_a_model_does_not_go_with_is_refused_before_anything_is_written() {
    let folder = tiny();
    let source = |sets: &[&str]| {
        let _ = std::fs::remove_dir_all(folder.path().join("source"));
        distil(folder.path(), "source", sets);
    };
    source(&[]);
    let refused = |sets: &[&str]| {
        let sets = ["init_from=source"].iter().chain(sets).flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = ["tiny.yaml", "--run-dir", "warm"].into_iter().chain(sets).collect();
        let plan = error(folder.path(), &[&["plan"], &arguments[..]].concat(), 2);
        assert_eq!(error(folder.path(), &[&["run"], &arguments[..]].concat(), 2), plan);
        assert!(!folder.path().join("warm").exists());
        plan
    };
    assert_eq!(
        refused(&["patch.family.states=3", "latents.clusters=4", "distill.tree.hidden=2"]),
        "lvd: init_from: the model of source is of another structure: 3 problems\n  patch.family.states: expected 2 as in \
         source, found 3\n  distill.tree.hidden: expected none as in source, found 2\n  latents.clusters: expected 3 as in \
         source, found 4"
    );
    assert_eq!(
        refused(&["patch.family={kind: gaussian}", "patch.size=2", "teacher.patch=2"]),
        "lvd: init_from: the model of source is of another structure: 2 problems\n  patch.size: expected 4 as in source, \
         found 2\n  patch.family.kind: expected hclt as in source, found gaussian"
    );
    let growing =
        "distill.growing={criterion: gain, rounds: 1, final_clusters: 4, examples: 64, em: {epochs: 1, batch: 32}}";
    assert_eq!(
        refused(&[growing]),
        "lvd: tiny.yaml: 1 problem\n  distill.growing: expected none where init_from names a run: the clusters are those of \
         its model"
    );
    let hash = refused(&["init_sha256=00ff"]);
    assert!(
        hash.starts_with("lvd: init_from: source: the SHA-256 of its model is ") && hash.contains("expected 00ff"),
        "{hash}"
    );
    let wide = Array3::<u8>::from_shape_fn((40, 8, 12), |(n, r, c)| ((n + r * c) % 17) as u8);
    ndarray_npy::write_npy(folder.path().join("wide.npy"), &wide).unwrap();
    let data = "data={format: npy, root: ., train: [wide.npy], validation: {last: 8}, test: {last: 8}, levels: 17}";
    assert_eq!(
        refused(&[data]),
        "lvd: init_from: source: the pictures are 8 x 12 x 1 with 17 levels, the model was trained for 8 x 8 x 1 with 17"
    );
    assert!(refused(&["init_from=nowhere"]).starts_with("lvd: init_from: nowhere: no run folder"));
    let alone = error(folder.path(), &["plan", "tiny.yaml", "--set", "init_sha256=00ff"], 2);
    assert!(alone.contains("init_sha256: has no meaning without init_from"), "{alone}");
    for command in ["train-teacher", "assign-latents"] {
        let told = error(folder.path(), &[command, "tiny.yaml", "--set", "init_from=source", "--run-dir", "t"], 2);
        assert!(told.contains("it has the stages taken, soft, tree, joint"), "{told}");
    }
    // The run itself, by another path.
    let own = ["plan", "tiny.yaml", "--set", "init_from=source/../source", "--run-dir", "./source"];
    assert_eq!(
        error(folder.path(), &own, 2),
        "lvd: init_from: source/../source is the folder of this run itself, whose stages would be done again\n  give another \
         folder by --run-dir, or another name"
    );
    // A model that was changed, and a run that is not done.
    let model = folder.path().join("source/joint/model.safetensors");
    std::fs::write(&model, "x").unwrap();
    assert!(refused(&[]).starts_with("lvd: init_from: source/joint/model.safetensors: is not what the stage left"));
    std::fs::remove_dir_all(folder.path().join("source/joint")).unwrap();
    assert_eq!(refused(&[]), "lvd: init_from: source: stage joint is not done\n  finish it by `lvd run`");
    // Clusters that were split by gain are clusters; circuits that were grown by the paper's rule are no longer those of a file.
    source(&[&growing
        .replace("final_clusters: 4", "final_clusters: 6")
        .replace("examples: 64", "examples: 64, confidence: 0")]);
    let clusters = refused(&["latents.clusters=2"]);
    let found: usize = clusters.split("expected ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3..=6).contains(&found), "{clusters}");
    distil(folder.path(), "grown", &["init_from=source", &format!("latents.clusters={found}")]);
    source(&["distill.growing={criterion: paper, final_clusters: 6, examples: 64, em: {epochs: 1, batch: 16}}"]);
    assert!(refused(&[]).starts_with("lvd: init_from: source: its circuits were grown by criterion paper"));
}

#[test]
fn patches_with_context_go_on_with_pictures_of_another_size() {
    let folder = tiny();
    let wide = Array3::<u8>::from_shape_fn((60, 12, 10), |(n, r, c)| ((n * 5 + r * c + c) % 17) as u8);
    ndarray_npy::write_npy(folder.path().join("wide.npy"), &wide).unwrap();
    let patch = "patch={size: 2, context: 1, gate: {kind: ring, width: 1}, family: {kind: gaussian, scales: 2}}";
    let sets = [patch, "teacher.patch=2", "distill={hard: {epochs: 1, batch: 32}, soft: {epochs: 1, batch: 32}}"];
    distil(folder.path(), "source", &sets);
    let data = "data={format: npy, root: ., train: [wide.npy], validation: {last: 10}, test: {last: 10}, levels: 17}";
    distil(folder.path(), "warm", &[&sets[..], &["init_from=source", data]].concat());
    let eval = |run: &str, stage: &str| {
        let own = ["eval", run, "--stage", stage, "--data", "wide.npy", "--json"];
        json(folder.path(), &own)["bits_per_dimension"].as_f64().unwrap()
    };
    assert!((eval("warm", "taken") - eval("source", "soft")).abs() < 1e-12);
    assert!(eval("warm", "soft") < eval("warm", "taken"));
}
