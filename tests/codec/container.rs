//! The file: every flip and cut is seen, and one recorded file.

use std::path::Path;

use lvd::codec::container::{self, Container, check_of};
use lvd::codec::{Codec, Header, Stored};
use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::patch::config::ScaleGroups;
use lvd::run::atomic::sha256_file;
use lvd::run::checkpoint::Named;
use lvd::wavelet::Transform;
use tch::Tensor;

use super::models::{CASES, Case, Kinds, Latents, NETWORK, pictures, tensor, written_gaussian, written_hclt};

fn codec(tensors: &std::collections::BTreeMap<String, Tensor>) -> Codec {
    let shape = PictureShape { height: 8, width: 8, channels: 1, levels: 256 };
    let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
    Codec::new(view, &Named::new(tensors)).unwrap()
}

fn write(path: &Path, codec: &Codec, pixels: &[u8]) {
    let shape = codec.view().shape();
    let all = codec.integers(&tensor(pixels, shape.channels)).unwrap();
    let coded: Vec<Vec<u8>> =
        all.iter().map(|patches| codec.encode(patches, codec.view().size()).unwrap().bytes).collect();
    let checks = pixels.chunks(shape.dimensions()).map(check_of);
    write_coded(path, codec, [8, 8], coded.into_iter().zip(checks).collect());
}

/// A container of pictures of one size that are coded already, with the hashes of their pixels.
fn write_coded(path: &Path, codec: &Codec, size: [u32; 2], coded: Vec<(Vec<u8>, [u8; 8])>) {
    let index =
        coded.iter().map(|(bytes, check)| Stored { length: bytes.len() as u32, size: None, check: *check, name: None });
    let header = Header {
        model: [7; 32],
        stage: "joint".to_owned(),
        color: codec.view().color.name().to_owned(),
        channels: codec.view().shape().channels as u8,
        levels: 256,
        size,
        index: index.collect(),
    };
    let bytes: Vec<Vec<u8>> = coded.into_iter().map(|(bytes, _)| bytes).collect();
    container::write(path, &header, &bytes).unwrap();
}

/// All pictures of a file, or why not.
fn read(path: &Path, codec: &Codec) -> anyhow::Result<Vec<u8>> {
    let mut file = Container::open(path)?;
    let mut all = Vec::new();
    for number in 0..file.len() {
        let bytes = file.picture(number)?;
        all.extend(codec.restore(file.header(), number, &bytes)?);
    }
    Ok(all)
}

#[test]
fn every_flipped_byte_and_every_cut_is_seen_or_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (path, broken) = (folder.path().join("a.lvdz"), folder.path().join("b.lvdz"));
    let codec = codec(&written_gaussian());
    let pixels = pictures(2, 1, 5);
    write(&path, &codec, &pixels);
    assert_eq!(read(&path, &codec).unwrap(), pixels);
    let bytes = std::fs::read(&path).unwrap();
    for place in 0..bytes.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut other = bytes.clone();
            other[place] ^= flip;
            std::fs::write(&broken, &other).unwrap();
            // The hash of the model is compared by the program: here it may be any.
            match read(&broken, &codec) {
                Ok(back) => assert_eq!(back, pixels, "byte {place}"),
                Err(error) => assert!(error.is::<lvd::refusal::Refusal>(), "byte {place}: {error:#}"),
            }
        }
        std::fs::write(&broken, &bytes[..place]).unwrap();
        let error = read(&broken, &codec).unwrap_err();
        assert!(error.is::<lvd::refusal::Refusal>(), "{place} bytes: {error:#}");
    }
    std::fs::write(&broken, [&bytes[..], b"x"].concat()).unwrap();
    assert!(format!("{:#}", read(&broken, &codec).unwrap_err()).contains("is damaged or cut off: has"));
}

/// The same for a picture of every family, a bit of every byte.
#[test]
fn a_flip_or_a_cut_gives_an_error_or_the_picture_in_every_family() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.lvdz");
    for case in CASES {
        let codec = case.codec(&case.model());
        let pixels = pictures(1, case.channels(), 5);
        write(&path, &codec, &pixels);
        assert_eq!(read(&path, &codec).unwrap(), pixels);
        let bytes = std::fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 1 << (place % 8);
            std::fs::write(&path, &other).unwrap();
            match read(&path, &codec) {
                Ok(back) => assert_eq!(back, pixels, "{case:?}: byte {place}"),
                Err(error) => assert!(error.is::<lvd::refusal::Refusal>(), "{case:?}: byte {place}: {error:#}"),
            }
            std::fs::write(&path, &bytes[..place]).unwrap();
            assert!(read(&path, &codec).unwrap_err().is::<lvd::refusal::Refusal>(), "{case:?}: {place} bytes");
        }
    }
}

/// Headers whose checksum is right, and whose pictures are larger than their bytes could say.
#[test]
fn pictures_that_their_bytes_are_too_few_for_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.lvdz");
    let kind = Kinds::Context(ScaleGroups::LumaChroma, NETWORK);
    let case = Case(kind, Latents::Independent, ColorSpace::YcocgR, Transform::None);
    let codec = case.codec(&case.model());
    let noise: Vec<u8> = (0..4_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // No bytes at all; so many that a picture of one colour could have as few; bytes that say too much at once.
    for (size, bytes) in [([65_536; 2], vec![]), ([65_536; 2], vec![0; 1000]), ([9000; 2], noise)] {
        write_coded(&path, &codec, size, vec![(bytes, [0; 8])]);
        let started = std::time::Instant::now();
        let error = read(&path, &codec).unwrap_err().to_string();
        let [side, _] = size;
        assert_eq!(error, "picture 0 is damaged: the bytes are no picture that this model has coded", "{side}");
        assert!(started.elapsed().as_secs() < 60, "{side}: {:?}", started.elapsed());
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.lvdz");
    let said = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        format!("{:#}", Container::open(&path).unwrap_err()).replace(&path.display().to_string(), "a.lvdz")
    };
    assert_eq!(said(b"PK"), "a.lvdz: is no container of coded pictures (.lvdz)");
    assert_eq!(said(b"lvdz\x02aaaabbbb"), "a.lvdz: has version 2 of the format, this program reads 1");
    assert_eq!(said(b"lvdz\x01\xff\xff\xff\xff...."), "a.lvdz: is damaged or cut off: its header ends after the file");
    // A header whose checksum is right and whose index claims 2^60 pictures.
    let mut body = [vec![7; 32], vec![0, 0, 1, 128, 2, 8, 8]].concat();
    body.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let mut front = [b"lvdz\x01".to_vec(), (body.len() as u32).to_le_bytes().to_vec(), body].concat();
    front.extend(crc32fast::hash(&front).to_le_bytes());
    assert!(said(&front).starts_with("a.lvdz: is damaged: its header cannot be read"), "{}", said(&front));
    let missing = folder.path().join("none.lvdz");
    assert!(Container::open(&missing).unwrap_err().to_string().starts_with("cannot open "));
}

#[test]
fn the_recorded_files_come_out_whatever_the_machine_and_the_optimisation() {
    let folder = tempfile::tempdir().unwrap();
    let pixels =
        [pictures(3, 1, 5), (0..64).map(|i| (i * 37 % 256) as u8).collect(), vec![0; 64], vec![255; 64]].concat();
    let recorded = [
        (written_gaussian(), "0a908b87652af5d53576ad3a1ed6d0ef2df9463aac3026a23c73e6a7dc984df9"),
        (written_hclt(), "4d2d0dbfd97f73d8aa21b50045efcdfe0228b90a0b56a4e45653beec4f72fa15"),
    ];
    for (tensors, expected) in recorded {
        let (path, codec) = (folder.path().join("a.lvdz"), codec(&tensors));
        write(&path, &codec, &pixels);
        assert_eq!(read(&path, &codec).unwrap(), pixels);
        assert_eq!(sha256_file(&path).unwrap(), expected);
    }
}
