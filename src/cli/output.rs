//! What a command has to say.

use std::borrow::Cow;

use anyhow::Error;

/// What is to be printed on stdout, and the fault that ended the command after that, if one did.
#[derive(Debug)]
pub struct Output {
    /// For stdout.
    pub text: String,
    /// Why the rest was not done.
    pub fault: Option<Error>,
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self { text, fault: None }
    }
}

/// Text as it may go to a terminal: control characters, which names and files may hold, are written as `\u{1b}`; lines and
/// tabs stay.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(visible("a\tb\né"), "a\tb\né");
        assert_eq!(visible("\u{1b}[31mred\r\u{9b}0m"), "\\u{1b}[31mred\\u{d}\\u{9b}0m");
    }
}
