//! The real image sets, where a user has them: `LVD_SHARED_DATA`, else `../shared/data`, holds `mnist/*.gz`. Each
//! test says when it is skipped.

use std::path::PathBuf;

use lvd::data::config::{DataConfig, Format};
use lvd::data::{PictureOptions, open, open_pictures};
use sha2::{Digest, Sha256};
use tch::Kind;

fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LVD_SHARED_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let found = root.join(name).is_dir().then_some(root);
    if found.is_none() {
        eprintln!("skipped: no {name} in LVD_SHARED_DATA or ../shared/data");
    }
    found
}

fn mnist(name: &str) -> Option<lvd::data::pictures::Pictures> {
    let path = folder("mnist")?.join("mnist").join(name);
    Some(open_pictures(Format::Idx, &path, PictureOptions::default()).unwrap())
}

/// The checksum of the unpacked file covers 16 bytes of header and all pixels.
#[test]
fn mnist_pixels_are_those_of_the_published_file() {
    let Some(pictures) = mnist("train-images-idx3-ubyte.gz") else { return };
    let mut digest = Sha256::new();
    for word in [0x803u32, 60_000, 28, 28] {
        digest.update(word.to_be_bytes());
    }
    for start in (0..60_000).step_by(1_000) {
        let batch = pictures.batch(&(start..start + 1_000).collect::<Vec<_>>()).unwrap();
        digest.update(Vec::<u8>::try_from(batch.reshape([-1])).unwrap());
    }
    // gzip -dc train-images-idx3-ubyte.gz | sha256sum, of the file with the published md5 f68b3c2dcbeaaa9fbdd348bbdeb94873
    assert_eq!(hex::encode(digest.finalize()), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db");
}

#[test]
fn mnist_set_has_the_parts_of_every_experiment() {
    let Some(root) = folder("mnist") else { return };
    let mut config: DataConfig = serde_yaml::from_str("{format: idx, dir: mnist}").unwrap();
    config.root = Some(root);
    let set = open(&config, 0).unwrap();
    assert_eq!([set.train.len(), set.valid.len(), set.test.len()], [55_000, 5_000, 10_000]);
    let last = set.valid.batch(&[4_999]).unwrap();
    let Some(all) = mnist("train-images-idx3-ubyte.gz") else { return };
    assert!(all.batch(&[59_999]).unwrap() == last);
    assert!(last.sum(Kind::Int64).int64_value(&[]) > 0);
}
