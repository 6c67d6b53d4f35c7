//! Whole sets with their three parts, and the configuration that describes them.

use std::fs;
use std::path::Path;

use lvd::data::config::{DataConfig, Format};
use lvd::data::folder::Resize;
use lvd::data::pictures::Pictures;
use lvd::data::{PictureOptions, Split, open, open_pictures};
use lvd::refusal::Problems;
use zip::CompressionMethod;

use crate::files::{Place, cifar, grey_picture, gz, idx, npy, npz, values};

#[test]
fn an_idx_set_validates_on_its_last_pictures() {
    let place = Place::new();
    let train = idx(0x803, [5002, 1, 1], &(0..5002).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    place.write("mnist/train-images-idx3-ubyte.gz", &gz(&train));
    place.write("mnist/t10k-images-idx3-ubyte", &idx(0x803, [2, 1, 1], &[8, 9]));
    let set = open(&place.config("{format: idx, dir: mnist}"), 0).unwrap();
    assert_eq!(set.name, "mnist");
    assert_eq!((values(&set.train), set.valid.len(), values(&set.test)), (vec![0, 1], 5000, vec![8, 9]));
    assert_eq!(values(set.part(Split::Valid))[..2], [2, 3]);
    let set = open(&place.config("{format: idx, dir: mnist, validation: {last: 2}, train_limit: 3}"), 0).unwrap();
    assert_eq!((values(&set.train), values(&set.valid)), (vec![0, 1, 2], vec![(5000 % 251) as u8, (5001 % 251) as u8]));
}

#[test]
fn a_cifar_set_validates_on_batch_five() {
    let place = Place::new();
    for batch in 1..=5u8 {
        place.write(&format!("data_batch_{batch}.bin"), &cifar(10 * batch));
    }
    place.write("test_batch.bin", &cifar(100));
    let set = open(&place.config("{format: cifar10}"), 0).unwrap();
    let firsts = |p: &Pictures| values(p).chunks(3072).map(|c| c[0]).collect::<Vec<_>>();
    assert_eq!(firsts(&set.train), [10, 20, 30, 40]);
    assert_eq!((firsts(&set.valid), firsts(&set.test)), (vec![50], vec![100]));
}

#[test]
fn one_npz_file_can_be_carved_into_three_parts() {
    let place = Place::new();
    let data = npy("|u1", "False", "(10, 3)", &(0..30).collect::<Vec<_>>());
    place.write("tiny/val_32x32.npz", &npz(CompressionMethod::Stored, &[("data.npy", &data)]));
    let yaml = "{format: npz, dir: tiny, train: [val_32x32.npz], validation: {last: 2}, test: {last: 3}}";
    let set = open(&place.config(yaml), 0).unwrap();
    assert_eq!(values(&set.train), (0..15).collect::<Vec<_>>());
    assert_eq!(values(&set.valid), (15..21).collect::<Vec<_>>());
    assert_eq!(values(&set.test), (21..30).collect::<Vec<_>>());
}

#[test]
fn training_batches_are_in_the_order_of_their_numbers() {
    let place = Place::new();
    for batch in [10u8, 2, 1] {
        let data = npy("|u1", "False", "(1, 3)", &[batch; 3]);
        let name = format!("train_data_batch_{batch}.npz");
        place.write(&name, &npz(CompressionMethod::Stored, &[("data.npy", &data)]));
    }
    place.write(
        "val_data.npz",
        &npz(CompressionMethod::Stored, &[("data.npy", &npy("|u1", "False", "(1, 3)", &[7; 3]))]),
    );
    let set = open(&place.config("{format: npz, validation: {last: 1}}"), 0).unwrap();
    assert_eq!((values(&set.train), values(&set.valid)), (vec![1, 1, 1, 2, 2, 2], vec![10, 10, 10]));
}

#[test]
fn folders_have_three_parts_or_one() {
    let place = Place::new();
    for (name, count) in [("train", 4), ("valid", 1), ("test", 2)] {
        fs::create_dir(place.path(name)).unwrap();
        for i in 0..count {
            grey_picture(2, 2).save(place.path(&format!("{name}/{i}.png"))).unwrap();
        }
    }
    let lengths = |yaml: &str| {
        let set = open(&place.config(yaml), 0).unwrap();
        [set.train.len(), set.valid.len(), set.test.len()]
    };
    assert_eq!(lengths("{format: folder}"), [4, 1, 2]);
    let one = "{format: folder, train: [.], validation: {fraction: {share: 0.2}}, test: {last: 2}, resize: {center_crop: [1, 1]}}";
    assert_eq!(lengths(one), [4, 1, 2]);
}

#[test]
fn sets_that_cannot_be_opened_are_refused() {
    let place = Place::new();
    place.write("a/train.npy", &npy("|u1", "False", "(3, 1, 2)", &[0; 6]));
    place.write("a/test.npy", &npy("|u1", "False", "(3, 2, 1)", &[0; 6]));
    place.write("a/none.npy", &npy("|u1", "False", "(0, 2, 1)", &[]));
    let message = |yaml: &str| place.tell(&open(&place.config(yaml), 0).err().expect("a refusal"));
    assert_eq!(message("{format: npy, dir: b}"), "b is no folder: set data.root (or LVD_DATA) and data.dir");
    assert_eq!(message("{format: npy, dir: a}"), "a: no file valid.npy");
    assert_eq!(message("{format: idx, dir: a}"), "a: no file t10k-images-idx3-ubyte (or .gz)");
    assert_eq!(message("{format: npz, dir: a, test: {last: 1}}"), "a: no file train_data_batch_*.npz");
    let sizes = "the test pictures are 2x1x1 (height, width, channels), but the training pictures are 1x2x1 (height, width, channels)";
    assert_eq!(message("{format: npy, dir: a, validation: {last: 1}}"), sizes);
    let carved = "{format: npy, dir: a, validation: {last: 1}, test: {last: 2}}";
    let empty = "cannot take 1 of 1 training pictures as the valid part: at least one must be on each side";
    assert_eq!(message(carved), empty);
    let limit = "{format: npy, dir: a, validation: {last: 1}, test: {last: 1}, train_limit: 2}";
    assert_eq!(message(limit), "data.train_limit is 2, but the training part holds 1 pictures");
    let none = "{format: npy, dir: a, validation: {files: [none.npy]}}";
    assert_eq!(message(none), "a/none.npy holds no pictures");
    let same = "{format: npy, dir: a, validation: {files: [train.npy]}}";
    assert_eq!(message(same), "a: no files are left for the train part");
    let joined = "{format: npy, dir: a, train: [train.npy, test.npy], validation: {last: 1}, test: {last: 1}}";
    let differ = "the train files of a: pictures of different sizes: 1x2x1 (height, width, channels) and 2x1x1 (height, width, channels)";
    assert_eq!(message(joined), differ);
}

#[test]
fn a_set_of_files_needs_a_root() {
    if std::env::var_os("LVD_DATA").is_some() {
        return eprintln!("skipped: LVD_DATA is set");
    }
    let config: DataConfig = serde_yaml::from_str("format: idx").unwrap();
    let expected = "data.root is not set: give the folder of your image sets (--set data.root=DIR, or LVD_DATA=DIR)";
    assert_eq!(open(&config, 0).err().unwrap().to_string(), expected);
}

#[test]
fn the_embedded_set_opens_without_a_root() {
    let config: DataConfig = serde_yaml::from_str("format: embedded").unwrap();
    let set = open(&config, 3).unwrap();
    assert_eq!([set.train.len(), set.valid.len(), set.test.len()], [1_297, 200, 300]);
    assert_eq!((set.name.as_str(), set.shape().levels), ("digits", 17));
    let again = open_pictures(Format::Embedded, Path::new(""), PictureOptions::default()).unwrap();
    assert_eq!(again.sha256(), set.test.sha256());
}

#[test]
fn the_photographs_open_without_a_root_and_have_256_levels() {
    let config: DataConfig = serde_yaml::from_str("{format: photographs, train_limit: 100}").unwrap();
    let set = open(&config, 3).unwrap();
    assert_eq!([set.train.len(), set.valid.len(), set.test.len()], [100, 160, 160]);
    assert_eq!((set.name.as_str(), set.shape().levels, set.shape().channels), ("photographs", 256, 3));
    let mut problems = Problems::default();
    let config: DataConfig = serde_yaml::from_str("{format: photographs, levels: 17, dir: x}").unwrap();
    config.check("data", &mut problems);
    let told = problems.into_result("experiment").unwrap_err().to_string();
    assert!(told.contains("data.levels: has no meaning for format: photographs"), "{told}");
}

#[test]
fn configurations_read_alike_from_yaml_and_json() {
    let yaml =
        "{format: folder, validation: {fraction: {share: 0.1, seed: 3}}, test: {files: [a]}, resize: {resize: [2, 3]}}";
    let config: DataConfig = serde_yaml::from_str(yaml).unwrap();
    assert_eq!(config.resize, Resize::Resize([2, 3]));
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["validation"]["fraction"]["share"], 0.1);
    assert_eq!(serde_json::from_value::<DataConfig>(json).unwrap(), config);
    let text = serde_yaml::to_string(&config).unwrap();
    assert_eq!(serde_yaml::from_str::<DataConfig>(&text).unwrap(), config);
    let exact: DataConfig = serde_yaml::from_str("{format: folder, resize: exact}").unwrap();
    assert_eq!(exact.resize, Resize::Exact);
    let unknown = serde_yaml::from_str::<DataConfig>("{format: idx, sort: true}").unwrap_err().to_string();
    assert!(unknown.starts_with("unknown field `sort`"), "{unknown}");
}

#[test]
fn the_schema_accepts_what_is_accepted() {
    let schema = serde_json::to_value(schemars::schema_for!(DataConfig)).unwrap();
    let checker = jsonschema::validator_for(&schema).unwrap();
    let json = |yaml: &str| serde_yaml::from_str::<serde_json::Value>(yaml).unwrap();
    assert!(checker.is_valid(&json("{format: npz, validation: {last: 2}, test: {files: [a]}}")));
    assert!(checker.is_valid(&json("{format: folder, resize: {center_crop: [2, 2]}}")));
    assert!(checker.is_valid(&json("{format: folder, resize: exact}")));
    assert!(!checker.is_valid(&json("{format: npz, sort: true}")));
    assert!(!checker.is_valid(&json("{format: npz, validation: {first: 2}}")));
}

#[test]
fn problems_are_reported_together() {
    let yaml = "{format: embedded, dir: x, train_limit: 0, levels: 1, train: [], resize: {resize: [0, 1]}}";
    let config: DataConfig = serde_yaml::from_str(yaml).unwrap();
    let mut problems = Problems::default();
    config.check("data", &mut problems);
    let expected = "e.yaml: 8 problems
  data.train: names no file
  data.train_limit: must be at least 1, found 0
  data.levels: must be 2 to 256, found 1
  data.resize: sizes must be at least 1, found [0, 1]
  data.resize: is only for format: folder
  data.dir: has no meaning for format: embedded
  data.train: has no meaning for format: embedded
  data.levels: has no meaning for format: embedded";
    assert_eq!(problems.into_result("e.yaml").unwrap_err().to_string(), expected);
}
