//! `lvd new`: a first experiment for pictures of one's own, after a look at them.

use std::path::Path;

use anyhow::Result;
use tch::Kind;

use crate::color::ColorSpace;
use crate::data::config::DataConfig;
use crate::data::folder::{self, Resize};
use crate::data::split::{Fraction, Part};
use crate::data::{self, DataSet, Format};
use crate::refusal::Refusal;
use crate::{refusal, require};

/// Side to which pictures of a folder are scaled where they differ in size.
const SIDE: u32 = 32;
/// Patches that a cluster should have at least.
const A_CLUSTER: usize = 200;
/// Clusters, at least and at most.
const CLUSTERS: [usize; 2] = [2, 128];
/// Pictures of a folder, at least: a tenth of them is held out twice.
const LEAST: usize = 12;
/// Pictures that are looked at.
const LOOKED_AT: usize = 500;

/// What was seen of the pictures.
struct Seen {
    set: DataSet,
    data: DataConfig,
    /// Whether colour pictures hold no colour.
    grey: bool,
    /// Share of the numbers that are the least or the greatest value.
    at_the_ends: f64,
}

/// The text of an experiment called `name` on the pictures at `place`, a folder; it was read back and fits them.
///
/// # Errors
/// A refusal where the folder holds no pictures that are known, or too few.
pub fn draft(name: &str, place: &Path) -> Result<String> {
    require!(place.is_dir(), "{}: is no folder: name the folder of the pictures", place.display());
    let place = &place.canonicalize().map_err(|error| refusal!("{}: {error}", place.display()))?;
    let seen = look(place)?;
    let text = write(name, place, &seen);
    let value = serde_yaml::from_str::<serde_yaml::Value>(&text)?;
    super::read::resolve(serde_json::to_value(value)?, "the new experiment")?;
    Ok(text)
}

/// Open the pictures as whatever they are.
fn look(place: &Path) -> Result<Seen> {
    let format = format(place);
    let mut data = config(place, format);
    if format == Format::Folder {
        let count = folder::paths(place)?.len();
        require!(count >= LEAST, "{}: holds {count} pictures, at least {LEAST} are needed", place.display());
    }
    if format == Format::Folder && !place.join("train").is_dir() {
        (data.train, data.validation, data.test) = (Some(vec![".".to_owned()]), Some(share()), Some(share()));
    } else if format == Format::Npy && !place.join("train.npy").is_file() {
        (data.train, data.validation, data.test) = (Some(vec![only_array(place)?]), Some(share()), Some(share()));
    }
    let set = match data::open(&data, 1) {
        Ok(set) => set,
        // Pictures of several sizes get one.
        Err(error) if error.is::<Refusal>() && format == Format::Folder => {
            data.resize = Resize::Resize([SIDE, SIDE]);
            data::open(&data, 1)?
        }
        Err(error) => return Err(error),
    };
    let sides = [set.shape().height, set.shape().width];
    let set = if format == Format::Folder && sides.iter().any(|side| !side.is_multiple_of(4)) {
        data.resize = Resize::Resize(sides.map(|side| (side as u32).next_multiple_of(8)));
        data::open(&data, 1)?
    } else {
        set
    };
    let numbers: Vec<usize> = (0..set.train.len().min(LOOKED_AT)).collect();
    let pixels = set.train.batch(&numbers)?;
    let colour = pixels.size()[3] == 3;
    let grey = colour && bool::try_from(pixels.eq_tensor(&pixels.narrow(3, 0, 1)).all())?;
    let ends = pixels.eq(0).logical_or(&pixels.eq(255));
    let at_the_ends = ends.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    Ok(Seen { set, data, grey, at_the_ends })
}

/// A tenth of the pictures.
fn share() -> Part {
    Part::Fraction(Fraction { share: 0.1, seed: Some(1) })
}

/// What a folder holds, by the names of its files.
fn format(place: &Path) -> Format {
    let known: [(Format, &[&str]); 4] = [
        (Format::Idx, &["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"]),
        (Format::Cifar10, &["data_batch_1.bin"]),
        (Format::Npz, &["train_data_batch_1.npz"]),
        (Format::Npy, &["train.npy"]),
    ];
    for (format, names) in known {
        if names.iter().any(|name| place.join(name).is_file()) {
            return format;
        }
    }
    if only_array(place).is_ok() { Format::Npy } else { Format::Folder }
}

/// The one `.npy` file of a folder.
fn only_array(place: &Path) -> Result<String> {
    let names = place.read_dir()?.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let arrays: Vec<String> = names.filter(|name| name.to_ascii_lowercase().ends_with(".npy")).collect();
    match &arrays[..] {
        [only] => Ok(only.clone()),
        _ => Err(refusal!("{}: holds {} arrays, expected one", place.display(), arrays.len())),
    }
}

fn config(place: &Path, format: Format) -> DataConfig {
    DataConfig {
        format,
        root: Some(place.to_owned()),
        dir: None,
        train: None,
        validation: None,
        test: None,
        train_limit: None,
        mask: None,
        levels: 256,
        resize: Resize::Exact,
        alpha: folder::Alpha::Refuse,
    }
}

/// What is chosen for the pictures.
struct Choice {
    /// Circuits over the values themselves, in place of Gaussians.
    by_values: bool,
    patch: usize,
    /// Training patches.
    patches: usize,
    clusters: usize,
    /// Pictures of a step.
    batch: usize,
}

impl Choice {
    fn of(seen: &Seen) -> Self {
        let (shape, count) = (seen.set.shape(), seen.set.train.len());
        // Pictures that are mostly black and white are no normals; circuits over the values themselves are.
        let by_values = shape.channels == 1 || seen.at_the_ends > 0.5;
        let fits = |side: &usize| {
            let whole = shape.height.is_multiple_of(*side) && shape.width.is_multiple_of(*side);
            whole && !(by_values && *side == 8) && shape.height > *side
        };
        let patch = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        let patches = count * (shape.height / patch) * (shape.width / patch);
        let clusters = (patches / A_CLUSTER).clamp(CLUSTERS[0], CLUSTERS[1]);
        Self { by_values, patch, patches, clusters, batch: (count / 16).next_multiple_of(64).clamp(64, 4096) }
    }
}

/// A name as YAML: in quotes unless it is a plain word.
fn quoted(name: &str) -> String {
    let is_word = serde_yaml::from_str::<serde_yaml::Value>(name).is_ok_and(|value| value.as_str() == Some(name));
    let is_plain = is_word && name.chars().all(|letter| letter.is_alphanumeric() || "_-.".contains(letter));
    if is_plain { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// The experiment, with what was seen and why things are chosen as they are.
fn write(name: &str, place: &Path, seen: &Seen) -> String {
    let choice = Choice::of(seen);
    let mut lines = about(seen);
    lines.extend([
        format!("# Command: lvd run {name}.yaml"),
        format!("name: {}", quoted(name)),
        "seed: 1".to_owned(),
        "# Lossless: whole pictures, every bit counted.".to_owned(),
        "protocol: lossless".to_owned(),
        format!("color: {}", if seen.set.shape().channels == 3 { ColorSpace::YcocgR } else { ColorSpace::Grey }.name()),
        "data:".to_owned(),
    ]);
    lines.extend(data_lines(place, seen));
    lines.extend(model_lines(&choice, seen.set.shape().channels == 3));
    lines.join("\n") + "\n"
}

/// What was seen of the pictures, as comments.
fn about(seen: &Seen) -> Vec<String> {
    let shape = seen.set.shape();
    let (count, valid, test) = (seen.set.train.len(), seen.set.valid.len(), seen.set.test.len());
    let plural = if shape.channels == 1 { "" } else { "s" };
    let mut lines = vec![
        "# yaml-language-server: $schema=schema.json".to_owned(),
        "# (`lvd schema > schema.json` writes it: editors then complete and check the keys)".to_owned(),
        format!(
            "# Seen: {count} training, {valid} validation and {test} test pictures of {} x {} pixels with {} channel{plural}.",
            shape.height, shape.width, shape.channels
        ),
    ];
    if seen.grey {
        lines.push(
            "# All of them are grey although they have three channels: with one they would be a third of the numbers."
                .into(),
        );
    }
    if seen.data.resize != Resize::Exact {
        lines.push(format!(
            "# They differ in size, or it is no whole number of patches: they are scaled to {0} x {1}; {{center_crop: [{0}, {1}]}} would cut.",
            shape.height, shape.width
        ));
    }
    if count < 500 {
        lines.push("# That is few: expect training to fit them much better than the others.".to_owned());
    }
    lines
}

/// The section `data:` without what is as it always is.
fn data_lines(place: &Path, seen: &Seen) -> Vec<String> {
    let values = |config: &DataConfig| serde_json::to_value(config).unwrap_or_default();
    let (data, usual) = (values(&seen.data), values(&config(place, seen.data.format)));
    let given = data.as_object().into_iter().flatten();
    let kept =
        given.filter(|(key, value)| ["format", "root"].contains(&key.as_str()) || usual.get(*key) != Some(*value));
    kept.map(|(key, value)| format!("  {key}: {value}")).collect()
}

/// Patches, teacher, latents and training.
fn model_lines(choice: &Choice, colour: bool) -> Vec<String> {
    let Choice { by_values, patch, patches, clusters, batch } = choice;
    let (family, why, features) = match (by_values, colour) {
        (true, _) => ("{kind: hclt, states: 16}", OF_VALUES, ""),
        (false, true) => {
            ("{kind: gaussian, scales: 5, scale_groups: luma_chroma}", OF_NORMALS, ", features: contrast_orientation")
        }
        (false, false) => ("{kind: gaussian}", OF_NORMALS, ", features: contrast_orientation"),
    };
    let em = |epochs: usize, from: f64| {
        format!(
            "{{epochs: {epochs}, batch: {batch}, step: {{kind: linear, from: {from}, to: 0.05}}, pseudocount: 1.0}}"
        )
    };
    vec![
        "patch:".to_owned(),
        format!("  size: {patch}"),
        why.to_owned(),
        format!("  family: {family}"),
        "# The pixel teacher needs no training; kind: vqvae trains a VQ-VAE-2, kind: features reads an array of your own.".to_owned(),
        format!("teacher: {{kind: pixel{features}}}"),
        "latents:".to_owned(),
        format!("  # {patches} training patches; about {A_CLUSTER} patches a cluster or more."),
        format!("  clusters: {clusters}"),
        "distill:".to_owned(),
        "  augment: {shifts: true, mirrors: false}".to_owned(),
        "  hard: {epochs: 1, batch: 0, step: {kind: constant, eta: 1.0}, pseudocount: 1.0}".to_owned(),
        format!("  soft: {}", em(10, 0.5)),
        format!("  joint: {}", em(3, 0.2)),
        "compute: {micro_batch: 64, watched: 1000}".to_owned(),
    ]
}

const OF_VALUES: &str = "  # hclt: hidden trees over the values themselves; exact probabilities of whole numbers.";
const OF_NORMALS: &str = "  # gaussian: Gaussians of several scales, the best for natural pictures. Readings: density (a bound) and ordered (exact).";
