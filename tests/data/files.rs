//! Tiny files written by hand in a temporary folder, and how to look at what was read.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, GrayImage};
use lvd::data::config::{DataConfig, Format};
use lvd::data::pictures::Pictures;
use lvd::data::{PictureOptions, open_pictures};
use lvd::refusal::{Problems, Refusal};
use tempfile::TempDir;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// A temporary folder.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A message with the folder's name cut out of it.
    pub fn tell(&self, error: &anyhow::Error) -> String {
        assert!(error.downcast_ref::<Refusal>().is_some(), "{error:#} must be a refusal");
        format!("{error:#}")
            .replace(&format!("{}/", self.0.path().display()), "")
            .replace(&self.0.path().display().to_string(), "ROOT")
    }

    pub fn refused(&self, format: Format, name: &str) -> String {
        self.refused_with(format, name, PictureOptions::default())
    }

    pub fn refused_with(&self, format: Format, name: &str, options: PictureOptions) -> String {
        self.tell(&open_pictures(format, &self.path(name), options).err().expect("a refusal"))
    }

    pub fn config(&self, yaml: &str) -> DataConfig {
        let mut config: DataConfig = serde_yaml::from_str(yaml).unwrap();
        let mut problems = Problems::default();
        config.check("data", &mut problems);
        problems.into_result("test").unwrap();
        config.root = Some(self.0.path().to_owned());
        config
    }
}

pub fn read(format: Format, path: &Path) -> Pictures {
    open_pictures(format, path, PictureOptions::default()).unwrap()
}

pub fn values(pictures: &Pictures) -> Vec<u8> {
    let all: Vec<usize> = (0..pictures.len()).collect();
    Vec::try_from(pictures.batch(&all).unwrap().reshape([-1])).unwrap()
}

pub fn size(pictures: &Pictures) -> [usize; 4] {
    let shape = pictures.shape();
    [pictures.len(), shape.height, shape.width, shape.channels]
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

pub fn idx(magic: u32, dims: [u32; 3], pixels: &[u8]) -> Vec<u8> {
    let words = [magic, dims[0], dims[1], dims[2]].map(u32::to_be_bytes).concat();
    [&words[..], pixels].concat()
}

/// A version 1.0 array file, written out by hand.
pub fn npy(kind: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), data].concat()
}

pub fn npz(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A record whose planes are all `first`, `first + 1`, `first + 2`.
pub fn cifar(first: u8) -> Vec<u8> {
    [vec![9], vec![first; 1024], vec![first + 1; 1024], vec![first + 2; 1024]].concat()
}

pub fn grey_picture(height: u32, width: u32) -> DynamicImage {
    GrayImage::from_fn(width, height, |x, y| image::Luma([(10 * y + x) as u8])).into()
}
