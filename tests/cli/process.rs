//! Streams, memory, threads and signals: how the process behaves, whatever it is asked to do.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

use super::{lvd, text, tiny};

/// The binary as a shell runs it: `lvd` in `script` stands for it.
fn shell(folder: &Path, script: &str) -> Output {
    let lvd = assert_cmd::cargo::cargo_bin("lvd");
    let script = format!("lvd() {{ '{}' \"$@\"; }}; {script}", lvd.display());
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", &script]).env_remove("LVD_DATA").env_remove("RUST_LOG").output().unwrap()
}

#[test]
fn a_full_or_closed_stderr_changes_no_exit_code() {
    let folder = tiny();
    for stderr in ["2>/dev/full", "2>&-"] {
        for (arguments, code) in [
            ("--verbose run tiny.yaml", 0),
            ("run tiny.yaml", 0),
            ("report runs/tiny", 0),
            ("run missing.yaml", 2),
            ("no-such-command", 2),
            ("eval runs/tiny --stage nothing", 2),
        ] {
            let output = shell(folder.path(), &format!("lvd {arguments} {stderr}"));
            assert_eq!(output.status.code(), Some(code), "{arguments} {stderr}");
            std::fs::remove_dir_all(folder.path().join("runs/other")).ok();
        }
    }
}

#[test]
fn a_full_stdout_is_a_fault_and_one_that_nobody_reads_is_none() {
    let folder = tiny();
    for arguments in ["schema", "completions bash", "--help", "--version", "eval --help"] {
        let output = shell(folder.path(), &format!("lvd {arguments} >/dev/full"));
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(text(&output.stderr).starts_with("lvd: stdout: cannot be written: "), "{}", text(&output.stderr));
        let both = shell(folder.path(), &format!("lvd {arguments} >/dev/full 2>/dev/full"));
        assert_eq!(both.status.code(), Some(1), "{arguments}");
        let unread = shell(folder.path(), &format!("{{ lvd {arguments}; echo $? >&2; }} | true"));
        assert_eq!(text(&unread.stderr).trim(), "0", "{arguments}");
    }
}

#[test]
fn eval_computes_with_the_threads_of_its_run() {
    let folder = tiny();
    assert!(lvd(folder.path(), &["run", "tiny.yaml"]).status.success());
    for threads in ["1", "3"] {
        let path = folder.path().join("runs/tiny/config.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let at = config.find("  threads: ").unwrap() + 11;
        let changed = format!("{}{threads}{}", &config[..at], &config[at + 1..]);
        std::fs::write(&path, changed).unwrap();
        let said = lvd(folder.path(), &["eval", "runs/tiny", "--verbose"]);
        assert!(said.status.success());
        assert!(text(&said.stderr).contains(&format!("threads of the CPU: {threads}\n")), "{}", text(&said.stderr));
    }
}
