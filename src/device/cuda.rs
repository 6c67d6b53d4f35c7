//! The CUDA part of libtorch, loaded while running.
//!
//! Linking cannot bring it in (the linker drops a library that no symbol asks for, and a machine without a driver
//! should need no CUDA at all), so it is opened with its symbols made global. libtorch asks for CUDA once in a process
//! and keeps the answer: the library must be there before the first question.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_NOW};

const LIBRARY: &str = "libtorch_cuda.so";
const DRIVER: &str = "libcuda.so.1";

/// Why no GPU can be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("no CUDA driver ({0})\n  install the GPU's driver, or use --device cpu")]
    NoDriver(String),
    #[error(
        "{LIBRARY} could not be loaded; tried{0}\n  fetch it with `just setup cuda`, name its folder by --libtorch-cuda DIR, \
         or use --device cpu"
    )]
    NoLibrary(String),
    #[error("libtorch finds no usable GPU\n  look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu")]
    NoGpu,
    #[error("there is no GPU {asked}, this machine has {count}: cuda:0 to cuda:{}", count - 1)]
    OutOfRange { asked: usize, count: usize },
}

impl Obstacle {
    /// Say that the CPU is used instead: quietly on a machine without a GPU, as a warning where one lies idle.
    pub(super) fn log(&self) {
        if matches!(self, Self::NoDriver(_)) {
            tracing::debug!("computing on the CPU: {self}");
        } else {
            tracing::warn!("computing on the CPU: {self}");
        }
    }
}

/// Open a library; the error is the loader's own reason.
fn open(name: &Path, flags: c_int) -> Result<Library, String> {
    // SAFETY: the driver's and libtorch's own libraries, whose initialisers are made to run at any time.
    let library = unsafe { Library::open(Some(name), flags) };
    library.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// The driver's library, where there is one.
pub(super) fn driver() -> Result<Library, Obstacle> {
    open(Path::new(DRIVER), RTLD_LAZY).map_err(Obstacle::NoDriver)
}

/// Load the CUDA part of libtorch for the rest of the process, once there is a driver.
pub(super) fn load(given: Option<&Path>) -> Result<(), Obstacle> {
    driver()?;
    let mut failures = Vec::new();
    for path in candidates(given, std::env::var_os("LIBTORCH").map(PathBuf::from)) {
        match open(&path, RTLD_NOW | RTLD_GLOBAL) {
            Ok(library) => {
                std::mem::forget(library); // never closed: libtorch keeps pointers into it
                tracing::debug!("loaded {}", path.display());
                return Ok(());
            }
            Err(error) => failures.push(format!("\n    {}: {error}", path.display())),
        }
    }
    Err(Obstacle::NoLibrary(failures.concat()))
}

/// Where the library may lie: the given folder alone; else beside the libtorch in use, in the project's own CUDA
/// folder, and on the loader's path.
fn candidates(given: Option<&Path>, libtorch: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(folder) = given {
        return vec![folder.join(LIBRARY)];
    }
    let mut paths = Vec::new();
    for home in libtorch.into_iter().chain(option_env!("LIBTORCH").map(PathBuf::from)) {
        paths.push(home.join("lib").join(LIBRARY));
        paths.extend(home.parent().map(|parent| parent.join("cuda/torch/lib").join(LIBRARY)));
    }
    paths.push(PathBuf::from(LIBRARY));
    paths.dedup();
    paths
}

/// Whether libtorch has a GPU of this number.
pub(super) fn check_index(asked: usize) -> Result<(), Obstacle> {
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    match count {
        0 => Err(Obstacle::NoGpu),
        _ if asked >= count => Err(Obstacle::OutOfRange { asked, count }),
        _ => Ok(()),
    }
}

/// The name that the driver gives a GPU, if it can be had.
pub(super) fn gpu_name(index: usize) -> Option<String> {
    let driver = driver().ok()?;
    let ordinal = c_int::try_from(index).ok()?;
    let mut handle: c_int = 0;
    let mut name = [0u8; 256];
    // SAFETY: the three functions have these signatures in every version of the driver; `name` is longer than the
    // length given, so that it always ends in a zero.
    unsafe {
        let init = driver.get::<unsafe extern "C" fn(u32) -> c_int>(b"cuInit").ok()?;
        let get = driver.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet").ok()?;
        let read = driver.get::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(b"cuDeviceGetName").ok()?;
        let failed =
            init(0) != 0 || get(&raw mut handle, ordinal) != 0 || read(name.as_mut_ptr().cast(), 255, handle) != 0;
        if failed {
            return None;
        }
    }
    Some(CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_folder_is_the_only_place_looked_at() {
        let paths = candidates(Some(Path::new("/given")), Some("/opt/third_party/libtorch".into()));
        assert_eq!(paths, [PathBuf::from("/given/libtorch_cuda.so")]);
    }

    #[test]
    fn the_library_is_looked_for_beside_libtorch_and_last_on_the_loaders_path() {
        let paths = candidates(None, Some("/opt/third_party/libtorch".into()));
        assert_eq!(paths[0], Path::new("/opt/third_party/libtorch/lib/libtorch_cuda.so"));
        assert_eq!(paths[1], Path::new("/opt/third_party/cuda/torch/lib/libtorch_cuda.so"));
        assert_eq!(paths.last().unwrap(), Path::new("libtorch_cuda.so"));
    }

    #[test]
    fn messages_say_what_was_found_and_what_to_do() {
        let text = Obstacle::OutOfRange { asked: 4, count: 2 }.to_string();
        assert_eq!(text, "there is no GPU 4, this machine has 2: cuda:0 to cuda:1");
        let text = Obstacle::NoLibrary("\n    a: b".into()).to_string();
        assert!(text.contains("tried\n    a: b\n  fetch it with `just setup cuda`"), "{text}");
    }
}
