//! Progressive growing by the binary: runs, interruptions, refusals.

use std::path::Path;

use serde_json::Value;

use super::{error, lvd, text, tiny};

pub const GAIN: &str =
    "distill.growing={criterion: gain, final_clusters: 6, rounds: 2, confidence: 0.0, em: {epochs: 2, batch: 32}}";
const PAPER: &str =
    "distill.growing={criterion: paper, final_clusters: 9, em: {epochs: 2, batch: 32, rule: {kind: average}}}";

/// Lines of `metrics.jsonl` of a run, without their times and without means over the pictures of an epoch, which after an
/// interruption are those of the rest of it.
fn metrics(folder: &Path, run: &str) -> Vec<Value> {
    let lines = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let left_out = ["seconds", "waited_for_pictures_s", "train_bpd", "truncated_share"];
    let lasting = |mut line: Value| {
        line.as_object_mut().unwrap().retain(|key, _| !left_out.contains(&key.as_str()));
        line
    };
    lines.map(lasting).collect()
}

#[test]
fn growing_by_either_criterion_is_a_stage_with_its_decisions_on_record() {
    let folder = tiny();
    for (criterion, heads) in [(GAIN, 6), (PAPER, 9)] {
        let run = lvd(folder.path(), &["run", "tiny.yaml", "--set", criterion, "--run-dir", criterion]);
        assert!(run.status.success(), "{}", text(&run.stderr));
        assert!(text(&run.stdout).contains("+ progressive growing"), "{}", text(&run.stdout));
        let lines = metrics(folder.path(), criterion);
        let decisions: Vec<&Value> = lines.iter().filter(|line| line["stage"] == "growing").collect();
        if criterion == PAPER {
            // Three global clusters get a third head each.
            assert_eq!(decisions.iter().filter(|line| line["heads"] == 2).count(), 3);
        } else {
            let splits = decisions.iter().filter(|l| l["proposal"] == "split" && l["accepted"] == true).count();
            let rounds: Vec<u64> = decisions.iter().filter_map(|line| line["splits"].as_u64()).collect();
            assert_eq!((rounds.len(), rounds.iter().sum::<u64>() as usize), (2, splits));
        }
        let plan = lvd(folder.path(), &["plan", "tiny.yaml", "--set", criterion, "--run-dir", criterion]);
        let plan = text(&plan.stdout);
        let line = plan.lines().find(|line| line.starts_with("growing")).unwrap();
        assert!(line.contains("done, reused") && line.contains(&format!("-> {heads}")), "{line}");
    }
}

#[test]
fn growing_goes_on_where_it_was_interrupted() {
    let folder = tiny();
    for criterion in [GAIN, PAPER] {
        let arguments = |run: &'static str| ["distill", "tiny.yaml", "--set", criterion, "--run-dir", run];
        let _ = std::fs::remove_dir_all(folder.path().join("whole"));
        let _ = std::fs::remove_dir_all(folder.path().join("parts"));
        assert!(lvd(folder.path(), &arguments("whole")).status.success());
        let mut stopped = 0;
        for wait in (150..).step_by(60).take(40) {
            let binary = assert_cmd::cargo::cargo_bin("lvd");
            let mut child = std::process::Command::new(binary)
                .current_dir(folder.path())
                .args(arguments("parts"))
                .stderr(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(wait));
            let _ = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            match child.wait().unwrap().code() {
                Some(0) => break,
                code => assert!(code.is_none() || code == Some(130), "{code:?}"),
            }
            stopped += 1;
        }
        assert!(stopped > 0);
        assert!(lvd(folder.path(), &arguments("parts")).status.success());
        assert_eq!(metrics(folder.path(), "whole"), metrics(folder.path(), "parts"), "{criterion}");
        let model = |run: &str| std::fs::read(folder.path().join(run).join("growing/model.safetensors")).unwrap();
        assert!(model("whole") == model("parts"), "{criterion}");
    }
}

#[test]
fn growing_that_cannot_be_is_refused() {
    let folder = tiny();
    let problem = |growing: &str| error(folder.path(), &["plan", "tiny.yaml", "--set", growing], 2);
    assert_eq!(
        problem("distill.growing={criterion: gain, final_clusters: 2}"),
        "lvd: tiny.yaml: 1 problem\n  distill.growing.final_clusters: expected at least the initial clusters, \
         latents.clusters = 3, found 2"
    );
    assert_eq!(
        problem("distill.growing={criterion: paper, final_clusters: 10}"),
        "lvd: tiny.yaml: 1 problem\n  distill.growing.final_clusters: expected a multiple of latents.clusters = 3, \
         twice as many or more: circuits have two heads or more, found 10"
    );
    let few = ["run", "tiny.yaml", "--set", GAIN, "--set", "patch.family.states=500", "--set", "distill.soft.epochs=0"];
    let few = error(folder.path(), &few, 2);
    assert!(few.contains("patches, fewer than the 500 states of its circuit\n  choose fewer clusters"), "{few}");
    let gaussian = ["plan", "tiny.yaml", "--set", PAPER, "--set", "patch.family={kind: gaussian}"];
    let gaussian = error(folder.path(), &gaussian, 2);
    assert!(
        gaussian.contains("distill.growing.criterion: expected gain where patch.family.kind is gaussian"),
        "{gaussian}"
    );
    let empty = error(folder.path(), &["plan", "tiny.yaml", "--set", GAIN, "--set", "data.validation={last: 0}"], 2);
    assert!(empty.contains("data.validation.last: must be at least 1, found 0"), "{empty}");
}
