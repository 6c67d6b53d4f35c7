//! TorchScript teachers by the binary: inspection, features, runs, and the twin of a teacher that was trained here.

use std::path::Path;

use serde_json::Value;

use super::{error, lvd, text, tiny};

fn module(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny").join(name).display().to_string()
}

fn teacher(name: &str, more: &str) -> String {
    format!("teacher={{kind: torchscript, module: {:?}{more}}}", module(name))
}

fn assignments(folder: &Path, run: &str) -> Vec<u8> {
    std::fs::read(folder.join(run).join("latents/assignments.safetensors")).unwrap()
}

#[test]
fn a_module_teaches_from_its_file_alone() {
    let folder = tiny();
    let own = teacher("good.pt", "");
    let run = ["run", "tiny.yaml", "--set", &own, "--set", "baselines={}", "--run-dir", "run"];
    let output = lvd(folder.path(), &run);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The module says that 17 levels are drawn evenly: log2(17) bits.
    let row = text(&output.stdout).lines().find(|line| line.starts_with("teacher's own")).unwrap().to_owned();
    assert!(row.contains("4.0875"), "{row}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("run/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["weights"]["teacher"].as_str().unwrap().len(), 64);

    // The same from a cache on disk; codes without k-means.
    let cached = teacher("good.pt", ", cache: true");
    assert!(
        lvd(folder.path(), &["assign-latents", "tiny.yaml", "--set", &cached, "--run-dir", "cached"]).status.success()
    );
    assert!(assignments(folder.path(), "run") == assignments(folder.path(), "cached"));
    let codes = teacher("good.pt", ", contract: {method: encode, output: {codes: 3}}");
    let run = lvd(folder.path(), &["assign-latents", "tiny.yaml", "--set", &codes, "--run-dir", "codes"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(!folder.path().join("codes/latents/codebook.safetensors").exists());
    let four = ["assign-latents", "tiny.yaml", "--set", &codes, "--set", "latents.clusters=4", "--run-dir", "four"];
    assert_eq!(
        error(folder.path(), &four, 2),
        "lvd: latents.clusters: expected 3, as many as the teacher's codes, found 4: codes are latents as they are, without \
         k-means"
    );
    let another = teacher("undescribed.pt", ", contract: {method: features, input: {range: [0, 1]}}");
    let another = lvd(folder.path(), &["assign-latents", "tiny.yaml", "--set", &another, "--run-dir", "run"]);
    assert!(another.status.success(), "{}", text(&another.stderr));
    let said = text(&another.stderr);
    assert!(said.contains("teacher.module: ") && said.contains("teacher.sha256: "), "{said}");
    assert!(said.contains("teacher: started") && said.contains("latents: started"), "{said}");
}

#[test]
fn the_twin_of_a_native_teacher_gives_the_same_latents() {
    let folder = tiny();
    let vqvae = "teacher={kind: vqvae, patch: 4, hidden: 8, residual: 4, embedding: 4, codes_bottom: 8, codes_top: 8, \
                 decoder: [8], epochs: 2, batch: 32}";
    for (kind, native) in [("pixel", "teacher={kind: pixel, patch: 4}"), ("vqvae", vqvae)] {
        let twin = format!("{kind}-twin");
        let output = lvd(folder.path(), &["assign-latents", "tiny.yaml", "--set", native, "--run-dir", kind]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let module = format!("teacher={{kind: torchscript, module: {kind}/teacher/teacher.pt}}");
        let output = lvd(folder.path(), &["assign-latents", "tiny.yaml", "--set", &module, "--run-dir", &twin]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(assignments(folder.path(), kind) == assignments(folder.path(), &twin), "{kind}");
    }
}

#[test]
fn features_are_written_as_an_array() {
    let folder = tiny();
    let own = teacher("good.pt", "");
    let arguments = ["teacher", "features", "tiny.yaml", "--set", &own, "--out", "f.npy", "--run-dir", "run"];
    let output = lvd(folder.path(), &arguments);
    assert!(text(&output.stdout).starts_with("f.npy: [96, 4, 2], SHA-256 "), "{}", text(&output.stderr));
    let features: ndarray::Array3<f32> = ndarray_npy::read_npy(folder.path().join("f.npy")).unwrap();
    assert_eq!(features.shape(), [96, 4, 2]);
    // Means of patches of pictures in 0 to 1.
    assert!(features.iter().step_by(2).all(|mean| (0.0..=1.0).contains(mean)));
}

#[test]
fn inspection_says_what_a_module_is_and_where_it_breaks_the_contract() {
    let folder = tiny();
    let inspect = |name: &str, more: &[&str]| {
        let file = module(name);
        let shape = ["teacher", "inspect", &file, "--size", "8", "--channels", "1", "--levels", "17", "--json"];
        let output = lvd(folder.path(), &[&shape[..], more].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let good = inspect("good.pt", &[]);
    assert_eq!(good["meets_contract"], true, "{good}");
    assert_eq!(good["sha256"].as_str().unwrap().len(), 64);
    assert!(good["methods"].as_array().unwrap().len() >= 8, "{good}");
    let raising = inspect("broken.pt", &["--method", "forward"]);
    assert_eq!(raising["meets_contract"], false);
    let human = lvd(folder.path(), &["teacher", "inspect", &module("good.pt"), "--size", "8", "--channels", "1"]);
    assert!(text(&human.stdout).contains("features(x: Tensor) -> Tensor"), "{}", text(&human.stdout));
    let pickle = error(folder.path(), &["teacher", "inspect", &module("pickle.pkl")], 2);
    assert!(pickle.contains("pickle.pkl: a pickle") && pickle.contains("expected TorchScript"), "{pickle}");
}
