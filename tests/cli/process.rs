//! Streams, memory, threads and signals: how the process behaves, whatever it is asked to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use lvd::run::{checkpoint, sha256_file};
use tch::{Kind, Tensor};

use super::{error, lvd, text, tiny};

/// The binary as a shell runs it: `lvd` in `script` stands for it.
fn shell(folder: &Path, script: &str) -> Output {
    let lvd = assert_cmd::cargo::cargo_bin("lvd");
    let script = format!("lvd() {{ '{}' \"$@\"; }}; {script}", lvd.display());
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", &script]).env_remove("LVD_DATA").env_remove("RUST_LOG").output().unwrap()
}

#[test]
fn a_full_or_closed_stderr_changes_no_exit_code() {
    let folder = tiny();
    for stderr in ["2>/dev/full", "2>&-"] {
        for (arguments, code) in [
            ("--verbose run tiny.yaml", 0),
            ("run tiny.yaml", 0),
            ("report runs/tiny", 0),
            ("run missing.yaml", 2),
            ("no-such-command", 2),
            ("eval runs/tiny --stage nothing", 2),
        ] {
            let output = shell(folder.path(), &format!("lvd {arguments} {stderr}"));
            assert_eq!(output.status.code(), Some(code), "{arguments} {stderr}");
            std::fs::remove_dir_all(folder.path().join("runs/other")).ok();
        }
    }
}

#[test]
fn a_full_stdout_is_a_fault_and_one_that_nobody_reads_is_none() {
    let folder = tiny();
    for arguments in ["schema", "completions bash", "--help", "--version", "eval --help"] {
        let output = shell(folder.path(), &format!("lvd {arguments} >/dev/full"));
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(text(&output.stderr).starts_with("lvd: stdout: cannot be written: "), "{}", text(&output.stderr));
        let both = shell(folder.path(), &format!("lvd {arguments} >/dev/full 2>/dev/full"));
        assert_eq!(both.status.code(), Some(1), "{arguments}");
        let unread = shell(folder.path(), &format!("{{ lvd {arguments}; echo $? >&2; }} | true"));
        assert_eq!(text(&unread.stderr).trim(), "0", "{arguments}");
    }
}

#[test]
fn eval_computes_with_the_threads_of_its_run() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml"]).status.success());
    for threads in ["1", "3"] {
        let path = folder.path().join("runs/tiny/config.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let at = config.find("  threads: ").unwrap() + 11;
        let changed = format!("{}{threads}{}", &config[..at], &config[at + 1..]);
        std::fs::write(&path, changed).unwrap();
        let said = lvd(folder.path(), &["eval", "runs/tiny", "--verbose"]);
        assert!(said.status.success());
        assert!(text(&said.stderr).contains(&format!("threads of the CPU: {threads}\n")), "{}", text(&said.stderr));
    }
}

/// A change of a model file: its tensors and its metadata.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Tensor)>, &mut BTreeMap<String, String>);

/// Replace the model of a stage, and its hash in the record: what a hash does not tell must be told by the content.
fn replace_model(
    run: &Path,
    stage: &str,
    change: impl FnOnce(&mut Vec<(String, Tensor)>, &mut BTreeMap<String, String>),
) {
    let path = run.join(stage).join("model.safetensors");
    let before = sha256_file(&path).unwrap();
    let saved = checkpoint::load(&path, tch::Device::Cpu).unwrap();
    let (mut tensors, mut metadata) = (saved.tensors.into_iter().collect(), saved.metadata);
    change(&mut tensors, &mut metadata);
    checkpoint::save(&path, &tensors, &metadata).unwrap();
    let record = run.join(stage).join("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains(&before));
    std::fs::write(&record, text.replace(&before, &sha256_file(&path).unwrap())).unwrap();
}

#[test]
fn a_model_that_does_not_fit_is_a_mistake_that_names_file_and_tensor() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--set", "baselines.em_only=null"]).status.success());
    let run = folder.path().join("runs/tiny");
    let path = run.join("joint/model.safetensors");
    let record = run.join("joint/record.json");
    let (kept, kept_record) = (std::fs::read(&path).unwrap(), std::fs::read(&record).unwrap());
    let names: Vec<String> = checkpoint::load(&path, tch::Device::Cpu).unwrap().tensors.into_keys().collect();
    let refused = |told: &str, change: Change| {
        replace_model(&run, "joint", change);
        let said = error(folder.path(), &["eval", "runs/tiny", "--stage", "joint"], 2);
        assert!(
            said.starts_with("lvd: runs/tiny/joint/model.safetensors: is no model of stage joint: "),
            "{told}: {said}"
        );
        assert!(said.contains(told) && said.ends_with("make it again by `lvd run`"), "{told}: {said}");
        std::fs::write(&path, &kept).unwrap();
        std::fs::write(&record, &kept_record).unwrap();
    };
    for name in &names {
        // Without the tree, what is missing is its alternative.
        let told = if name == "prior.parents" { "prior.log_weights" } else { name.as_str() };
        refused(told, &|tensors, _| tensors.retain(|(found, _)| found != name));
    }
    for name in names.iter().filter(|name| *name != "patch.marginals" && *name != "patch.trees") {
        let change = |with: &dyn Fn(&Tensor) -> Tensor| {
            refused(name, &|tensors, _| {
                tensors.iter_mut().filter(|(found, _)| found == name).for_each(|(_, tensor)| *tensor = with(tensor));
            });
        };
        change(&|tensor| tensor.unsqueeze(0));
        if name.contains("edges") || name.contains("inputs") {
            change(&|tensor| tensor.to_kind(Kind::Int));
            change(&|tensor| tensor * f64::NAN);
        }
    }
    refused("tensor ranges of the checkpoint holds other values than pictures have here", &|tensors, _| {
        tensors.iter_mut().filter(|(name, _)| name == "ranges").for_each(|(_, t)| *t = &*t + 1);
    });
    refused("tensor patch.trees of the checkpoint has shape [48], expected [-1, -1]", &|tensors, _| {
        tensors.iter_mut().filter(|(name, _)| name == "patch.trees").for_each(|(_, t)| *t = t.flatten(0, -1));
    });
    refused("metadata 'shape' is missing", &|_, metadata| drop(metadata.remove("shape")));
    refused("metadata shape", &|_, metadata| *metadata.get_mut("shape").unwrap() = "x".to_owned());
    // The model of another stage, with a tree of other variables.
    let other = checkpoint::load(&run.join("pixel_hclt/model.safetensors"), tch::Device::Cpu).unwrap();
    refused("tensor patch.marginals of the checkpoint has shape [1, 64, ", &|tensors, _| {
        *tensors = other.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    });
}

#[test]
fn gaussians_that_do_not_fit_are_mistakes_too() {
    let folder = tiny();
    let family = "patch.family={kind: gaussian, scales: 2, start_examples: 100}";
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--set", family, "--set", "baselines={}"]).status.success());
    let run = folder.path().join("runs/tiny");
    let [model, record] = ["joint/model.safetensors", "joint/record.json"].map(|name| run.join(name));
    let (kept, kept_record) = (std::fs::read(&model).unwrap(), std::fs::read(&record).unwrap());
    let changes: [fn(&Tensor) -> Tensor; 3] = [|t| t.unsqueeze(0), |t| t.to_kind(Kind::Int64), |t| t * f64::NAN];
    for name in ["centre", "covariance", "mean", "shape", "log_weights", "share"].map(|name| format!("patch.{name}")) {
        for change in changes {
            replace_model(&run, "joint", |tensors, _| {
                tensors.iter_mut().filter(|(found, _)| *found == name).for_each(|(_, tensor)| *tensor = change(tensor));
            });
            let said = error(folder.path(), &["eval", "runs/tiny", "--stage", "joint"], 2);
            assert!(
                said.contains("is no model of stage joint: tensor patch.")
                    && said.contains("expected") | said.contains("finite"),
                "{name}: {said}"
            );
            std::fs::write(&model, &kept).unwrap();
            std::fs::write(&record, &kept_record).unwrap();
        }
    }
}

#[test]
fn a_fault_of_libtorch_is_one_line_without_its_stack() {
    let folder = tiny();
    let family = "patch.family={kind: gaussian, scales: 2, start_examples: 100}";
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--set", family, "--set", "baselines={}"]).status.success());
    replace_model(&folder.path().join("runs/tiny"), "joint", |tensors, _| {
        let shapes = tensors.iter_mut().filter(|(name, _)| name == "patch.shape");
        shapes.for_each(|(_, shape)| *shape = -&*shape);
    });
    // In the main thread, and in threads of which each has some of the clusters.
    for threads in ["1", "2"] {
        let config = folder.path().join("runs/tiny/config.yaml");
        let text_of = std::fs::read_to_string(&config).unwrap();
        let at = text_of.find("  threads: ").unwrap() + 11;
        std::fs::write(&config, format!("{}{threads}{}", &text_of[..at], &text_of[at + 1..])).unwrap();
        let output = lvd(folder.path(), &["eval", "runs/tiny", "--stage", "joint"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let faults: Vec<&str> = said.lines().filter(|line| !line.contains("INFO")).collect();
        assert!(faults.iter().all(|line| line.starts_with("lvd: libtorch: linalg.cholesky: ")), "{said}");
        assert_eq!(faults.len(), 1, "{said}");
    }
}

#[test]
fn memory_that_cannot_be_had_is_told_with_the_keys_to_lower() {
    let folder = tiny();
    let run = "lvd run tiny.yaml --set baselines.pixel_hclt.circuit.states=1024";
    let output = shell(folder.path(), &format!("ulimit -v 900000; {run}"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    assert!(last[1].starts_with("lvd: out of memory: ") && last[1].ends_with(" bytes could not be had"), "{said}");
    assert!(last[0].contains("lower compute.micro_batch, patch.family.states or latents.clusters"), "{said}");
    assert!(!said.contains("this is a bug") && !said.contains("frame #"), "{said}");
}
