//! Compress, decompress, look: files, arrays and splits through the binary, and what is refused.

use std::path::Path;

use image::{GrayImage, Luma, LumaA, RgbImage};
use ndarray::{Array3, Array4};
use sha2::{Digest, Sha256};

use super::{error, json, lvd, text, tiny};

/// What a command says on stdout, where it succeeds.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = lvd(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn hash(path: &Path) -> String {
    hex::encode(Sha256::digest(std::fs::read(path).unwrap()))
}

/// A picture of the digits' shape and levels.
fn digit(n: u32) -> GrayImage {
    GrayImage::from_fn(8, 8, |x, y| Luma([((x * n + y * 3) % 17) as u8]))
}

#[test]
fn pictures_travel_through_containers_and_mistakes_are_told() {
    let folder = tiny();
    let place = folder.path();
    assert!(lvd(place, &["run", "tiny.yaml"]).status.success());
    a_split_by_any_number_of_threads(place);
    the_same_bytes_without_avx2(place, "runs/tiny", &["--first", "20"]);
    files_come_back_under_their_names(place);
    arrays_come_back(place);
    inputs_that_do_not_fit(place);
    containers_that_do_not_fit(place);
    names_and_numbers_do_not_meet(place);
    names_that_no_container_keeps(place);
    a_limit_of_file_sizes(place);
    a_model_that_is_gone(place);
}

fn a_split_by_any_number_of_threads(place: &Path) {
    let line = said(place, &["compress", "runs/tiny", "--first", "40", "-o", "a.lvdz"]);
    assert!(line.starts_with("a.lvdz: 40 pictures, 2560 bytes of pixels in "), "{line}");
    let info = json(place, &["codec-info", "a.lvdz", "--json"]);
    let eval = json(place, &["eval", "runs/tiny", "--json", "--per-image", "nats.npy"]);
    assert_eq!((&info["stage"], &info["num_images"], &info["levels"]), (&eval["stage"], &40.into(), &17.into()));
    let nats: ndarray::Array1<f64> = ndarray_npy::read_npy(place.join("nats.npy")).unwrap();
    let bits = -nats.iter().take(40).sum::<f64>() / std::f64::consts::LN_2;
    let bytes = info["bytes"].as_f64().unwrap();
    // 65 bytes are the file's own.
    assert!(bytes <= bits * 1.002 / 8.0 + 24.0 * 40.0 + 65.0, "{bytes} bytes, {bits} bits");
    let model = hash(&place.join("runs/tiny/joint/model.safetensors"));
    assert_eq!(info["model"], model.as_str());

    // The configuration of a copy of the run asks for four threads.
    let config = std::fs::read_to_string(place.join("runs/tiny/config.yaml")).unwrap();
    let four = config.replace("threads: 1", "threads: 4");
    assert_ne!(config, four);
    std::fs::write(place.join("runs/tiny/config.yaml"), four).unwrap();
    said(place, &["compress", "runs/tiny", "--first", "40", "-o", "b.lvdz"]);
    std::fs::write(place.join("runs/tiny/config.yaml"), config).unwrap();
    assert_eq!(hash(&place.join("a.lvdz")), hash(&place.join("b.lvdz")));

    said(place, &["decompress", "a.lvdz", "runs/tiny", "-o", "a.npy"]);
    let all: Array3<u8> = ndarray_npy::read_npy(place.join("a.npy")).unwrap();
    assert_eq!(all.dim(), (40, 8, 8));
    said(place, &["decompress", "a.lvdz", "runs/tiny", "-o", "one", "--only", "17"]);
    let one = image::open(place.join("one/000017.png")).unwrap().into_luma8();
    assert_eq!(one.as_raw()[..], all.outer_iter().nth(17).unwrap().as_slice().unwrap()[..]);
    assert_eq!(place.join("one").read_dir().unwrap().count(), 1);
}

fn files_come_back_under_their_names(place: &Path) {
    std::fs::create_dir_all(place.join("in/deep")).unwrap();
    digit(1).save(place.join("in/a.png")).unwrap();
    digit(2).save(place.join("in/deep/b.png")).unwrap();
    digit(5).save(place.join("a.png")).unwrap();
    said(place, &["compress", "runs/tiny", "in", "a.png", "--stage", "pixel_hclt", "-o", "files.lvdz"]);
    let line = said(place, &["decompress", "files.lvdz", "runs/tiny", "-o", "out"]);
    assert!(line.starts_with("out: 3 pictures, "), "{line}");
    for (name, n) in [("a", 1), ("deep/b", 2), ("a-2", 5)] {
        assert_eq!(image::open(place.join(format!("out/{name}.png"))).unwrap().into_luma8(), digit(n), "{name}");
    }
    let info = said(place, &["codec-info", "files.lvdz"]);
    assert!(info.contains("stage: pixel_hclt\n") && info.contains("num images: 3\n"), "{info}");
    let again = error(place, &["decompress", "files.lvdz", "runs/tiny", "-o", "out"], 2);
    assert_eq!(again, "lvd: out: is not empty: name a new folder");
    let file = error(place, &["decompress", "files.lvdz", "runs/tiny", "-o", "a.png"], 2);
    assert_eq!(file, "lvd: a.png: is no folder: name a new folder or a file that ends in .npy");
}

fn arrays_come_back(place: &Path) {
    let pictures = Array4::from_shape_fn((5, 8, 8, 1), |(n, y, x, _)| ((n * 5 + y * x) % 17) as u8);
    ndarray_npy::write_npy(place.join("in.npy"), &pictures).unwrap();
    said(place, &["compress", "runs/tiny", "in.npy", "-o", "array.lvdz"]);
    said(place, &["decompress", "array.lvdz", "runs/tiny", "-o", "back.npy"]);
    let back: Array3<u8> = ndarray_npy::read_npy(place.join("back.npy")).unwrap();
    assert!(back.iter().eq(pictures.iter()));
}

fn inputs_that_do_not_fit(place: &Path) {
    let refused = |input: &str| error(place, &["compress", "runs/tiny", input, "-o", "x.lvdz"], 2);
    GrayImage::new(9, 8).save(place.join("wide.png")).unwrap();
    assert_eq!(refused("wide.png"), "lvd: wide.png is 8x9, the model was trained for 8x8 (height x width)");
    RgbImage::new(8, 8).save(place.join("rgb.png")).unwrap();
    assert_eq!(refused("rgb.png"), "lvd: rgb.png: has colours, the model was trained for grey pictures");
    image::ImageBuffer::<LumaA<u8>, Vec<u8>>::new(8, 8).save(place.join("clear.png")).unwrap();
    assert_eq!(refused("clear.png"), "lvd: clear.png: has transparency, which would be lost: lay it on a ground first");
    GrayImage::from_pixel(8, 8, Luma([200])).save(place.join("bright.png")).unwrap();
    let bright = "lvd: bright.png: picture 0 holds the value 200, expected 0 to 16\n  --requantise brings 256 levels to the model's";
    assert_eq!(refused("bright.png"), bright);
    said(place, &["compress", "runs/tiny", "bright.png", "--requantise", "-o", "bright.lvdz"]);
    said(place, &["decompress", "bright.lvdz", "runs/tiny", "-o", "fewer"]);
    let fewer = image::open(place.join("fewer/bright.png")).unwrap().into_luma8();
    assert_eq!(fewer, GrayImage::from_pixel(8, 8, Luma([13])));
    let other = "expected a picture (.png, .jpg, .jpeg), a folder of pictures or an array (.npy)";
    assert_eq!(refused("tiny.yaml"), format!("lvd: tiny.yaml: {other}"));
    ndarray_npy::write_npy(place.join("large.npy"), &Array3::<u8>::zeros((1, 4, 8))).unwrap();
    let [found, expected] = ["4x8x1", "8x8x1"].map(|size| format!("{size} (height, width, channels)"));
    assert_eq!(
        refused("large.npy"),
        format!("lvd: large.npy: the pictures are {found}, the model was trained for {expected}")
    );
    assert!(refused("nothing.png").starts_with("lvd: cannot open nothing.png: "));
    let many = error(place, &["compress", "runs/tiny", "--first", "301", "-o", "x.lvdz"], 2);
    assert_eq!(many, "lvd: --first is 301, but the test split holds 300 pictures");
    let nowhere = error(place, &["compress", "runs/tiny", "-o", "nowhere/x.lvdz"], 2);
    assert_eq!(nowhere, "lvd: nowhere/x.lvdz: there is no such folder to write into");
    let slash = error(place, &["compress", "runs/tiny", "-o", "x.lvdz/"], 2);
    assert_eq!(slash, "lvd: x.lvdz/: is a folder: name a file");
    let teacher = error(place, &["compress", "runs/tiny", "--stage", "latents", "-o", "x.lvdz"], 2);
    assert!(teacher.starts_with("lvd: stage latents leaves no circuit"), "{teacher}");
    assert!(!place.join("x.lvdz").exists());
    // What is there already is replaced where it is a container, and nothing else.
    let own = error(place, &["compress", "runs/tiny", "in/a.png", "-o", "in/a.png"], 2);
    assert_eq!(own, "lvd: in/a.png: is there already and is no container: name another file");
    ndarray_npy::write_npy(place.join("none.npy"), &Array3::<u8>::zeros((0, 8, 8))).unwrap();
    assert!(refused("none.npy").contains("no pictures"), "{}", refused("none.npy"));
}

/// A stage whose model is gone is not passed over for an earlier one.
fn a_model_that_is_gone(place: &Path) {
    let model = place.join("runs/tiny/joint/model.safetensors");
    let aside = place.join("aside");
    std::fs::rename(&model, &aside).unwrap();
    for command in [&["eval", "runs/tiny"][..], &["compress", "runs/tiny", "-o", "x.lvdz"]] {
        let gone = error(place, command, 2);
        assert!(gone.contains("joint"), "{gone}");
    }
    std::fs::rename(&aside, &model).unwrap();
}

/// An array's pictures are called by their numbers, which give way to names.
fn names_and_numbers_do_not_meet(place: &Path) {
    digit(7).save(place.join("000001.png")).unwrap();
    said(place, &["compress", "runs/tiny", "in.npy", "000001.png", "-o", "both.lvdz"]);
    said(place, &["decompress", "both.lvdz", "runs/tiny", "-o", "both"]);
    assert_eq!(place.join("both").read_dir().unwrap().count(), 6);
    assert_eq!(image::open(place.join("both/000001.png")).unwrap().into_luma8(), digit(7));
}

fn names_that_no_container_keeps(place: &Path) {
    use std::os::unix::ffi::OsStrExt;
    digit(1).save(place.join("plain.png")).unwrap();
    let odd = place.join(std::ffi::OsStr::from_bytes(b"\xff.png"));
    std::fs::rename(place.join("plain.png"), &odd).unwrap();
    std::fs::create_dir(place.join("odd")).unwrap();
    std::fs::rename(odd, place.join("odd").join(std::ffi::OsStr::from_bytes(b"\xff.png"))).unwrap();
    let told = error(place, &["compress", "runs/tiny", "odd", "-o", "x.lvdz"], 2);
    assert_eq!(told, "lvd: odd/\u{fffd}.png: its name is not UTF-8, as names in containers are: rename it");
}

/// A write beyond the limit fails as on a full disk; no signal ends the process.
fn a_limit_of_file_sizes(place: &Path) {
    let binary = assert_cmd::cargo::cargo_bin("lvd");
    let command = format!("ulimit -f 4; exec {} compress runs/tiny -o x.lvdz", binary.display());
    let output = std::process::Command::new("sh").current_dir(place).args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("x.lvdz: cannot be written: File too large"), "{}", text(&output.stderr));
    assert!(!place.join("x.lvdz").exists());
}

/// Variables by which libraries choose other instructions than the processor's best.
const PLAIN: [(&str, &str); 3] = [
    ("ATEN_CPU_CAPABILITY", "default"),
    ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-FMA"),
];

/// Whatever instructions the libraries take, and however many threads there are, the bytes are the same.
fn the_same_bytes_without_avx2(place: &Path, run: &str, inputs: &[&str]) {
    let compress = |out: &str, plain: bool, threads: &str| {
        let mut command = assert_cmd::Command::cargo_bin("lvd").unwrap();
        command.current_dir(place).args(["compress", run, "-o", out]).args(inputs).env("OMP_NUM_THREADS", threads);
        command.envs(PLAIN.iter().filter(|_| plain).copied()).assert().success();
        hash(&place.join(out))
    };
    let usual = compress("usual.lvdz", false, "1");
    for (plain, threads) in [(true, "1"), (true, "4"), (false, "4")] {
        assert_eq!(compress("plain.lvdz", plain, threads), usual, "{plain} {threads}");
    }
}

#[test]
fn patches_with_context_take_pictures_of_any_size() {
    let folder = tiny();
    let place = folder.path();
    let context = "patch={size: 2, context: 1, gate: {kind: network, units: 4}, family: {kind: gaussian, scales: 2}}";
    let sets = [
        "--set",
        context,
        "--set",
        "teacher={kind: pixel, patch: 2}",
        "--set",
        "baselines={em_only: null, pixel_hclt: null}",
        "--set",
        "distill={hard: {epochs: 1, batch: 0}, soft: {epochs: 2, batch: 32}}",
        "--set",
        "compute.threads=null",
        "--run-dir",
        "c",
    ];
    let run = lvd(place, &[&["run", "tiny.yaml"][..], &sets].concat());
    assert!(run.status.success(), "{}", text(&run.stderr));
    std::fs::create_dir(place.join("in")).unwrap();
    let of = |w, h| GrayImage::from_fn(w, h, |x, y| Luma([((x * 3 + y * 5) % 17) as u8]));
    for (w, h) in [(1, 1), (5, 3), (40, 2), (9, 11)] {
        of(w, h).save(place.join(format!("in/{w}x{h}.png"))).unwrap();
    }
    said(place, &["compress", "c", "in", "-o", "in.lvdz"]);
    the_same_bytes_without_avx2(place, "c", &["in"]);
    said(place, &["decompress", "in.lvdz", "c", "-o", "out"]);
    for (w, h) in [(1, 1), (5, 3), (40, 2), (9, 11)] {
        assert_eq!(image::open(place.join(format!("out/{w}x{h}.png"))).unwrap().into_luma8(), of(w, h));
    }
    let array = error(place, &["decompress", "in.lvdz", "c", "-o", "x.npy"], 2);
    assert_eq!(array, "lvd: in.lvdz: the pictures are of different sizes, which no array holds: name a folder");
    ndarray_npy::write_npy(place.join("other.npy"), &Array3::<u8>::zeros((2, 5, 9))).unwrap();
    let eval = json(place, &["eval", "c", "--data", "other.npy", "--format", "npy", "--reading", "ordered", "--json"]);
    assert_eq!((&eval["num_dimensions"], &eval["num_images"]), (&45.into(), &2.into()));
    let top = said(place, &["eval", "c", "--observed", "top"]);
    assert!(top.contains("observed numbers (top of a picture"), "{top}");
    let left = error(place, &["eval", "c", "--observed", "left"], 2);
    assert!(left.contains("marginals of the first patches in raster order only"), "{left}");
    let tree = error(place, &["eval", "c", "--stage", "tree"], 2);
    assert_eq!(tree, "lvd: c: the experiment has no stage tree\n  it has the stages teacher, latents, hard, soft");
    let plan = [&["plan", "tiny.yaml"][..], &sets[..sets.len() - 2], &["--set", "distill.joint.epochs=1"]].concat();
    let plan = error(place, &plan, 2);
    assert!(plan.contains("distill.joint: has no meaning where patch.context is more than 0: leave it out"), "{plan}");
    let wide = context.replace("context: 1", "context: 9");
    let plan = [&["plan", "tiny.yaml"][..], &sets, &["--set", &wide]].concat();
    let plan = error(place, &plan, 2);
    assert!(plan.contains("have no patch of 2 x 2 with all of its context of 9 pixels"), "{plan}");
}

fn containers_that_do_not_fit(place: &Path) {
    let refused =
        |file: &str, more: &[&str]| error(place, &[&["decompress", file, "runs/tiny", "-o", "none"], more].concat(), 2);
    let range = "lvd: a.lvdz: picture 40 was asked for, but there are 40, counted from 0";
    assert_eq!(refused("a.lvdz", &["--only", "40"]), range);
    let bytes = std::fs::read(place.join("a.lvdz")).unwrap();
    std::fs::write(place.join("cut.lvdz"), &bytes[..bytes.len() - 1]).unwrap();
    let [size, less] = [bytes.len(), bytes.len() - 1];
    let cut = format!("lvd: cut.lvdz: is damaged or cut off: has {less} bytes, expected {size}");
    assert_eq!(refused("cut.lvdz", &[]), cut);
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    std::fs::write(place.join("flip.lvdz"), &flipped).unwrap();
    assert_eq!(refused("flip.lvdz", &[]), "lvd: flip.lvdz: is damaged: the checksum of its header is wrong");
    flipped = bytes;
    let last = flipped.len() - 12;
    flipped[last] ^= 0x10;
    std::fs::write(place.join("flip.lvdz"), &flipped).unwrap();
    let damaged = refused("flip.lvdz", &["--only", "39"]);
    assert!(damaged.starts_with("lvd: flip.lvdz: picture 39 is damaged: "), "{damaged}");
    assert!(!place.join("none").exists(), "a folder is there with all of its pictures or not at all");
    // Nor are the folders that it would lie in.
    for (file, only) in [("flip.lvdz", "39"), ("a.lvdz", "40")] {
        let deep = ["decompress", file, "runs/tiny", "-o", "far/deep/none", "--only", only];
        error(place, &deep, 2);
        assert!(!place.join("far").exists(), "{file}");
    }
    said(place, &["decompress", "flip.lvdz", "runs/tiny", "-o", "far/deep/some", "--only", "3"]);
    error(place, &["decompress", "flip.lvdz", "runs/tiny", "-o", "far/deep/none"], 2);
    assert_eq!(place.join("far/deep").read_dir().unwrap().count(), 1);
    assert_eq!(refused("in.npy", &[]), "lvd: in.npy: is no container of coded pictures (.lvdz)");
    let slash = error(place, &["decompress", "a.lvdz", "runs/tiny", "-o", "x.npy/"], 2);
    assert_eq!(slash, "lvd: x.npy/: is a folder: name a file that ends in .npy");
    let model = hash(&place.join("runs/tiny/joint/model.safetensors"));
    let more = ["distill", "tiny.yaml", "--run-dir", "other", "--set", "seed=4"];
    assert!(lvd(place, &more).status.success());
    let other = hash(&place.join("other/joint/model.safetensors"));
    assert_eq!(
        error(place, &["decompress", "a.lvdz", "other", "-o", "none"], 2),
        format!(
            "lvd: a.lvdz: was made with another model than that of other, stage joint (SHA-256)\n  expected {model}\n  found    {other}"
        )
    );
    assert!(!place.join("none").exists());
}
