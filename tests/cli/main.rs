//! The binary end to end, on tiny data in a temporary folder.

mod codec;
mod config;
mod draft;
mod durability;
mod growing;
mod modules;
mod pictures;
mod process;
mod query;
mod report;
mod signals;
mod stages;
mod sweep;
mod taken;
mod teacher;

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

const TINY: &str = "
name: tiny
seed: 3
color: grey
data: {format: embedded, train_limit: 96}
patch: {size: 4, family: {kind: hclt, states: 2, start_examples: 100}}
teacher: {kind: pixel, patch: 4}
latents: {clusters: 3}
distill:
  hard: {epochs: 1, batch: 0, step: {kind: constant, eta: 1.0}}
  soft: {epochs: 2, batch: 32}
  tree: {em: {epochs: 1, batch: 32}}
  joint: {epochs: 2, batch: 32}
baselines:
  em_only: {epochs: 1, batch: 32}
  pixel_hclt: {circuit: {states: 2}, em: {epochs: 1, batch: 32}, micro_batch: 32}
compute: {micro_batch: 32, watched: 50, threads: 1}
";

fn lvd(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("lvd").unwrap();
    command.current_dir(folder).args(arguments).env_remove("LVD_DATA").env_remove("RUST_LOG").output().unwrap()
}

fn tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.yaml"), TINY).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn error(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = lvd(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let errors = text(&output.stderr);
    let start = errors.find("lvd: ").unwrap_or_else(|| panic!("no error line in {errors}"));
    errors[start..].trim_end().to_owned()
}

#[test]
fn a_run_evaluates_itself_and_is_reused() {
    let folder = tiny();
    let output = lvd(folder.path(), &["run", "tiny.yaml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for row in ["patch circuits", "+ soft EM", "+ latent tree (LVD)", "LVD + joint", "EM only", "HCLT over pixels"] {
        assert!(table.contains(row), "{table}");
    }

    let again = lvd(folder.path(), &["run", "tiny.yaml"]);
    let said = text(&again.stderr);
    assert!(
        said.contains("done before, reused: teacher, latents, hard, soft, tree, joint, em_only, pixel_hclt"),
        "{said}"
    );
    assert!(text(&output.stderr).contains("hard 1/1  valid "), "{}", text(&output.stderr));
    let quiet = lvd(folder.path(), &["run", "tiny.yaml", "--quiet", "--set", "distill.joint.epochs=2"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{}", text(&quiet.stderr));
    lvd(folder.path(), &["run", "tiny.yaml", "--quiet"]);
    assert_eq!(rows(&table), rows(&text(&again.stdout)));

    eval_agrees(folder.path());
}

/// Lines of numbers of a table.
fn rows(table: &str) -> Vec<&str> {
    table.lines().filter(|line| line.contains("EM") || line.contains("tree")).collect()
}

fn eval_agrees(folder: &Path) {
    let output = lvd(folder, &["eval", "runs/tiny", "--json", "--per-image", "nats.npy"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results: Value =
        serde_json::from_slice(&std::fs::read(folder.join("runs/tiny/results.json")).unwrap()).unwrap();
    let joint = results.as_array().unwrap().iter().find(|row| row["stage"] == "joint").unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&report["bits_per_dimension"]) - number(&joint["bits_per_dimension"])).abs() < 1e-9);
    assert_eq!(report["num_images"], 300);
    assert_eq!(report["num_dimensions"], 64);
    for key in ["standard_error", "nats_latent", "nats_conditional", "elapsed_s"] {
        assert!(report[key].is_f64(), "{key}: {report}");
    }
    for (key, expected) in [("protocol", "lossless"), ("color_space", "grey"), ("split", "test"), ("device", "cpu")] {
        assert_eq!(report[key], expected);
    }
    let nats: ndarray::Array1<f64> = ndarray_npy::read_npy(folder.join("nats.npy")).unwrap();
    assert_eq!(nats.len(), 300);
    let bits = -nats.mean().unwrap() / (64.0 * std::f64::consts::LN_2);
    assert!((bits - number(&report["bits_per_dimension"])).abs() < 1e-9);
    let message = error(folder, &["eval", "runs/tiny", "--protocol", "paper"], 2);
    assert!(message.contains("its model counts bits under protocol lossless, you ask for paper"), "{message}");
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_result() {
    let folder = tiny();
    let whole = lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "whole"]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    // Stage by stage in separate processes, and one of them stopped by a signal as soon as it may have begun.
    lvd(folder.path(), &["assign-latents", "tiny.yaml", "--run-dir", "parts"]);
    for wait in [200, 400, 700] {
        let binary = assert_cmd::cargo::cargo_bin("lvd");
        let mut child = std::process::Command::new(binary)
            .current_dir(folder.path())
            .args(["distill", "tiny.yaml", "--run-dir", "parts"])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        let _ = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        let code = child.wait().unwrap().code();
        assert!(code.is_none() || matches!(code, Some(0 | 130)), "{code:?}");
    }
    let parts = lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "parts"]);
    assert!(parts.status.success(), "{}", text(&parts.stderr));
    let results = |name: &str| -> Vec<f64> {
        let path = folder.path().join(name).join("results.json");
        let rows: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        rows.as_array().unwrap().iter().map(|row| row["bits_per_dimension"].as_f64().unwrap()).collect()
    };
    assert_eq!(results("whole"), results("parts"));
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    let folder = tiny();
    let arguments = ["plan", "tiny.yaml", "--set", "em=1", "--set", "latents.clusters=many"];
    let message = error(folder.path(), &arguments, 2);
    assert!(message.starts_with("lvd: tiny.yaml: 2 problems"), "{message}");
    assert!(
        message.contains("latents.clusters: expected an integer, found \"many\"")
            && message.contains("there is no key 'em'"),
        "{message}"
    );
    let arguments = ["plan", "tiny.yaml", "--set", "distill.soft.batch=33", "--set", "teacher.patch=2"];
    assert_eq!(
        error(folder.path(), &arguments, 2),
        "lvd: tiny.yaml: 2 problems\n  teacher.patch: expected 4 as in patch.size, found 2\n  distill.soft.batch: \
         expected a multiple of the micro-batch of 32 pictures, found 33"
    );
}

#[test]
fn mistakes_name_the_thing_and_end_with_code_two() {
    let folder = tiny();
    let clusters = error(folder.path(), &["assign-latents", "tiny.yaml", "--set", "latents.clusters=1000"], 2);
    assert!(clusters.contains("1000 clusters") && clusters.contains("384"), "{clusters}");
    let patch = ["run", "tiny.yaml", "--set", "patch.size=3", "--set", "teacher.patch=3"];
    let patch = error(folder.path(), &patch, 2);
    assert!(patch.contains('8') && patch.contains('3'), "{patch}");
    assert!(error(folder.path(), &["run", "missing.yaml"], 2).starts_with("lvd: missing.yaml: cannot be read"));
    assert!(error(folder.path(), &["eval", "nowhere"], 2).starts_with("lvd: nowhere: no run folder"));
    let color = error(folder.path(), &["plan", "tiny.yaml", "--set", "color=ycbcr_bt709"], 2);
    assert!(color.contains("color: protocol lossless expects a bijective one"), "{color}");
    if !Path::new("/dev/nvidiactl").exists() {
        let device = error(folder.path(), &["run", "tiny.yaml", "--device", "cuda:0"], 2);
        assert!(device.starts_with("lvd: device cuda:0: "), "{device}");
    }
}

#[test]
fn plan_writes_nothing_and_the_schema_describes_every_key() {
    let folder = tiny();
    let plan = lvd(folder.path(), &["plan", "tiny.yaml"]);
    assert!(text(&plan.stdout).contains("96 training, 200 validation, 300 test"), "{}", text(&plan.stdout));
    assert!(!folder.path().join("runs").exists());
    let schema: Value = serde_json::from_slice(&lvd(folder.path(), &["schema"]).stdout).unwrap();
    for key in ["name", "seed", "protocol", "color", "data", "patch", "teacher", "latents", "distill", "baselines"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    assert!(text(&lvd(folder.path(), &["completions", "bash"]).stdout).contains("train-teacher"));
}

#[test]
fn every_experiment_of_the_project_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = walkdir::WalkDir::new(root).into_iter().filter_map(Result::ok);
    let files: Vec<_> = files.filter(|f| f.path().extension().is_some_and(|e| e == "yaml")).collect();
    assert!(files.len() >= 5);
    for file in files {
        lvd::experiment::read::read(file.path(), &[]).unwrap_or_else(|e| panic!("{}: {e}", file.path().display()));
    }
}

/// The tiny experiment with Gaussians of whole pictures' halves, shifts and mirrors, and one more line.
fn gaussian(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let family = "{kind: gaussian, scales: 3, start_examples: 100}";
    let yaml = TINY.replace("{kind: hclt, states: 2, start_examples: 100}", family);
    let yaml = yaml.replace("  soft:", "  augment: {shifts: true, mirrors: true}\n  soft:");
    std::fs::write(folder.path().join("tiny.yaml"), format!("{yaml}{more}")).unwrap();
    folder
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = lvd(folder, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn gaussians_have_two_readings_and_marginals_of_one() {
    let folder = gaussian("");
    let output = lvd(folder.path(), &["run", "tiny.yaml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("density") && table.contains("ordered") && table.contains("exact"), "{table}");

    let eval = |more: &[&str]| json(folder.path(), &[&["eval", "runs/tiny", "--json"], more].concat());
    let bits = |report: &Value| report["bits_per_dimension"].as_f64().unwrap();
    let density = eval(&["--draws", "4"]);
    assert_eq!((&density["reading"], &density["draws"]), (&Value::from("density"), &Value::from(4)));
    assert!(density["importance_bits_per_dimension"].as_f64().unwrap() < bits(&density));
    assert_eq!(density["bits_per_dimension"], eval(&["--draws", "4"])["bits_per_dimension"]);
    let ordered = eval(&["--reading", "ordered"]);
    assert!(bits(&ordered) < bits(&density), "{ordered} {density}");
    let draws = error(folder.path(), &["eval", "runs/tiny", "--reading", "ordered", "--draws", "4"], 2);
    assert_eq!(draws, "lvd: --draws 4: only the density reading draws noise, this is the ordered one");

    let top = eval(&["--observed", "top"]);
    assert_eq!(top["num_dimensions"], 32);
    assert!(bits(&top).is_finite());
    let refused = error(folder.path(), &["eval", "runs/tiny", "--observed", "chessboard", "--reading", "ordered"], 2);
    assert!(
        refused.starts_with(
            "lvd: the ordered reading of Gaussians has exact marginals of whole patches only: its sums run over all"
        ),
        "{refused}"
    );
    let exact = error(folder.path(), &["eval", "runs/tiny", "--reading", "exact"], 2);
    assert_eq!(exact, "lvd: this model has no reading exact; it has: density, ordered");
    // Circuits over integers have exact marginals of pixels too: the less is observed, the fewer nats.
    let pixels = |observed| eval(&["--stage", "pixel_hclt", "--observed", observed])["nats_mean"].as_f64().unwrap();
    assert!(pixels("top") < pixels("all") && pixels("chessboard") < pixels("all"));
}

#[test]
fn a_lapped_transform_has_the_readings_that_it_allows() {
    let folder = gaussian("transform: cdf53\n");
    assert!(lvd(folder.path(), &["run", "tiny.yaml"]).status.success());
    let ordered = error(folder.path(), &["eval", "runs/tiny", "--reading", "ordered"], 2);
    assert_eq!(
        ordered,
        "lvd: reading ordered needs integers, and transform cdf53 makes none\n  train with transform: cdf53_integer"
    );
    let marginal = error(folder.path(), &["eval", "runs/tiny", "--observed", "left"], 2);
    assert!(
        marginal.starts_with("lvd: marginals of pixels are not exact here: the model is one of wavelet"),
        "{marginal}"
    );

    let folder = gaussian("transform: cdf53_integer\n");
    let output = lvd(folder.path(), &["run", "tiny.yaml"]);
    assert!(text(&output.stdout).contains("ordered"), "{}", text(&output.stderr));
    // The reversible form serves circuits over integers as well.
    let folder = tiny();
    let output = lvd(folder.path(), &["run", "tiny.yaml", "--set", "transform=cdf53_integer"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_does_not_go_with_gaussians_is_told_before_anything_runs() {
    let folder = gaussian("");
    let plan = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        error(folder.path(), &["plan", "tiny.yaml"].into_iter().chain(sets).collect::<Vec<_>>(), 2)
    };
    let zero = plan(&["patch.family.prior_strength=0", "patch.family.floor=0"]);
    let expected = "patch.family.prior_strength: expected more than 0 where floor is 0: the covariance of a cluster may be singular";
    assert!(zero.contains(expected), "{zero}");
    let splitting = plan(&["patch.family.start=splitting"]);
    assert!(
        splitting.contains("distill.hard.epochs: expected 0 where patch.family.start is splitting, found 1"),
        "{splitting}"
    );
    let size = plan(&["patch.size=3", "teacher.patch=3"]);
    assert!(size.contains("a region of 8x8 pixels cannot be cut into patches of 3x3"), "{size}");
    let odd = plan(&["transform=cdf53", "patch.size=1", "teacher.patch=1"]);
    assert_eq!(odd, "lvd: transform: expected a patch size that is a power of two, found 1");
    let rule = plan(&["distill.joint.rule.kind=average"]);
    assert!(rule.contains("distill.joint.rule: expected kind decayed"), "{rule}");
    let apart = plan(&["patch.family.scale_groups=luma_chroma"]);
    assert!(apart.contains("patch.family.scale_groups: expected one: this color does not keep luma"), "{apart}");
    let cache = plan(&["distill.tree.cache=true", "distill.augment.mirrors=true"]);
    assert!(cache.contains("distill.tree.cache: expected false where patch.family.kind is gaussian"), "{cache}");
    assert!(cache.contains("distill.tree.cache: expected false where distill.augment changes pictures"), "{cache}");
    let family = error(tiny().path(), &["plan", "tiny.yaml", "--set", "transform=cdf53"], 2);
    assert!(family.contains("transform: expected none or cdf53_integer for circuits over integers"), "{family}");
}

#[test]
fn help_stays_as_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("help", text(&lvd(folder.path(), &["--help"]).stdout));
    insta::assert_snapshot!("help_eval", text(&lvd(folder.path(), &["eval", "-h"]).stdout));
    for command in [
        "new",
        "sweep",
        "compare",
        "compress",
        "decompress",
        "codec-info",
        "sample",
        "inpaint",
        "score",
        "latents",
        "explain",
        "ask",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), text(&lvd(folder.path(), &[command, "-h"]).stdout));
    }
}

#[test]
fn pictures_of_the_program_are_no_file_of_the_user() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--set", "baselines={}"]).status.success());
    let told = error(folder.path(), &["eval", "runs/tiny", "--data", "none.npy", "--format", "embedded"], 2);
    assert!(told.contains("none.npy: pictures of this --format are part of the program"), "{told}");
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let told = error(folder.path(), &["run", "tiny.yaml", "--run-dir", "file"], 2);
    assert!(told.contains("file: is no folder"), "{told}");
}
