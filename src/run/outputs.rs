//! Files that an answer is to be written to, looked at before anything is computed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::require;

/// Refuse outputs that lie in no folder, are named twice, or would replace what is read: one of the `inputs` or a file that the
/// run folder `run` holds.
///
/// # Errors
/// A refusal that names the file.
pub fn check(outputs: &[&Path], inputs: &[&Path], run: &Path) -> Result<()> {
    let mut places: Vec<PathBuf> = Vec::new();
    for output in outputs {
        let shown = output.display();
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        require!(folder.is_dir(), "{shown}: there is no folder {}", folder.display());
        require!(!output.is_dir(), "{shown}: is a folder, expected a file to write");
        let place = place(output, folder);
        require!(!places.contains(&place), "{shown}: is named for two outputs");
        let read = inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == place));
        require!(!read, "{shown}: is an input too, and would be overwritten");
        let held = run.canonicalize().is_ok_and(|run| place.starts_with(run)) && output.exists();
        require!(!held, "{shown}: the run folder holds this file already: choose another name");
        places.push(place);
    }
    Ok(())
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
        let refused = |outputs: &[&str], inputs: &[&str]| {
            let [outputs, inputs] = [outputs, inputs].map(|all| all.iter().map(|name| at(name)).collect::<Vec<_>>());
            let [outputs, inputs] = [&outputs, &inputs].map(|all| all.iter().map(PathBuf::as_path).collect::<Vec<_>>());
            check(&outputs, &inputs, &at("run")).err().map(|error| error.to_string())
        };
        let about =
            |message: Option<String>| message.unwrap_or_default().split(": ").last().unwrap_or_default().to_owned();
        assert_eq!(refused(&["new.png", "new.npy", "run/new.csv"], &["mask.npy"]), None);
        assert_eq!(about(refused(&["a.png", "./a.png"], &[])), "is named for two outputs");
        assert_eq!(about(refused(&["mask.npy"], &["mask.npy"])), "is an input too, and would be overwritten");
        assert_eq!(about(refused(&["run/config.yaml"], &[])), "choose another name");
        assert_eq!(about(refused(&["run"], &[])), "is a folder, expected a file to write");
        assert!(about(refused(&["none/a.png"], &[])).starts_with("there is no folder"));
    }
}
