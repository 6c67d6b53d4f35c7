//! Tells the loader where libtorch lies, so that binaries, tests and examples start without environment variables,
//! and the program from which commit it was built.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    let sources = ["src", "Cargo.toml", "Cargo.lock", "build.rs"];
    for source in sources {
        println!("cargo:rerun-if-changed={source}");
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
            println!("cargo:rerun-if-changed={log}");
        }
        let changed = git(&[&["status", "--porcelain", "--"][..], &sources[..]].concat());
        let mark = if changed.is_some_and(|list| !list.is_empty()) { "-changed" } else { "" };
        println!("cargo:rustc-env=LVD_COMMIT={commit}{mark}");
    }
}

/// What git answers, where there is a git and a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
