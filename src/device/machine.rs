//! What the machine and its libtorch say about themselves. Linux's /proc; elsewhere the answers are "unknown".

use std::fs;

use libloading::os::unix::Library;

/// The processor's model name.
pub(super) fn cpu_name() -> Option<String> {
    field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name")
}

/// The largest amount of memory that this process has had so far, in bytes.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    kibibytes(&field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")?)
}

/// The version of the libtorch that is loaded, such as `2.11.0`, or `unknown`.
#[must_use]
pub fn libtorch_version() -> String {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    let process = Library::this();
    // SAFETY: part of libtorch's stable C interface; it takes nothing and returns a constant.
    let packed = unsafe { process.get::<AbiVersion>(b"aoti_torch_abi_version").map(|version| version()) };
    packed.map_or_else(|_| "unknown".to_owned(), unpack)
}

/// One byte each for major, minor and patch, from the highest down.
fn unpack(packed: u64) -> String {
    let [major, minor, patch, ..] = packed.to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|count| count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0 GHz: fast\nVmHWM:\t   1234 kB\n";
        assert_eq!(field(text, "model name").unwrap(), "Some CPU @ 2.0 GHz: fast");
        assert_eq!(kibibytes(&field(text, "VmHWM").unwrap()), Some(1234 * 1024));
        assert_eq!(field(text, "VmRSS"), None);
        assert_eq!(kibibytes("12 MB"), None);
    }

    #[test]
    fn peak_memory_covers_what_was_held() {
        const SIZE: usize = 64 << 20;
        let held = vec![1u8; SIZE];
        let peak = peak_memory().unwrap();
        assert!(peak >= held.iter().step_by(4096).count() as u64 * 4096, "{peak}");
    }

    #[test]
    fn the_version_is_the_one_of_the_headers() {
        assert_eq!(unpack(0x020b_0000_0000_0000), "2.11.0");
        assert!(libtorch_version().starts_with("2."), "{}", libtorch_version());
    }
}
