//! No two files use each other, directly or through others: each can be read, and taken out, without the ones above it.
//!
//! The rule. A file **uses** another one when it names something that is defined there: in a `use`, in a path
//! (`crate::a::b::thing()`, `super::b::Thing`, `child::Thing`), or inside a macro. A name that is only passed on
//! (`pub use child::Thing`) belongs to the file that defines it: whoever takes it from the parent uses the child, and the
//! parent itself uses it only where it says the name a second time. `mod child;` alone is no use. So a parent may be the
//! list of its children, or stand on them, or they on it; a parent that uses a child which uses the parent is a circle.
//! Tests inside files are left out: they may look at anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

use super::{files, is_test_only};

/// A path as it is written, or a module's place below the crate: `["circuit", "plan"]`.
type Names = Vec<String>;

/// A `use`: the name that it brings in, and what it stands for.
struct Import {
    name: String,
    path: Names,
    passed_on: bool,
}

/// What a file says, as far as the rule asks.
#[derive(Default)]
struct Source {
    imports: Vec<Import>,
    /// What `use path::*` names.
    globs: Vec<Names>,
    /// Names of its own items.
    items: BTreeSet<String>,
    /// All paths outside `use`, single names too.
    paths: Vec<Names>,
}

impl Source {
    fn read(text: &str) -> Self {
        let mut source = Self::default();
        source.visit_file(&syn::parse_file(text).unwrap());
        source
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree, passed_on: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let import = |name: &syn::Ident, path: Names| Import { name: name.to_string(), path, passed_on };
        match tree {
            syn::UseTree::Path(part) => self.tree(&with(&part.ident), &part.tree, passed_on),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree, passed_on)),
            syn::UseTree::Glob(_) => self.globs.push(before.to_vec()),
            syn::UseTree::Rename(part) => self.imports.push(import(&part.rename, with(&part.ident))),
            syn::UseTree::Name(part) if part.ident == "self" => {
                let name = before.last().unwrap().clone();
                self.imports.push(Import { name, path: before.to_vec(), passed_on });
            }
            syn::UseTree::Name(part) => self.imports.push(import(&part.ident, with(&part.ident))),
        }
    }

    /// Paths inside a macro: names joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.paths.push(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.paths.push(path);
        self.paths.retain(|path| !path.is_empty());
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Mod(module) if is_test_only(&module.attrs) => return,
            syn::Item::Fn(function) if is_test_only(&function.attrs) => return,
            syn::Item::Fn(function) => Some(&function.sig.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Macro(item) => item.ident.as_ref(),
            _ => None,
        };
        self.items.extend(name.map(ToString::to_string));
        syn::visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        syn::visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }
}

/// All files of a crate by their modules.
struct Crate(BTreeMap<Names, Source>);

impl Crate {
    /// From paths like `src/circuit/plan.rs` and contents; programs are left out.
    fn new(files: &[(impl AsRef<Path>, impl AsRef<str>)]) -> Self {
        let module = |path: &Path| -> Option<Names> {
            let path = path.with_extension("");
            let parts = path.components().skip(1).filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            });
            let parts: Names = parts.collect();
            match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["main"] => None,
                ["lib"] => Some(Names::new()),
                _ => Some(parts),
            }
        };
        let read = files.iter().filter_map(|(path, text)| Some((module(path.as_ref())?, Source::read(text.as_ref()))));
        Self(read.collect())
    }

    /// The file that defines what `path` means where `here` says it, or nothing: a module as such, or another crate's.
    fn target(&self, here: &[String], path: &[String], steps: usize) -> Option<Names> {
        if steps > 16 {
            return None;
        }
        let (mut at, mut rest) = (here.to_vec(), path);
        match rest.first()?.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
                return self.descend(at, rest, steps);
            }
            first => {
                let known = self.0[here].imports.iter().any(|import| import.name == first);
                let child = self.0.contains_key(&[here, &[first.to_owned()]].concat());
                return if known || child { self.descend(at, rest, steps) } else { None };
            }
        }
        self.descend(at, &rest[1..], steps)
    }

    fn descend(&self, at: Names, rest: &[String], steps: usize) -> Option<Names> {
        let (name, after) = rest.split_first()?;
        let inner = [at.as_slice(), std::slice::from_ref(name)].concat();
        if self.0.contains_key(&inner) {
            return self.descend(inner, after, steps);
        }
        let source = self.0.get(&at)?;
        if source.items.contains(name) {
            return Some(at);
        }
        if let Some(import) = source.imports.iter().find(|import| import.name == *name) {
            // A name like that of a crate is that crate: `use clap::Args` beside a module `clap` is not written here.
            let further = [&import.path[..], after].concat();
            return if import.path[0] == *name { None } else { self.target(&at, &further, steps + 1) };
        }
        let globs = source
            .globs
            .iter()
            .filter_map(|glob| self.target(&at, &[&glob[..], std::slice::from_ref(name)].concat(), steps + 1));
        globs.into_iter().find(|module| self.0[module].items.contains(name)).or(Some(at))
    }

    /// The files that `module` uses, each with a path that shows it.
    fn uses(&self, module: &Names) -> BTreeMap<Names, String> {
        let source = &self.0[module];
        let said = |name: &String| source.paths.iter().any(|path| path[0] == *name);
        let imported = source.imports.iter().filter(|import| !import.passed_on || said(&import.name));
        let written = source.paths.iter().filter(|path| path.len() > 1);
        let mut uses = BTreeMap::new();
        for path in imported.map(|import| &import.path).chain(written) {
            if let Some(file) = self.target(module, path, 0).filter(|file| file != module && !file.is_empty()) {
                uses.entry(file).or_insert_with(|| path.join("::"));
            }
        }
        uses
    }

    /// Every circle: its files, and who uses whom within it.
    fn circles(&self) -> Vec<String> {
        let modules: Vec<&Names> = self.0.keys().collect();
        let place = |module: &Names| modules.iter().position(|known| *known == module).unwrap();
        let uses: Vec<BTreeMap<Names, String>> = modules.iter().map(|module| self.uses(module)).collect();
        let edges =
            uses.iter().enumerate().flat_map(|(i, uses)| uses.keys().map(move |file| (i as u32, place(file) as u32)));
        let graph = DiGraph::<(), ()>::from_edges(edges);
        let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
        let name = |module: &Names| format!("src/{}.rs", module.join("/"));
        let tell = |circle: Vec<petgraph::graph::NodeIndex>| {
            let inside: BTreeSet<usize> = circle.iter().map(|node| node.index()).collect();
            let mut lines = vec![format!("a circle of {} files:", inside.len())];
            for &i in &inside {
                let used = uses[i].iter().filter(|(other, _)| inside.contains(&place(other)));
                lines.extend(
                    used.map(|(other, path)| format!("  {} uses {} (`{path}`)", name(modules[i]), name(other))),
                );
            }
            lines.join("\n")
        };
        let mut told: Vec<String> = circles.map(tell).collect();
        told.sort();
        told
    }
}

#[test]
fn no_files_use_each_other() {
    let all = Crate::new(&files("src", "rs"));
    assert!(all.0.len() > 20);
    super::assert_none(&all.circles());
}

#[test]
fn the_check_of_circles_follows_names_to_the_files_that_define_them() {
    let circles = |files: &[(&str, &str)]| Crate::new(files).circles();
    let pair = |a: &str, b: &str| circles(&[("src/lib.rs", "pub mod a; pub mod b;"), ("src/a.rs", a), ("src/b.rs", b)]);
    let back = "use crate::a::One; pub struct Two;";
    for forth in [
        "use crate::b::Two; pub struct One;",
        "use crate::{b::{Two as Other, Three}}; pub struct One;",
        "use super::b::Two; pub struct One;",
        "use crate::b; pub struct One; fn f(_: b::Two) {}",
        "pub struct One; fn f() { crate::b::two(); }",
        "pub struct One; fn f() { println!(\"{}\", crate::b::two()); }",
        "pub use crate::b::Two; pub struct One; fn f(_: Two) {}",
    ] {
        let found = pair(forth, back);
        assert_eq!(found.len(), 1, "{forth}");
        assert!(found[0].contains("src/b.rs uses src/a.rs (`crate::a::One`)"), "{found:?}");
    }
    for forth in [
        "pub struct One;",
        "pub use crate::b::Two; pub struct One;",
        "use std::b::Two; pub struct One;",
        "pub struct One; #[cfg(test)] mod tests { use crate::b::Two; }",
    ] {
        assert!(pair(forth, back).is_empty(), "{forth}");
    }

    let family = |parent: &str, child: &str| {
        circles(&[
            ("src/lib.rs", "mod p;"),
            ("src/p.rs", parent),
            ("src/p/child.rs", child),
            ("src/p/other.rs", "pub struct Other;"),
        ])
    };
    // A list of children, of which one takes another's name from the list.
    assert!(family("mod child; mod other; pub use other::Other;", "use super::Other;").is_empty());
    assert!(family("mod child; mod other; pub use other::*;", "use super::Other;").is_empty());
    // A parent that stands on its children, and children that stand on it.
    assert!(family("mod child; use child::Child; fn f(_: Child) {}", "pub struct Child;").is_empty());
    assert!(family("mod child; pub struct Parent;", "use super::Parent;").is_empty());
    // Both at once.
    for parent in ["mod child; use child::Child; pub struct Parent(Child);", "pub struct Parent(child::Child);"] {
        assert_eq!(family(parent, "use super::Parent; pub struct Child;").len(), 1, "{parent}");
    }
    // Over three files.
    let three = [("src/a.rs", "use crate::b::B;pub struct A;"), ("src/b.rs", "use crate::c::C;pub struct B;")];
    let three = circles(&[&three[..], &[("src/c.rs", "use crate::a::A;pub struct C;")]].concat());
    assert!(three.len() == 1 && three[0].starts_with("a circle of 3 files:"), "{three:?}");
}
