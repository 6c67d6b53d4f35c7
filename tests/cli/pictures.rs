//! Pictures of every kind, good and odd, through the binary.

use std::io::Write;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, LumaA, RgbImage, Rgba, RgbaImage};

use super::{error, json, lvd, text, tiny};
use lvd::data::folder::Alpha;

/// A folder of 30 grey pictures of 8 x 8 with edges in them.
fn pictures(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for n in 0..30u32 {
        let value = |x: u32, y: u32| (n * 37 + y * (11 + n % 5) + x * 23 * (n % 3)) as u8;
        GrayImage::from_fn(8, 8, |x, y| Luma([value(x, y)])).save(folder.join(format!("{n:02}.png"))).unwrap();
    }
}

const CARVED: &str =
    "data={format: folder, root: set, train: [.], validation: {fraction: {share: 0.2}}, test: {fraction: {share: 0.2}}";

fn plan(folder: &Path, more: &str) -> String {
    let data = format!("{CARVED}{more}}}");
    error(folder, &["plan", "tiny.yaml", "--set", &data], 2)
}

#[test]
fn odd_pictures_are_refused_by_name_or_taken_by_a_stated_rule() {
    let folder = tiny();
    let set = folder.path().join("set");
    pictures(&set);
    let with = |name: &str, bytes: &[u8], more: &str| {
        std::fs::write(set.join(name), bytes).unwrap();
        let message = plan(folder.path(), more);
        std::fs::remove_file(set.join(name)).unwrap();
        message
    };
    let jpeg = |picture: DynamicImage| {
        let mut bytes = Vec::new();
        picture.write_with_encoder(JpegEncoder::new(&mut bytes)).unwrap();
        bytes
    };
    let whole = jpeg(GrayImage::from_fn(8, 8, |x, y| Luma([(x * 30 + y) as u8])).into());
    let half = with("a.jpg", &whole[..whole.len() - 20], "");
    assert!(half.contains("a.jpg: broken picture: the file ends before the picture does"), "{half}");
    // Four colours in the frame are inks.
    let mut inks = jpeg(RgbImage::new(8, 8).into());
    let frame = inks.windows(2).position(|m| m == [0xff, 0xc0]).unwrap();
    inks[frame + 9] = 4;
    assert!(with("b.jpg", &inks, "").contains("b.jpg: its colours are inks (CMYK): convert it to RGB"));
    assert!(with("c.png", b"", "").contains("c.png: is empty"));
    assert!(with("d.png", b"hello", "").contains("d.png: broken picture"));
    let png = std::fs::read(set.join("00.png")).unwrap();
    assert!(with("e.png", &png[..png.len() / 2], "").contains("e.png: broken picture"));
    let mut animated = png[..33].to_vec();
    animated.extend([0, 0, 0, 8]);
    animated.extend(b"acTL");
    animated.extend(&png[33..]);
    assert!(with("f.png", &animated, "").contains("f.png: is an animation (APNG)"));
    let deep = set.join("g.png");
    ImageBuffer::<Luma<u16>, Vec<u16>>::new(8, 8).save(&deep).unwrap();
    let message = plan(folder.path(), "");
    assert!(message.contains("g.png: colour type is L16, expected L8 or Rgb8 (8 bits a channel)"), "{message}");
    std::fs::remove_file(deep).unwrap();
    RgbImage::new(8, 9).save(set.join("h.png")).unwrap();
    assert!(plan(folder.path(), "").contains("h.png is 9x8, but "), "another size");
}

#[test]
fn transparency_is_refused_unless_a_ground_is_named() {
    let folder = tiny();
    let set = folder.path().join("set");
    pictures(&set);
    let clear = ImageBuffer::<LumaA<u8>, Vec<u8>>::from_pixel(8, 8, LumaA([100, 51]));
    clear.save(set.join("zz.png")).unwrap();
    assert!(
        plan(folder.path(), "")
            .contains("zz.png: colour type is La8, with transparency: set data.alpha to white, black")
    );
    let options = |alpha| lvd::data::PictureOptions { alpha, ..lvd::data::PictureOptions::default() };
    for (alpha, expected) in [(Alpha::White, 224), (Alpha::Black, 20), (Alpha::Drop, 100)] {
        // 100 * 0.2 + ground * 0.8
        let pictures = lvd::data::open_pictures(lvd::data::Format::Folder, &set, options(alpha)).unwrap();
        assert_eq!(pictures.batch(&[30]).unwrap().int64_value(&[0, 3, 3, 0]), expected, "{alpha:?}");
    }
    RgbaImage::from_pixel(8, 8, Rgba([10, 20, 30, 0])).save(set.join("zz.png")).unwrap();
    let pictures = lvd::data::open_pictures(lvd::data::Format::Folder, &set, options(Alpha::White)).unwrap();
    assert_eq!(pictures.shape().channels, 3);
    assert_eq!(pictures.batch(&[30]).unwrap().int64_value(&[0, 0, 0, 2]), 255);
}

#[test]
fn an_orientation_is_followed_and_what_is_left_out_is_named() {
    let folder = tiny();
    let set = folder.path().join("set");
    std::fs::create_dir_all(&set).unwrap();
    // A picture of 8 x 4 whose left half is bright, stored so that it must be turned by a quarter to the right.
    let mut bytes = Vec::new();
    let picture = DynamicImage::from(GrayImage::from_fn(8, 4, |x, _| Luma([if x < 4 { 255 } else { 0 }])));
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 100)).unwrap();
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = bytes[..2].to_vec();
    turned.extend([0xff, 0xe1, 0, (tiff.len() + 2) as u8]);
    turned.extend(tiff);
    turned.extend(&bytes[2..]);
    std::fs::write(set.join("a.jpg"), turned).unwrap();
    let pictures =
        lvd::data::open_pictures(lvd::data::Format::Folder, &set, lvd::data::PictureOptions::default()).unwrap();
    let shape = pictures.shape();
    assert_eq!((shape.height, shape.width), (8, 4));
    let seen = pictures.batch(&[0]).unwrap();
    assert!(seen.int64_value(&[0, 0, 2, 0]) > 200 && seen.int64_value(&[0, 7, 2, 0]) < 50);

    std::fs::remove_file(set.join("a.jpg")).unwrap();
    pictures_with_links(&set);
    let data = format!("{CARVED}}}");
    let output = lvd(folder.path(), &["plan", "tiny.yaml", "--set", &data]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("1 links, which are not followed, are left out, the first is set/./link.png"), "{said}");
    assert!(
        said.contains("1 pictures that are neither PNG nor JPEG, are left out, the first is set/./old.gif"),
        "{said}"
    );
}

fn pictures_with_links(set: &Path) {
    pictures(set);
    std::os::unix::fs::symlink("00.png", set.join("link.png")).unwrap();
    std::fs::write(set.join("old.gif"), "GIF89a").unwrap();
}

#[test]
fn a_flat_folder_says_how_parts_are_carved_and_can_be() {
    let folder = tiny();
    pictures(&folder.path().join("set"));
    let message = error(folder.path(), &["plan", "tiny.yaml", "--set", "data={format: folder, root: set}"], 2);
    assert!(
        message.contains("no file ") && message.contains("data: {train: [.], validation: {fraction: {share: 0.1}}"),
        "{message}"
    );
    let data = format!("{CARVED}}}");
    let output = lvd(folder.path(), &["plan", "tiny.yaml", "--set", &data]);
    assert!(
        text(&output.stdout).contains("20 training, 4 validation, 6 test"),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn pictures_of_ones_own_are_brought_to_the_levels_of_the_digits_when_asked_to() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml", "--run-dir", "run"]).status.success());
    let config = std::fs::read_to_string(folder.path().join("run/config.yaml")).unwrap();
    assert!(config.contains("levels: 17"), "{config}");
    pictures(&folder.path().join("own"));
    let own = ["eval", "run", "--data", "own", "--format", "folder"];
    let message = error(folder.path(), &own, 2);
    assert!(message.ends_with("with 256 levels, the model was trained for 8 x 8 x 1 with 17\n  --requantise brings 256 levels to the model's"), "{message}");
    let report = json(folder.path(), &[&own[..], &["--requantise", "--json"]].concat());
    assert_eq!(report["split"], "own, 17 of 256 levels");
    assert_eq!(report["num_images"], 30);
}

#[test]
fn broken_arrays_and_archives_are_refused_at_once() {
    let folder = tiny();
    let refused = |name: &str, format: &str| {
        let data =
            format!("data={{format: {format}, root: ., train: [{name}], validation: {{last: 2}}, test: {{last: 2}}}}");
        error(folder.path(), &["plan", "tiny.yaml", "--set", &data], 2)
    };
    let npy = |shape: &str| {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        [b"\x93NUMPY\x01\0\x76\0", header.as_bytes()].concat()
    };
    for shape in ["(0, 4294967296, 4294967296)", "(18446744073709551615, 8, 8)", "(3, 8, 8)", "(5,)", "(0, 8, 8)"] {
        std::fs::write(folder.path().join("a.npy"), npy(shape)).unwrap();
        let message = refused("a.npy", "npy");
        assert!(message.contains("a.npy"), "{shape}: {message}");
    }
    // The same written in other ways, and far behind in a padded header.
    for (quote, gap, padding) in [("'", "", 0), ("\"", "   ", 0), ("'", " ", 6000)] {
        let shape = "(18446744073709551615, 8, 8)";
        let filler = " ".repeat(padding);
        let header = format!(
            "{{{filler}{quote}descr{quote}: '|u1', {quote}fortran_order{quote}: False, {quote}shape{quote}:{gap}{shape}}}\n"
        );
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        std::fs::write(folder.path().join("a.npy"), [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat())
            .unwrap();
        assert!(refused("a.npy", "npy").contains("a.npy: broken npy array"), "{quote}{gap}{padding}");
    }
    // A stored entry of which a byte has changed.
    let mut npz = ndarray_npy::NpzWriter::new(std::fs::File::create(folder.path().join("a.npz")).unwrap());
    npz.add_array("data", &ndarray::Array2::<u8>::from_elem((6, 192), 7)).unwrap();
    npz.finish().unwrap();
    let mut bytes = std::fs::read(folder.path().join("a.npz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("a.npz"), bytes).unwrap();
    let message = refused("a.npz", "npz");
    assert!(message.contains("a.npz: broken npz file: ") && message.to_lowercase().contains("checksum"), "{message}");
    // CIFAR-100, and a label that CIFAR-10 does not have.
    std::fs::write(folder.path().join("c.bin"), vec![0u8; 3074 * 5]).unwrap();
    assert!(refused("c.bin", "cifar10").contains("these are records of CIFAR-100"));
    std::fs::write(folder.path().join("c.bin"), vec![10u8; 3073 * 5]).unwrap();
    assert!(refused("c.bin", "cifar10").contains("the label of record 0 is 10, expected 0 to 9"));
    for (format, name) in [("npy", "f.npy"), ("idx", "f"), ("npz", "f.npz"), ("cifar10", "f.bin")] {
        assert!(std::process::Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
        assert!(refused(name, format).contains("it is no regular file"), "{format}");
    }
}

#[test]
fn a_full_folder_of_temporary_files_is_told_as_one() {
    let folder = tiny();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = vec![0, 0, 8, 3];
    for number in [3000u32, 8, 8] {
        header.extend(number.to_be_bytes());
    }
    packed.write_all(&header).unwrap();
    packed.write_all(&vec![3; 3000 * 64]).unwrap();
    std::fs::write(folder.path().join("a.gz"), packed.finish().unwrap()).unwrap();
    let binary = assert_cmd::cargo::cargo_bin("lvd");
    let data = "data={format: idx, root: ., train: [a.gz], validation: {last: 2}, test: {last: 2}}";
    // Files of at most 100 blocks of 512 bytes.
    let command = format!("ulimit -f 100; trap '' XFSZ; exec {} plan tiny.yaml --set '{data}'", binary.display());
    let output = std::process::Command::new("sh").current_dir(folder.path()).args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("lvd: cannot write a temporary file in ") && said.contains("(set TMPDIR to another folder)"),
        "{said}"
    );
}
