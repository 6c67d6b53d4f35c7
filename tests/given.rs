//! Files of features: every kind of numbers in both formats gives what was written, and what is no such file is refused in
//! words. The files are put together byte by byte from the formats' descriptions.

use std::path::{Path, PathBuf};

use lvd::refusal::Refusal;
use lvd::teacher::{GivenConfig, GivenFeatures};
use tch::Tensor;

/// Pictures, patches and features of all files.
const SIZES: [usize; 3] = [2, 3, 2];

/// What the files hold: numbers that float16 and bfloat16 have exactly.
const FEATURES: [f32; 12] = [1.0, -2.0, 0.5, 0.0, 96.0, -0.375, 3.0, 4.0, -5.0, 1.5, 0.25, 2.0];
/// The same bits as IEEE 754 binary16.
const F16: [u16; 12] = [0x3C00, 0xC000, 0x3800, 0x0000, 0x5600, 0xB600, 0x4200, 0x4400, 0xC500, 0x3E00, 0x3400, 0x4000];

const CODES: [u8; 6] = [0, 1, 2, 2, 1, 0];

fn bytes<T: Copy, const N: usize>(numbers: &[T], of: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| of(number)).collect()
}

/// The upper half of a float32's bits.
fn bf16(number: f32) -> [u8; 2] {
    ((number.to_bits() >> 16) as u16).to_le_bytes()
}

/// A file in the format of `numpy.save`, version 1.0.
fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let sizes = sizes.join(" ");
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    let padding = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

/// A safetensors file of tensors one after the other.
fn safetensors(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let mut at = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            let begin = at;
            at += data.len();
            format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{at}]}}")
        })
        .collect();
    let header = format!("{{\"__metadata__\":{{\"made\":\"by hand\"}},{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(tensors.iter().flat_map(|(_, _, _, data)| *data));
    file
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Open a file, and what it is refused with but for the folder's name.
    fn open(&self, name: &str, content: &[u8], tensor: Option<&str>) -> Result<GivenFeatures, String> {
        let path = self.write(name, content);
        open(&path, tensor).map_err(|error| {
            assert!(error.is::<Refusal>(), "{error:#}");
            error.to_string().replace(&format!("{}/", self.0.path().display()), "")
        })
    }
}

fn open(path: &Path, tensor: Option<&str>) -> anyhow::Result<GivenFeatures> {
    let config = GivenConfig { patch: 1, train: path.to_owned(), tensor: tensor.map(str::to_owned), sha256: None };
    GivenFeatures::open(&config, SIZES[0], SIZES[1])
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.reshape([-1])).unwrap()
}

#[test]
fn every_kind_of_floats_gives_the_same_features_in_both_formats() {
    let folder = Folder::new();
    let wide: Vec<f64> = FEATURES.iter().map(|&x| x.into()).collect();
    let [half, single, double] =
        [bytes(&F16, u16::to_le_bytes), bytes(&FEATURES, f32::to_le_bytes), bytes(&wide, f64::to_le_bytes)];
    let brain = bytes(&FEATURES, bf16);
    let one = |dtype, data| safetensors(&[("features", dtype, &SIZES, data)]);
    let files = [
        npy("<f2", false, &SIZES, &half),
        npy("<f4", false, &SIZES, &single),
        npy("<f8", false, &SIZES, &double),
        one("F16", &half),
        one("BF16", &brain),
        one("F32", &single),
        one("F64", &double),
    ];
    for (number, content) in files.iter().enumerate() {
        let found = folder.open(&format!("{number}"), content, None).unwrap();
        assert_eq!((found.are_codes(), found.pictures(), found.patches()), (false, 2, 3), "file {number}");
        let all = found.features(0, 2).unwrap();
        assert_eq!((all.size(), all.kind()), (vec![6, 2], tch::Kind::Float));
        assert_eq!(numbers(&all), FEATURES, "file {number}");
        assert_eq!(numbers(&found.features(1, 1).unwrap()), FEATURES[6..], "file {number}");
    }
}

#[test]
fn half_precision_is_float32_to_rounding() {
    let folder = Folder::new();
    let thirds: Vec<f32> = (0..12).map(|i| (i as f32 - 5.0) / 3.0).collect();
    let exact = folder.open("exact", &npy("<f4", false, &SIZES, &bytes(&thirds, f32::to_le_bytes)), None).unwrap();
    let exact = numbers(&exact.features(0, 2).unwrap());
    // bfloat16 cut off has 8 bits of precision.
    let brain = safetensors(&[("x", "BF16", &SIZES, &bytes(&thirds, bf16))]);
    let brain = numbers(&folder.open("brain", &brain, None).unwrap().features(0, 2).unwrap());
    for (found, expected) in brain.iter().zip(&exact) {
        assert!((found - expected).abs() <= expected.abs() / 128.0, "{found} {expected}");
    }
    // The float16 that is nearest to a third is 0.33325195.
    let third = npy("<f2", false, &SIZES, &bytes(&[0x3555; 12], u16::to_le_bytes));
    let third = numbers(&folder.open("third", &third, None).unwrap().features(0, 2).unwrap());
    assert_eq!(third, [0.333_251_95; 12]);
}

#[test]
fn codes_of_every_kind_are_the_same_in_both_formats() {
    let folder = Folder::new();
    let data = [
        ("|u1", "U8", CODES.to_vec()),
        ("<u2", "U16", bytes(&CODES, |code| u16::from(code).to_le_bytes())),
        ("<i4", "I32", bytes(&CODES, |code| i32::from(code).to_le_bytes())),
        ("<i8", "I64", bytes(&CODES, |code| i64::from(code).to_le_bytes())),
    ];
    for (descr, dtype, data) in &data {
        for content in [npy(descr, false, &[2, 3], data), safetensors(&[("codes", dtype, &[2, 3], data)])] {
            let found = folder.open("codes", &content, None).unwrap();
            assert!(found.are_codes());
            assert_eq!(found.codes(3).unwrap(), CODES.map(u16::from), "{dtype}");
        }
    }
}

#[test]
fn a_tensor_of_several_is_named() {
    let folder = Folder::new();
    let (data, other) = (bytes(&FEATURES, f32::to_le_bytes), bytes(&[7.0f32; 12], f32::to_le_bytes));
    let both = safetensors(&[("zeta", "F32", &SIZES, &other), ("alpha", "F32", &SIZES, &data)]);
    let refused = |tensor| folder.open("both", &both, tensor).err().unwrap();
    assert_eq!(refused(None), "both: holds the tensors alpha, zeta: name one of them by teacher.tensor");
    assert_eq!(refused(Some("beta")), "both: holds no tensor beta, it holds alpha, zeta: correct teacher.tensor");
    let found = folder.open("both", &both, Some("alpha")).unwrap();
    assert_eq!(numbers(&found.features(0, 2).unwrap()), FEATURES);
    let array = npy("<f4", false, &SIZES, &data);
    assert_eq!(
        folder.open("array", &array, Some("alpha")).err().unwrap(),
        "array: is a .npy array, which has no name: leave out teacher.tensor"
    );
    assert_eq!(
        folder.open("none", &safetensors(&[("x", "F32", &[0], &[])])[..], None).err().unwrap(),
        "none, tensor x: shape is [0], expected features [N, L, F]"
    );
}

#[test]
fn what_is_damaged_or_of_another_kind_is_refused_in_words() {
    const KINDS: &str = "expected float16, float32, float64 (in safetensors bfloat16 too) for features, or uint8, uint16, int32 or int64 for codes";
    let folder = Folder::new();
    let data = bytes(&FEATURES, f32::to_le_bytes);
    let array = npy("<f4", false, &SIZES, &data);
    let half = npy("<f2", false, &SIZES, &bytes(&F16, u16::to_le_bytes));
    let tensors = safetensors(&[("x", "F32", &SIZES, &data)]);
    let again = "write or copy it again";
    let short = tensors.len() - 1;
    let neither = "f: is neither a .npy array nor a safetensors file\n  write one with numpy.save(path, array) or \
                   safetensors.numpy.save_file({\"features\": array}, path)";
    let order =
        "f: is in Fortran order, expected C order: save it with numpy.save(path, numpy.ascontiguousarray(array))";
    for (content, expected) in [
        (Vec::new(), neither.to_owned()),
        (b"PK\x03\x04 an archive".to_vec(), neither.to_owned()),
        (
            array[..array.len() - 5].to_vec(),
            format!("f: broken npy array: missing 5 bytes of data specified in header: {again}"),
        ),
        ([&half[..], &[0, 0]].concat(), format!("f: broken npy array: file had 2 extra bytes before EOF: {again}")),
        (
            half[..half.len() - 2].to_vec(),
            format!("f: broken npy array: missing 2 bytes of data specified in header: {again}"),
        ),
        (
            npy("<f4", false, &[usize::MAX, usize::MAX], &data),
            "f: broken npy array: its shape has more elements than can be counted".to_owned(),
        ),
        (
            npy("|b1", false, &[2, 3], &[1; 6]),
            format!("f: element type is '|b1', {KINDS}: save it with .astype('float32')"),
        ),
        (
            npy(">f4", false, &SIZES, &data),
            "f: its numbers are big-endian: save it with .astype('<f4') or .astype('<i4')".to_owned(),
        ),
        (
            npy(">f2", false, &SIZES, &data[..24]),
            "f: its numbers are big-endian: save it with .astype('<f4') or .astype('<i4')".to_owned(),
        ),
        (npy("<f4", true, &SIZES, &data), order.to_owned()),
        (npy("<f4", false, &[12], &data), "f: shape is [12], expected features [N, L, F]".to_owned()),
        (npy("|u1", false, &SIZES, &[0; 12]), "f: shape is [2, 3, 2], expected codes [N, L]".to_owned()),
        (
            npy("<f4", false, &[3, 2, 2], &data),
            "f: 3 pictures of 2 patches, expected 2 training pictures of 3 patches".to_owned(),
        ),
        (npy("<f4", false, &[2, 3, 0], &[]), "f: the features have no numbers".to_owned()),
        (
            tensors[..short].to_vec(),
            format!(
                "f: not a complete safetensors file ({short} bytes): incomplete metadata, file not fully covered: {again}"
            ),
        ),
        (
            tensors[..20].to_vec(),
            format!("f: not a complete safetensors file (20 bytes): invalid header length: {again}"),
        ),
        (safetensors(&[("x", "I16", &[2, 3], &[0; 12])]), format!("f, tensor x: element type is I16, {KINDS}")),
        (
            safetensors(&[("x", "F32", &[2, 6], &data)]),
            "f, tensor x: shape is [2, 6], expected features [N, L, F]".to_owned(),
        ),
        (
            safetensors(&[("x", "U8", &[3, 2], &[0; 6])]),
            "f, tensor x: 3 pictures of 2 patches, expected 2 training pictures of 3 patches".to_owned(),
        ),
    ] {
        assert_eq!(folder.open("f", &content, None).err().unwrap(), expected);
    }
}

#[test]
fn numbers_that_are_none_are_found_when_they_are_read() {
    let folder = Folder::new();
    // Infinity and no number in float16; a float64 beyond float32.
    let strange = [[F16[0]; 6], [0x7C00; 6]].concat();
    let half = safetensors(&[("x", "F16", &SIZES, &bytes(&strange, u16::to_le_bytes))]);
    let found = folder.open("half", &half, None).unwrap();
    assert!(found.features(0, 1).is_ok());
    let told = found.features(1, 1).unwrap_err().to_string();
    assert!(told.ends_with("half, tensor x: a feature of pictures 1 to 1 is not finite"), "{told}");
    let large = npy("<f8", false, &SIZES, &bytes(&[1e300f64; 12], f64::to_le_bytes));
    assert!(folder.open("large", &large, None).unwrap().features(0, 2).is_err());
}
