//! The documents: every link leads to a file that is there, and to a heading of it; every `lvd COMMAND` in code is one
//! that the program has. Addresses on the network are not looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The documents outside of `docs/`.
const OTHERS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "python/README.md", "weights/README.md"];

fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = OTHERS.iter().map(|name| root.join(name)).collect();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What stands outside of code, or within it: backticks, single or in fences of three, part the two.
fn pieces(text: &str, code: bool) -> impl Iterator<Item = &str> {
    text.split('`').skip(usize::from(code)).step_by(2)
}

/// Where the links of a text lead to, those of pictures too.
fn targets(text: &str) -> Vec<&str> {
    let after = pieces(text, false).flat_map(|prose| prose.split("](").skip(1));
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a page: its headings in small letters, without punctuation, with hyphens for blanks.
fn anchors(text: &str) -> BTreeSet<String> {
    let lines = text.split("```").step_by(2).flat_map(str::lines);
    lines.filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    let kept = letters.chars().filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn broken_links(document: &Path, text: &str) -> Vec<String> {
    let inner = targets(text).into_iter().filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    let is_broken = |target: &&str| {
        let (path, heading) = target.split_once('#').unwrap_or((*target, ""));
        let file = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
        !file.exists() || (!heading.is_empty() && !anchors(&fs::read_to_string(file).unwrap()).contains(heading))
    };
    inner.filter(is_broken).map(|target| format!("{}: {target}", document.display())).collect()
}

/// The commands that the program lists, and `help`.
fn commands() -> BTreeSet<String> {
    let output = Command::cargo_bin("lvd").unwrap().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|row| !row.starts_with(' '));
    rows.filter_map(|row| row.split_whitespace().next()).map(str::to_owned).collect()
}

/// Lines of code that call `lvd` with a command that is not one of `known`.
fn unknown_commands(text: &str, known: &BTreeSet<String>) -> Vec<String> {
    let indented = text.lines().filter(|line| line.starts_with("    "));
    let is_unknown = |line: &&str| {
        let mut words = line.split_whitespace().filter(|word| *word != "$");
        let is_ours = words.next().is_some_and(|program| program == "lvd" || program.ends_with("/lvd"));
        let command = words.next().filter(|_| is_ours);
        command.is_some_and(|command| !command.starts_with('-') && !known.contains(command))
    };
    pieces(text, true).flat_map(str::lines).chain(indented).filter(is_unknown).map(str::to_owned).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn links_lead_to_files_and_headings() {
    let problems = documents().iter().flat_map(|(path, text)| broken_links(path, text)).collect::<Vec<_>>();
    assert_none(&problems);
}

#[test]
fn commands_in_documents_exist() {
    let known = commands();
    assert!(["run", "eval", "report"].iter().all(|&name| known.contains(name)), "{known:?}");
    let mut problems = Vec::new();
    for (path, text) in documents() {
        problems.extend(unknown_commands(&text, &known).iter().map(|line| format!("{}: {line}", path.display())));
    }
    assert_none(&problems);
}

#[test]
fn the_checks_see_what_is_wrong() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let broken = |text: &str| broken_links(&document, text).len();
    assert_eq!(broken("[a](docs/guide.md#install), [`b`](LICENSE), [c](https://x.org/y), `[d](none.md)`"), 0);
    assert_eq!(broken("[a](docs/none.md) ![b](none.svg) [c](docs/guide.md#none) [d](#none)"), 4);
    assert_eq!(anchor("What a number means: `bits`, per_dimension"), "what-a-number-means-bits-per_dimension");
    let known = BTreeSet::from(["eval".to_owned()]);
    let unknown = |text: &str| unknown_commands(text, &known).len();
    assert_eq!(unknown("lvd none, `lvd eval RUN`, `lvd --help`, `lvd`\n\n    lvd eval RUN\n```sh\nlvd eval\n```\n"), 0);
    assert_eq!(unknown("`lvd none` and\n\n    target/release/lvd none RUN\n```sh\n$ lvd none\n```\n"), 3);
}

#[test]
fn the_schema_beside_the_experiments_is_that_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(root.join("schema.json")).unwrap()).unwrap();
    assert!(kept == lvd::experiment::read::schema(), "write it anew: lvd schema > experiments/schema.json");
    for entry in fs::read_dir(&root).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let named = text.contains("# yaml-language-server: $schema=../schema.json\n");
            assert!(named || file.extension().is_none_or(|ending| ending != "yaml"), "{}", file.display());
        }
    }
}
