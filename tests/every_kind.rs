//! Every kind that an experiment can name runs end to end: the schema says which there are, and one without a way to run it
//! here fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tch::{Kind, Tensor};

const BASE: &str = "
name: kinds
color: grey
data: {format: embedded, train_limit: 48}
patch: {size: 4, family: {kind: hclt, states: 2, start_examples: 60}}
teacher: {kind: pixel, patch: 4}
latents: {clusters: 2}
distill:
  hard: {epochs: 1, batch: 16}
  soft: {epochs: 1, batch: 16}
  tree: {em: {epochs: 1, batch: 16}}
  joint: {epochs: 1, batch: 16}
baselines:
  pixel_hclt: {circuit: {states: 2}, em: {epochs: 1, batch: 16}, micro_batch: 16}
compute: {micro_batch: 16, watched: 16, threads: 1}
";

const VQVAE: &str = "teacher={kind: vqvae, patch: 4, hidden: 4, residual: 2, embedding: 4, codes_bottom: 4, codes_top: 4, decoder: [4], epochs: 1, batch: 16";
const GAUSSIAN: &str = "patch.family={kind: gaussian, scales: 3, start_examples: 60";
const MODULE: &str =
    "teacher={kind: torchscript, patch: 4, module: MODULE, contract: {method: forward, input: {range: [0, 1]";
/// No tree and no joint EM, which patches with context have no use for.
const UNTIED: &str = "distill={hard: {epochs: 1, batch: 16}, soft: {epochs: 1, batch: 16}}";
const COLOUR: &str = "data={format: npy, root: ., train: [colour.npy], validation: {last: 8}, test: {last: 8}}";

/// Settings that make a run use each kind: `Type.value` to a list of `--set`s. One run may be for several kinds.
#[allow(clippy::too_many_lines)] // a table
fn ways() -> Vec<(&'static [&'static str], Vec<String>)> {
    let own = |sets: &[&str]| sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>();
    let growing = |rest: &str| {
        format!("distill.growing={{{rest}, final_clusters: 4, examples: 64, em: {{epochs: 1, batch: 16}}}}")
    };
    let vqvae = |rest: &str| format!("{VQVAE}, {rest}}}");
    let ground = |alpha: &str| {
        let data = "data={format: folder, root: ., train: [pictures], validation: {last: 4}, test: {last: 4}";
        own(&[&format!("{data}, alpha: {alpha}}}"), "baselines={}"])
    };
    let pooled = |resize: &str, pool: &str| {
        format!("{MODULE}, size: [16, 16], resize: {resize}}}, output: {{entry: map, pool: {pool}}}}}}}")
    };
    vec![
        (
            &[
                "Protocol.lossless",
                "ColorSpace.grey",
                "Transform.none",
                "Format.embedded",
                "FamilyConfig.hclt",
                "InputFamily.categorical",
                "TreeConfig.chow_liu",
                "TeacherConfig.pixel",
                "Rule.decayed",
                "Schedule.linear",
                "Codes.posterior",
                "Tying.untied",
                "Start.quantile",
                "PixelFeatures.pixels",
            ],
            vec![],
        ),
        (&["Protocol.paper", "ColorSpace.ycbcr_bt709"], own(&[COLOUR, "protocol=paper", "color=ycbcr_bt709"])),
        (&["Protocol.lossy", "ColorSpace.ycocg_lossy"], own(&[COLOUR, "protocol=lossy", "color=ycocg_lossy"])),
        (
            &["Format.photographs"],
            own(&["data={format: photographs, train_limit: 48}", "color=rgb", "baselines={pixel_teacher: {}}"]),
        ),
        (&["ColorSpace.rgb"], own(&[COLOUR, "color=rgb"])),
        (&["ColorSpace.ycocg_r_mod"], own(&[COLOUR, "color=ycocg_r_mod"])),
        (
            &["ColorSpace.ycocg_r", "ScaleGroups.luma_chroma", "FamilyConfig.gaussian", "Covariance.full"],
            own(&[COLOUR, "color=ycocg_r", &format!("{GAUSSIAN}, scale_groups: luma_chroma}}")]),
        ),
        (&["TeacherConfig.features"], own(&["teacher={kind: features, train: features.npy}"])),
        (&[], own(&["teacher={kind: features, train: features.safetensors, tensor: half}"])),
        // The first of these ways is gone on with.
        (&[], own(&["init_from=run-0", "seed=1"])),
        (&["MissingConfig.random"], own(&["data.mask={random: {share: 0.2}}"])),
        (
            &["MissingConfig.observed"],
            own(&[
                "data={format: npy, root: ., train: [colour.npy], validation: {last: 8}, test: {last: 8}, mask: {observed: mask.npy}}",
                "color=ycocg_r",
                &format!("{GAUSSIAN}, scale_groups: luma_chroma}}"),
            ]),
        ),
        (
            &["ScaleGroups.luma_chroma_levels"],
            own(&[
                COLOUR,
                "color=ycocg_r",
                "transform=cdf53_integer",
                &format!("{GAUSSIAN}, scale_groups: luma_chroma_levels}}"),
            ]),
        ),
        (
            &["GateConfig.none"],
            own(&["patch={size: 2, context: 1, family: {kind: gaussian, scales: 3}}", "teacher.patch=2", UNTIED]),
        ),
        (
            &["GateConfig.network"],
            own(&[
                "patch={size: 2, context: 1, gate: {kind: network, units: 4}, family: {kind: gaussian, scales: 3}}",
                "teacher.patch=2",
                UNTIED,
            ]),
        ),
        (
            &["GateConfig.ring"],
            own(&[
                "patch={size: 2, context: 2, gate: {kind: ring, width: 1}, family: {kind: gaussian, scales: 3}}",
                "teacher.patch=2",
                UNTIED,
            ]),
        ),
        (&["Transform.cdf53_integer"], own(&["transform=cdf53_integer"])),
        (
            &["Transform.cdf53", "ScaleGroups.one", "GaussianStart.clusters", "Covariance.low_rank"],
            own(&["transform=cdf53", &format!("{GAUSSIAN}, covariance: {{kind: low_rank, rank: 2}}}}")]),
        ),
        (&["GaussianStart.splitting"], own(&[&format!("{GAUSSIAN}, start: splitting}}"), "distill.hard.epochs=0"])),
        (
            &["InputFamily.discretised_logistic", "Schedule.constant"],
            own(&[
                "patch.family.inputs=discretised_logistic",
                "baselines.pixel_hclt.circuit.inputs=discretised_logistic",
                "distill.soft.step={kind: constant, eta: 0.5}",
            ]),
        ),
        (
            &["TreeConfig.given", "Rule.average", "Schedule.cosine", "Start.neighbourhoods"],
            own(&[
                "patch.size=2",
                "teacher.patch=2",
                "patch.family.tree={kind: given, parents: [null, 0, 0, 1]}",
                "distill.soft.rule={kind: average}",
                "distill.soft.step={kind: cosine, from: 0.9, to: 0.1}",
                "baselines.pixel_hclt.start=neighbourhoods",
            ]),
        ),
        (
            &["TreeConfig.quad_tree"],
            own(&[
                "patch.family.tree={kind: quad_tree}",
                "baselines.pixel_hclt.circuit.tree={kind: quad_tree}",
                "baselines.pixel_hclt.start=neighbourhoods",
            ]),
        ),
        (
            &["Rule.anemone", "Schedule.inertia", "Start.random", "Tying.displacement", "Codes.teacher"],
            own(&[
                "distill.soft.rule={kind: anemone, share: 0.4, momentum: 0.9}",
                "distill.soft.step={kind: inertia, from: 0.1, to: 0.5}",
                "baselines.pixel_hclt.start=random",
                "distill.tree.tying=displacement",
                "distill.tree.codes=teacher",
                "distill.tree.hidden=3",
            ]),
        ),
        (&["GrowingConfig.gain"], vec![growing("criterion: gain, rounds: 1, held_out: 16")]),
        (&["GrowingConfig.paper"], vec![growing("criterion: paper")]),
        (
            &["TeacherConfig.vqvae", "FeatureChoice.quantised", "CodePrior.uniform"],
            vec![vqvae("features: quantised, code_prior: uniform")],
        ),
        (
            &["FeatureChoice.continuous", "CodePrior.empirical"],
            vec![vqvae("features: continuous, code_prior: empirical")],
        ),
        (&["FeatureChoice.codes"], vec![vqvae("features: codes")]),
        (
            &["PixelFeatures.contrast_orientation"],
            own(&["teacher={kind: pixel, patch: 4, features: contrast_orientation, components: 4}"]),
        ),
        (&["TeacherConfig.torchscript", "Entry.string"], vec![format!("{MODULE}}}, output: {{entry: map}}}}}}")]),
        (&["Entry.integer"], vec![format!("{MODULE}}}, output: {{entry: 1}}}}}}").replace("forward", "pair")]),
        (&["Filter.bilinear", "Pool.mean"], vec![pooled("bilinear", "mean")]),
        (&["Filter.nearest", "Pool.max"], vec![pooled("nearest", "max")]),
        (&["Filter.bicubic", "Pool.concat"], vec![pooled("bicubic", "concat")]),
        (&["Alpha.white"], ground("white")),
        (&["Alpha.black"], ground("black")),
        (&["Alpha.drop"], ground("drop")),
        (
            &["Format.npy", "Part.last"],
            own(&["data={format: npy, root: ., train: [grey.npy], validation: {last: 8}, test: {last: 8}}"]),
        ),
        (
            &["Format.npz", "Part.fraction"],
            own(&[
                "data={format: npz, root: ., train: [colour.npz], validation: {fraction: {share: 0.2}}, test: {fraction: {share: 0.2}}}",
                "color=rgb",
            ]),
        ),
        (
            &["Format.idx", "Part.files"],
            own(&["data={format: idx, root: ., train: [images], validation: {files: [valid]}, test: {files: [test]}}"]),
        ),
        (
            &["Format.cifar10"],
            own(&[
                "data={format: cifar10, root: ., train: [batch.bin], validation: {last: 4}, test: {last: 4}}",
                "baselines={}",
                "color=rgb",
            ]),
        ),
        (
            &["Format.folder", "Resize.exact", "Alpha.refuse"],
            own(&["data={format: folder, root: ., train: [pictures], validation: {last: 4}, test: {last: 4}}"]),
        ),
        (
            &["Resize.resize"],
            own(&[
                "data={format: folder, root: ., train: [pictures], validation: {last: 4}, test: {last: 4}, resize: {resize: [4, 4]}}",
            ]),
        ),
        (
            &["Resize.center_crop"],
            own(&[
                "data={format: folder, root: ., train: [pictures], validation: {last: 4}, test: {last: 4}, resize: {center_crop: [4, 8]}}",
                "baselines={}",
            ]),
        ),
    ]
}

/// What a choice of the schema is called.
fn names(choice: &Value) -> Vec<String> {
    let tag = ["kind", "criterion"].into_iter().find_map(|tag| choice["properties"][tag]["const"].as_str());
    let key = choice["required"].as_array().filter(|keys| keys.len() == 1).and_then(|keys| keys[0].as_str());
    let one = choice["const"].as_str().or(tag).or(key);
    let several = choice["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = choice["type"].as_str().filter(|_| choice.get("const").is_none() && choice.get("enum").is_none());
    let mut all: Vec<String> = several.chain(one).map(str::to_owned).collect();
    if all.is_empty() {
        all.extend(plain.map(str::to_owned));
    }
    all
}

/// All kinds of the schema: `Type.value`.
fn kinds() -> BTreeSet<String> {
    let schema = lvd::experiment::read::schema();
    let mut found = BTreeSet::new();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let choices = ["oneOf", "anyOf"].into_iter().filter_map(|key| definition[key].as_array()).flatten();
        found.extend(
            choices
                .chain(definition.get("enum").map(|_| definition))
                .flat_map(names)
                .map(|kind| format!("{name}.{kind}")),
        );
    }
    found
}

/// Pictures with edges in them, as files of every format.
fn pictures(folder: &Path) {
    let value =
        |n: usize, r: usize, c: usize, k: usize| ((n * 37 + r * (11 + n % 5) + c * 23 * (n % 3) + k * 50) % 256) as u8;
    let grey = ndarray::Array3::from_shape_fn((40, 8, 8), |(n, r, c)| value(n, r, c, 0));
    let colour = ndarray::Array4::from_shape_fn((40, 8, 8, 3), |(n, r, c, k)| value(n, r, c, k));
    ndarray_npy::write_npy(folder.join("grey.npy"), &grey).unwrap();
    ndarray_npy::write_npy(folder.join("colour.npy"), &colour).unwrap();
    let mask = ndarray::Array3::from_shape_fn((24, 8, 8), |(n, r, c)| u8::from((n + r * c) % 3 > 0));
    ndarray_npy::write_npy(folder.join("mask.npy"), &mask).unwrap();
    let features = ndarray::Array3::from_shape_fn((48, 4, 3), |(n, l, f)| ((n * 7 + l * 5 + f * 3) % 11) as f32);
    ndarray_npy::write_npy(folder.join("features.npy"), &features).unwrap();
    let features = Tensor::from_slice(features.as_slice().unwrap()).reshape([48, 4, 3]);
    let kinds = [("half", features.to_kind(Kind::Half)), ("whole", features)];
    Tensor::write_safetensors(&kinds, folder.join("features.safetensors")).unwrap();
    let planes = ndarray::Array2::from_shape_fn((40, 192), |(n, i)| value(n, i % 64 / 8, i % 8, i / 64));
    let mut npz = ndarray_npy::NpzWriter::new(std::fs::File::create(folder.join("colour.npz")).unwrap());
    npz.add_array("data", &planes).unwrap();
    npz.finish().unwrap();
    for (name, count) in [("images", 40u32), ("valid", 10), ("test", 12)] {
        let mut bytes = vec![0, 0, 8, 3];
        for number in [count, 8, 8] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend((0..count as usize * 64).map(|i| value(i / 64, i % 64 / 8, i % 8, 0)));
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let batch: Vec<u8> = (0..12)
        .flat_map(|n| std::iter::once(0).chain((0..3072).map(move |i| value(n, i / 32, i % 32, i / 1024))))
        .collect();
    std::fs::write(folder.join("batch.bin"), batch).unwrap();
    std::fs::create_dir(folder.join("pictures")).unwrap();
    for n in 0..24u32 {
        let picture =
            image::GrayImage::from_fn(8, 8, |x, y| image::Luma([value(n as usize, y as usize, x as usize, 0)]));
        picture.save(folder.join(format!("pictures/{n:02}.png"))).unwrap();
    }
}

#[test]
fn every_kind_that_an_experiment_can_name_runs_to_its_table() {
    let ways = ways();
    let covered: BTreeSet<String> = ways.iter().flat_map(|(kinds, _)| kinds.iter().map(|k| (*k).to_owned())).collect();
    let missing: Vec<_> = kinds().difference(&covered).cloned().collect();
    assert!(missing.is_empty(), "no experiment here uses {missing:?}");
    let unknown: Vec<_> = covered.difference(&kinds()).cloned().collect();
    assert!(unknown.is_empty(), "the schema does not have {unknown:?}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kinds.yaml"), BASE).unwrap();
    pictures(folder.path());
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tiny/good.pt");
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    for (number, (kinds, sets)) in ways.iter().enumerate() {
        let sets = sets.iter().flat_map(|set| {
            ["--set".to_owned(), set.replace("MODULE", &format!("{:?}", module.display().to_string()))]
        });
        let dir = format!("run-{number}");
        let mut command = Command::cargo_bin("lvd").unwrap();
        command.current_dir(folder.path()).env_remove("LVD_DATA").env_remove("RUST_LOG");
        let output = command.args(["run", "kinds.yaml", "--run-dir", &dir]).args(sets).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let table = String::from_utf8_lossy(&output.stdout);
        // Patches that see the pixels around them have no latent tree.
        let windows = kinds.iter().any(|kind| kind.starts_with("GateConfig"));
        let last = if windows { "+ soft EM" } else { "+ joint EM" };
        if !output.status.success() || !table.contains(last) {
            let error = said.lines().skip_while(|line| !line.starts_with("lvd")).collect::<Vec<_>>().join("\n");
            failed.insert(kinds.join(", "), error);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
