//! Model files against `docs/format.md`: a reader of numpy alone, written from that page, finds the same log p(x) for
//! every picture (tests/format.py).

use std::path::Path;
use std::process::Command;

use lvd::data::{self, Split};
use lvd::experiment::stage::Stage;
use lvd::experiment::{models, read};
use lvd::patch::Reading;
use lvd::random::Draws;
use lvd::run::RunFolder;
use tch::{Device, Kind, Tensor};

const EXPERIMENT: &str = "
name: small
seed: 3
color: grey
data: {format: embedded, train_limit: 96}
patch: {size: 4, family: {kind: hclt, states: 3, start_examples: 100}}
teacher: {kind: pixel, patch: 4}
latents: {clusters: 3}
distill:
  hard: {epochs: 1, batch: 48}
  soft: {epochs: 1, batch: 48}
  tree: {em: {epochs: 1, batch: 48}}
  joint: {epochs: 1, batch: 48}
compute: {micro_batch: 48, watched: 50, threads: 1}
";
const PICTURES: usize = 40;

/// Whether Python with numpy and safetensors is there.
fn python() -> bool {
    let found = Command::new("python3").args(["-c", "import numpy, safetensors"]).output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: python3 with numpy and safetensors is not installed");
    }
    there
}

fn compare(model: &Path, pictures: &Path, nats: &Path, reading: &str, tolerance: f64) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format.py");
    let mut command = Command::new("python3");
    let command = command.arg(script).args([model, pictures, nats]).args([reading, &tolerance.to_string()]);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    eprint!("{}", said[0]);
}

/// Train by the command, then compare every picture's log p(x) under the stages named.
fn agrees(settings: &[&str], stages: &[Stage], tolerance: f64) {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.yaml"), EXPERIMENT).unwrap();
    let mut command = assert_cmd::Command::cargo_bin("lvd").unwrap();
    command.current_dir(folder.path()).args(["run", "small.yaml", "--run-dir", "run"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.assert().success();
    for &stage in stages {
        stage_agrees(folder.path(), stage, tolerance);
    }
}

fn stage_agrees(folder: &Path, stage: Stage, tolerance: f64) {
    let run = RunFolder::read(&folder.join("run")).unwrap();
    let config = read::of_run(&run).unwrap();
    let model = models::load(&run, &config, stage, Device::Cpu).unwrap();
    let test = data::open(&config.data, config.seed).unwrap().part(Split::Test).clone();
    let numbers: Vec<usize> = (0..PICTURES).collect();
    let pixels = test.batch(&numbers).unwrap();
    let file = run.stage(stage.name()).path("model.safetensors");
    let draws = Draws { seed: 1, purpose: "points", pass: 0, pictures: &numbers };
    for reading in model.readings() {
        let patches = model.evidence(&pixels, reading, &draws).unwrap();
        let nats = -model.log_likelihood(&model.patch_log_likelihood(&patches).unwrap()).unwrap();
        let [seen_at, nats_at] = ["seen.npy", "nats.npy"].map(|name| folder.join(name));
        let seen =
            if reading == Reading::Density { patches.values().to_kind(Kind::Double) } else { pixels.shallow_clone() };
        seen.write_npy(&seen_at).unwrap();
        nats.to_kind(Kind::Double).write_npy(&nats_at).unwrap();
        compare(&file, &seen_at, &nats_at, reading.name(), tolerance);
    }
    assert_eq!(Tensor::read_npy(folder.join("nats.npy")).unwrap().size(), [PICTURES as i64]);
}

#[test]
fn hclts_without_and_with_a_tree() {
    agrees(
        &["baselines.pixel_hclt={circuit: {states: 3}, em: {epochs: 1, batch: 48}, micro_batch: 24}"],
        &[Stage::Soft, Stage::Joint, Stage::PixelHclt],
        2e-4,
    );
}

#[test]
fn a_tree_with_hidden_states_and_clusters_that_share_trees() {
    let growing = "distill.growing={criterion: paper, final_clusters: 6, examples: 64, em: {epochs: 1, batch: 24}}";
    agrees(&["distill.tree.hidden=2", growing], &[Stage::Growing, Stage::Joint], 1e-4);
}

#[test]
fn gaussians_of_both_readings_and_of_low_rank() {
    // 1e-6 bits per dimension of 64 numbers are 4.4e-5 nats.
    let double = "scales: 3, start_examples: 100, double: true, ordered_window: 1e9";
    let full = format!("patch.family={{kind: gaussian, {double}}}");
    agrees(&[&full], &[Stage::Hard, Stage::Joint], 4.4e-5);
    let low_rank = format!("patch.family={{kind: gaussian, {double}, covariance: {{kind: low_rank, rank: 2}}}}");
    agrees(&[&low_rank], &[Stage::Joint], 4.4e-5);
}
