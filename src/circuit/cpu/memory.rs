//! The numbers of a tensor as a slice.

use tch::{Device, Kind, Tensor};

/// A number that tensors hold.
///
/// # Safety
/// `KIND` must be libtorch's kind of the type.
pub unsafe trait Number: Copy {
    /// What libtorch calls it.
    const KIND: Kind;
}

// SAFETY: the kinds are those of the types.
unsafe impl Number for f32 {
    const KIND: Kind = Kind::Float;
}
unsafe impl Number for i64 {
    const KIND: Kind = Kind::Int64;
}

/// All numbers of a contiguous tensor of the CPU. Nothing may write to its memory as long as they are read.
#[must_use]
pub fn numbers<T: Number>(tensor: &Tensor) -> &[T] {
    match length::<T>(tensor) {
        0 => &[],
        // SAFETY: a contiguous tensor of this kind has so many numbers at its address, and they live as long as it does.
        length => unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>().cast_const(), length) },
    }
}

/// The same to write to. No other tensor may share the memory and be looked at meanwhile.
pub fn numbers_mut<T: Number>(tensor: &mut Tensor) -> &mut [T] {
    match length::<T>(tensor) {
        0 => &mut [],
        // SAFETY: as above; the tensor is borrowed alone.
        length => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), length) },
    }
}

fn length<T: Number>(tensor: &Tensor) -> usize {
    assert!(tensor.kind() == T::KIND && tensor.device() == Device::Cpu && tensor.is_contiguous());
    tensor.numel()
}
