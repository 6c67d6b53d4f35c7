//! Small sets of pictures in the formats that the documents name.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{Array2, Array3};
use ndarray_npy::{NpzWriter, write_npy};

/// A value below `levels` of a picture that is neither even nor noise.
fn value(number: usize, row: usize, column: usize, channel: usize, levels: usize) -> u8 {
    ((number * 37 + row * (11 + number % 5) + column * 23 * (number % 3) + channel * 50) % levels) as u8
}

/// Everything that a reader of the documents is told to have, below `place`.
pub fn write(place: &Path) {
    for set in ["mnist", "fashion-mnist"] {
        let folder = made(&place.join("sets").join(set));
        idx(&folder.join("train-images-idx3-ubyte"), 64);
        idx(&folder.join("t10k-images-idx3-ubyte"), 24);
    }
    let batches = made(&place.join("sets/cifar-10-batches-bin"));
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let record = |n| std::iter::once((n % 10) as u8).chain(planes(n, 32)).collect::<Vec<_>>();
        fs::write(batches.join(format!("{name}.bin")), (0..12).flat_map(record).collect::<Vec<_>>()).unwrap();
    }
    let imagenet = made(&place.join("sets/imagenet32"));
    npz(&imagenet.join("train_data_batch_1.npz"), 64, 32);
    npz(&imagenet.join("val_data.npz"), 20, 32);
    let tiny = made(&place.join("sets/tiny-imagenet"));
    npz(&tiny.join("val_32x32.npz"), 80, 32);
    npz(&tiny.join("val_64x64.npz"), 48, 64);
    photos(&made(&place.join("photos")));
    of_the_digits(place);
}

fn made(folder: &Path) -> std::path::PathBuf {
    fs::create_dir_all(folder).unwrap();
    folder.to_owned()
}

/// Grey pictures of 28 x 28 pixels.
fn idx(path: &Path, count: usize) {
    let mut bytes = vec![0, 0, 8, 3];
    bytes.extend([count as u32, 28, 28].iter().flat_map(|number| number.to_be_bytes()));
    for n in 0..count {
        bytes.extend((0..28 * 28).map(|i| value(n, i / 28, i % 28, 0, 256)));
    }
    fs::write(path, bytes).unwrap();
}

/// The three planes of a picture, one after the other.
fn planes(number: usize, side: usize) -> impl Iterator<Item = u8> {
    (0..3 * side * side).map(move |i| value(number, i / side % side, i % side, i / (side * side), 256))
}

fn npz(path: &Path, count: usize, side: usize) {
    let pixels = (0..count).flat_map(|n| planes(n, side)).collect::<Vec<_>>();
    let mut writer = NpzWriter::new(fs::File::create(path).unwrap());
    writer.add_array("data", &Array2::from_shape_vec((count, 3 * side * side), pixels).unwrap()).unwrap();
    writer.finish().unwrap();
}

/// Colour pictures of different sizes, PNG and JPEG, some in a sub-folder.
fn photos(folder: &Path) {
    fs::create_dir(folder.join("holiday")).unwrap();
    for n in 0..40 {
        let pixel = |x, y| Rgb([0, 1, 2].map(|channel| value(n, y as usize, x as usize, channel, 256)));
        let name =
            format!("{}{n}.{}", if n % 4 == 0 { "holiday/" } else { "" }, if n % 2 == 0 { "png" } else { "jpg" });
        RgbImage::from_fn(40 + n as u32 % 7, 36 + n as u32 % 5, pixel).save(folder.join(name)).unwrap();
    }
}

/// Pictures of the digits' size: with their 17 levels as a folder and as an array, with 256 levels as a folder; features of the
/// training pictures that the shortened experiment has.
fn of_the_digits(place: &Path) {
    for (name, levels) in [("pictures", 17), ("bright", 256)] {
        let folder = made(&place.join(name));
        for n in 0..20 {
            let pixel = |x, y| Luma([value(n, y as usize, x as usize, 0, levels)]);
            GrayImage::from_fn(8, 8, pixel).save(folder.join(format!("{n:02}.png"))).unwrap();
        }
    }
    let pictures = Array3::from_shape_fn((20, 8, 8), |(n, row, column)| value(n, row, column, 0, 17));
    write_npy(place.join("pictures.npy"), &pictures).unwrap();
    let features = Array3::from_shape_fn((64, 4, 2), |(n, patch, i)| f32::from(value(n, patch, i, 0, 13)));
    write_npy(place.join("features.npy"), &features).unwrap();
}
