//! Faults of libtorch in a line that a user can act on.

/// What to do where memory is short; follows a number of bytes.
pub const LOWER: &str = " bytes could not be had\n  lower compute.micro_batch, patch.family.states or latents.clusters, or free some memory\n";

/// An error's text without the C++ stack that libtorch appends to its messages.
#[must_use]
pub fn without_frames(text: &str) -> String {
    let end = ["\nException raised from", "\nframe #"].iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim_end().to_owned()
}

/// Whether an error of libtorch says that memory is short.
#[must_use]
pub fn is_of_memory(text: &str) -> bool {
    ["allocate memory", "out of memory", "bad_alloc"].iter().any(|words| text.contains(words))
}

/// An error's text for people: without stacks, and with what to do where libtorch has no memory left.
#[must_use]
pub fn told(text: &str) -> String {
    let text = without_frames(text);
    match text.split_once("you tried to allocate ") {
        Some((_, rest)) if is_of_memory(&text) => short_of(rest.split_whitespace().next()),
        _ => text,
    }
}

fn short_of(bytes: Option<&str>) -> String {
    format!("out of memory: {}{}", bytes.unwrap_or("some"), LOWER.trim_end())
}

/// What a panic says, if it comes from an operation of libtorch that failed; none for any other panic.
#[must_use]
pub fn of_libtorch(panic: &str) -> Option<String> {
    let (_, said) = panic.split_once("on an `Err` value: Torch(\"")?;
    let said = without_frames(&said.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'"));
    let said = said.trim_end_matches("\")").lines().next().unwrap_or("no message").to_owned();
    Some(if is_of_memory(&said) {
        short_of(said.split("tried to allocate ").nth(1).and_then(|rest| rest.split_whitespace().next()))
    } else {
        format!("libtorch: {said}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_libtorch_is_a_line_and_others_are_none() {
        let tensor = tch::Tensor::from_slice(&[1.0, 2.0]);
        let error = tensor.f_view([3, 3]).unwrap_err();
        let panic = format!("panicked at x.rs:1:\ncalled `Result::unwrap()` on an `Err` value: {error:?}");
        assert_eq!(of_libtorch(&panic).unwrap(), "libtorch: shape '[3, 3]' is invalid for input of size 2");
        assert_eq!(without_frames(&error.to_string()).lines().count(), 1, "{error}");
        assert!(of_libtorch("panicked at src/x.rs:1:\nindex out of bounds").is_none());
    }

    #[test]
    fn memory_that_could_not_be_had_is_told_in_bytes() {
        let error = tch::Tensor::f_zeros([1 << 50], (tch::Kind::Float, tch::Device::Cpu)).unwrap_err();
        let panic = format!("panicked at x.rs:1:\ncalled `Result::unwrap()` on an `Err` value: {error:?}");
        let told = of_libtorch(&panic).unwrap();
        assert_eq!(super::told(&format!("model.safetensors: {error}")), told);
        assert!(told.starts_with("out of memory: 4503599627370496 bytes could not be had\n  lower compute."), "{told}");
    }
}
