//! An array of numbers in a mapped file, a `.npy` file or a tensor of a safetensors file: where its numbers lie, and of what kind
//! they are. The file is known by what is in it, whatever it is called.

use std::path::Path;

use anyhow::Result;
use ndarray::ArrayViewD;
use ndarray_npy::{ViewDataError, ViewElement, ViewNpyError, ViewNpyExt};
use py_literal::Value;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use crate::data::npz::countable;
use crate::data::source::{self, Source};
use crate::{refusal, require};

/// How a `.npy` file begins.
const NPY: &[u8] = b"\x93NUMPY";
/// Bytes in front of the header of a safetensors file, which is a JSON object.
const HEADER: usize = 8;
/// Names of tensors that are told, at most.
const MOST: usize = 20;

/// Kinds of numbers that are read.
const KINDS: &str =
    "float16, float32, float64 (in safetensors bfloat16 too) for features, or uint8, uint16, int32 or int64 for codes";

/// What the numbers of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    F16,
    BF16,
    F32,
    F64,
    U8,
    U16,
    I32,
    I64,
}

impl Number {
    /// The kind that holds them. libtorch counts little in 16 bits without sign: these are the same bits with one, put right
    /// by [`Array::rows`].
    fn kind(self) -> Kind {
        match self {
            Self::F16 => Kind::Half,
            Self::BF16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
            Self::U8 => Kind::Uint8,
            Self::U16 => Kind::Int16,
            Self::I32 => Kind::Int,
            Self::I64 => Kind::Int64,
        }
    }
}

/// Kind, shape and first byte of the numbers of a file.
type Layout = (Number, Vec<usize>, usize);

/// An array in C order.
pub(super) struct Array {
    source: Source,
    name: String,
    number: Number,
    shape: Vec<usize>,
    /// Where the numbers begin.
    offset: usize,
}

impl Array {
    /// Map a file; `tensor` names which of a safetensors file is meant.
    ///
    /// # Errors
    /// A refusal where there is no such file, it is none of the two, damaged, or holds another kind of numbers, and where the
    /// tensor has to be named.
    pub(super) fn open(path: &Path, tensor: Option<&str>) -> Result<Self> {
        let (source, file) = (source::map(path)?, path.display().to_string());
        let bytes = (*source).as_ref();
        let (name, (number, shape, offset)) = if bytes.starts_with(NPY) {
            require!(tensor.is_none(), "{file}: is a .npy array, which has no name: leave out teacher.tensor");
            let layout = npy(&file, bytes)?;
            (file, layout)
        } else if bytes.get(HEADER) == Some(&b'{') {
            let (tensor, layout) = named_tensor(&file, bytes, tensor)?;
            (format!("{file}, tensor {tensor}"), layout)
        } else {
            return Err(refusal!(
                "{file}: is neither a .npy array nor a safetensors file\n  write one with numpy.save(path, array) or \
                 safetensors.numpy.save_file({{\"features\": array}}, path)"
            ));
        };
        Ok(Self { source, name, number, shape, offset })
    }

    /// The file, and the tensor where it has a name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its sizes.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its numbers are floating-point numbers.
    pub(super) fn is_of_floats(&self) -> bool {
        matches!(self.number, Number::F16 | Number::BF16 | Number::F32 | Number::F64)
    }

    /// The numbers of `count` rows (entries of the first axis) from number `start` on, one after the other.
    pub(super) fn rows(&self, start: usize, count: usize) -> Tensor {
        let (each, kind) = (self.shape[1..].iter().product::<usize>(), self.number.kind());
        let size = kind.elt_size_in_bytes();
        let first = self.offset + start * each * size;
        let bytes = &(*self.source).as_ref()[first..first + count * each * size];
        let numbers = Tensor::from_data_size(bytes, &[(count * each) as i64], kind);
        if self.number == Number::U16 { numbers.to_kind(Kind::Int64).remainder(1 << 16) } else { numbers }
    }
}

/// How a file in the `.npy` format is read as one kind of numbers: shape, first byte, whether it is in C order.
type Attempt = fn(&[u8]) -> Result<(Vec<usize>, usize, bool), ViewNpyError>;

fn npy(name: &str, bytes: &[u8]) -> Result<Layout> {
    require!(countable(bytes), "{name}: broken npy array: its shape has more elements than can be counted");
    let attempts: [(Number, Attempt); 7] = [
        (Number::F32, viewed::<f32>),
        (Number::F16, viewed::<Half>),
        (Number::F64, viewed::<f64>),
        (Number::U8, viewed::<u8>),
        (Number::U16, viewed::<u16>),
        (Number::I32, viewed::<i32>),
        (Number::I64, viewed::<i64>),
    ];
    let mut other = String::new();
    for (number, attempt) in attempts {
        match attempt(bytes) {
            Ok((shape, offset, in_order)) => {
                require!(
                    in_order,
                    "{name}: is in Fortran order, expected C order: save it with numpy.save(path, numpy.ascontiguousarray(array))"
                );
                return Ok((number, shape, offset));
            }
            Err(ViewNpyError::WrongDescriptor(found)) => other = found.to_string(),
            Err(ViewNpyError::NonNativeEndian) => {
                return Err(refusal!(
                    "{name}: its numbers are big-endian: save it with .astype('<f4') or .astype('<i4')"
                ));
            }
            Err(error) => return Err(refusal!("{name}: broken npy array: {error}: write or copy it again")),
        }
    }
    Err(refusal!("{name}: element type is {other}, expected {KINDS}: save it with .astype('float32')"))
}

fn viewed<T: ViewElement>(bytes: &[u8]) -> Result<(Vec<usize>, usize, bool), ViewNpyError> {
    let view = ArrayViewD::<T>::view_npy(bytes)?;
    Ok((view.shape().to_vec(), bytes.len() - view.len() * size_of::<T>(), view.is_standard_layout()))
}

/// The bits of a float16, a kind that the reader of `.npy` files does not know.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Half([u8; 2]);

impl ViewElement for Half {
    fn bytes_as_slice<'a>(bytes: &'a [u8], found: &Value, len: usize) -> Result<&'a [Self], ViewDataError> {
        match found.as_string().map(String::as_str) {
            Some("<f2") => {}
            Some(">f2") => return Err(ViewDataError::NonNativeEndian),
            _ => return Err(ViewDataError::WrongDescriptor(found.clone())),
        }
        let wanted = len * size_of::<Self>();
        if bytes.len() < wanted {
            return Err(ViewDataError::MissingBytes(wanted - bytes.len()));
        }
        if bytes.len() > wanted {
            return Err(ViewDataError::ExtraBytes(bytes.len() - wanted));
        }
        // SAFETY: there are as many bytes, any two of them are a value, and one is aligned wherever it lies.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), len) })
    }
}

/// The tensor of that name, or the only one.
fn named_tensor(file: &str, bytes: &[u8], tensor: Option<&str>) -> Result<(String, Layout)> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        refusal!("{file}: not a complete safetensors file ({} bytes): {error}: write or copy it again", bytes.len())
    })?;
    let mut names = metadata.offset_keys();
    names.sort();
    let name = match (tensor, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, []) => return Err(refusal!("{file}: holds no tensor")),
        (None, several) => {
            return Err(refusal!("{file}: holds the tensors {}: name one of them by teacher.tensor", told(several)));
        }
    };
    let info = metadata.info(name);
    let info = info
        .ok_or_else(|| refusal!("{file}: holds no tensor {name}, it holds {}: correct teacher.tensor", told(&names)))?;
    let number = match info.dtype {
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::BF16,
        Dtype::F32 => Number::F32,
        Dtype::F64 => Number::F64,
        Dtype::U8 => Number::U8,
        Dtype::U16 => Number::U16,
        Dtype::I32 => Number::I32,
        Dtype::I64 => Number::I64,
        other => return Err(refusal!("{file}, tensor {name}: element type is {other}, expected {KINDS}")),
    };
    Ok((name.to_owned(), (number, info.shape.clone(), HEADER + header + info.data_offsets.0)))
}

/// Some names, the first of them where there are many.
fn told(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() <= MOST => names.join(", "),
        names => format!("{} and {} more", names[..MOST].join(", "), names.len() - MOST),
    }
}
