//! Model files against `docs/format.md`: the package in python/, written from that page, finds the same log p(x) for
//! every picture, the same most probable explanations and the same moments given parts of pictures (tests/format.py).

use std::path::Path;
use std::process::Command;

use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::data::{self, Split};
use lvd::experiment::stage::Stage;
use lvd::experiment::{models, read};
use lvd::mixture::mask::Mask;
use lvd::mixture::{Mixture, Prior};
use lvd::patch::Reading;
use lvd::query::conditional::{self, Moments};
use lvd::query::explain::{self, Explanation};
use lvd::query::mask::Masks;
use lvd::query::pixels;
use lvd::random::Draws;
use lvd::run::RunFolder;
use lvd::wavelet::Transform;
use tch::{Device, Kind, Tensor};

const EXPERIMENT: &str = "
name: small
seed: 3
color: grey
data: {format: embedded, train_limit: 96}
patch: {size: 4, family: {kind: hclt, states: 3, start_examples: 100}}
teacher: {kind: pixel, patch: 4}
latents: {clusters: 3}
distill:
  hard: {epochs: 1, batch: 48}
  soft: {epochs: 1, batch: 48}
  tree: {em: {epochs: 1, batch: 48}}
  joint: {epochs: 1, batch: 48}
compute: {micro_batch: 48, watched: 50, threads: 1}
";
/// Colour pictures that are made here.
const COLOUR: &str = "data={format: npy, root: ., train: [colour.npy], validation: {last: 16}, test: {last: 12}}";
const PICTURES: usize = 40;
/// Heights and widths of further pictures for patches that see the pixels around them: those of 2 and 3 pixels are cut at
/// the right and the lower edge of the first, those of 3 in the second too, and in the last a pixel sees nothing.
const SIZES: [[usize; 2]; 3] = [[7, 5], [2, 7], [1, 1]];

/// How far the two numbers of a picture may lie apart: so many nats and such a share of them.
#[derive(Clone, Copy)]
struct Tolerance {
    nats: f64,
    share: f64,
}

/// How far moments may lie apart where flows are float32, as those of trees are: a share of the second moment.
const SHARE_OF_SINGLE: f64 = 5e-6;
/// The same for models of float64 without a latent tree.
const SHARE_OF_DOUBLE: f64 = 1e-8;

/// Whether Python with what the package needs is there.
fn python() -> bool {
    let found = Command::new("python3").args(["-c", "import numpy, safetensors, yaml"]).output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: python3 with numpy, safetensors and PyYAML is not installed");
    }
    there
}

/// What tests/format.py says in a folder; it must agree.
fn ask(folder: &Path, words: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format.py");
    let output = Command::new("python3").arg(script).args(words).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    eprint!("{}", said[0]);
}

/// Compare the negative log p(x) in `nats.npy` with what the package finds for the pictures in `seen.npy`.
fn compare(folder: &Path, model: &Path, reading: Reading, tolerance: Tolerance) {
    let [nats, share] = [tolerance.nats, tolerance.share].map(|number| number.to_string());
    ask(folder, &["nats", model.to_str().unwrap(), "seen.npy", "nats.npy", reading.name(), &nats, &share]);
}

/// Colour pictures `[100, 12, 12, 3]` with slopes, edges and noise, some of them black and white in places.
fn write_colours(path: &Path) {
    let value = |n: usize, row: usize, col: usize, channel: usize| {
        let noise = (n * 7919 + row * 613 + col * 271 + channel * 97) * 31 % 23;
        let slope = 2 * (n % 9) * row + n % 7 * col;
        let edge = if col + n % 3 > 6 { 90 } else { 0 };
        (n * 37 % 180 + slope + edge + noise + 11 * channel * (n % 4)).saturating_sub(40).min(255) as u8
    };
    let pictures =
        ndarray::Array4::from_shape_fn((100, 12, 12, 3), |(n, row, col, channel)| value(n, row, col, channel));
    ndarray_npy::write_npy(path, &pictures).unwrap();
}

/// Train by the command, then compare every picture's log p(x) under the stages named.
fn agrees(settings: &[&str], stages: &[Stage], tolerance: Tolerance) {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.yaml"), EXPERIMENT).unwrap();
    write_colours(&folder.path().join("colour.npy"));
    let mut command = assert_cmd::Command::cargo_bin("lvd").unwrap();
    command.current_dir(folder.path()).args(["run", "small.yaml", "--run-dir", "run"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.assert().success();
    for &stage in stages {
        stage_agrees(folder.path(), stage, tolerance);
    }
}

fn stage_agrees(folder: &Path, stage: Stage, tolerance: Tolerance) {
    let run = RunFolder::read(&folder.join("run")).unwrap();
    let mut config = read::of_run(&run).unwrap();
    config.data.root = config.data.root.map(|root| folder.join(root));
    let test = data::open(&config.data, config.seed).unwrap().part(Split::Test).clone();
    let numbers: Vec<usize> = (0..test.len().min(PICTURES)).collect();
    let pixels = test.batch(&numbers).unwrap();
    let file = run.stage(stage.name()).path("model.safetensors");
    let model = || models::load(&run, &config, stage, Device::Cpu).unwrap();
    model_agrees(folder, &file, &model(), &pixels, tolerance);
    questions_agree(folder, &file, &model(), &pixels);
    let sizes: &[_] = if config.patch.context > 0 { &SIZES } else { &[] };
    for &[height, width] in sizes {
        let pixels = pixels.narrow(1, 1, height as i64).narrow(2, 0, width as i64);
        let model = model().fitted(PictureShape { height, width, ..test.shape() });
        model_agrees(folder, &file, &model, &pixels, tolerance);
    }
}

/// Compare pictures u8 `[N, H, W, C]` in every reading of a model.
fn model_agrees(folder: &Path, file: &Path, model: &Mixture, pixels: &Tensor, tolerance: Tolerance) {
    let numbers: Vec<usize> = (0..pixels.size()[0] as usize).collect();
    let draws = Draws { seed: 1, purpose: "points", pass: 0, pictures: &numbers };
    for reading in model.readings() {
        if reading == Reading::Density && model.view().transform == Transform::Cdf53Integer {
            continue; // the noise belongs to coefficients, which `points` does not know
        }
        let patches = model.evidence(pixels, reading, &draws).unwrap();
        let nats = -model.log_likelihood(&model.patch_log_likelihood(&patches).unwrap()).unwrap();
        assert_eq!(nats.size(), [pixels.size()[0]]);
        seen(model.view(), pixels, reading, &draws).write_npy(folder.join("seen.npy")).unwrap();
        nats.to_kind(Kind::Double).write_npy(folder.join("nats.npy")).unwrap();
        compare(folder, file, reading, tolerance);
    }
}

/// Compare what a model says of the pixels of pictures u8 `[N, H, W, C]` that a mask leaves out, in every reading; where it
/// refuses, the package must.
fn questions_agree(folder: &Path, file: &Path, model: &Mixture, pixels: &Tensor) {
    let (view, file) = (model.view(), file.to_str().unwrap());
    let numbers: Vec<usize> = (0..pixels.size()[0] as usize).collect();
    let draws = Draws { seed: 1, purpose: "points", pass: 0, pictures: &numbers };
    let masks = masks(view, &numbers);
    for reading in model.readings() {
        let evidence = || model.observe(model.evidence(pixels, reading, &draws)?, &Mask::new(&masks)?);
        let explained = evidence().and_then(|some| explain::explain(model, &some));
        let moments = evidence().and_then(|some| conditional::moments(model, &some));
        let (Ok(explained), Ok(moments)) = (&explained, &moments) else {
            assert!(explained.is_err() && moments.is_err(), "{explained:?} {moments:?}");
            ask(folder, &["refused", file, reading.name()]);
            continue;
        };
        seen(view, pixels, reading, &draws).write_npy(folder.join("seen.npy")).unwrap();
        masks.to_kind(Kind::Uint8).write_npy(folder.join("masks.npy")).unwrap();
        write_answers(folder, view, explained, moments);
        let double = reading == Reading::Density && matches!(model.prior(), Prior::Independent(_));
        let share = if double { SHARE_OF_DOUBLE } else { SHARE_OF_SINGLE };
        ask(folder, &["questions", file, ".", reading.name(), &share.to_string()]);
    }
}

/// Masks `[N, h, w]`, another kind for each of the pictures with these numbers.
fn masks(view: &View, pictures: &[usize]) -> Tensor {
    const WORDS: [&str; 6] = ["top", "left", "chessboard", "random:0.4", "none", "all"];
    let of = |&number: &usize| {
        let masks = Masks::new(&WORDS[number % WORDS.len()].parse().unwrap(), view.size(), false, 1).unwrap();
        masks.of(&[number]).unwrap().observed().reshape(view.size().map(|n| n as i64))
    };
    Tensor::stack(&pictures.iter().map(of).collect::<Vec<_>>(), 0)
}

fn write_answers(folder: &Path, view: &View, explained: &Explanation, moments: &Moments) {
    let whole = |patches: &Tensor| view.grid.assemble(&patches.to_kind(Kind::Double));
    let arrays = [
        ("log_joint", explained.log_probability.shallow_clone()),
        ("completed", whole(&explained.patches)),
        ("drawn", pixels::drawn(view, &explained.patches)),
        ("mean", whole(&moments.mean)),
        ("variance", whole(&moments.variance)),
    ];
    for (name, array) in arrays {
        array.contiguous().write_npy(folder.join(name).with_extension("npy")).unwrap();
    }
}

/// What a reading sees of pictures u8 `[N, H, W, C]`.
fn seen(view: &View, pixels: &Tensor, reading: Reading, draws: &Draws) -> Tensor {
    if reading == Reading::Density { points(view, pixels, draws) } else { pixels.contiguous() }
}

/// The numbers of pictures `[N, H, W, C]` with the noise that the density reading adds to them, float64: patches of one pixel.
fn points(view: &View, pixels: &Tensor, draws: &Draws) -> Tensor {
    let single = View::new(view.shape(), view.color, Region::Whole, 1).unwrap();
    single.dequantised(pixels, draws).view_as(pixels).to_kind(Kind::Double)
}

#[test]
fn hclts_without_and_with_a_tree() {
    agrees(
        &["baselines.pixel_hclt={circuit: {states: 3}, em: {epochs: 1, batch: 48}, micro_batch: 24}"],
        &[Stage::Soft, Stage::Joint, Stage::PixelHclt],
        Tolerance { nats: 2e-4, share: 0.0 },
    );
}

#[test]
fn quad_trees_have_regions_that_observe_nothing() {
    agrees(
        &[
            "patch.family.tree={kind: quad_tree}",
            "baselines.pixel_hclt={circuit: {states: 3, tree: {kind: quad_tree}}, em: {epochs: 1, batch: 48}, micro_batch: 24}",
        ],
        &[Stage::Joint, Stage::PixelHclt],
        Tolerance { nats: 2e-4, share: 0.0 },
    );
}

#[test]
fn a_tree_with_hidden_states_and_clusters_that_share_trees() {
    let growing = "distill.growing={criterion: paper, final_clusters: 6, examples: 64, em: {epochs: 1, batch: 24}}";
    agrees(&["distill.tree.hidden=2", growing], &[Stage::Growing, Stage::Joint], Tolerance { nats: 1e-4, share: 0.0 });
}

#[test]
fn gaussians_of_both_readings_and_of_low_rank() {
    // 1e-6 bits per dimension of 64 numbers are 4.4e-5 nats.
    let tolerance = Tolerance { nats: 4.4e-5, share: 0.0 };
    let double = "scales: 3, start_examples: 100, double: true, ordered_window: 1e9";
    let full = format!("patch.family={{kind: gaussian, {double}}}");
    agrees(&[&full], &[Stage::Hard, Stage::Joint], tolerance);
    let low_rank = format!("patch.family={{kind: gaussian, {double}, covariance: {{kind: low_rank, rank: 2}}}}");
    agrees(&[&low_rank], &[Stage::Joint], tolerance);
    let apart = format!("patch={{size: 3, family: {{kind: gaussian, {double}, scale_groups: luma_chroma}}}}");
    let colour = [COLOUR, "color=ycocg_r", "teacher.patch=3", "distill.tree.hidden=2", &apart];
    agrees(&colour, &[Stage::Soft, Stage::Joint], tolerance);
}

#[test]
fn transforms_and_colours_that_merge() {
    let gaussian = "patch.family={kind: gaussian, scales: 3, start_examples: 100, double: true, ordered_window: 1e9}";
    let tolerance = Tolerance { nats: 4.4e-5, share: 0.0 };
    for transform in ["cdf53", "cdf53_integer"] {
        agrees(&[gaussian, &format!("transform={transform}")], &[Stage::Joint], tolerance);
    }
    for settings in [["protocol=paper", "color=ycbcr_bt709"], ["protocol=lossy", "color=ycocg_lossy"]] {
        let settings = [&settings[..], &[COLOUR, "patch.size=3", "teacher.patch=3"]].concat();
        agrees(&settings, &[Stage::Soft], Tolerance { nats: 2e-4, share: 0.0 });
    }
    agrees(&["transform=cdf53_integer"], &[Stage::Joint], Tolerance { nats: 2e-4, share: 0.0 });
}

/// Patches of `size` pixels that see `context` pixels around them.
fn context_agrees([size, context]: [usize; 2], gate: &str, family: &str, others: &[&str], tolerance: Tolerance) {
    let family = format!("{{kind: gaussian, scales: 3, start_examples: 100, ordered_window: 1e9, {family}}}");
    let patch = format!("patch={{size: {size}, context: {context}, gate: {gate}, family: {family}}}");
    let teacher = format!("teacher.patch={size}");
    let settings = [&[patch.as_str(), &teacher, UNTIED], others].concat();
    agrees(&settings, &[Stage::Soft], tolerance);
}

/// No tree and no joint EM, which patches with context have no use for.
const UNTIED: &str =
    "distill={hard: {epochs: 1, batch: 0, step: {kind: constant, eta: 1.0}}, soft: {epochs: 3, batch: 48}}";
/// Every kind of gate.
const NONE: &str = "{kind: none}";
const NETWORK: &str = "{kind: network, units: 5, rate: 0.05, experts_every: 2}";
const RING: &str = "{kind: ring}";
const WIDE_RING: &str = "{kind: ring, width: 2}";

/// For models of float64.
const EXACT: Tolerance = Tolerance { nats: 0.0, share: 1e-9 };
/// For models of float64 with a gate network, which is one of float32.
const GATED: Tolerance = Tolerance { nats: 1e-5, share: 1e-9 };
/// For models of float32, whose nats have no more digits where there are hundreds of them.
const SINGLE: Tolerance = Tolerance { nats: 1e-4, share: 1e-6 };

#[test]
fn patches_with_context_of_grey_digits() {
    context_agrees([2, 2], NONE, "double: true", &[], EXACT);
    context_agrees([1, 3], NETWORK, "double: true", &[], GATED);
    context_agrees([1, 2], NONE, "double: false", &[], SINGLE);
    context_agrees([2, 1], NETWORK, "double: false", &[], SINGLE);
}

#[test]
fn patches_with_context_of_colours() {
    let colour = [COLOUR, "color=ycocg_r"];
    context_agrees([2, 2], NONE, "double: true, scale_groups: luma_chroma", &colour, EXACT);
    context_agrees([3, 2], NETWORK, "double: true, scale_groups: luma_chroma", &colour, GATED);
    context_agrees([2, 4], NETWORK, "double: true", &[COLOUR, "color=rgb"], GATED);
    context_agrees([3, 1], NONE, "double: false, scale_groups: luma_chroma", &colour, SINGLE);
    context_agrees([2, 3], NETWORK, "double: false, scale_groups: luma_chroma", &colour, SINGLE);
}

#[test]
fn patches_with_context_under_rings() {
    context_agrees([2, 2], RING, "double: true", &[], EXACT);
    context_agrees([1, 3], WIDE_RING, "double: false", &[], SINGLE);
    let colour = [COLOUR, "color=ycocg_r"];
    context_agrees([2, 2], WIDE_RING, "double: true, scale_groups: luma_chroma", &colour, EXACT);
    context_agrees([3, 2], RING, "double: false, scale_groups: luma_chroma", &colour, SINGLE);
    context_agrees([2, 3], RING, "double: true", &[COLOUR, "color=rgb"], EXACT);
}
