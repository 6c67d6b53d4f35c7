//! TorchScript teachers: what a good module gives, by hand, and every way in which a module or its file can be wrong.
//!
//! The modules are in weights/tiny, with the script that made them; `just weights-check` compares their hashes.

mod export;
mod hostile;
mod output;

use std::path::{Path, PathBuf};

use lvd::data::pictures::PictureShape;
use lvd::refusal::Refusal;
use lvd::teacher::{Teacher, TorchScript, TorchScriptConfig};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

const SHAPE: PictureShape = PictureShape { height: 8, width: 8, channels: 1, levels: 17 };

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny").join(name)
}

/// A teacher of patches of 4 x 4 by this contract, as YAML.
fn open(file: &Path, contract: &str) -> anyhow::Result<TorchScript> {
    let yaml = format!("{{module: {:?}, contract: {contract}}}", file.display().to_string());
    let config: TorchScriptConfig = serde_yaml::from_str(&yaml).unwrap();
    TorchScript::open(&config, SHAPE, Device::Cpu)
}

/// What is said of a module, without the folders of its path.
fn refused(file: &Path, contract: &str) -> String {
    let error = open(file, contract).err().expect("a refusal");
    assert!(error.is::<Refusal>(), "{error:#}");
    let folder = format!("{}/", file.parent().unwrap().display());
    format!("{error:#}").replace(&folder, "")
}

/// What is said of a method of broken.pt.
fn broken(method: &str) -> String {
    refused(&tiny("broken.pt"), &format!("{{method: {method}, input: {{range: [0, 1]}}}}"))
}

/// Two pictures; value of row r, column c: (r + 2 c + 3 picture) mod 17.
fn pixels() -> Tensor {
    let bytes: Vec<u8> = (0..128).map(|i| ((i / 8 % 8 + 2 * (i % 8) + 3 * (i / 64)) % 17) as u8).collect();
    Tensor::from_slice(&bytes).reshape([2, 8, 8, 1])
}

/// Mean, and left half less right half, of each patch of the pictures in 0 to 1, by hand.
fn by_hand() -> Vec<[f64; 2]> {
    let value = |picture: i64, r: i64, c: i64| pixels().int64_value(&[picture, r, c, 0]) as f64 / 16.0;
    let mut patches = Vec::new();
    for (picture, top, left) in (0..2).flat_map(|p| [0, 4].map(|t| [0, 4].map(|l| (p, t, l)))).flatten() {
        let mean = |columns: std::ops::Range<i64>| {
            let count = 4.0 * columns.clone().count() as f64;
            (0..4).flat_map(|r| columns.clone().map(move |c| value(picture, top + r, left + c))).sum::<f64>() / count
        };
        patches.push([mean(0..4), mean(0..2) - mean(2..4)]);
    }
    patches
}

fn rows(features: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(features.flatten(0, 1).to_kind(Kind::Double)).unwrap()
}

fn assert_by_hand(features: &Tensor) {
    assert_eq!(features.size(), [2, 4, 2]);
    for (found, expected) in rows(features).iter().zip(by_hand()) {
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{found:?} {expected:?}");
    }
}

#[test]
fn features_are_those_by_hand_in_every_form_of_output() {
    let forms = [
        "{}", // the module's own contract
        "{method: forward, output: {entry: map}}",
        "{method: pair, output: {entry: 1}}",
        "{method: tokens, output: {skip: 1}}",
        "{method: dropped}", // saved in training mode, run in evaluation mode
    ];
    for contract in forms {
        let teacher = open(&tiny("good.pt"), contract).unwrap();
        assert_eq!((teacher.grid(), teacher.width(), teacher.code_count()), ((2, 2), Some(2), None));
        assert_by_hand(&teacher.features(&pixels()).unwrap());
    }
    let stated = "{method: features, input: {mean: [0], std: [1], channels: 1}}";
    assert_by_hand(&open(&tiny("undescribed.pt"), stated).unwrap().features(&pixels()).unwrap());
    // Twice as large by repeating pixels, pooled back: the same means; differences only where sides agree.
    let large = "{input: {size: [16, 16], resize: nearest}, output: {pool: mean}}";
    let found = open(&tiny("good.pt"), large).unwrap().features(&pixels()).unwrap();
    for (found, expected) in rows(&found).iter().zip(by_hand()) {
        assert!((found[0] - expected[0]).abs() < 1e-6);
    }
}

#[test]
fn finer_grids_are_pooled_by_rule_and_never_silently() {
    let fine = |pool: &str| open(&tiny("good.pt"), &format!("{{method: fine, output: {{{pool}}}}}"));
    let mean = fine("pool: mean").unwrap().features(&pixels()).unwrap();
    for (found, expected) in rows(&mean).iter().zip(by_hand()) {
        assert!((found[0] - expected[0]).abs() < 1e-6);
    }
    assert_eq!(fine("pool: concat").unwrap().features(&pixels()).unwrap().size(), [2, 4, 8]);
    assert_eq!(fine("pool: max").unwrap().features(&pixels()).unwrap().size(), [2, 4, 2]);
    assert_eq!(
        fine("").err().unwrap().to_string().rsplit_once("fine: ").unwrap().1,
        "gives a grid of 4 x 4 for 2 x 2 patches: state how its cells make a patch by contract.output.pool (mean, max or \
         concat)"
    );
}

#[test]
fn codes_are_given_as_they_are() {
    let teacher = open(&tiny("good.pt"), "{method: encode, output: {codes: 3}}").unwrap();
    assert_eq!((teacher.code_count(), teacher.width()), (Some(3), None));
    let codes = teacher.features(&pixels()).unwrap();
    let expected: Vec<i64> = by_hand().iter().map(|[mean, _]| ((mean * 3.0) as i64).clamp(0, 2)).collect();
    assert_eq!((codes.size(), Vec::<i64>::try_from(codes.flatten(0, -1)).unwrap()), (vec![2, 4], expected));
}

#[test]
fn a_log_likelihood_becomes_the_teachers_own_bound() {
    let bound = open(&tiny("good.pt"), "{}").unwrap().bound(&pixels()).unwrap().unwrap().total();
    let found = Vec::<f64>::try_from(bound).unwrap();
    assert!(found.iter().all(|nats| (nats - 64.0 * 17f64.ln()).abs() < 1e-4), "{found:?}");
    assert!(open(&tiny("broken.pt"), "{method: named, input: {range: [0, 1]}, output: {entry: tokens}}").is_ok());
}

// The file

#[test]
fn a_missing_file_or_a_folder() {
    let config =
        |module: &str| TorchScriptConfig { module: module.into(), ..serde_yaml::from_str("{module: x}").unwrap() };
    let message = config("nowhere.pt").pinned().unwrap_err().to_string();
    assert_eq!(message, "nowhere.pt: no such file: correct teacher.module");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module");
    std::fs::create_dir(&path).unwrap();
    assert_eq!(refused(&path, "{}"), "module: is a folder, expected a TorchScript file");
    let other = TorchScriptConfig { sha256: Some("00ff".into()), ..config(tiny("good.pt").to_str().unwrap()) };
    let message = other.pinned().unwrap_err().to_string();
    assert!(message.ends_with("expected 00ff as in teacher.sha256: fetch the right file or correct it"), "{message}");
}

const EXPORT: &str = "expected TorchScript: load it in Python and write torch.jit.script(model).save(PATH), see experiments/teachers, or write its features to a .npy file for teacher.kind: features";

#[test]
fn a_pickle() {
    let found = "pickle.pkl: a pickle (a model or state_dict saved by pickle or an old torch.save)";
    assert_eq!(refused(&tiny("pickle.pkl"), "{}"), format!("{found}, {EXPORT}"));
}

#[test]
fn a_state_dict() {
    let found = "state_dict.pt: a state_dict or model saved by torch.save, which holds tensors and no code";
    assert_eq!(refused(&tiny("state_dict.pt"), "{}"), format!("{found}, {EXPORT}"));
}

/// A file of this content in a folder of its own.
fn written(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn a_safetensors_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    Tensor::write_safetensors(&[("w", Tensor::zeros([2], (Kind::Float, Device::Cpu)))], &path).unwrap();
    let found = "x.safetensors: a safetensors file, which holds tensors and no code";
    assert_eq!(refused(&path, "{}"), format!("{found}, {EXPORT}"));
}

#[test]
fn a_truncated_archive() {
    let whole = std::fs::read(tiny("good.pt")).unwrap();
    let (_folder, path) = written("cut.pt", &whole[..whole.len() / 2]);
    let message = refused(&path, "{}");
    let start = format!("cut.pt: a truncated or damaged archive ({} bytes: ", whole.len() / 2);
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with("), expected TorchScript: copy or fetch it again"), "{message}");
}

#[test]
fn other_files() {
    let (_folder, path) = written("note.txt", b"hello");
    assert_eq!(refused(&path, "{}"), format!("note.txt: not TorchScript, {EXPORT}"));
    let (_folder, path) = written("empty.pt", b"");
    assert!(refused(&path, "{}").contains("empty"));
}

// The method

#[test]
fn no_such_method() {
    assert_eq!(
        refused(&tiny("good.pt"), "{method: embed}"),
        "good.pt, method embed: no method `embed`, found dropped, encode, features, fine, forward, log_likelihood, pair, \
         tokens: choose one of them by contract.method"
    );
}

#[test]
fn a_method_that_wants_other_arguments() {
    assert_eq!(
        broken("two_arguments"),
        "broken.pt, method two_arguments: wants other arguments: expected two_arguments(x: Tensor), found \
         two_arguments(x: Tensor, mask: Tensor) -> Tensor: export a method of pictures alone"
    );
    assert_eq!(
        broken("number"),
        "broken.pt, method number: wants other arguments: expected number(x: Tensor), found number(x: int) -> int: export \
         a method of pictures alone"
    );
}

#[test]
fn a_module_that_raises() {
    assert_eq!(
        broken("forward"),
        "broken.pt, method forward: raised on pictures [2, 1, 8, 8]: ValueError: pictures of a cat are expected"
    );
}

#[test]
fn a_module_that_runs_on_cuda_on_a_machine_without() {
    let message = broken("on_the_gpu");
    let start = "broken.pt, method on_the_gpu: its code runs on CUDA, and this run computes on the CPU (";
    assert!(message.starts_with(start), "{message}");
    let end = "): trace or script it on the CPU without naming a device, or use --device cuda";
    assert!(message.ends_with(end) && !message.contains('\n'), "{message}");
    // Weights that were saved on a GPU are no hindrance.
    let teacher = open(&tiny("cuda.pt"), "{}").unwrap();
    assert_by_hand(&teacher.features(&pixels()).unwrap());
}

// The contract

#[test]
fn values_that_nobody_stated() {
    assert_eq!(
        refused(&tiny("undescribed.pt"), "{method: features}"),
        "undescribed.pt: input: its values are not stated: give contract.input.range, or mean and std, in the experiment or \
         the module's lvd.json"
    );
}

#[test]
fn a_contract_that_contradicts_itself_is_told_at_once() {
    let contract =
        "{input: {range: [1, 0], mean: [0, 0], resize: bilinear, channels: 2}, output: {codes: 0, pool: mean}}";
    assert_eq!(
        refused(&tiny("good.pt"), contract),
        "good.pt with the experiment's contract: 8 problems\n  \
         contract.input.range: expected [low, high] with low < high, found Some([1.0, 0.0])\n  \
         contract.input: expected either range, or mean and std, found both\n  \
         contract.input: expected mean and std together, found one\n  \
         contract.input.mean: expected 1 or 3 numbers, found Some([0.0, 0.0])\n  \
         contract.input.resize: needs input.size, the size that the module wants\n  \
         contract.input.channels: expected 1 or 3, found Some(2)\n  \
         contract.output.codes: expected 1 to 65536, found 0\n  \
         contract.output.pool: codes cannot be pooled: export codes of the circuit's grid"
    );
}

#[test]
fn the_modules_of_this_repository_are_those_of_their_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let list = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let listed: Vec<(&str, &str)> = list.lines().map(|line| line.split_once("  ").unwrap()).collect();
    for (hash, name) in &listed {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), *hash, "{name}");
        assert!(bytes.len() < 100_000, "{name}: {} bytes", bytes.len());
    }
    // Modules that a user's recipes leave beside them are not ours to list.
    let tracked = walkdir::WalkDir::new(folder.join("tiny"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|f| f.file_type().is_file());
    for file in tracked.filter(|f| f.path().extension().is_some_and(|e| e == "pt" || e == "pkl")) {
        let name = file.path().strip_prefix(&folder).unwrap().display().to_string();
        assert!(listed.iter().any(|(_, listed)| *listed == name), "{name} is not in SHA256SUMS");
    }
}
