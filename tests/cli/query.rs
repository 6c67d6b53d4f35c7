//! Questions from the command line.

use std::path::Path;

use ndarray::{Array2, Array3, Array4, Array5, s};
use serde_json::Value;

use super::{error, gaussian, json, lvd, text, tiny};

fn trained(folder: tempfile::TempDir) -> tempfile::TempDir {
    let output = lvd(folder.path(), &["distill", "tiny.yaml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

fn png(path: &Path) -> (u32, u32) {
    image::open(path).unwrap().to_rgb8().dimensions()
}

#[test]
fn a_trained_model_draws_completes_scores_and_explains() {
    let run = trained(tiny());
    let folder = run.path();
    let at = |name: &str| folder.join(name);
    let ask = |more: &[&str]| json(folder, &[more, &["--json"]].concat());

    ask(&["sample", "runs/tiny", "--count", "5", "--out", "s.png", "--npy", "s.npy", "--seed", "4"]);
    let drawn: Array4<u8> = ndarray_npy::read_npy(at("s.npy")).unwrap();
    assert_eq!(drawn.shape(), [5, 8, 8, 1]);
    assert_eq!(png(&at("s.png")), (3 * 68, 2 * 68));
    ask(&["sample", "runs/tiny", "--count", "5", "--npy", "again.npy", "--seed", "4"]);
    assert_eq!(drawn, ndarray_npy::read_npy::<_, Array4<u8>>(at("again.npy")).unwrap());

    ask(&["sample", "runs/tiny", "--count", "3", "--npy", "few.npy", "--seed", "4"]);
    let few: Array4<u8> = ndarray_npy::read_npy(at("few.npy")).unwrap();
    assert_eq!(few, drawn.slice(s![..3, .., .., ..]));

    let said = ask(&[
        "inpaint",
        "runs/tiny",
        "--observed",
        "left",
        "--first",
        "3",
        "--count",
        "2",
        "--npy",
        "i.npy",
        "--out",
        "i.png",
    ]);
    assert_eq!(said["columns"].as_array().unwrap().len(), 5);
    let drawn: Array5<u8> = ndarray_npy::read_npy(at("i.npy")).unwrap();
    assert_eq!(drawn.shape(), [3, 2, 8, 8, 1]);
    assert_eq!(png(&at("i.png")), (6 * 68, 3 * 68));
    // What is observed is the same in all samples, and something else is not.
    let (first, second) = (drawn.slice(s![.., 0, .., .., ..]), drawn.slice(s![.., 1, .., .., ..]));
    assert_eq!(first.slice(s![.., .., ..4, ..]), second.slice(s![.., .., ..4, ..]));
    assert_ne!(first, second);
    // More samples than are drawn in one go.
    ask(&["inpaint", "runs/tiny", "--first", "1", "--count", "300", "--npy", "i.npy"]);
    assert_eq!(ndarray_npy::read_npy::<_, Array5<u8>>(at("i.npy")).unwrap().shape(), [1, 300, 8, 8, 1]);

    let nats = |more: &[&str]| {
        ask(&[&["score", "runs/tiny", "--first", "20", "--out", "x.csv"], more].concat())["nats_mean"].as_f64().unwrap()
    };
    let (all, top) = (nats(&[]), nats(&["--observed", "top"]));
    let given = nats(&["--observed", "bottom", "--given", "top"]);
    assert!((top + given - all).abs() < 1e-4, "{top} {given} {all}");
    assert!(nats(&["--observed", "none"]).abs() < f64::MIN_POSITIVE);
    assert!((nats(&["--observed", "bottom", "--invert"]) - top).abs() < 1e-9);
    let table = std::fs::read_to_string(at("x.csv")).unwrap();
    assert!(table.starts_with("picture,log_p_nats,bits_per_dimension\n0,-"), "{table}");
    assert_eq!(table.lines().count(), 21);
    ask(&["score", "runs/tiny", "--first", "20", "--out", "x.csv", "--map", "m.png"]);
    assert_eq!(png(&at("m.png")), (8 * 68, 5 * 68));

    ask(&["latents", "runs/tiny", "--first", "7", "--out", "z.npy"]);
    let codes: Array2<i64> = ndarray_npy::read_npy(at("z.npy")).unwrap();
    ask(&["latents", "runs/tiny", "--first", "7", "--out", "p.npy", "--posterior"]);
    let posterior: Array3<f32> = ndarray_npy::read_npy(at("p.npy")).unwrap();
    assert_eq!((codes.shape(), &posterior.shape()[..2]), (&[7, posterior.shape()[1]][..], codes.shape()));
    assert!(posterior.sum_axis(ndarray::Axis(2)).iter().all(|sum| (sum - 1.0).abs() < 1e-4));
    ask(&["latents", "runs/tiny", "--first", "7", "--out", "z.npy", "--map"]);

    let said = ask(&["explain", "runs/tiny", "--first", "2", "--npy", "e.npy", "--out", "e.png"]);
    assert_eq!(said["log_joint_nats"].as_array().unwrap().len(), 2);
    assert_eq!(ndarray_npy::read_npy::<_, Array4<u8>>(at("e.npy")).unwrap().shape(), [2, 8, 8, 1]);
}

#[test]
fn masks_come_from_files_and_own_pictures_have_names() {
    let run = trained(tiny());
    let folder = run.path();
    std::fs::create_dir(folder.join("own")).unwrap();
    for name in ["b", "a"] {
        image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x + y) as u8]))
            .save(folder.join(format!("own/{name}.png")))
            .unwrap();
    }
    let mask = Array3::from_shape_fn((2, 8, 8), |(n, row, _)| n == 1 || row < 4);
    ndarray_npy::write_npy(folder.join("mask.npy"), &mask).unwrap();
    image::GrayImage::from_fn(8, 8, |_, y| image::Luma([if y < 4 { 255 } else { 0 }]))
        .save(folder.join("mask.png"))
        .unwrap();
    let scores = |observed: &str| {
        let said = lvd(
            folder,
            &["score", "runs/tiny", "--data", "own", "--requantise", "--out", "x.csv", "--observed", observed],
        );
        assert!(said.status.success(), "{}", text(&said.stderr));
        std::fs::read_to_string(folder.join("x.csv")).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (all, top, png, each) = (scores("all"), scores("top"), scores("mask.png"), scores("mask.npy"));
    assert!(all[1].starts_with("a.png,") && all[2].starts_with("b.png,"), "{all:?}");
    assert_eq!(top, png);
    assert_eq!((&each[1], &each[2]), (&top[1], &all[2]));

    let refused = |more: &[&str]| error(folder, &[&["score", "runs/tiny", "--out", "x.csv"], more].concat(), 2);
    assert_eq!(refused(&["--observed", "mask.npy"]), "lvd: there are 2 masks for 300 pictures");
    let small = ndarray::Array2::from_elem((4, 4), true);
    ndarray_npy::write_npy(folder.join("small.npy"), &small).unwrap();
    assert_eq!(
        refused(&["--observed", "small.npy"]),
        "lvd: small.npy: the mask has 4 x 4 pixels, the pictures have 8 x 8"
    );
    let floats = ndarray::Array2::from_elem((8, 8), 1f32);
    ndarray_npy::write_npy(folder.join("floats.npy"), &floats).unwrap();
    assert!(
        refused(&["--observed", "floats.npy"]).contains("floats.npy: element type is '<f4', expected bool or uint8")
    );
    let whole = std::fs::read(folder.join("mask.npy")).unwrap();
    std::fs::write(folder.join("cut.npy"), &whole[..whole.len() - 40]).unwrap();
    assert!(refused(&["--observed", "cut.npy"]).contains("cut.npy: broken npy array"));
    image::GrayImage::from_pixel(8, 8, image::Luma([1])).save(folder.join("ones.png")).unwrap();
    assert_eq!(
        refused(&["--observed", "ones.png"]),
        "lvd: ones.png: its brightest pixel is 1, and 128 to 255 is observed: paint what is observed white"
    );
    assert_eq!(
        refused(&["--observed", "mask.png", "--map", "mask.png"]),
        "lvd: mask.png: is an input too, and would be overwritten"
    );
    assert!(refused(&["--map", "./x.csv"]).contains("is a .png file: choose a name that says so"));
    assert_eq!(refused(&["--map", "none/x.png"]), "lvd: none/x.png: there is no folder none");
    std::fs::write(folder.join("runs/tiny/notes.csv"), "").unwrap();
    let own = error(folder, &["score", "runs/tiny", "--out", "runs/tiny/notes.csv"], 2);
    assert_eq!(own, "lvd: runs/tiny/notes.csv: the run folder holds this file already: choose another name");
    let wrong = error(folder, &["score", "runs/tiny", "--out", "runs/tiny/config.yaml"], 2);
    assert!(wrong.contains("is a .csv file"), "{wrong}");
    let photo = error(folder, &["inpaint", "runs/tiny", "--data", "own", "--requantise", "--out", "own/a.png"], 2);
    assert!(photo.contains("own/a.png: lies among the pictures that are read"), "{photo}");
    for (command, out) in [("report", "--out"), ("eval", "--per-image")] {
        let said = error(folder, &[command, "runs/tiny", out, "runs/tiny/manifest.json"], 2);
        assert!(said.starts_with("lvd: runs/tiny/manifest.json: "), "{said}");
    }
    // As many as there are, where no number is given: fewer than eight here.
    let all =
        lvd(folder, &["inpaint", "runs/tiny", "--data", "own", "--requantise", "--npy", "few.npy", "--count", "1"]);
    assert!(all.status.success(), "{}", text(&all.stderr));
    // The mean counts numbers, not pictures: nothing is asked of the first.
    let mut halves = Array3::from_elem((2, 8, 8), false);
    halves.slice_mut(s![1, .., ..]).fill(true);
    ndarray_npy::write_npy(folder.join("halves.npy"), &halves).unwrap();
    let said =
        json(folder, &["score", "runs/tiny", "--first", "2", "--out", "x.csv", "--observed", "halves.npy", "--json"]);
    let table = std::fs::read_to_string(folder.join("x.csv")).unwrap();
    let second: f64 = table.lines().nth(2).unwrap().split(',').nth(2).unwrap().parse().unwrap();
    assert!((said["bits_per_dimension"].as_f64().unwrap() - second).abs() < 1e-12, "{said} {table}");
    let unknown = lvd(folder, &["score", "runs/tiny", "--out", "x.csv", "--observed", "middle"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("unknown mask middle: expected all, none, top"),
        "{}",
        text(&unknown.stderr)
    );
    assert_eq!(
        refused(&["--observed", "center:9"]),
        "lvd: the mask's square of 9 x 9 does not fit into pictures of 8 x 8"
    );
    assert_eq!(refused(&["--first", "301"]), "lvd: --first is 301, but test holds 300 pictures");
    assert!(refused(&["--data", "tiny.yaml"]).contains("name its --format"));
    assert!(
        error(folder, &["inpaint", "runs/tiny"], 2)
            .contains("nothing to write: name a picture (--out) or an array (--npy)")
    );
}

#[test]
fn a_density_answers_and_says_what_it_cannot() {
    let run = trained(gaussian(""));
    let folder = run.path();
    let abilities = json(folder, &["ask", "runs/tiny", "--json"]);
    let answers = |reading: usize| -> Vec<String> {
        let rows = abilities["readings"][reading]["questions"].as_array().unwrap();
        rows.iter().map(|row| row["is"]["answer"].as_str().unwrap().to_owned()).collect()
    };
    assert!(answers(0).iter().all(|answer| answer == "approximate"), "{:?}", answers(0));
    assert!(answers(1).iter().filter(|answer| *answer == "refused").count() >= 5, "{:?}", answers(1));
    let table = text(&lvd(folder, &["ask", "runs/tiny"]).stdout);
    assert!(table.contains("reading density") && table.contains("lvd inpaint"), "{table}");

    let said = json(folder, &["inpaint", "runs/tiny", "--npy", "i.npy", "--first", "2", "--json"]);
    assert_eq!((&said["reading"], said["pictures"].as_u64()), (&Value::from("density"), Some(2)));
    let refused = error(
        folder,
        &["inpaint", "runs/tiny", "--npy", "i.npy", "--reading", "ordered", "--observed", "chessboard"],
        2,
    );
    assert!(
        refused.starts_with("lvd: the ordered reading of Gaussians has exact marginals of whole patches only"),
        "{refused}"
    );
}

#[test]
fn observed_pixels_stay_and_coefficients_have_no_map() {
    let colour = |folder: &Path, more: &str| {
        let pixels =
            Array4::from_shape_fn((40, 8, 8, 3), |(n, r, c, k)| ((n * 37 + r * 11 + c * 23 + k * 50) % 256) as u8);
        ndarray_npy::write_npy(folder.join("colour.npy"), &pixels).unwrap();
        let yaml = std::fs::read_to_string(folder.join("tiny.yaml")).unwrap();
        let data = "data: {format: npy, root: ., train: [colour.npy], validation: {last: 8}, test: {last: 8}}";
        let start = yaml.find("data:").unwrap();
        let end = start + yaml[start..].find('\n').unwrap();
        let yaml = format!("{}{data}{}", &yaml[..start], &yaml[end..]).replace("color: grey", more);
        std::fs::write(folder.join("tiny.yaml"), yaml).unwrap();
        pixels
    };
    let lossy = tiny();
    let pixels = colour(lossy.path(), "protocol: lossy\ncolor: ycocg_lossy");
    let lossy = trained(lossy);
    for command in ["inpaint", "explain"] {
        json(lossy.path(), &[command, "runs/tiny", "--first", "2", "--observed", "top", "--npy", "i.npy", "--json"]);
        let flat = |path: &str| ndarray_npy::read_npy::<_, ndarray::ArrayD<u8>>(lossy.path().join(path)).unwrap();
        let drawn = flat("i.npy");
        let count = drawn.len() / (2 * 192);
        let drawn = drawn.into_shape_with_order((2, count, 8, 8, 3)).unwrap();
        let original = pixels.slice(s![32..34, ..4, .., ..]);
        for sample in 0..count {
            assert_eq!(drawn.slice(s![.., sample, ..4, .., ..]), original, "{command}");
        }
    }
    let transformed = tiny();
    colour(transformed.path(), "color: ycocg_r\ntransform: cdf53_integer");
    let transformed = trained(transformed);
    let refused = error(transformed.path(), &["score", "runs/tiny", "--out", "x.csv", "--map", "m.png"], 2);
    assert!(refused.contains("--map: a patch of this model holds wavelet coefficients"), "{refused}");
}
