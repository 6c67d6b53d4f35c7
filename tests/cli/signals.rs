//! Ctrl-C and SIGTERM where there is nothing, or not much, to save.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{error, lvd, tiny};

/// Start a command, send it a signal after a while, and wait for its end.
fn signalled(folder: &Path, arguments: &[&str], signal: &str, after: Duration) -> (Option<i32>, Duration) {
    let binary = assert_cmd::cargo::cargo_bin("lvd");
    let mut child = Command::new(binary)
        .current_dir(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let started = Instant::now();
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    (child.wait().unwrap().code(), started.elapsed())
}

#[test]
fn a_signal_ends_an_evaluation_and_the_last_rows_of_a_run() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]).status.success());
    let pictures = ndarray::Array3::<u8>::from_elem((400_000, 8, 8), 3);
    ndarray_npy::write_npy(folder.path().join("many.npy"), &pictures).unwrap();
    for signal in ["-INT", "-TERM"] {
        let eval = ["eval", "run", "--data", "many.npy", "--format", "npy"];
        let (code, waited) = signalled(folder.path(), &eval, signal, Duration::from_secs(2));
        assert_eq!(code, Some(130), "{signal}");
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }
    // In a run, the evaluation of a large test part; what was done stays.
    let data = "data={format: npy, root: ., train: [train.npy], validation: {last: 10}, test: {files: [many.npy]}, levels: 17}";
    ndarray_npy::write_npy(
        folder.path().join("train.npy"),
        &ndarray::Array3::from_shape_fn((90, 8, 8), |(n, r, c)| ((n * 7 + r * 31 + c * 13) % 17) as u8),
    )
    .unwrap();
    let arguments = ["run", "tiny.yaml", "--run-dir", "large", "--set", data];
    let (code, _) = signalled(folder.path(), &arguments, "-INT", Duration::from_secs(10));
    assert_eq!(code, Some(130));
    assert!(folder.path().join("large/joint/record.json").exists());
}

#[test]
fn the_model_of_another_run_is_refused() {
    let folder = tiny();
    for (run, set) in [("run", "seed=3"), ("other", "seed=4")] {
        let arguments = ["run", "tiny.yaml", "--run-dir", run, "--set", set, "--set", "baselines={}"];
        assert!(lvd(folder.path(), &arguments).status.success());
    }
    let stage = |run: &str| folder.path().join(run).join("joint");
    std::fs::copy(stage("other").join("model.safetensors"), stage("run").join("model.safetensors")).unwrap();
    let record = stage("run").join("record.json");
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    changed["files"]["model.safetensors"] =
        lvd::run::sha256_file(&stage("run").join("model.safetensors")).unwrap().into();
    std::fs::write(&record, changed.to_string()).unwrap();
    let message = error(folder.path(), &["eval", "run"], 2);
    assert!(message.contains("run/joint/model.safetensors: is the model of another run"), "{message}");
}
