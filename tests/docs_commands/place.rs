//! A folder that looks like this one to who follows the documents: recipes, scripts, experiments with the same names and keys that
//! take a moment, sets of pictures, and the program.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_yaml::{Mapping, Value};

use super::data;

/// The folder, gone when this is dropped.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        data::write(place.path());
        for folder in ["scripts", "weights", "experiments"] {
            copy(folder, place.path());
        }
        place.programs();
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Run a line in a shell in this folder.
    pub fn shell(&self, line: &str) -> Output {
        let before = |folder: &Path, name: &str| {
            let others = std::env::var(name).map_or(String::new(), |others| format!(":{others}"));
            format!("{}{others}", folder.display())
        };
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]).current_dir(self.path());
        shell.env("PATH", before(&self.path().join("bin"), "PATH")).env("OMP_NUM_THREADS", "1");
        shell.env("PYTHONPATH", before(&root().join("python"), "PYTHONPATH")).env("PYTHONDONTWRITEBYTECODE", "1");
        shell.env_remove("LVD_DATA").env_remove("RUST_LOG").output().unwrap()
    }

    /// Write an experiment, shortened.
    pub fn experiment(&self, name: &str, yaml: &str) {
        fs::write(self.path().join(name), shortened(yaml)).unwrap();
    }

    /// The program by all its names; `just` as this project's recipes without what they need to be built; `cargo`, which runs the
    /// program as it was built for the tests.
    fn programs(&self) {
        let (bin, release) = (self.path().join("bin"), self.path().join("target/release"));
        fs::create_dir(&bin).unwrap();
        fs::create_dir_all(&release).unwrap();
        let program = assert_cmd::cargo::cargo_bin("lvd");
        std::os::unix::fs::symlink(&program, bin.join("lvd")).unwrap();
        std::os::unix::fs::symlink(&program, release.join("lvd")).unwrap();
        script(&bin.join("just"), &recipes(&fs::read_to_string(root().join("justfile")).unwrap()));
        script(
            &bin.join("cargo"),
            "[[ \" $* \" = *' --release -- '* ]]\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec lvd \"$@\"\n",
        );
        script(&bin.join("python"), "exec python3 \"$@\"\n");
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(path: &Path, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{lines}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Copy a folder of the project, experiments shortened.
fn copy(folder: &str, place: &Path) {
    for entry in walkdir::WalkDir::new(root().join(folder)).into_iter().map(Result::unwrap) {
        let target = place.join(entry.path().strip_prefix(root()).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else if target.extension().is_some_and(|ending| ending == "yaml") {
            fs::write(target, shortened(&fs::read_to_string(entry.path()).unwrap())).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The recipes of a justfile as one shell script; what must be there before them is there.
fn recipes(justfile: &str) -> String {
    let mut script = "recipe=$1\nshift\ncase $recipe in\n".to_owned();
    let mut lines = justfile.lines().peekable();
    while let Some(line) = lines.next() {
        let mut body = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("    ")) {
            body.push(line.trim_start_matches([' ', '@']));
        }
        let name = line.split([' ', ':']).next().unwrap();
        if !body.is_empty() && !body.iter().any(|line| line.contains("{{")) {
            script.extend([name, ")\n", &body.join("\n"), "\n;;\n"]);
        }
    }
    script + "*) echo \"no recipe $recipe\" >&2; exit 1 ;;\nesac\n"
}

/// An experiment with the same stages that takes a moment.
fn shortened(yaml: &str) -> String {
    let mut experiment: Value = serde_yaml::from_str(yaml).unwrap();
    shorten(&mut experiment);
    let experiment = experiment.as_mapping_mut().unwrap();
    let data = experiment["data"].as_mapping_mut().unwrap();
    data.remove("train_limit");
    if ["embedded", "photographs"].iter().any(|format| data["format"] == *format) {
        data.insert("train_limit".into(), 64.into());
    }
    if ["idx", "npz"].iter().any(|format| data["format"] == *format) {
        data.insert("validation".into(), serde_yaml::from_str("{last: 16}").unwrap());
    }
    let compute: Mapping = serde_yaml::from_str("{micro_batch: 16, watched: 16, threads: 1}").unwrap();
    experiment.insert("compute".into(), compute.into());
    serde_yaml::to_string(&experiment).unwrap()
}

/// Less of everything that takes time, wherever it stands.
fn shorten(value: &mut Value) {
    let Some(keys) = value.as_mapping_mut() else { return };
    for (key, value) in keys.iter_mut() {
        let most: u64 = match key.as_str().unwrap_or_default() {
            "decoder" => {
                *value = vec![8].into();
                continue;
            }
            "epochs" => 1,
            "states" | "clusters" => 2,
            "iterations" => 3,
            "final_clusters" | "bins" => 4,
            "codes_bottom" | "codes_top" | "embedding" | "hidden" | "residual" | "units" => 8,
            "batch" | "micro_batch" | "last" => 16,
            "examples" | "start_examples" | "sample" => 100,
            _ => u64::MAX,
        };
        match value.as_u64() {
            Some(number) => *value = number.min(most).into(),
            None => shorten(value),
        }
    }
}

/// Whether Python can import these modules.
pub fn python_has(modules: &[&str]) -> bool {
    let import = format!("import {}", modules.join(", "));
    modules.is_empty()
        || Command::new("python3").args(["-c", &import]).output().is_ok_and(|output| output.status.success())
}
