//! Exit codes, signals, memory and closed streams.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{error, lvd, text, tiny};

fn shell(folder: &Path, before: &str, arguments: &str, after: &str) -> Output {
    let binary = assert_cmd::cargo::cargo_bin("lvd");
    let command = format!("{before} {} {arguments} {after}", binary.display());
    Command::new("sh").current_dir(folder).args(["-c", &command]).output().unwrap()
}

#[test]
fn a_stderr_that_cannot_be_written_to_is_no_reason_to_stop() {
    let folder = tiny();
    for (run, stderr) in [("full", "2>/dev/full"), ("closed", "2>&-")] {
        let output = shell(folder.path(), "", &format!("run tiny.yaml --run-dir {run}"), stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(text(&output.stdout).contains("+ joint EM"));
        assert_eq!(shell(folder.path(), "", "plan missing.yaml", stderr).status.code(), Some(2), "{stderr}");
    }
    let full = shell(folder.path(), "", "schema", ">/dev/full");
    assert_eq!(full.status.code(), Some(1));
    assert!(text(&full.stderr).contains("lvd: stdout: cannot be written"), "{}", text(&full.stderr));
    assert_eq!(shell(folder.path(), "", "schema", "| head -c 10 >/dev/null").status.code(), Some(0));
}

#[test]
fn memory_that_is_not_there_is_told_in_a_line_with_the_keys_to_lower() {
    let folder = tiny();
    let sets = "--set baselines.pixel_hclt.circuit.states=4000 --set data.train_limit=1297";
    // The program and its libraries fit, a table of 4000 x 4000 for every pixel does not.
    let output = shell(folder.path(), "ulimit -v 4000000;", &format!("run tiny.yaml {sets}"), "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().skip_while(|line| !line.starts_with("lvd")).collect::<Vec<_>>();
    assert!(line[0].starts_with("lvd: out of memory: "), "{line:?}");
    assert!(line[1].contains("lower compute.micro_batch, patch.family.states or latents.clusters"), "{line:?}");
    assert!(!said.contains("frame #") && !said.contains("this is a bug"), "{said}");
}

#[test]
fn a_matrix_that_cannot_be_factorised_is_a_fault_in_a_line() {
    let folder = tiny();
    let family = "patch.family={kind: gaussian, scales: 3, start_examples: 100}";
    assert!(
        lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run", "--set", family, "--set", "baselines={}"])
            .status
            .success()
    );
    let stage = folder.path().join("run/joint");
    let model = stage.join("model.safetensors");
    let mut saved = lvd::run::checkpoint::load(&model, tch::Device::Cpu).unwrap();
    let _ = saved.tensors.get_mut("patch.shape").unwrap().neg_();
    let tensors: Vec<_> = saved.tensors.into_iter().collect();
    lvd::run::checkpoint::save(&model, &tensors, &saved.metadata).unwrap();
    let mut record: Value = serde_json::from_slice(&std::fs::read(stage.join("record.json")).unwrap()).unwrap();
    record["files"]["model.safetensors"] = lvd::run::sha256_file(&model).unwrap().into();
    std::fs::write(stage.join("record.json"), record.to_string()).unwrap();
    let output = lvd(folder.path(), &["eval", "run"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("lvd: libtorch: linalg.cholesky: ") && said.lines().count() == 1, "{said}");
}

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
fn a_signal_ends_an_evaluation_a_plan_and_the_last_rows_of_a_run() {
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
fn what_the_user_got_wrong_ends_with_two_and_what_went_wrong_with_one() {
    let folder = tiny();
    for run in ["run", "other"] {
        let set = if run == "run" { "seed=3" } else { "latents.clusters=2" };
        assert!(
            lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", run, "--set", set, "--set", "baselines={}"])
                .status
                .success()
        );
    }
    let model = |run: &str| folder.path().join(run).join("joint/model.safetensors");
    let record = |run: &str| folder.path().join(run).join("joint/record.json");
    let hashed = || {
        let mut changed: Value = serde_json::from_slice(&std::fs::read(record("run")).unwrap()).unwrap();
        changed["files"]["model.safetensors"] = lvd::run::sha256_file(&model("run")).unwrap().into();
        std::fs::write(record("run"), changed.to_string()).unwrap();
    };
    let good = std::fs::read(model("run")).unwrap();
    let saved = |change: &dyn Fn(&mut Vec<(String, tch::Tensor)>)| {
        std::fs::write(model("run"), &good).unwrap();
        let saved = lvd::run::checkpoint::load(&model("run"), tch::Device::Cpu).unwrap();
        let mut tensors: Vec<_> = saved.tensors.into_iter().collect();
        change(&mut tensors);
        lvd::run::checkpoint::save(&model("run"), &tensors, &saved.metadata).unwrap();
        hashed();
        error(folder.path(), &["eval", "run"], 2)
    };
    let missing = saved(&|tensors| tensors.retain(|(name, _)| name != "patch.trees"));
    assert!(missing.contains("run/joint/model.safetensors") && missing.contains("patch.trees"), "{missing}");
    let rank = saved(&|tensors| {
        for (name, tensor) in tensors {
            if name == "patch.trees" {
                *tensor = tensor.view(-1);
            }
        }
    });
    assert!(rank.contains("patch.trees"), "{rank}");
    // The model of another run.
    std::fs::copy(model("other"), model("run")).unwrap();
    hashed();
    let other = error(folder.path(), &["eval", "run"], 2);
    assert!(other.contains("run/joint/model.safetensors: is the model of another run"), "{other}");
    // Half a file, and text that is no UTF-8.
    std::fs::write(model("run"), &good[..good.len() / 2]).unwrap();
    hashed();
    assert!(error(folder.path(), &["eval", "run"], 2).contains("not a complete safetensors file"));
    std::fs::write(folder.path().join("run/manifest.json"), b"{\xff}").unwrap();
    assert!(error(folder.path(), &["eval", "run"], 2).contains("run/manifest.json: no manifest"));
    std::fs::write(folder.path().join("run/metrics.jsonl"), b"\xff\n").unwrap();
    assert!(error(folder.path(), &["report", "run"], 2).contains("metrics.jsonl"));
}

#[test]
fn a_report_on_numbers_that_no_run_measures_is_refused_at_once() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]).status.success());
    let metrics = folder.path().join("run/metrics.jsonl");
    let good = std::fs::read_to_string(&metrics).unwrap();
    for line in [
        format!("{{\"stage\":\"joint\",\"step\":{},\"seconds\":1.0,\"valid_bpd\":2.0}}", u64::MAX),
        "{\"stage\":\"joint\",\"step\":3,\"seconds\":1.0,\"valid_bpd\":1e300}".to_owned(),
    ] {
        std::fs::write(&metrics, format!("{good}{line}\n")).unwrap();
        let started = Instant::now();
        let message = error(folder.path(), &["report", "run"], 2);
        assert!(message.contains("no metrics line: ") && started.elapsed() < Duration::from_secs(5), "{message}");
    }
}
