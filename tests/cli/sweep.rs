//! Sweeps, comparisons, and tables of several runs.

use std::collections::BTreeMap;

use ndarray::Array1;

use super::{error, json, lvd, text, tiny};

#[test]
fn a_sweep_shares_stages_goes_on_and_compares() {
    let folder = tiny();
    let at = |name: &str| folder.path().join("runs/s").join(name);
    let sweep = |more: &[&str]| {
        let sets =
            ["sweep", "tiny.yaml", "--sweep-dir", "runs/s", "--set", "latents.clusters=2,3", "--set", "seed=1,2"];
        let output = lvd(folder.path(), &[&sets, more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (table, _) = sweep(&["--shard", "1/2"]);
    assert!(table.contains("2 of 4 points finished"), "{table}");
    assert!(at("clusters=2,seed=1").is_dir() && !at("clusters=2,seed=2").exists());
    let (table, said) = sweep(&[]);
    assert!(table.contains("4 of 4 points finished"), "{table}");
    assert!(said.contains("point 2 of 4: clusters=2,seed=2"), "{said}");
    // The teacher does not depend on the clusters: the same files, made once.
    for seed in ["1", "2"] {
        let record = |clusters: &str| {
            std::fs::read_to_string(at(&format!("clusters={clusters},seed={seed}/teacher/record.json"))).unwrap()
        };
        assert_eq!(record("2"), record("3"));
    }
    assert_ne!(
        std::fs::read(at("clusters=2,seed=1/teacher/record.json")).unwrap(),
        std::fs::read(at("clusters=2,seed=2/teacher/record.json")).unwrap()
    );
    assert!(said.contains("teacher: taken from runs/s/clusters=2,seed=2"), "{said}");
    // A point is what a run by itself is.
    let alone = lvd(folder.path(), &["run", "tiny.yaml", "--set", "latents.clusters=3", "--set", "seed=2"]);
    assert!(alone.status.success());
    let results = |path: std::path::PathBuf| {
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        rows.iter().map(|row| (row["stage"].to_string(), row["nats_mean"].to_string())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(results(at("clusters=3,seed=2/results.json")), results(folder.path().join("runs/tiny/results.json")));
    assert!(table.contains("clusters=3, seed=2") && table.contains("standard deviation of 2 seeds"), "{table}");
    let page = std::fs::read_to_string(at("report.html")).unwrap();
    assert!(page.contains("clusters=3, seed=1") && page.contains("Over seeds") && page.contains("against parameters"));
    // The folder of a sweep stands for its points.
    std::fs::remove_file(at("report.html")).unwrap();
    assert_eq!(text(&lvd(folder.path(), &["report", "runs/s"]).stdout).trim(), "runs/s/report.html");
    assert_eq!(std::fs::read_to_string(at("report.html")).unwrap(), page);
    let table = text(&lvd(folder.path(), &["report", "runs/s", "--format", "md"]).stdout);
    assert!(["clusters=2", "clusters=3"].iter().all(|point| table.contains(point)), "{table}");
    let manifest = at("clusters=3,seed=2/manifest.json");
    let kept = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, kept.replace("\"finished\": \"", "\"finished\": null, \"was\": \"")).unwrap();
    let some = lvd(folder.path(), &["report", "runs/s", "--format", "csv"]);
    assert!(some.status.success());
    let told = "runs/s: 3 of 4 runs are finished, left out: runs/s/clusters=3,seed=2";
    assert!(text(&some.stderr).contains(told), "{}", text(&some.stderr));
    std::fs::write(&manifest, kept).unwrap();
    let (_, again) = sweep(&[]);
    assert!(!again.contains("started"), "{again}");

    let runs = ["runs/s/clusters=2,seed=1", "runs/s/clusters=3,seed=1"];
    let nats = |run: &str| -> Array1<f64> {
        json(folder.path(), &["eval", run, "--json", "--per-image", "nats.npy"]);
        ndarray_npy::read_npy(folder.path().join("nats.npy")).unwrap()
    };
    let difference = -(nats(runs[1]) - nats(runs[0])) / (64.0 * std::f64::consts::LN_2);
    let said = json(folder.path(), &["compare", runs[0], runs[1], "--json"]);
    let found = &said["differences"][0];
    let close = |key: &str, expected: f64| {
        let found = found[key].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "{key}: {found}, expected {expected}");
    };
    close("difference_bits_per_dimension", difference.mean().unwrap());
    close("standard_error", difference.std(1.0) / (difference.len() as f64).sqrt());
    let line = text(&lvd(folder.path(), &["compare", runs[0], runs[1]]).stdout);
    assert!(line.lines().count() == 3 && line.contains(" less runs/s/clusters=2,seed=1: "), "{line}");

    let report = |form: &str| text(&lvd(folder.path(), &["report", runs[0], runs[1], "--format", form]).stdout);
    let table = report("csv");
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    assert_eq!(reader.headers().unwrap().len(), 15);
    assert!(reader.records().all(|row| row.unwrap().len() == 15));
    let latex = report("latex");
    assert!(
        latex.contains("\\toprule") && latex.contains("clusters=2 &") && latex.contains("\\end{tabular}"),
        "{latex}"
    );
}

#[test]
fn wrong_sweeps_end_before_any_work() {
    let folder = tiny();
    let refused = |more: &[&str]| error(folder.path(), &[&["sweep", "tiny.yaml"], more].concat(), 2);
    assert!(refused(&["--set", "seed=1"]).starts_with("lvd: nothing varies"));
    assert!(refused(&["--set", "latents.clusters=2,x"]).contains("clusters=x"));
    assert!(!folder.path().join("runs").exists());
    let run = lvd(folder.path(), &["run", "tiny.yaml"]);
    assert!(run.status.success());
    assert!(error(folder.path(), &["compare", "runs/tiny", "none"], 2).contains("none: no run folder"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(
        error(folder.path(), &["report", "empty"], 2).starts_with("lvd: empty: no run folder (it has no config.yaml)")
    );
    assert!(lvd(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "half/a"]).status.success());
    assert_eq!(
        error(folder.path(), &["report", "half"], 2),
        "lvd: half: is no run folder, and no run in it is finished\n  finish the sweep by `lvd sweep`, or name run folders"
    );
}

#[test]
fn a_sweep_leaves_out_what_an_older_one_left_and_tells_all_mistakes_before_it_computes() {
    let folder = tiny();
    let sweep = |more: &[&str]| {
        let sets = ["sweep", "tiny.yaml", "--sweep-dir", "s", "--set", "seed=1,2", "--set", "baselines={}"];
        lvd(folder.path(), &[&sets, more].concat())
    };
    assert!(sweep(&["--shard", "1/2"]).status.success());
    let other = sweep(&["--set", "distill.soft.epochs=1", "--shard", "2/2"]);
    let table = text(&other.stdout);
    assert!(table.contains("1 of 2 points finished"), "{table}");
    let none = lvd(folder.path(), &["sweep", "tiny.yaml", "--sweep-dir", "new", "--set", "seed=1,2", "--shard", "3/3"]);
    assert!(text(&none.stdout).contains("0 of 2 points finished"), "{}", text(&none.stderr));
    // Of one seed there is no spread, and a run is not two seeds.
    let twice = error(folder.path(), &["report", "s/seed=1", "s/seed=1", "--format", "md"], 2);
    assert!(twice.contains("s/seed=1: is named twice"), "{twice}");
    let wrong = [
        "sweep",
        "tiny.yaml",
        "--sweep-dir",
        "w",
        "--set",
        "latents.clusters=3,0",
        "--set",
        "data.train_limit=96,99999",
    ];
    let told = error(folder.path(), &wrong, 2);
    assert!(told.contains("clusters=3,train_limit=99999: data.train_limit is 99999"), "{told}");
    assert!(told.contains("clusters=0,train_limit=96: ") && !folder.path().join("w").exists(), "{told}");
}
