//! Kills, full disks and changed files: a run is never lost and a number never silently wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

use super::growing::GAIN;
use super::{TINY, error, lvd, text, tiny};

/// The binary, killed at the n-th change of the disk.
fn killed(folder: &Path, arguments: &[&str], n: usize) -> Output {
    let mut command = Command::cargo_bin("lvd").unwrap();
    let command = command.current_dir(folder).args(arguments).env_remove("LVD_DATA").env_remove("RUST_LOG");
    command.env("LVD_TEST_KILL_AT_FILE_OPERATION", n.to_string()).output().unwrap()
}

/// All models of a run by name, as bytes.
fn models(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(run).into_iter().filter_map(Result::ok);
    let files = files.filter(|f| f.path().extension().is_some_and(|e| e == "safetensors"));
    files.map(|f| (f.path().strip_prefix(run).unwrap().to_owned(), std::fs::read(f.path()).unwrap())).collect()
}

/// Stage and step of every line of the metrics.
fn steps(run: &Path) -> Vec<(String, u64)> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["stage"].as_str().unwrap().to_owned(), line["step"].as_u64().unwrap())).collect()
}

/// Kill a run at every fifth file operation from `first` on, and resume it: the stages that tests have in common are struck
/// at others by each. `LVD_TEST_KILL_EVERY=1` walks through all of them, which takes some minutes.
fn survives_kills(yaml: &str, command: &str, first: usize, least: usize) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.yaml"), yaml).unwrap();
    let whole = lvd(folder.path(), &[command, "tiny.yaml", "--run-dir", "whole"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let (expected, lines) = (models(&folder.path().join("whole")), steps(&folder.path().join("whole")));
    let run = folder.path().join("run");
    let every = std::env::var("LVD_TEST_KILL_EVERY").map_or(5, |every| every.parse().expect("a number of operations"));
    for n in (first..).step_by(every) {
        let struck = killed(folder.path(), &[command, "tiny.yaml", "--run-dir", "run"], n);
        if struck.status.success() {
            assert!(n > least, "only {n} file operations");
            break;
        }
        assert_eq!(struck.status.code(), Some(137), "operation {n}: {}", text(&struck.stderr));
        let resumed = lvd(folder.path(), &[command, "tiny.yaml", "--run-dir", "run"]);
        assert!(resumed.status.success(), "after a kill at operation {n}: {}", text(&resumed.stderr));
        assert!(models(&run) == expected, "other models after a kill at operation {n}");
        assert_eq!(steps(&run), lines, "after a kill at operation {n}");
        std::fs::remove_dir_all(&run).unwrap();
    }
}

const QUICK: &str = "
name: tiny
color: grey
data: {format: embedded, train_limit: 24}
patch: {size: 4, family: {kind: hclt, states: 2, start_examples: 100}}
teacher: {kind: pixel, patch: 4}
latents: {clusters: 2}
distill:
  hard: {epochs: 1, batch: 24}
  soft: {epochs: 1, batch: 24}
  tree: {em: {epochs: 0}}
  joint: {epochs: 0}
compute: {micro_batch: 8, watched: 8, threads: 1}
";

#[test]
fn a_kill_at_any_file_operation_loses_nothing() {
    survives_kills(QUICK, "distill", 1, 40);
}

#[test]
fn a_kill_at_any_file_operation_of_growing_loses_nothing() {
    let gain = "  growing: {criterion: gain, rounds: 1, final_clusters: 3, examples: 64, held_out: 8, em: {epochs: 1, batch: 24}}
  tree:";
    survives_kills(&QUICK.replacen("  tree:", gain, 1), "distill", 2, 50);
}

#[test]
fn a_kill_at_any_file_operation_of_the_papers_growing_loses_nothing() {
    let paper = "  growing: {criterion: paper, final_clusters: 6, examples: 64, em: {epochs: 1, batch: 24}}
  tree:";
    survives_kills(&QUICK.replacen("  tree:", paper, 1), "distill", 3, 40);
}

#[test]
fn a_kill_at_any_file_operation_of_a_teacher_loses_nothing() {
    let vqvae = "{kind: vqvae, patch: 4, hidden: 4, residual: 2, embedding: 4, codes_bottom: 4, codes_top: 4, decoder: [4], epochs: 2, batch: 24}";
    survives_kills(&QUICK.replace("{kind: pixel, patch: 4}", vqvae), "train-teacher", 1, 10);
}

/// The binary where no file may become larger than so many blocks: every write beyond fails as on a full disk.
fn on_a_full_disk(folder: &Path, blocks: usize, arguments: &[&str]) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("sh");
    command.current_dir(folder).arg("-c").arg(script).arg(assert_cmd::cargo::cargo_bin("lvd")).args(arguments);
    command.env_remove("LVD_DATA").env_remove("RUST_LOG").output().unwrap()
}

#[test]
fn a_run_into_a_full_disk_ends_with_a_line_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.yaml"), QUICK).unwrap();
    let whole = lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "whole"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let (expected, lines) = (models(&folder.path().join("whole")), steps(&folder.path().join("whole")));
    let run = folder.path().join("run");
    let mut failed = Vec::new();
    for blocks in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
        let full = on_a_full_disk(folder.path(), blocks, &["run", "tiny.yaml", "--run-dir", "run"]);
        if full.status.success() {
            break;
        }
        let message = text(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{blocks} blocks: {message}");
        assert!(message.contains("lvd: ") && message.contains("File too large"), "{blocks} blocks: {message}");
        let told = &message[message.find("lvd: ").unwrap()..];
        assert!(told.contains('/') && told.lines().count() == 1, "{blocks} blocks: {told}");
        failed.push(blocks);
        let resumed = lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]);
        assert!(resumed.status.success(), "after {blocks} blocks: {}", text(&resumed.stderr));
        assert!(models(&run) == expected, "other models after {blocks} blocks");
        assert_eq!(steps(&run), lines, "after {blocks} blocks");
        std::fs::remove_dir_all(&run).unwrap();
    }
    assert!(failed.len() >= 4, "only {failed:?} blocks were too few");
}

fn run(folder: &Path) {
    let output = lvd(folder, &["run", "tiny.yaml", "--run-dir", "run"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_model_of_which_one_bit_has_changed_is_refused_with_both_hashes() {
    let folder = tiny();
    run(folder.path());
    let model = folder.path().join("run/joint/model.safetensors");
    let mut bytes = std::fs::read(&model).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let message = error(folder.path(), &["eval", "run"], 2);
    let record: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("run/joint/record.json")).unwrap()).unwrap();
    let expected = record["files"]["model.safetensors"].as_str().unwrap();
    assert!(message.starts_with("lvd: run/joint/model.safetensors: is not what the stage left (SHA-256)"), "{message}");
    assert!(message.contains(&format!("expected {expected}\n  found    ")), "{message}");
    // A run makes it again.
    let again = lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]);
    assert!(text(&again.stderr).contains("joint: started"), "{}", text(&again.stderr));
    assert!(lvd(folder.path(), &["eval", "run"]).status.success());
}

#[test]
fn a_score_that_is_no_number_is_a_fault_that_names_the_first_picture() {
    let folder = tiny();
    run(folder.path());
    // A model behind a valid record whose numbers are finite but make no density: an input table of zeros.
    let stage = folder.path().join("run/pixel_hclt");
    let model = stage.join("model.safetensors");
    let mut saved = lvd::run::checkpoint::load(&model, tch::Device::Cpu).unwrap();
    for (name, tensor) in &mut saved.tensors {
        if name.contains("inputs") {
            let _ = tensor.zero_();
        }
    }
    let tensors: Vec<_> = saved.tensors.into_iter().collect();
    lvd::run::checkpoint::save(&model, &tensors, &saved.metadata).unwrap();
    let mut record: Value = serde_json::from_slice(&std::fs::read(stage.join("record.json")).unwrap()).unwrap();
    record["files"]["model.safetensors"] = lvd::run::sha256_file(&model).unwrap().into();
    std::fs::write(stage.join("record.json"), record.to_string()).unwrap();
    let message = error(folder.path(), &["eval", "run", "--stage", "pixel_hclt"], 1);
    assert_eq!(message, "lvd: picture 0: its likelihood is not finite: the model gives no number for it");
}

#[test]
fn the_split_of_a_run_must_be_the_one_that_it_was_made_with() {
    let folder = tiny();
    run(folder.path());
    let manifest = folder.path().join("run/manifest.json");
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    changed["data"]["test"] = "00".into();
    std::fs::write(&manifest, changed.to_string()).unwrap();
    let message = error(folder.path(), &["eval", "run"], 2);
    assert!(
        message.starts_with("lvd: run: the test pictures are not those of the run (SHA-256)\n  expected 00\n"),
        "{message}"
    );
    assert!(lvd(folder.path(), &["eval", "run", "--split", "valid"]).status.success());
}

#[test]
fn the_size_of_a_micro_batch_moves_nothing_but_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let family = "{kind: gaussian, scales: 3, start_examples: 100}";
    let yaml = TINY.replace("{kind: hclt, states: 2, start_examples: 100}", family);
    let yaml = yaml.replace("  soft:", "  augment: {shifts: true, mirrors: true}\n  soft:");
    std::fs::write(folder.path().join("tiny.yaml"), yaml).unwrap();
    let rows = |micro: &str| -> Vec<f64> {
        let set = format!("compute.micro_batch={micro}");
        let arguments = ["run", "tiny.yaml", "--run-dir", micro, "--set", &set, "--set", "baselines={}"];
        let output = lvd(folder.path(), &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let rows: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(micro).join("results.json")).unwrap()).unwrap();
        rows.as_array().unwrap().iter().map(|row| row["bits_per_dimension"].as_f64().unwrap()).collect()
    };
    let whole = rows("32");
    for micro in ["4", "16"] {
        for (a, b) in whole.iter().zip(rows(micro)) {
            assert!((a - b).abs() < 1e-4, "{a} and {b} bits per dimension with micro-batches of 32 and {micro}");
        }
    }
}

#[test]
fn what_a_full_disk_does_to_a_score_is_said_after_the_score() {
    let folder = tiny();
    run(folder.path());
    std::fs::write(folder.path().join("nats.npy"), "old").unwrap();
    let limited = |arguments: &str| {
        let binary = assert_cmd::cargo::cargo_bin("lvd");
        // Files of at most one block: 300 float64 do not fit.
        let command = format!("ulimit -f 1; trap '' XFSZ; exec {} {arguments}", binary.display());
        std::process::Command::new("sh").current_dir(folder.path()).args(["-c", &command]).output().unwrap()
    };
    let output = limited("eval run --per-image nats.npy");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("bits per dimension on 300 pictures"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("lvd: nats.npy: cannot be written"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(folder.path().join("nats.npy")).unwrap(), "old");
    let full = lvd(folder.path(), &["eval", "run", "--per-image", "/dev/full"]);
    assert_eq!(full.status.code(), Some(1));
    assert!(text(&full.stdout).contains("bits per dimension"), "{}", text(&full.stdout));
    assert!(std::fs::metadata("/dev/full").unwrap().len() == 0);
}

#[test]
fn a_folder_that_was_killed_at_its_very_first_file_is_taken_up_and_a_foreign_one_keeps_nothing_of_ours() {
    let folder = tiny();
    for file in [".lock", ".new-abc.tmp", "log.txt"] {
        std::fs::create_dir_all(folder.path().join("run")).unwrap();
        std::fs::write(folder.path().join("run").join(file), "").unwrap();
    }
    let output = lvd(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "run"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::create_dir(folder.path().join("thesis")).unwrap();
    std::fs::write(folder.path().join("thesis/thesis.tex"), "").unwrap();
    let message = error(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "thesis"], 2);
    assert!(message.contains("thesis: is not empty and holds no config.yaml"), "{message}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("thesis")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.tex"]);
}

#[test]
fn nothing_is_appended_through_symbolic_links() {
    let folder = tiny();
    for file in ["log.txt", "metrics.jsonl", ".lock"] {
        let dir = folder.path().join("run");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "mine").unwrap();
        std::os::unix::fs::symlink(&precious, dir.join(file)).unwrap();
        let message = error(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "run"], 2);
        assert!(message.contains("is a symbolic link"), "{file}: {message}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    }
}

#[test]
fn looking_at_features_of_a_finished_run_leaves_it_finished() {
    let folder = tiny();
    run(folder.path());
    let finished = || -> Value {
        let text = std::fs::read(folder.path().join("run/manifest.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["finished"].clone()
    };
    let before = finished();
    assert!(before.is_string());
    let features = ["teacher", "features", "tiny.yaml", "--run-dir", "run", "--out", "f.npy"];
    assert!(lvd(folder.path(), &features).status.success());
    assert_eq!(finished(), before);
}

#[test]
fn growing_that_starts_anew_forgets_its_old_lines() {
    let folder = tiny();
    let arguments = ["run", "tiny.yaml", "--run-dir", "run", "--set", GAIN];
    assert!(lvd(folder.path(), &arguments).status.success());
    let first = steps(&folder.path().join("run"));
    std::fs::remove_file(folder.path().join("run/growing/record.json")).unwrap();
    assert!(lvd(folder.path(), &arguments).status.success());
    let again = steps(&folder.path().join("run"));
    let sorted = |mut lines: Vec<(String, u64)>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(again), sorted(first));
}

#[test]
fn features_on_a_full_disk_are_a_fault_in_a_line_and_leave_nothing_behind() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "run"]).status.success());
    let binary = assert_cmd::cargo::cargo_bin("lvd");
    // 96 pictures of 4 patches of 16 float32 are 24 KiB; files may have 16 KiB.
    let command =
        format!("ulimit -f 32; exec {} teacher features tiny.yaml --run-dir run --out f.npy", binary.display());
    let output = std::process::Command::new("sh").current_dir(folder.path()).args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = text(&output.stderr);
    assert!(told.contains("cannot be written") && told.contains("File too large"), "{told}");
    let left = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("npy") || name.contains(".tmp")));
    let whole = lvd(folder.path(), &["teacher", "features", "tiny.yaml", "--run-dir", "run", "--out", "f.npy"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let found: ndarray::Array3<f32> = ndarray_npy::read_npy(folder.path().join("f.npy")).unwrap();
    assert_eq!(found.shape(), [96, 4, 16]);
}

#[test]
fn growing_looks_at_the_same_pictures_whatever_the_micro_batch() {
    let folder = tempfile::tempdir().unwrap();
    // 300 patches are 75 pictures: no multiple of either micro-batch.
    let gain = "  growing: {criterion: gain, rounds: 1, final_clusters: 4, examples: 100, held_out: 8, em: {epochs: 0, batch: 32}}
  tree:";
    std::fs::write(folder.path().join("tiny.yaml"), TINY.replacen("  tree:", gain, 1)).unwrap();
    let learned = |micro: &str| -> Vec<u64> {
        let set = format!("compute.micro_batch={micro}");
        let output = lvd(folder.path(), &["distill", "tiny.yaml", "--run-dir", micro, "--set", &set]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = std::fs::read_to_string(folder.path().join(micro).join("metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["patches"].as_u64()).collect()
    };
    let whole = learned("32");
    assert!(!whole.is_empty());
    assert_eq!(whole, learned("8"));
}
