//! The run folder as a user meets it: reuse, refusals, checkpoints, crashes and Ctrl-C.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use lvd::refusal::{Interrupted, Refusal};
use lvd::run::{Manifest, RunFolder, checkpoint, fingerprint, interrupt, log, sha256_file};
use proptest::prelude::*;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn config() -> Value {
    json!({
        "seed": u64::MAX, "device": "auto", "threads": null,
        "em": {"epochs": 3, "eta": 1e-6, "decay": f64::from(0.1_f32), "whole": 1.0, "name": "1.0", "layers": [1, 2]},
    })
}

fn refusal_of(error: &anyhow::Error) -> String {
    assert!(error.is::<Refusal>(), "not a refusal: {error:?}");
    error.to_string()
}

fn opened(root: &Path) -> RunFolder {
    let run = RunFolder::open(root).unwrap();
    run.begin(&config(), Manifest::now(Device::Cpu, 7, "lossless"), &[]).unwrap();
    run
}

#[test]
fn the_same_configuration_opens_a_folder_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs/digits");
    drop(opened(&root));
    let again = opened(&root);
    assert_eq!(again.config::<Value>().unwrap(), config());
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(again.path("config.yaml")).unwrap());
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode, std::os::unix::fs::MetadataExt::mode(&fs::metadata(plain).unwrap()), "like any file of the user");
}

#[test]
fn another_configuration_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let run = opened(folder.path());
    let mut other = config();
    other["em"]["epochs"] = json!(5);
    other["em"].as_object_mut().unwrap().remove("name");
    run.begin(&other, Manifest::now(Device::Cpu, 7, "lossless"), &[]).unwrap();
    assert_eq!(run.config::<Value>().unwrap(), other);
}

#[test]
fn foreign_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let text = refusal_of(&RunFolder::open(folder.path()).unwrap_err());
    assert!(
        text.ends_with("is not empty and holds no config.yaml\n  give an empty or new folder by --run-dir"),
        "{text}"
    );
    let text = refusal_of(&RunFolder::read(folder.path()).unwrap_err());
    assert!(text.contains("no run folder (it has no config.yaml)"), "{text}");
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path());
    let text = refusal_of(&RunFolder::open(folder.path()).unwrap_err());
    assert!(text.contains("another process runs in it"), "{text}");
    RunFolder::read(folder.path()).unwrap();
    drop(first);
    RunFolder::open(folder.path()).unwrap();
}

#[test]
fn changed_data_are_refused_where_no_key_explains_them_and_the_first_start_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path()).unwrap();
    let mut config = config();
    config["data"] = json!({"root": "/a"});
    let sources: [(&str, &[&str]); 2] = [("data", &["data"]), ("weights", &["teacher.module"])];
    let mut manifest = Manifest::now(Device::Cpu, 7, "lossless");
    manifest.data.insert("test".into(), "aa".into());
    run.begin(&config, manifest.clone(), &sources).unwrap();
    run.finish().unwrap();
    let mut again = Manifest::now(Device::Cpu, 7, "lossless");
    again.data = manifest.data.clone();
    assert_ne!(again.started, manifest.started);
    config["seed"] = json!(8);
    run.begin(&config, again.clone(), &sources).unwrap();
    let now = run.manifest().unwrap();
    assert_eq!(now.started, manifest.started, "the first start is kept");
    assert!(now.finished.is_some(), "finished until a stage is done again");
    run.reopen().unwrap();
    assert_eq!(run.manifest().unwrap(), manifest);
    again.data.insert("test".into(), "bb".into());
    config["em"]["epochs"] = json!(9);
    let text = refusal_of(&run.begin(&config, again.clone(), &sources).unwrap_err());
    assert!(text.contains("\n  data.test: aa -> bb\n"), "{text}");
    assert_eq!(run.config::<Value>().unwrap()["em"]["epochs"], 3, "nothing is changed by what is refused");
    // Another root of the data says why they are others; a key that merely begins alike does not.
    config["database"] = json!(1);
    assert!(run.begin(&config, again.clone(), &sources).is_err());
    config["data"]["root"] = json!("/b");
    run.begin(&config, again, &sources).unwrap();
}

#[test]
fn a_stage_is_reused_only_with_the_same_inputs_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path()).unwrap();
    let stage = run.stage("latents");
    let print = fingerprint(&config()["em"]).unwrap();
    assert!(!stage.is_done(&print).unwrap());
    assert!(!stage.begin(&print).unwrap());
    fs::write(stage.path("codebook"), "abc").unwrap();
    fs::write(stage.partial(), "state").unwrap();
    stage.finish(&print, json!({"inertia": 2.5})).unwrap();
    assert!(!stage.partial().exists());
    assert!(stage.is_done(&print).unwrap());
    assert!(!stage.is_done(&fingerprint(&config()).unwrap()).unwrap());
    let record = stage.record().unwrap().unwrap();
    assert_eq!(record.summary, json!({"inertia": 2.5}));
    assert_eq!(record.files, BTreeMap::from([("codebook".into(), sha256_file(&stage.path("codebook")).unwrap())]));
    fs::write(stage.path("codebook"), "abd").unwrap();
    assert!(!stage.is_done(&print).unwrap(), "a changed file");
    fs::remove_file(stage.path("codebook")).unwrap();
    assert!(!stage.is_done(&print).unwrap(), "a missing file");
}

#[test]
fn unfinished_work_is_taken_up_only_with_the_same_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let stage = RunFolder::open(folder.path()).unwrap().stage("em");
    assert!(!stage.begin("one").unwrap());
    fs::write(stage.partial(), "state").unwrap();
    assert!(stage.begin("one").unwrap(), "goes on");
    assert!(!stage.begin("two").unwrap(), "other inputs: from the start");
    fs::write(stage.partial(), "state").unwrap();
    stage.finish("two", Value::Null).unwrap();
    fs::write(stage.path("extra"), "").unwrap();
    assert!(!stage.begin("two").unwrap(), "done once: from the start");
    assert!(!stage.path("extra").exists());
}

fn every_kind() -> Vec<(String, Tensor)> {
    let counted = Tensor::arange(6, (Kind::Int64, Device::Cpu)).reshape([2, 3]);
    let kinds = [Kind::Float, Kind::Double, Kind::Int64, Kind::Int, Kind::Int16, Kind::Uint8];
    let mut tensors: Vec<_> = kinds.iter().map(|&kind| (format!("{kind:?}"), counted.to_kind(kind))).collect();
    tensors.push(("transposed".into(), counted.to_kind(Kind::Float).transpose(0, 1)));
    tensors.push(("scalar".into(), Tensor::from(1.5)));
    tensors.push(("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))));
    tensors
}

#[test]
fn every_kind_and_layout_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let metadata =
        BTreeMap::from([("step".to_owned(), "3".to_owned()), ("grüße".to_owned(), "\"\n\u{1F600}".to_owned())]);
    checkpoint::save(&path, &every_kind(), &metadata).unwrap();
    let loaded = checkpoint::load(&path, Device::Cpu).unwrap();
    assert_eq!(loaded.metadata, metadata);
    assert_eq!(loaded.entry("step").unwrap(), "3");
    for (name, tensor) in every_kind() {
        let back = loaded.named().tensor(&name, &tensor.size()).unwrap();
        assert_eq!((back.kind(), back.equal(&tensor)), (tensor.kind(), true), "{name}");
    }
    let hash = sha256_file(&path).unwrap();
    checkpoint::save(&path, &every_kind(), &metadata).unwrap();
    assert_eq!(sha256_file(&path).unwrap(), hash, "the same content is the same bytes");
}

#[test]
fn wrong_checkpoints_are_refused_with_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let tensors =
        [("w.a".to_owned(), Tensor::from_slice(&[1.0f32, f32::NAN])), ("w.b".to_owned(), Tensor::from_slice(&[1i64]))];
    checkpoint::save(&path, &tensors, &BTreeMap::new()).unwrap();
    let file = path.display();
    let refused = |name: &str, shape: &[i64]| {
        refusal_of(&checkpoint::load(&path, Device::Cpu).unwrap().named().under("w").tensor(name, shape).unwrap_err())
    };
    assert_eq!(refused("a", &[2]), "tensor w.a of the checkpoint is not finite");
    assert_eq!(refused("a", &[1, 2]), "tensor w.a of the checkpoint has shape [2], expected [1, 2]");
    assert_eq!(refused("c", &[1]), "tensor w.c is missing from the checkpoint");
    let text = refusal_of(&checkpoint::load(&path, Device::Cpu).unwrap().entry("step").map(drop).unwrap_err());
    assert_eq!(text, format!("{file}: metadata 'step' is missing"));
    let twice = [("a".to_owned(), Tensor::from(1.0)), ("a".to_owned(), Tensor::from(2.0))];
    assert!(checkpoint::save(&path, &twice, &BTreeMap::new()).is_err());
    let flags = [("mask".to_owned(), Tensor::from_slice(&[true]))];
    let error = format!("{:#}", checkpoint::save(&path, &flags, &BTreeMap::new()).unwrap_err());
    assert_eq!(error, format!("{file}: tensor 'mask': kind Bool cannot be saved"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_checkpoint_cut_off_anywhere_is_refused(share in 0.0..1.0f64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        checkpoint::save(&path, &every_kind(), &BTreeMap::new()).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
        let text = refusal_of(&checkpoint::load(&path, Device::Cpu).unwrap_err());
        prop_assert!(text.starts_with(&format!("{}: not a complete safetensors file (", path.display())), "{}", text);
    }
}

#[test]
fn the_log_holds_what_was_said_before_the_folder_was_known() {
    let folder = tempfile::tempdir().unwrap();
    log::init(tracing_subscriber::filter::LevelFilter::INFO);
    tracing::info!("before");
    let run = RunFolder::open(folder.path()).unwrap();
    run.open_log().unwrap();
    tracing::info!("after");
    let text = fs::read_to_string(run.path("log.txt")).unwrap();
    let (before, after) = (text.find("before").unwrap(), text.find("after").unwrap());
    assert!(before < after, "{text}");
}

/// Not a test of its own: the process that the next one interrupts.
#[test]
#[ignore = "started by ctrl_c_stops_after_a_step_and_at_once_when_repeated"]
fn interrupted_process() {
    let Ok(stubborn) = std::env::var("LVD_TEST_STUBBORN") else { return };
    interrupt::install().unwrap();
    interrupt::check().unwrap();
    eprintln!("ready");
    while !interrupt::requested() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(interrupt::check().unwrap_err().is::<Interrupted>());
    eprintln!("stopping");
    if stubborn == "yes" {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    std::process::exit(7);
}

fn interrupt_until_it_ends(stubborn: &str) -> Option<i32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "interrupted_process", "--ignored", "--nocapture"])
        .env("LVD_TEST_STUBBORN", stubborn)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready" || (line == "stopping" && stubborn == "yes") {
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        }
    }
    child.wait().unwrap().code()
}

#[test]
fn ctrl_c_stops_after_a_step_and_at_once_when_repeated() {
    assert_eq!(interrupt_until_it_ends("no"), Some(7), "the process goes on to its own end");
    assert_eq!(interrupt_until_it_ends("yes"), Some(130), "the second time it does not");
}

#[test]
fn broken_files_of_a_run_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path()).unwrap();
    let broken = |path: &Path| fs::write(path, "{").unwrap();
    assert!(refusal_of(&run.manifest().unwrap_err()).contains("manifest.json: cannot be read: No such file"));
    broken(&run.path("manifest.json"));
    assert!(refusal_of(&run.manifest().unwrap_err()).contains("manifest.json: no manifest: EOF while parsing"));
    let stage = run.stage("em");
    stage.begin("").unwrap();
    broken(&stage.path("record.json"));
    assert!(refusal_of(&stage.is_done("").unwrap_err()).contains("em/record.json: no stage record: EOF while parsing"));
}
