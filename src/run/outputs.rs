//! Files that an answer is to be written to, looked at before anything is computed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::RunFolder;
use crate::require;

/// Endings of the files that a folder of pictures is read from.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

/// Refuse outputs that lie in no folder, are named twice, have another ending than that of what is written (where one is given), or
/// would replace what is read: one of the `inputs`, a picture in one that is a folder or among the run's own pictures, or a file
/// that the run folder `run` holds.
///
/// # Errors
/// A refusal that names the file.
pub fn check(outputs: &[(&Path, &str)], inputs: &[&Path], run: &Path) -> Result<()> {
    let own = own_pictures(run);
    let inputs: Vec<PathBuf> =
        inputs.iter().copied().chain(own.as_deref()).filter_map(|i| i.canonicalize().ok()).collect();
    let mut places: Vec<PathBuf> = Vec::new();
    for (output, ending) in outputs {
        let shown = output.display();
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        require!(folder.is_dir(), "{shown}: there is no folder {}", folder.display());
        require!(!output.is_dir(), "{shown}: is a folder, expected a file to write");
        // A device or a pipe has no ending.
        let special = output.exists() && !output.is_file();
        let has = ending.is_empty() || special || has_ending(output, &[ending]);
        require!(has, "{shown}: what is written there is a .{ending} file: choose a name that says so");
        let place = place(output, folder);
        require!(!places.contains(&place), "{shown}: is named for two outputs");
        require!(!inputs.contains(&place), "{shown}: is an input too, and would be overwritten");
        let within = inputs.iter().any(|input| input.is_dir() && place.starts_with(input));
        require!(
            !(within && output.exists() && has_ending(output, &PICTURES)),
            "{shown}: lies among the pictures that are read, and would be overwritten: choose another name"
        );
        let held = run.canonicalize().is_ok_and(|run| place.starts_with(run)) && output.exists();
        require!(!held, "{shown}: the run folder holds this file already: choose another name");
        places.push(place);
    }
    Ok(())
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|found| endings.iter().any(|ending| found.eq_ignore_ascii_case(ending)))
}

/// The folder of a run's own pictures, where they are files of a folder.
fn own_pictures(run: &Path) -> Option<PathBuf> {
    let config: Value = RunFolder::read(run).ok()?.config().ok()?;
    let root = Path::new(config["data"]["root"].as_str()?);
    (config["data"]["format"] == "folder")
        .then(|| config["data"]["dir"].as_str().map_or_else(|| root.to_owned(), |dir| root.join(dir)))
}

/// Where a file is or will be, without links.
fn place(output: &Path, folder: &Path) -> PathBuf {
    let in_folder = || folder.canonicalize().unwrap_or_default().join(output.file_name().unwrap_or_default());
    output.canonicalize().unwrap_or_else(|_| in_folder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_replace_nothing_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("run")).unwrap();
        std::fs::write(at("run/config.yaml"), "").unwrap();
        std::fs::write(at("mask.npy"), "").unwrap();
        std::fs::create_dir(at("photos")).unwrap();
        std::fs::write(at("photos/a.png"), "").unwrap();
        std::fs::write(at("photos/a.csv"), "").unwrap();
        let refused = |outputs: &[&str], inputs: &[&str]| {
            let [outputs, inputs] = [outputs, inputs].map(|all| all.iter().map(|name| at(name)).collect::<Vec<_>>());
            let outputs: Vec<_> = outputs.iter().map(|path| (path.as_path(), "")).collect();
            let inputs: Vec<_> = inputs.iter().map(PathBuf::as_path).collect();
            check(&outputs, &inputs, &at("run")).err().map(|error| error.to_string())
        };
        let about =
            |message: Option<String>| message.unwrap_or_default().split(": ").last().unwrap_or_default().to_owned();
        assert_eq!(refused(&["new.png", "new.npy", "run/new.csv"], &["mask.npy"]), None);
        assert_eq!(refused(&["photos/new.png", "photos/a.csv"], &["photos"]), None);
        assert!(refused(&["photos/a.png"], &["photos"]).unwrap().contains("lies among the pictures that are read"));
        let wrong = check(&[(&at("a.txt"), "png")], &[], &at("run")).unwrap_err().to_string();
        assert!(wrong.contains("is a .png file"), "{wrong}");
        assert_eq!(about(refused(&["a.png", "./a.png"], &[])), "is named for two outputs");
        assert_eq!(about(refused(&["mask.npy"], &["mask.npy"])), "is an input too, and would be overwritten");
        assert_eq!(about(refused(&["run/config.yaml"], &[])), "choose another name");
        assert_eq!(about(refused(&["run"], &[])), "is a folder, expected a file to write");
        assert!(about(refused(&["none/a.png"], &[])).starts_with("there is no folder"));
    }
}
