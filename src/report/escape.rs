//! Text of run folders made fit for pages and tables: names and labels are whatever somebody wrote into a file.

/// A text on one line: control characters, line ends too, and marks that turn the direction of writing become spaces.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect()
}

/// The same, but lines and tabs stay.
#[must_use]
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if hidden(c) && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text on one line of Markdown, in which it means nothing but itself; underscores inside words already do.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '\\' | '|' | '`' | '*' | '[' | ']' | '~' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_on_their_line_and_mean_themselves() {
        assert_eq!(line("a\r\nb\u{1b}[1m\u{202e}c_d"), "a  b [1m c_d");
        assert_eq!(lines("a: 1\n\tb\r"), "a: 1\n\tb ");
        assert_eq!(markdown("a|b\n<i>&`*"), "a\\|b &lt;i>&amp;\\`\\*");
        assert_eq!(markdown("\\| [x](y) ~~z~~"), "\\\\\\| \\[x\\](y) \\~\\~z\\~\\~");
    }
}
