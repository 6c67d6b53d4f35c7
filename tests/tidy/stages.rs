//! Stages are named by the type `Stage`. Their names as strings stand in the file of that type alone, so that a further
//! stage, or another name, is a change of that file.

use std::path::Path;

use lvd::experiment::stage::Stage;
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;

use super::{files, is_test_only};

/// The only file that says them.
const HOME: &str = "src/experiment/stage.rs";

/// Calls whose argument is a key of the configuration or what a bar shows, and no stage, although it reads like one.
const KEYS: [&str; 2] = ["check", "bar"];

/// Lines of `source` that hold a stage's name as a whole string. Tests inside files are left out: they may make up stages.
fn stage_strings(path: &Path, source: &str) -> Vec<String> {
    let items = syn::parse_file(source).unwrap().items;
    let tests: Vec<_> = items
        .iter()
        .filter(|item| matches!(item, syn::Item::Mod(module) if is_test_only(&module.attrs)))
        .map(|item| item.span().start().line..=item.span().end().line)
        .collect();
    let mut found = Vec::new();
    look(source.parse().unwrap(), false, &mut found);
    found.retain(|(line, _)| !tests.iter().any(|lines| lines.contains(line)));
    let tell = |(line, name): &(usize, String)| {
        format!("{}:{line}: \"{name}\" is a stage: say Stage, or Stage::name", path.display())
    };
    found.iter().map(tell).collect()
}

fn look(tokens: TokenStream, is_key: bool, found: &mut Vec<(usize, String)>) {
    let mut before = String::new();
    for token in tokens {
        match &token {
            TokenTree::Group(group) => look(group.stream(), KEYS.contains(&before.as_str()), found),
            TokenTree::Literal(literal) if !is_key => {
                if let syn::Lit::Str(text) = syn::Lit::new(literal.clone())
                    && Stage::ALL.iter().any(|stage| stage.name() == text.value())
                {
                    found.push((literal.span().start().line, text.value()));
                }
            }
            _ => {}
        }
        before = token.to_string();
    }
}

#[test]
fn stages_are_no_strings() {
    let sources = files("src", "rs").into_iter().filter(|(path, _)| path != Path::new(HOME));
    super::assert_none(&sources.flat_map(|(path, source)| stage_strings(&path, &source)).collect::<Vec<_>>());
}

#[test]
fn the_check_of_stages_sees_strings_anywhere_but_in_tests_and_keys() {
    let check = |source: &str| stage_strings(Path::new("src/x.rs"), source);
    assert_eq!(
        check("fn f() {}\nfn g() { run(\"joint\"); }"),
        ["src/x.rs:2: \"joint\" is a stage: say Stage, or Stage::name"]
    );
    for source in [
        "const A: &str = \"em_only\";",
        "fn f() { let x = json!({\"stage\": [\"soft\"]}); }",
        "fn f(x: &str) { match x { \"tree\" => {} _ => {} } }",
        "fn f() { other(r\"pixel_hclt\"); }",
    ] {
        assert_eq!(check(source).len(), 1, "{source}");
    }
    for source in [
        "/// The `joint` one, \"joint\".\nfn f() { g(\"joint EM\", \"joint.tree\", joint); }",
        "#[cfg(test)]\nmod tests { const A: &str = \"joint\"; }",
        "fn f() { self.teacher.check(\"teacher\", problems); }",
    ] {
        assert!(check(source).is_empty(), "{source}: {:?}", check(source));
    }
}
