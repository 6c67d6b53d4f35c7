//! The house rules that a program can check: no import goes up the list in src/lib.rs, files and functions stay short,
//! experiments say what they are for, nothing large is tracked, stages are no strings. Each rule is itself tested on
//! snippets that break it.

mod circles;
mod stages;

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;
const TRACKED_BYTES: u64 = 1 << 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension, as (path from the root, content).
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let entries = walkdir::WalkDir::new(root().join(folder)).sort_by_file_name().into_iter().filter_map(Result::ok);
    let paths =
        entries.map(walkdir::DirEntry::into_path).filter(|path| path.extension().is_some_and(|e| e == extension));
    paths.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

// Imports

/// The modules that src/lib.rs lists, in order.
fn floors(lib: &str) -> Vec<String> {
    let items = syn::parse_file(lib).unwrap().items;
    items
        .iter()
        .filter_map(|item| if let syn::Item::Mod(module) = item { Some(module.ident.to_string()) } else { None })
        .collect()
}

/// How deep a file's module lies below the crate's root: src/run.rs 1, src/run/log.rs 2.
fn depth(path: &Path) -> usize {
    path.components().count() - 1
}

/// The top-level names that a file mentions by `crate::name`, or by as many `super::` as lead to the root; in `use`
/// lists, in paths and inside macros alike.
fn mentions(source: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    walk(source.parse().unwrap(), depth, &mut found);
    found
}

fn walk(tokens: TokenStream, depth: usize, found: &mut Vec<(usize, String)>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let word =
        |i: usize| if let Some(TokenTree::Ident(ident)) = tokens.get(i) { ident.to_string() } else { String::new() };
    let colons =
        |i: usize| (i..i + 2).all(|j| matches!(tokens.get(j), Some(TokenTree::Punct(mark)) if mark.as_char() == ':'));
    let mut i = 0;
    while i < tokens.len() {
        if let TokenTree::Group(group) = &tokens[i] {
            let inner_module = i >= 2 && word(i - 2) == "mod" && group.delimiter() == Delimiter::Brace;
            walk(group.stream(), depth + usize::from(inner_module), found);
        }
        let mut end = i;
        let mut climbed = 0;
        while word(end) == "super" && colons(end + 1) {
            climbed += 1;
            end += 3;
        }
        if word(end) == "crate" && colons(end + 1) {
            climbed = depth;
            end += 3;
        }
        if climbed == depth && end > i {
            found.extend(heads(tokens.get(end)));
        }
        i = end.max(i + 1);
    }
}

/// The name after `crate::`, or the first name of each part of a `{..}` list.
fn heads(token: Option<&TokenTree>) -> Vec<(usize, String)> {
    match token {
        Some(TokenTree::Ident(ident)) => vec![(ident.span().start().line, ident.to_string())],
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<_> = group.stream().into_iter().collect();
            let parts = tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','));
            parts.flat_map(|part| heads(part.first())).collect()
        }
        _ => Vec::new(),
    }
}

/// Imports of `path` that go up the list.
fn upward_imports(path: &Path, source: &str, floors: &[String]) -> Vec<String> {
    let own = path.with_extension("").components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    let floor = |name: &str| floors.iter().position(|module| module == name);
    let Some(here) = floor(&own) else { return Vec::new() };
    let upward =
        mentions(source, depth(path)).into_iter().filter(|(_, name)| floor(name).is_some_and(|there| there > here));
    upward
        .map(|(line, name)| {
            format!("{}:{line}: `{own}` imports `{name}`, which stands below it in src/lib.rs", path.display())
        })
        .collect()
}

#[test]
fn no_import_goes_up() {
    let sources = files("src", "rs");
    let floors = floors(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    assert!(floors.len() > 3);
    assert_none(&sources.iter().flat_map(|(path, source)| upward_imports(path, source, &floors)).collect::<Vec<_>>());
}

#[test]
fn the_check_of_imports_sees_every_way_to_write_one() {
    let floors = floors("//! Docs.\npub mod ground; // first\nmod wall;\npub mod roof;\n");
    assert_eq!(floors, ["ground", "wall", "roof"]);
    let found = |path: &str, source: &str| upward_imports(Path::new(path), source, &floors).len();
    for source in [
        "use crate::roof::Tile;",
        "use crate::{ground, roof::{self, Tile}};",
        "fn f() { let x = crate::roof::tile(); }",
        "fn f() { println!(\"{}\", crate::roof::tile()); }",
        "use super::roof;",
        "mod tests { use super::super::roof::Tile; }",
    ] {
        assert_eq!(found("src/wall.rs", source), 1, "{source}");
    }
    assert_eq!(found("src/wall/brick.rs", "use super::super::roof;"), 1);
    assert_eq!(found("src/ground.rs", "use crate::{wall, roof};"), 2);
    for source in
        ["use crate::ground::Earth;", "use super::roof;", "use crate::wall::roof;", "use crate::{ground::roof, wall};"]
    {
        assert_eq!(found("src/wall/brick.rs", source), 0, "{source}");
    }
    assert_eq!(found("src/roof.rs", "use crate::{ground, wall};"), 0);
    assert_eq!(found("src/main.rs", "use lvd::roof;"), 0);
    let message = upward_imports(Path::new("src/wall.rs"), "\nuse crate::roof;", &floors);
    assert_eq!(message, ["src/wall.rs:2: `wall` imports `roof`, which stands below it in src/lib.rs"]);
}

// Lengths

struct Lengths {
    test_lines: usize,
    long_functions: Vec<String>,
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    let words = |attribute: &syn::Attribute| attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test");
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") && words(attribute))
}

fn lines(from: &impl Spanned, to: &impl Spanned) -> usize {
    to.span().end().line + 1 - from.span().start().line
}

impl Lengths {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let length = lines(signature, block);
        if length > FUNCTION_LINES {
            let start = signature.span().start().line;
            self.long_functions
                .push(format!("{start}: function `{}` has {length} lines, at most {FUNCTION_LINES}", signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Lengths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_test_only(&module.attrs) {
            self.test_lines += lines(module, module);
        }
        syn::visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        function.default.iter().for_each(|block| self.function(&function.sig, block));
        syn::visit::visit_trait_item_fn(self, function);
    }
}

/// What is too long in a source file; in-file tests do not count to its length.
fn too_long(path: &Path, source: &str) -> Vec<String> {
    let mut lengths = Lengths { test_lines: 0, long_functions: Vec::new() };
    lengths.visit_file(&syn::parse_file(source).unwrap());
    let mut problems: Vec<_> =
        lengths.long_functions.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    let length = source.lines().count() - lengths.test_lines;
    if length > FILE_LINES {
        problems.push(format!("{}: {length} lines without its tests, at most {FILE_LINES}", path.display()));
    }
    problems
}

#[test]
fn files_and_functions_are_short() {
    assert_none(&files("src", "rs").iter().flat_map(|(path, source)| too_long(path, source)).collect::<Vec<_>>());
}

#[test]
fn the_check_of_lengths_counts_lines() {
    let check = |source: &str| too_long(Path::new("src/x.rs"), source);
    let function = |head: &str, lines: usize| format!("{head} {{\n{}}}\n", "    let _ = '}';\n".repeat(lines - 2));
    assert!(check(&function("/// Doc.\n#[inline]\nfn f()", 60)).is_empty());
    assert_eq!(check(&function("/// Doc.\nfn f()", 61)), ["src/x.rs:2: function `f` has 61 lines, at most 60"]);
    for place in ["impl X", "trait X", "fn outer()", "#[cfg(test)]\nmod tests"] {
        let nested = format!("{place} {{ {} }}", function("fn g()", 61));
        assert!(check(&nested).iter().any(|problem| problem.contains("function `g` has 61 lines")), "{place}");
    }
    let file = |lines: usize, test_lines: usize| {
        format!(
            "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "const A: u8 = 1;\n".repeat(lines),
            "const B: u8 = 1;\n".repeat(test_lines)
        )
    };
    assert!(check(&file(400, 500)).is_empty());
    assert_eq!(check(&file(401, 0)), ["src/x.rs: 401 lines without its tests, at most 400"]);
}

// Experiments

/// What an experiment's header, its first comment, lacks; and whether the rest is YAML.
fn experiment_problems(path: &Path, text: &str) -> Vec<String> {
    let header: Vec<_> =
        text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim()).collect();
    let missing = ["Question:", "Command:", "Result:"].into_iter().filter(|key| {
        let said = header.iter().filter_map(|line| line.strip_prefix(key)).any(|rest| !rest.trim().is_empty());
        !said
    });
    let mut problems: Vec<_> =
        missing.map(|key| format!("{}: its header has no line `# {key} ...`", path.display())).collect();
    if let Err(error) = serde_yaml::from_str::<serde_yaml::Mapping>(text) {
        problems.push(format!("{}: {error}", path.display()));
    }
    problems
}

#[test]
fn experiments_say_what_they_are_for() {
    assert_none(
        &files("experiments", "yaml")
            .iter()
            .flat_map(|(path, text)| experiment_problems(path, text))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_check_of_experiments_reads_the_header_only() {
    let check = |text: &str| experiment_problems(Path::new("e.yaml"), text);
    assert!(
        check("# Digits.\n# Question: does it help?\n# Command: just distill\n# Result: 4.1 bpd\nseed: 1\n").is_empty()
    );
    assert_eq!(
        check("# Question: a\n# Command: b\nseed: 1\n# Result: c\n"),
        ["e.yaml: its header has no line `# Result: ...`"]
    );
    assert_eq!(
        check("# Question: a\n# Command:\n# Result: c\nseed: 1\n"),
        ["e.yaml: its header has no line `# Command: ...`"]
    );
    assert_eq!(check("# Question: a\n# Command: b\n# Result: c\nseed: [1\n").len(), 1);
}

// Tracked files

fn too_large(sizes: &[(String, u64)]) -> Vec<String> {
    let large = sizes.iter().filter(|(_, bytes)| *bytes > TRACKED_BYTES);
    large.map(|(name, bytes)| format!("{name}: {bytes} bytes are tracked, at most {TRACKED_BYTES}")).collect()
}

#[test]
fn nothing_large_is_tracked() {
    let output = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: no git repository");
        return;
    };
    let names = String::from_utf8(output.stdout).unwrap();
    let sizes = names
        .split_terminator('\0')
        .filter_map(|name| Some((name.to_owned(), fs::metadata(root().join(name)).ok()?.len())));
    assert_none(&too_large(&sizes.collect::<Vec<_>>()));
}

#[test]
fn the_check_of_sizes_allows_one_mebibyte() {
    let sizes = [("a".to_owned(), 1_048_576), ("b".to_owned(), 1_048_577)];
    assert_eq!(too_large(&sizes), ["b: 1048577 bytes are tracked, at most 1048576"]);
}
