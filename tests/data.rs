//! Every reader on tiny hand-written files: what is right is read, what is wrong is refused by an exact message.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ColorType, DynamicImage, GrayImage, RgbImage};
use lvd::data::config::{DataConfig, Format};
use lvd::data::folder::Resize;
use lvd::data::pictures::Pictures;
use lvd::data::{PictureOptions, Split, open, open_pictures};
use lvd::refusal::{Problems, Refusal};
use tempfile::TempDir;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A message with the folder's name cut out of it.
    fn tell(&self, error: &anyhow::Error) -> String {
        assert!(error.downcast_ref::<Refusal>().is_some(), "{error:#} must be a refusal");
        format!("{error:#}")
            .replace(&format!("{}/", self.0.path().display()), "")
            .replace(&self.0.path().display().to_string(), "ROOT")
    }

    fn refused(&self, format: Format, name: &str) -> String {
        self.refused_with(format, name, PictureOptions::default())
    }

    fn refused_with(&self, format: Format, name: &str, options: PictureOptions) -> String {
        self.tell(&open_pictures(format, &self.path(name), options).err().expect("a refusal"))
    }

    fn config(&self, yaml: &str) -> DataConfig {
        let mut config: DataConfig = serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::default();
        config.check("data", &mut problems);
        problems.into_result("test").unwrap();
        config.root = Some(self.0.path().to_owned());
        config
    }
}

fn read(format: Format, path: &Path) -> Pictures {
    open_pictures(format, path, PictureOptions::default()).unwrap()
}

fn values(pictures: &Pictures) -> Vec<u8> {
    let all: Vec<usize> = (0..pictures.len()).collect();
    Vec::try_from(pictures.batch(&all).unwrap().reshape([-1])).unwrap()
}

fn size(pictures: &Pictures) -> [usize; 4] {
    let shape = pictures.shape();
    [pictures.len(), shape.height, shape.width, shape.channels]
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn idx(magic: u32, dims: [u32; 3], pixels: &[u8]) -> Vec<u8> {
    let words = [magic, dims[0], dims[1], dims[2]].map(u32::to_be_bytes).concat();
    [&words[..], pixels].concat()
}

/// A version 1.0 array file, written out by hand.
fn npy(kind: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), data].concat()
}

fn npz(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A record whose planes are all `first`, `first + 1`, `first + 2`.
fn cifar(first: u8) -> Vec<u8> {
    [vec![9], vec![first; 1024], vec![first + 1; 1024], vec![first + 2; 1024]].concat()
}

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

fn grey_picture(height: u32, width: u32) -> DynamicImage {
    GrayImage::from_fn(width, height, |x, y| image::Luma([(10 * y + x) as u8])).into()
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
    let clear = "clear/a.png: colour type is Rgba8, expected L8 or Rgb8 (8 bits a channel, no transparency)";
    assert_eq!(place.refused(Format::Folder, "clear"), clear);
    assert!(place.refused(Format::Folder, "none").starts_with("cannot read the folder none: "));
}

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
