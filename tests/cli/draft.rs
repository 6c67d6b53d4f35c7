//! `lvd new`, names of experiments, features from a file.

use ndarray::{Array2, Array3, Array4};
use tch::{Kind, Tensor};

use super::{error, lvd, text, tiny};

#[test]
fn a_first_experiment_fits_the_pictures_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("own")).unwrap();
    for number in 0..40u32 {
        let side = 40 + number % 3;
        let pixel = |x: u32, y: u32| image::Rgb([(x * 5 + number) as u8, (y * 3) as u8, (x * y + number * 9) as u8]);
        let path = folder.path().join(format!("own/{number}.png"));
        image::RgbImage::from_fn(side, side, pixel).save(path).unwrap();
    }
    let made = lvd(folder.path(), &["new", "mine", "--data", "own"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(
        text(&made.stdout).contains("33 training, 3 validation and 4 test pictures of 32 x 32 pixels with 3 channels")
    );
    let yaml = std::fs::read_to_string(folder.path().join("mine.yaml")).unwrap();
    for words in ["family: {kind: gaussian", "clusters: 2", "resize", "scaled to 32 x 32", "That is few"] {
        assert!(yaml.contains(words), "{words} in {yaml}");
    }
    let quick = ["--set", "distill.soft.epochs=1", "--set", "distill.joint.epochs=1", "--set", "compute.threads=1"];
    let run = lvd(folder.path(), &[&["run", "mine.yaml"][..], &quick].concat());
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert_eq!(
        error(folder.path(), &["new", "mine", "--data", "own"], 2),
        "lvd: mine.yaml: is there already: choose another name"
    );

    let values = Array4::from_shape_fn((300, 12, 12, 1), |(n, r, c, _)| u8::from((n + r * c) % 3 > 0) * 255);
    std::fs::create_dir(folder.path().join("array")).unwrap();
    ndarray_npy::write_npy(folder.path().join("array/all.npy"), &values).unwrap();
    assert!(lvd(folder.path(), &["new", "bits", "--data", "array"]).status.success());
    let yaml = std::fs::read_to_string(folder.path().join("bits.yaml")).unwrap();
    assert!(yaml.contains("kind: hclt") && yaml.contains("size: 4") && yaml.contains("color: grey"), "{yaml}");
    let plan = lvd(folder.path(), &["plan", "bits.yaml"]);
    assert!(plan.status.success(), "{}", text(&plan.stderr));
    assert!(error(folder.path(), &["new", "x", "--data", "none"], 2).contains("none: is no folder"));
    std::fs::create_dir(folder.path().join("few")).unwrap();
    for number in 0..8u8 {
        image::GrayImage::from_pixel(9, 9, image::Luma([number]))
            .save(folder.path().join(format!("few/{number}.png")))
            .unwrap();
    }
    assert!(error(folder.path(), &["new", "x", "--data", "few"], 2).contains("at least 12 are needed"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(error(folder.path(), &["new", "x", "--data", "empty"], 2).starts_with("lvd: "));
    assert!(!folder.path().join("x.yaml").exists());
}

#[test]
fn experiments_have_short_names() {
    let folder = tiny();
    std::fs::create_dir_all(folder.path().join("experiments/small")).unwrap();
    for name in ["default", "other"] {
        std::fs::copy(folder.path().join("tiny.yaml"), folder.path().join(format!("experiments/small/{name}.yaml")))
            .unwrap();
    }
    for name in ["small", "small/other", "experiments/small/other.yaml"] {
        let plan = lvd(folder.path(), &["plan", name]);
        assert!(plan.status.success(), "{name}: {}", text(&plan.stderr));
    }
    assert!(error(folder.path(), &["plan", "smaller"], 2).contains("smaller"));
}

#[test]
fn features_come_from_a_file() {
    let folder = tiny();
    let lines = |more: &[&str]| {
        let sets: Vec<&str> = more.iter().flat_map(|set| ["--set", *set]).collect();
        let quick = ["distill", "tiny.yaml", "--run-dir", "r", "--set", "latents.clusters=3"];
        [&quick[..], &sets].concat().iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()
    };
    let write = |folder: &std::path::Path| {
        let value = |n: usize, l: usize, f: usize| ((n * 31 + l * 17 + f * 5) % 13) as f32;
        ndarray_npy::write_npy(
            folder.join("f.npy"),
            &Array3::from_shape_fn((TRAINING, 4, 2), |(n, l, f)| value(n, l, f)),
        )
        .unwrap();
        ndarray_npy::write_npy(
            folder.join("codes.npy"),
            &Array2::from_shape_fn((TRAINING, 4), |(n, l)| ((n + l) % 3) as u8),
        )
        .unwrap();
        ndarray_npy::write_npy(
            folder.join("wide.npy"),
            &Array2::from_shape_fn((TRAINING, 4), |(n, l)| ((n + l) % 4) as i64),
        )
        .unwrap();
        ndarray_npy::write_npy(folder.join("few.npy"), &Array3::<f32>::zeros((7, 4, 2))).unwrap();
        ndarray_npy::write_npy(folder.join("nan.npy"), &Array3::from_elem((TRAINING, 4, 2), f32::NAN)).unwrap();
        ndarray_npy::write_npy(folder.join("flags.npy"), &Array2::from_elem((TRAINING, 4), true)).unwrap();
        let flat: Vec<f32> = (0..TRAINING * 8).map(|i| value(i / 8, i / 2 % 4, i % 2)).collect();
        let features = Tensor::from_slice(&flat).reshape([TRAINING as i64, 4, 2]);
        let tensors = [("half", features.to_kind(Kind::Half)), ("brain", features.to_kind(Kind::BFloat16))];
        Tensor::write_safetensors(&tensors, folder.join("f.safetensors")).unwrap();
    };
    write(folder.path());
    let run = |file: &str| {
        let arguments = lines(&[&format!("teacher={{kind: features, train: {file}}}")]);
        lvd(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let [half, brain] = ["half", "brain"].map(|tensor| format!("f.safetensors, tensor: {tensor}"));
    // Whole numbers below 13 are the same in every format: the same latents.
    let mut latents = Vec::new();
    for file in ["codes.npy", "f.npy", half.as_str(), brain.as_str()] {
        let done = run(file);
        assert!(done.status.success(), "{file}: {}", text(&done.stderr));
        latents.push(std::fs::read(folder.path().join("r/latents/assignments.safetensors")).unwrap());
    }
    assert!(latents[0] != latents[1] && latents[1..].windows(2).all(|pair| pair[0] == pair[1]));
    let refused = |file: &str| {
        let done = run(file);
        assert_eq!(done.status.code(), Some(2), "{file}: {}", text(&done.stderr));
        text(&done.stderr)
    };
    assert!(refused("wide.npy").contains("codes go from 0 to 3, expected 0 to 2 (latents.clusters is 3)"));
    assert!(refused("few.npy").contains("7 pictures of 4 patches, expected"));
    assert!(refused("nan.npy").contains("is not finite"));
    assert!(refused("flags.npy").contains("flags.npy: element type is '|b1', expected float16, "));
    assert!(refused("f.safetensors").contains("holds the tensors brain, half: name one of them by teacher.tensor"));
    assert!(refused("none.npy").contains("none.npy: no such file: correct teacher.train"));
}

#[test]
fn a_plan_looks_at_the_files_that_a_run_would_read() {
    let folder = tiny();
    let write = |name: &str, array: Array3<u8>| ndarray_npy::write_npy(folder.path().join(name), &array).unwrap();
    write("few.npy", Array3::ones((5, 8, 8)));
    write("nothing.npy", Array3::zeros((TRAINING, 8, 8)));
    ndarray_npy::write_npy(folder.path().join("floats.npy"), &Array2::<f32>::ones((8, 8))).unwrap();
    ndarray_npy::write_npy(folder.path().join("features.npy"), &Array3::<f32>::ones((TRAINING, 4, 2))).unwrap();
    ndarray_npy::write_npy(folder.path().join("coarse.npy"), &Array3::<f32>::ones((TRAINING, 1, 2))).unwrap();
    ndarray_npy::write_npy(folder.path().join("codes.npy"), &Array2::<u8>::ones((TRAINING, 4))).unwrap();
    let plan = |set: &str| lvd(folder.path(), &["plan", "tiny.yaml", "--set", set]);
    let mask = |file: &str| format!("data.mask={{observed: {file}}}");
    let teacher = |file: &str| format!("teacher={{kind: features, train: {file}}}");
    for (set, expected) in [
        (mask("few.npy"), "few.npy: shape is [5, 8, 8], expected [8, 8] or [96, 8, 8], as the training pictures are"),
        (mask("nothing.npy"), "nothing.npy: says that no pixel is observed: a pixel is where it is not zero"),
        (
            mask("floats.npy"),
            "data.mask.observed: floats.npy: element type is '<f4', expected bool or uint8 (save it with .astype(bool))",
        ),
        (mask("none.npy"), "data.mask.observed: cannot open none.npy: No such file or directory (os error 2)"),
        (teacher("coarse.npy"), "coarse.npy: 96 pictures of 1 patches, expected 96 training pictures of 4 patches"),
        (teacher("few.npy"), "few.npy: shape is [5, 8, 8], expected codes [N, L]"),
        (teacher("codes.npy"), "codes.npy: all patches have the code 1: it tells no patches apart"),
        (teacher("none.npy"), "none.npy: no such file: correct teacher.train"),
    ] {
        let refused = plan(&set);
        assert_eq!((refused.status.code(), text(&refused.stderr).trim()), (Some(2), &*format!("lvd: {expected}")));
    }
    let fits = text(&plan(&teacher("features.npy")).stdout);
    assert!(fits.contains("\nstart      features of 96 pictures from features.npy\n"), "{fits}");
    assert!(!folder.path().join("runs").exists());
}

/// Training pictures of the tiny experiment.
const TRAINING: usize = 96;
