//! The file: every flip and cut is seen, and one recorded file.

use std::path::Path;

use lvd::codec::container::{self, Container, check_of};
use lvd::codec::{Codec, Header, Stored};
use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::run::atomic::sha256_file;
use lvd::run::checkpoint::Named;
use tch::Tensor;

use super::models::{pictures, tensor, written_gaussian, written_hclt};

fn codec(tensors: &std::collections::BTreeMap<String, Tensor>) -> Codec {
    let shape = PictureShape { height: 8, width: 8, channels: 1, levels: 256 };
    let view = View::new(shape, ColorSpace::Grey, Region::Whole, 4).unwrap();
    Codec::new(view, &Named::new(tensors)).unwrap()
}

fn write(path: &Path, codec: &Codec, pixels: &[u8]) {
    let all = codec.integers(&tensor(pixels, 1)).unwrap();
    let coded: Vec<Vec<u8>> =
        all.iter().map(|patches| codec.encode(patches, codec.view().size()).unwrap().bytes).collect();
    let index = coded.iter().zip(pixels.chunks(64)).map(|(bytes, pixels)| Stored {
        length: bytes.len() as u32,
        size: None,
        check: check_of(pixels),
        name: None,
    });
    let header = Header {
        model: [7; 32],
        stage: "joint".to_owned(),
        color: "grey".to_owned(),
        channels: 1,
        levels: 256,
        size: [8, 8],
        index: index.collect(),
    };
    container::write(path, &header, &coded).unwrap();
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
