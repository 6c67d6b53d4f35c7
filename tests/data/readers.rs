//! One file or folder at a time.

use std::fs;
use std::io::Cursor;

use image::{ColorType, GrayImage, RgbImage};
use lvd::data::config::Format;
use lvd::data::folder::Resize;
use lvd::data::{PictureOptions, open_pictures};
use zip::CompressionMethod;

use crate::files::{Place, cifar, grey_picture, gz, idx, npy, npz, read, size, values};

#[test]
fn idx_plain_and_packed() {
    let place = Place::new();
    let bytes = idx(0x803, [2, 1, 3], &[1, 2, 3, 4, 5, 6]);
    for path in [place.write("a", &bytes), place.write("a.gz", &gz(&bytes))] {
        let pictures = read(Format::Idx, &path);
        assert_eq!(size(&pictures), [2, 1, 3, 1]);
        assert_eq!(values(&pictures), [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn wrong_idx_files_are_refused() {
    let place = Place::new();
    let good = idx(0x803, [2, 1, 3], &[1, 2, 3, 4, 5, 6]);
    let packed = gz(&good);
    place.write("short", &good[..20]);
    place.write("long", &[&good[..], &[7]].concat());
    place.write("long.gz", &gz(&[&good[..], &[7, 8]].concat()));
    place.write("short.gz", &gz(&good[..21]));
    place.write("labels", &idx(0x801, [2, 0, 0], &[]));
    place.write("magic", &idx(7, [2, 0, 0], &[]));
    place.write("tiny", &[0, 0, 8]);
    place.write("cut.gz", &packed[..packed.len() - 4]);
    place.write("plain.gz", &good);
    place.write("empty.gz", &gz(&idx(0x803, [0, 28, 0], &[])));
    place.write("huge", &idx(0x803, [u32::MAX; 3], &[]));
    let size = "2 pictures of 1x3 need 22 bytes with the header, found";
    let magic = "expected 0x00000803 (IDX, bytes, 3-d)";
    let expected = [
        ("short", format!("short: {size} 20")),
        ("long", format!("long: {size} 23")),
        ("long.gz", format!("long.gz: {size} more than 22")),
        ("short.gz", format!("short.gz: {size} 21")),
        ("labels", format!("labels: magic number is 0x00000801 (this is a file of labels), {magic}")),
        ("magic", format!("magic: magic number is 0x00000007, {magic}")),
        ("tiny", "tiny: an IDX file of pictures begins with 16 bytes, found 3".to_owned()),
        ("cut.gz", "cut.gz: broken gzip file: unexpected end of file".to_owned()),
        ("plain.gz", "plain.gz: broken gzip file: invalid gzip header".to_owned()),
        ("empty.gz", "empty.gz: pictures of 28x0x1 (height, width, channels) hold no pixels".to_owned()),
        (
            "huge",
            "huge: 4294967295 pictures of 4294967295x4294967295 need 18446744073709551615 bytes with the header, found 16"
                .to_owned(),
        ),
        ("none", "cannot open none: No such file or directory (os error 2)".to_owned()),
    ];
    for (name, message) in expected {
        assert_eq!(place.refused(Format::Idx, name), message);
    }
}

#[test]
fn values_above_the_levels_are_refused() {
    let place = Place::new();
    place.write("a", &idx(0x803, [2, 1, 3], &[1, 2, 3, 4, 17, 6]));
    let options = PictureOptions { levels: 17, ..PictureOptions::default() };
    assert_eq!(place.refused_with(Format::Idx, "a", options), "a: picture 1 holds the value 17, expected 0 to 16");
}

#[test]
fn cifar_records() {
    let place = Place::new();
    let path = place.write("a.bin", &[cifar(10), cifar(20)].concat());
    let pictures = read(Format::Cifar10, &path);
    assert_eq!(size(&pictures), [2, 32, 32, 3]);
    assert_eq!(values(&pictures)[3069..3075], [10, 11, 12, 20, 21, 22]);
    place.write("b.bin", &cifar(1)[..3072]);
    let rule = "bytes are no whole number of CIFAR-10 records of 3073 bytes (binary version, label and 3 planes)";
    assert_eq!(place.refused(Format::Cifar10, "b.bin"), format!("b.bin: 3072 {rule}"));
    place.write("c.bin", &[]);
    assert_eq!(place.refused(Format::Cifar10, "c.bin"), format!("c.bin: 0 {rule}"));
}

#[test]
fn npy_arrays() {
    let place = Place::new();
    let grey = place.write("grey.npy", &npy("|u1", "False", "(2, 1, 2)", &[1, 2, 3, 4]));
    assert_eq!(size(&read(Format::Npy, &grey)), [2, 1, 2, 1]);
    assert_eq!(values(&read(Format::Npy, &grey)), [1, 2, 3, 4]);
    let colour = place.write("colour.npy", &npy("|u1", "False", "(1, 1, 2, 3)", &[1, 2, 3, 4, 5, 6]));
    assert_eq!(size(&read(Format::Npy, &colour)), [1, 1, 2, 3]);
    assert_eq!(values(&read(Format::Npy, &colour)), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn wrong_npy_arrays_are_refused() {
    let place = Place::new();
    place.write("float.npy", &npy("<f4", "False", "(1, 1, 1)", &[0; 4]));
    place.write("flat.npy", &npy("|u1", "False", "(4,)", &[0; 4]));
    place.write("two.npy", &npy("|u1", "False", "(1, 1, 2, 2)", &[0; 4]));
    place.write("short.npy", &npy("|u1", "False", "(2, 1, 2)", &[0; 3]));
    place.write("fortran.npy", &npy("|u1", "True", "(2, 1, 2)", &[0; 4]));
    place.write("text.npy", b"hello, world");
    let shape = "expected [N, H, W] or [N, H, W, C] with 1 or 3 channels";
    let expected = [
        ("float.npy", "float.npy: element type is '<f4', expected '|u1' (save it with .astype('uint8'))".to_owned()),
        ("flat.npy", format!("flat.npy: shape is [4], {shape}")),
        ("two.npy", format!("two.npy: shape is [1, 1, 2, 2], {shape}")),
        ("short.npy", "short.npy: broken npy array: missing 1 bytes of data specified in header".to_owned()),
        (
            "fortran.npy",
            "fortran.npy: is in Fortran order, expected C order (save it with np.ascontiguousarray)".to_owned(),
        ),
        ("text.npy", "text.npy: broken npy array: error parsing header: start does not match magic string".to_owned()),
    ];
    for (name, message) in expected {
        assert_eq!(place.refused(Format::Npy, name), message);
    }
}

#[test]
fn npz_archives_stored_and_deflated() {
    let place = Place::new();
    let planes: Vec<u8> = (0..24).collect();
    let data = npy("|u1", "False", "(2, 12)", &planes);
    let labels = npy("<i8", "False", "(2,)", &[0; 16]);
    for (name, method) in [("a", CompressionMethod::Stored), ("b", CompressionMethod::Deflated)] {
        let path = place.write(name, &npz(method, &[("labels.npy", &labels), ("data.npy", &data)]));
        let pictures = read(Format::Npz, &path);
        assert_eq!(size(&pictures), [2, 2, 2, 3]);
        assert_eq!(values(&pictures)[..12], [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(values(&pictures)[12..15], [12, 16, 20]);
    }
}

#[test]
fn wrong_npz_archives_are_refused() {
    let place = Place::new();
    let data = npy("|u1", "False", "(2, 12)", &[0; 24]);
    let good = npz(CompressionMethod::Deflated, &[("data.npy", &data)]);
    place.write("cut.npz", &good[..good.len() - 30]);
    place.write("names.npz", &npz(CompressionMethod::Stored, &[("x.npy", &data), ("y.npy", &data)]));
    let odd = npy("|u1", "False", "(2, 15)", &[0; 30]);
    place.write("odd.npz", &npz(CompressionMethod::Stored, &[("data.npy", &odd)]));
    let mut damaged = good.clone();
    damaged[60] ^= 0xff;
    place.write("damaged.npz", &damaged);
    let shape = "expected [N, 3*S*S] (3072 numbers a picture for 32x32, 12288 for 64x64)";
    assert_eq!(place.refused(Format::Npz, "names.npz"), "names.npz: no array `data`, found x, y");
    assert_eq!(place.refused(Format::Npz, "odd.npz"), format!("odd.npz, array data: shape is [2, 15], {shape}"));
    assert!(place.refused(Format::Npz, "cut.npz").starts_with("cut.npz: broken npz file: "));
    assert!(place.refused(Format::Npz, "damaged.npz").starts_with("damaged.npz: broken npz file: "));
}

#[test]
fn folders_of_pictures() {
    let place = Place::new();
    fs::create_dir_all(place.path("set/deep")).unwrap();
    grey_picture(2, 3).save(place.path("set/b.png")).unwrap();
    let pictures = read(Format::Folder, &place.path("set"));
    assert_eq!((size(&pictures), values(&pictures)), ([1, 2, 3, 1], vec![0, 1, 2, 10, 11, 12]));
    // With a colour picture in the set, grey ones get three equal channels; order is that of the paths.
    RgbImage::from_pixel(3, 2, image::Rgb([7, 8, 9])).save(place.path("set/deep/a.PNG")).unwrap();
    let pictures = read(Format::Folder, &place.path("set"));
    assert_eq!(size(&pictures), [2, 2, 3, 3]);
    assert_eq!(values(&pictures)[..6], [0, 0, 0, 1, 1, 1]);
    assert_eq!(values(&pictures)[18..24], [7, 8, 9, 7, 8, 9]);
}

#[test]
fn jpeg_pictures_are_read() {
    let place = Place::new();
    fs::create_dir(place.path("set")).unwrap();
    RgbImage::from_pixel(8, 8, image::Rgb([200, 100, 50])).save(place.path("set/a.jpg")).unwrap();
    let pictures = read(Format::Folder, &place.path("set"));
    assert_eq!(size(&pictures), [1, 8, 8, 3]);
    for (found, expected) in values(&pictures).iter().zip([200u8, 100, 50].iter().cycle()) {
        assert!(found.abs_diff(*expected) <= 4, "{found} is far from {expected}");
    }
}

#[test]
fn sizes_are_made_equal_only_by_a_rule() {
    let place = Place::new();
    fs::create_dir(place.path("set")).unwrap();
    grey_picture(4, 4).save(place.path("set/a.png")).unwrap();
    grey_picture(3, 5).save(place.path("set/b.png")).unwrap();
    let rule = "make them equal, or set resize to {resize: [h, w]} or {center_crop: [h, w]}";
    let message = format!("set/b.png is 3x5, but set/a.png is 4x4: {rule}");
    assert_eq!(place.refused(Format::Folder, "set"), message);
    let with = |resize| PictureOptions { resize, ..PictureOptions::default() };
    let cropped = open_pictures(Format::Folder, &place.path("set"), with(Resize::CenterCrop([2, 2]))).unwrap();
    assert_eq!(values(&cropped), [11, 12, 21, 22, 1, 2, 11, 12]);
    let small = place.refused_with(Format::Folder, "set", with(Resize::CenterCrop([4, 4])));
    assert_eq!(small, "set/b.png is 3x5, too small for center_crop: [4, 4]");
    let resized = open_pictures(Format::Folder, &place.path("set"), with(Resize::Resize([2, 3]))).unwrap();
    assert_eq!(size(&resized), [2, 2, 3, 1]);
}

#[test]
fn resizing_keeps_a_flat_picture_flat() {
    let place = Place::new();
    fs::create_dir(place.path("set")).unwrap();
    GrayImage::from_pixel(9, 7, image::Luma([77])).save(place.path("set/a.png")).unwrap();
    let options = PictureOptions { resize: Resize::Resize([2, 4]), ..PictureOptions::default() };
    let pictures = open_pictures(Format::Folder, &place.path("set"), options).unwrap();
    assert_eq!((size(&pictures), values(&pictures)), ([1, 2, 4, 1], vec![77; 8]));
}

#[test]
fn wrong_folders_are_refused() {
    let place = Place::new();
    place.write("text/a.txt", b"hello");
    place.write("broken/a.png", b"hello");
    fs::create_dir(place.path("clear")).unwrap();
    let clear = [0u8; 4];
    image::save_buffer(place.path("clear/a.png"), &clear, 1, 1, ColorType::Rgba8).unwrap();
    let mut cut = Cursor::new(Vec::new());
    grey_picture(20, 20).write_to(&mut cut, image::ImageFormat::Png).unwrap();
    place.write("cut/a.png", &cut.into_inner()[..80]);
    assert_eq!(place.refused(Format::Folder, "text"), "text: no pictures in this folder (.png, .jpg, .jpeg)");
    assert!(place.refused(Format::Folder, "broken").starts_with("broken/a.png: broken picture: "));
    assert!(place.refused(Format::Folder, "cut").starts_with("cut/a.png: broken picture: "));
    let clear = "clear/a.png: colour type is Rgba8, with transparency: set data.alpha to white, black (the ground that pictures are laid on) or drop";
    assert_eq!(place.refused(Format::Folder, "clear"), clear);
    assert!(place.refused(Format::Folder, "none").starts_with("cannot read the folder none: "));
}
