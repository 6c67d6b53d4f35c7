//! What documents show in code: commands, experiments and parts of them, programs in Python.

use std::fs;
use std::path::Path;

/// Something in code, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The document, as a path from the root.
    pub document: String,
    /// The code, without what explains it.
    pub text: String,
    /// What it is.
    pub form: Form,
}

/// What code in a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line for a shell, perhaps with words that stand for others and with parts in brackets that may be left out.
    Command,
    /// A command of the program or a script with options, but without what it is applied to.
    Mention,
    /// Keys of an experiment that are set: `--set KEY=VALUE ...`, perhaps behind the name of a file.
    Settings,
    /// A block that is a whole experiment.
    Experiment,
    /// A line or block that is a part of an experiment.
    Part,
    /// A block in Python.
    Python,
}

/// What a command begins with. Code that begins with another word is none.
const PROGRAMS: [&str; 21] = [
    "lvd",
    "target/release/lvd",
    "just",
    "cargo",
    "rustup",
    "python",
    "python3",
    "pip",
    "apt-get",
    "git",
    "curl",
    "wget",
    "cd",
    "mpirun",
    "mpiexec",
    "srun",
    "docker",
    "conda",
    "sudo",
    "make",
    "cmake",
];

/// What the documents show to users and to those who work on the program, in the order in which they are read.
pub fn all() -> Vec<Shown> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec!["README.md".to_owned(), "docs/guide.md".to_owned()];
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<_> = pages.filter(|name| has_ending(name, "md") && name != "guide.md").collect();
    pages.sort();
    documents.extend(pages.iter().map(|name| format!("docs/{name}")));
    documents.extend(["CONTRIBUTING.md", "python/README.md", "weights/README.md"].map(str::to_owned));
    documents.iter().flat_map(|name| of(name, &fs::read_to_string(root.join(name)).unwrap())).collect()
}

/// What one document shows: its blocks in fences, lines indented by four blanks, and code within lines.
pub fn of(document: &str, text: &str) -> Vec<Shown> {
    let (mut found, mut prose) = (Vec::new(), String::new());
    let mut fence: Option<(&str, String)> = None;
    for line in text.lines() {
        match (fence.take(), line.strip_prefix("```")) {
            (Some((language, block)), Some(_)) => found.extend(of_block(language, &block)),
            (Some((language, block)), None) => fence = Some((language, block + line + "\n")),
            (None, Some(language)) => fence = Some((language, String::new())),
            (None, None) if line.starts_with("    ") => found.extend(of_line(line)),
            (None, None) => prose.extend([line, "\n"]),
        }
    }
    found.extend(prose.split('`').skip(1).step_by(2).filter_map(within_a_line));
    found.into_iter().map(|(form, text)| Shown { document: document.to_owned(), text, form }).collect()
}

fn of_block(language: &str, block: &str) -> Vec<(Form, String)> {
    match language {
        "" | "sh" | "bash" | "console" => block.lines().filter_map(of_line).collect(),
        "yaml" if block.starts_with("name:") => vec![(Form::Experiment, block.to_owned())],
        "yaml" => vec![(Form::Part, block.trim().to_owned())],
        "python" => vec![(Form::Python, block.to_owned())],
        _ => Vec::new(),
    }
}

/// A line of a block. What stands behind three blanks or a `#` explains it.
fn of_line(line: &str) -> Option<(Form, String)> {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let code = line.split("   ").next()?.split(" #").next()?.trim();
    if is_command(code) {
        return Some((Form::Command, code.to_owned()));
    }
    let is_part = code.split_once(": {").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase()));
    (is_part && code.ends_with('}')).then(|| (Form::Part, code.to_owned()))
}

/// Code between backticks. A single word is a name.
fn within_a_line(code: &str) -> Option<(Form, String)> {
    let code = code.replace("\\|", "|").split_whitespace().collect::<Vec<_>>().join(" ");
    let (first, rest) = code.split_once(' ')?;
    if first == "--set" || (has_ending(first, "yaml") && rest.starts_with("--set ")) {
        return Some((Form::Settings, code));
    }
    let form = if is_whole(first, rest) { Form::Command } else { Form::Mention };
    is_command(&code).then_some((form, code))
}

fn is_command(code: &str) -> bool {
    let is_setting = |word: &&str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_of_variables));
    let first = code.split_whitespace().find(|word| !is_setting(word)).unwrap_or_default();
    PROGRAMS.contains(&first) || is_script(first)
}

fn is_of_variables(letter: char) -> bool {
    letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
}

/// Whether a path ends in `.ending`.
pub fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == ending)
}

fn is_script(word: &str) -> bool {
    word.starts_with("scripts/") && word.contains('.')
}

/// Whether a command within a line says what it is applied to.
fn is_whole(program: &str, rest: &str) -> bool {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let is_given = |place: usize| words.get(place).is_some_and(|word| !word.starts_with('-'));
    match program {
        "lvd" => {
            matches!(rest, "schema" | "--help" | "--version") || is_given(if words[0] == "teacher" { 2 } else { 1 })
        }
        program if is_script(program) => is_given(0),
        _ => true,
    }
}

/// The commands that a shown one stands for: itself without what is in brackets and with the first of what `|` parts, then
/// one with each of these instead.
pub fn variants(shown: &str) -> Vec<String> {
    let places = places(shown);
    let choose = |place: usize, choice: usize| {
        let words = places.iter().enumerate().map(|(i, choices)| &choices[if i == place { choice } else { 0 }]);
        words.filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    };
    let others = places.iter().enumerate().flat_map(|(i, choices)| (1..choices.len()).map(move |choice| (i, choice)));
    std::iter::once(choose(places.len(), 0)).chain(others.map(|(place, choice)| choose(place, choice))).collect()
}

/// The choices at every place of a command; what may be left out is left out at first.
fn places(shown: &str) -> Vec<Vec<String>> {
    let (mut places, mut word, mut quoted, mut depth) = (Vec::new(), String::new(), false, 0);
    for letter in shown.chars().chain([' ']) {
        match letter {
            '[' if !quoted && (depth > 0 || word.is_empty()) => depth += 1,
            ']' if !quoted && depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    let choices = word.split(" | ").map(str::to_owned);
                    places.push(std::iter::once(String::new()).chain(choices).collect());
                    word.clear();
                }
            }
            ' ' if !quoted && depth == 0 => {
                if !word.is_empty() {
                    places.push(if word.contains('\'') { vec![word.clone()] } else { choices(&word) });
                }
                word.clear();
            }
            _ => {
                quoted ^= letter == '\'';
                word.push(letter);
            }
        }
    }
    places
}

fn choices(word: &str) -> Vec<String> {
    word.split('|').map(str::to_owned).collect()
}
