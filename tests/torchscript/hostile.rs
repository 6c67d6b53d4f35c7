//! Archives that were made to do harm: each is refused in a line, and libtorch never sees those that would take it down.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{open, refused, tiny};

const CODE: &str = "code/__torch__.py";
const CONTRACT: &str = "{method: features, input: {range: [0, 1]}}";
/// Features of patches of 4 x 4, as code.
const PATCHES: &str = "    p = torch.transpose(torch.flatten(torch.avg_pool2d(x, [4, 4]), 2), 1, 2)\n";

/// undescribed.pt with every entry as `edit` makes it.
fn edited(edit: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.pt");
    let mut archive = ZipArchive::new(File::open(tiny("undescribed.pt")).unwrap()).unwrap();
    let mut writer = ZipWriter::new(File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let (name, mut bytes) = (entry.name().to_owned(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        writer.start_file(&name, stored).unwrap();
        writer.write_all(&edit(name.split_once('/').unwrap().1, bytes)).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

/// The module with this body in place of its method `features`.
fn with_body(body: &str) -> (TempDir, PathBuf) {
    let edit = |name: &str, bytes: Vec<u8>| {
        if name != CODE {
            return bytes;
        }
        let code = String::from_utf8(bytes).unwrap();
        let (before, rest) = code.split_once("  def features").unwrap();
        let (_, after) = rest.split_once("  def fine").unwrap();
        let head = "  def features(self: __torch__.Good,\n    x: Tensor) -> Tensor:";
        format!("{before}{head}\n{body}\n  def fine{after}").into_bytes()
    };
    edited(&edit)
}

/// The module with one entry exchanged.
fn with_entry(exchanged: &str, content: &[u8]) -> (TempDir, PathBuf) {
    edited(&|name, bytes| if name == exchanged { content.to_vec() } else { bytes })
}

/// What is said of it, which is a line without the C++ behind it.
fn said((_folder, path): &(TempDir, PathBuf)) -> String {
    let message = refused(path, CONTRACT);
    assert!(!message.contains("frame #") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn code_nested_deeper_than_libtorch_can_read() {
    let n = 100_000;
    let bodies = [
        format!("    return {}x{}", "torch.neg(".repeat(n), ")".repeat(n)),
        format!("    return {}x", "- ".repeat(n)),
        format!("    return x{}", "[0]".repeat(n)),
        format!("    y : {}int{} = x\n    return x", "List[".repeat(n), "]".repeat(n)),
        format!("    if True:\n      pass\n{}    return x", "    elif True:\n      pass\n".repeat(n)),
    ];
    for body in bodies {
        let message = said(&with_body(&body));
        assert!(message.starts_with("odd.pt: entry \"code/__torch__.py\" is nested "), "{message}");
        let end = " deep, expected at most 2000: this is no TorchScript module that can be trusted";
        assert!(message.ends_with(end), "{message}");
    }
}

#[test]
fn pickles_nested_deeper_than_libtorch_can_read_and_damaged_ones() {
    let n = 300_000;
    let lists = [&b"\x80\x02"[..], &b"]".repeat(n), &b"a".repeat(n - 1), b"\x85."].concat();
    let tuples = [&b"\x80\x02"[..], &b"(".repeat(n), &b"t".repeat(n), b"."].concat();
    for pickle in [lists, tuples] {
        let message = said(&with_entry("constants.pkl", &pickle));
        assert!(message.starts_with("odd.pt: entry \"constants.pkl\" is nested 30000"), "{message}");
        assert!(message.contains(" deep, expected at most 5000: "), "{message}");
    }
    // Four gigabytes of text that is not there.
    assert_eq!(
        said(&with_entry("data.pkl", b"\x80\x02X\xff\xff\xff\xff.")),
        "odd.pt: entry \"data.pkl\": a pickle that is cut off"
    );
    assert_eq!(
        said(&with_entry("data.pkl", b"\x80\x02]\xfe.")),
        "odd.pt: entry \"data.pkl\": a pickle with the operation 0xfe, which TorchScript does not write"
    );
}

#[test]
fn libtorch_bears_what_is_just_within_the_limits() {
    let (_folder, path) = with_body(&format!("{PATCHES}    return p"));
    open(&path, CONTRACT).unwrap();
    for body in [
        format!("    return {}p{}", "torch.neg(".repeat(180), ")".repeat(180)),
        format!("    return {}p{}", "(".repeat(1900), ")".repeat(1900)),
        format!("    return {}p", "- ".repeat(950)),
    ] {
        let (_folder, path) = with_body(&format!("{PATCHES}{body}"));
        open(&path, CONTRACT).unwrap();
    }
    let lists = [&b"\x80\x02"[..], &b"]".repeat(4990), &b"a".repeat(4989), b"\x85."].concat();
    let (_folder, path) = with_entry("constants.pkl", &lists);
    open(&path, CONTRACT).unwrap();
}

/// undescribed.pt with an entry added under a name, before or after the others.
fn with_added(name: &str, content: &[u8], first: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.pt");
    let mut archive = ZipArchive::new(File::open(tiny("undescribed.pt")).unwrap()).unwrap();
    let mut writer = ZipWriter::new(File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let (name, mut bytes) = (entry.name().to_owned(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        all.push((name, bytes));
    }
    // Under another name of the same length, put right in the file: the writer refuses two of one name.
    all.insert(
        if first { 1 } else { all.len() },
        (format!("undescribed/{}", name.replace('c', "Q")), content.to_vec()),
    );
    for (name, bytes) in all {
        writer.start_file(name, stored).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (from, to) = (format!("undescribed/{}", name.replace('c', "Q")), format!("undescribed/{name}"));
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from.as_bytes())).collect();
    for i in places {
        bytes[i..i + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn entries_that_hide_behind_another_of_their_name() {
    let deep = [&b"\x80\x02"[..], &b"]".repeat(300_000), &b"a".repeat(299_999), b"\x85."].concat();
    for name in ["constants.pkl", "cONSTANTS.pkl"] {
        for first in [true, false] {
            let message = said(&with_added(name, &deep, first));
            assert!(message.starts_with("odd.pt: lists ") && message.ends_with("that can be trusted"), "{message}");
        }
    }
}
