//! TorchScript modules, good and hostile, through the binary.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use tch::{CModule, Kind, Tensor};

use super::{error, lvd, text, tiny};

fn refused(folder: &Path, module: &str) -> String {
    let started = Instant::now();
    let teacher = format!(
        "teacher={{kind: torchscript, patch: 4, module: {module}, contract: {{method: features, input: {{range: [0, 1]}}}}}}"
    );
    let message = error(folder, &["assign-latents", "tiny.yaml", "--set", &teacher], 2);
    assert!(started.elapsed() < Duration::from_secs(20), "{module}");
    assert!(!message.contains("frame #") && message.lines().count() <= 4, "{message}");
    message
}

/// A traced module whose features are changed at the end.
fn traced(path: &Path, end: &dyn Fn(Tensor) -> Tensor) {
    let pictures = Tensor::rand([2, 1, 8, 8], (Kind::Float, tch::Device::Cpu));
    let mut features = |inputs: &[Tensor]| {
        let patches = inputs[0].reshape([-1, 2, 4, 2, 4]).permute([0, 1, 3, 2, 4]).reshape([-1, 4, 16]);
        vec![end(patches)]
    };
    CModule::create_by_tracing("Odd", "features", &[pictures], &mut features).unwrap().save(path).unwrap();
}

#[test]
fn odd_tensors_and_hostile_files_are_refused_in_a_line() {
    let folder = tiny();
    let at = |name: &str| folder.path().join(name);
    traced(&at("sparse.pt"), &|t| t.to_sparse_sparse_dim(2));
    let sparse = refused(folder.path(), "sparse.pt");
    assert!(
        sparse.contains("sparse.pt") && sparse.contains("gives a sparse or packed tensor, expected a dense one"),
        "{sparse}"
    );
    traced(&at("nan.pt"), &|t| t / 0.0);
    assert!(refused(folder.path(), "nan.pt").contains("finite"));
    traced(&at("complex.pt"), &|t| t.to_kind(Kind::ComplexFloat));
    assert!(refused(folder.path(), "complex.pt").contains("features are ComplexFloat, expected Float"));
    traced(&at("scalar.pt"), &|t| t.sum(Kind::Float));
    assert!(refused(folder.path(), "scalar.pt").contains("expected [B, T, D] or [B, D, h, w], found []"));

    // A packed entry that unpacks to more than code can be.
    traced(&at("good.pt"), &|t| t);
    let mut zip =
        zip::ZipWriter::new_append(std::fs::File::options().read(true).write(true).open(at("good.pt")).unwrap())
            .unwrap();
    let packed = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for part in 0..4 {
        zip.start_file(format!("good/extra/bomb{part}"), packed).unwrap();
        for _ in 0..20 {
            zip.write_all(&vec![0; 1 << 20]).unwrap();
        }
    }
    zip.finish().unwrap();
    let bomb = refused(folder.path(), "good.pt");
    assert!(bomb.contains("with entry \"good/extra/bomb3\" its packed entries unpack to 8"), "{bomb}");

    assert!(std::process::Command::new("mkfifo").arg(at("pipe.pt")).status().unwrap().success());
    assert!(refused(folder.path(), "pipe.pt").contains("no such file: correct teacher.module"));
    std::fs::create_dir(at("folder.pt")).unwrap();
    assert!(refused(folder.path(), "folder.pt").contains("folder.pt"));
    std::fs::write(at("m.onnx"), b"\x08\x07\x12\x07pytorch\x1a\x052.1.0").unwrap();
    assert!(refused(folder.path(), "m.onnx").contains("an ONNX file, expected TorchScript: load it in Python"));
}

#[test]
fn inspection_looks_with_the_modules_own_contract_and_ends_with_two_where_it_is_not_met() {
    let folder = tiny();
    let module =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny").join(name).display().to_string();
    let good = lvd(folder.path(), &["teacher", "inspect", &module("good.pt")]);
    assert!(good.status.success(), "{}{}", text(&good.stdout), text(&good.stderr));
    let undescribed =
        lvd(folder.path(), &["teacher", "inspect", &module("undescribed.pt"), "--size", "8", "--channels", "1"]);
    assert_eq!(undescribed.status.code(), Some(2));
    assert!(!undescribed.stdout.is_empty(), "the report is printed");
    assert!(text(&undescribed.stderr).contains("lvd: the contract is not met: "), "{}", text(&undescribed.stderr));
}

#[test]
fn an_exported_teacher_is_the_same_file_every_time() {
    let folder = tiny();
    let vqvae = "teacher={kind: vqvae, patch: 4, hidden: 4, residual: 2, embedding: 4, codes_bottom: 4, codes_top: 4, decoder: [4], epochs: 1, batch: 32}";
    for teacher in ["teacher={kind: pixel, patch: 4}", vqvae] {
        let exported = |run: &str| {
            let _ = std::fs::remove_dir_all(folder.path().join(run));
            let output = lvd(folder.path(), &["train-teacher", "tiny.yaml", "--set", teacher, "--run-dir", run]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            std::fs::read(folder.path().join(run).join("teacher/teacher.pt")).unwrap()
        };
        assert!(exported("a") == exported("b"), "{teacher}");
    }
}
