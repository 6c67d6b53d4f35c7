//! Reports on run folders, read by an HTML parser and a PNG decoder.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scraper::{Html, Selector};
use serde_json::Value;

use super::growing::GAIN;
use super::{error, lvd, text, tiny};

fn results(folder: &Path, run: &str) -> Vec<Value> {
    let text = std::fs::read(folder.join(run).join("results.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap().as_array().unwrap().clone()
}

fn four(value: &Value) -> String {
    format!("{:.4}", value.as_f64().unwrap())
}

fn select<'a>(page: &'a Html, what: &str) -> Vec<scraper::ElementRef<'a>> {
    page.select(&Selector::parse(what).unwrap()).collect()
}

fn texts(element: scraper::ElementRef, what: &str) -> Vec<String> {
    element.select(&Selector::parse(what).unwrap()).map(|e| e.text().collect()).collect()
}

#[test]
fn a_page_says_what_the_run_folder_says_and_needs_nothing_else() {
    let folder = tiny();
    let name = "name=<script>alert('a&b')<script>";
    let run = ["run", "tiny.yaml", "--set", GAIN, "--set", name, "--run-dir", "run"];
    let run = lvd(folder.path(), &run);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let report = lvd(folder.path(), &["report", "run"]);
    assert_eq!(text(&report.stdout).trim(), "run/report.html", "{}", text(&report.stderr));
    let source = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    let page = Html::parse_document(&source);
    assert!(page.errors.is_empty(), "{:?}", page.errors);

    // The name is text, nothing is executed or fetched.
    assert_eq!(texts(page.root_element(), "h1"), ["<script>alert('a&b')<script>"]);
    assert!(select(&page, "script, link, iframe, object").is_empty());
    for (element, attribute) in [("img", "src"), ("a", "href"), ("image", "href")] {
        for found in select(&page, element) {
            assert!(found.attr(attribute).unwrap().starts_with("data:"));
        }
    }
    assert!(!source.contains("url(") && !source.contains("@import"));

    // The first table is that of the stages.
    let rows = select(&page, "section table")[0];
    let rows: Vec<_> = rows.select(&Selector::parse("tbody tr").unwrap()).collect();
    let results = results(folder.path(), "run");
    assert_eq!(rows.len(), results.len());
    for (row, result) in rows.iter().zip(&results) {
        assert_eq!(texts(*row, "th"), [result["label"].as_str().unwrap()]);
        let cells = texts(*row, "td");
        let expected = ["bits_per_dimension", "standard_error", "latent_bpd", "conditional_bpd"];
        assert_eq!(cells[1..5], expected.map(|key| four(&result[key])));
    }

    // Samples are 32 pictures of 8 x 8, enlarged 8 times, a dot apart, 8 in a row.
    let samples = select(&page, "img[alt$='stage joint']")[0].attr("src").unwrap();
    let png = STANDARD.decode(samples.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
    let picture = image::load_from_memory(&png).unwrap().to_luma8();
    assert_eq!(picture.dimensions(), (8 * 68, 4 * 68));
    assert!(picture.pixels().any(|p| p.0[0] > 100));
    assert!(select(&page, "img").iter().all(|img| !img.attr("alt").unwrap().is_empty()));
    // A curve for every stage with more than its start; the growing rounds' decisions as a table.
    assert!(select(&page, "figure svg").len() >= 7);
    let heads = select(&page, "thead tr").iter().map(|row| texts(*row, "th")).collect::<Vec<_>>();
    assert!(heads.iter().any(|cells| cells[..3] == ["round", "splits", "merges"]), "{heads:?}");
}

#[test]
fn tables_in_markdown_have_a_row_a_model_and_name_runs_and_rules() {
    let folder = tiny();
    for (dir, seed) in [("a", "3"), ("b|c", "4")] {
        let quick = ["--set", "baselines={}", "--set", "distill.joint.epochs=0", "--seed", seed, "--run-dir", dir];
        let name = format!("name={dir}");
        let arguments = [&["run", "tiny.yaml", "--set", &name][..], &quick].concat();
        assert!(lvd(folder.path(), &arguments).status.success());
    }
    let table = text(&lvd(folder.path(), &["report", "a", "b|c", "--format", "md"]).stdout);
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    // The two differ in their seed (and their name) alone.
    assert!(table.contains("| all | exact | ") && table.contains(" | 2 |\n"), "{table}");
    let both = [results(folder.path(), "a"), results(folder.path(), "b|c")].concat();
    assert_eq!(rows.len(), 2 + both.len(), "{table}");
    for (row, result) in rows[2..].iter().zip(&both) {
        assert!(row.contains(&format!("| {} |", four(&result["bits_per_dimension"]))), "{row}");
    }
    assert!(rows[rows.len() - 1].starts_with("| b\\|c | "), "{table}");
    assert!(!rows[0].contains("counted by"));

    // Another protocol: refused, unless every row says by which rule it counts.
    let manifest = folder.path().join("b|c/manifest.json");
    let changed = std::fs::read_to_string(&manifest).unwrap().replace("\"lossless\"", "\"paper\"");
    std::fs::write(&manifest, changed).unwrap();
    let message = error(folder.path(), &["report", "a", "b|c"], 2);
    let pictures: String = serde_json::from_slice::<Value>(&std::fs::read(&manifest).unwrap()).unwrap()["data"]["test"]
        .as_str()
        .unwrap()
        .chars()
        .take(12)
        .collect();
    assert_eq!(
        message,
        format!(
            "lvd: the runs cannot be compared: their protocols or their test pictures differ\n  a: protocol lossless, test \
             pictures {pictures}\n  b|c: protocol paper, test pictures {pictures}\n  report on them one by one, or give \
             --allow-mixed, which names each row"
        )
    );
    let mixed = text(&lvd(folder.path(), &["report", "a", "b|c", "--format", "md", "--allow-mixed"]).stdout);
    let last = mixed.lines().take_while(|line| line.starts_with('|')).last().unwrap();
    assert!(last.ends_with(&format!("| protocol paper, test pictures {pictures} |")), "{last}");
}

#[test]
fn folders_without_results_are_refused() {
    let folder = tiny();
    assert!(error(folder.path(), &["report", "nowhere"], 2).starts_with("lvd: nowhere: no run folder"));
    assert!(lvd(folder.path(), &["train-teacher", "tiny.yaml", "--run-dir", "half"]).status.success());
    assert_eq!(
        error(folder.path(), &["report", "half"], 2),
        "lvd: half: no results.json: the run was not evaluated\n  finish it by `lvd run`"
    );
    std::fs::write(folder.path().join("half/results.json"), "[{]").unwrap();
    let broken = error(folder.path(), &["report", "half"], 2);
    assert!(broken.starts_with("lvd: half/results.json: no results of a run: "), "{broken}");
}

/// A finished run without baselines, in `run`.
fn finished() -> tempfile::TempDir {
    let folder = tiny();
    let quick = ["run", "tiny.yaml", "--set", "baselines={}", "--set", "distill.joint.epochs=1", "--run-dir", "run"];
    assert!(lvd(folder.path(), &quick).status.success());
    folder
}

#[test]
fn files_that_no_run_leaves_are_refused_by_name_and_never_drawn() {
    let folder = finished();
    let run = folder.path().join("run");
    let line = |step: &str, bits: &str| {
        format!("{{\"stage\":\"soft\",\"step\":{step},\"seconds\":1.0,\"valid_bpd\":{bits}}}\n").into_bytes()
    };
    let [early, late] = [line("7", "1e308"), line("8", "-1e308")];
    let results = std::fs::read_to_string(run.join("results.json")).unwrap();
    let bits = results.find("\"bits_per_dimension\": ").unwrap() + 22;
    let huge = format!("{}1e308{}", &results[..bits], &results[bits + results[bits..].find(',').unwrap()..]);
    for (file, content, expected) in [
        ("metrics.jsonl", line("18446744073709551615", "2.0"), ", line 1: step of stage soft: expected at most "),
        (
            "metrics.jsonl",
            [early, late].concat(),
            ", line 1: valid_bpd of stage soft: expected at most 1000000 either way",
        ),
        ("metrics.jsonl", b"\xff\xfe\n".to_vec(), ": cannot be read: stream did not contain valid UTF-8"),
        ("results.json", huge.into_bytes(), ": bits_per_dimension of stage hard: expected at most 1000000"),
        ("results.json", b"[]".to_vec(), ": holds no rows"),
        ("results.json", b"\xff".to_vec(), ": no results of a run: "),
        ("config.yaml", b"[]".to_vec(), ": holds no configuration"),
        ("config.yaml", b"\xff\xfe".to_vec(), ": cannot be read: stream did not contain valid UTF-8"),
        ("manifest.json", b"{}".to_vec(), ": no manifest: "),
        ("pictures/joint-samples.png", b"GIF89a".to_vec(), ": no PNG picture: "),
        ("pictures/joint.json", b"{\"title\":\"x\",\"shares\":[1e300],\"pictures\":1}".to_vec(), ": shares: expected "),
        ("pictures/joint.json", b"{\"title\":\"x\",\"shares\":[],\"pictures\":1}".to_vec(), ": shares: expected "),
    ] {
        let path = run.join(file);
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let said = error(folder.path(), &["report", "run"], 2);
        assert!(said.starts_with(&format!("lvd: run/{file}{expected}")), "{said}");
        std::fs::write(&path, kept).unwrap();
    }
    let half = std::fs::read(run.join("pictures/joint-samples.png")).unwrap();
    std::fs::write(run.join("pictures/joint-samples.png"), &half[..half.len() / 2]).unwrap();
    assert!(
        error(folder.path(), &["report", "run"], 2).starts_with("lvd: run/pictures/joint-samples.png: no PNG picture")
    );
}

#[test]
fn what_comes_from_files_cannot_break_tables_pages_or_terminals() {
    let folder = finished();
    let hostile = "a|b\\n| <img src=x onerror=y> `c` *d* \\u001b[31m&amp;";
    for (file, old) in [("results.json", "+ joint EM (LVD + joint)"), ("manifest.json", "lossless")] {
        let path = folder.path().join("run").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old));
        std::fs::write(&path, text.replace(old, hostile)).unwrap();
    }
    let output = lvd(folder.path(), &["report", "run", "--format", "md"]);
    let table = text(&output.stdout);
    assert!(!table.contains('\u{1b}') && !table.contains("<img"), "{table}");
    let columns = |row: &str| row.replace("\\|", "").matches('|').count();
    let rows: Vec<&str> = table.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), 2 + results(folder.path(), "run").len(), "{table}");
    assert!(rows.iter().all(|row| columns(row) == columns(rows[0])), "{table}");
    assert!(table.contains(
        "a\\|b | &lt;img src=x onerror=y> \\`c\\` \\*d\\*  \\[31m&amp;amp;".replace(" | ", " \\| ").as_str()
    ));

    assert!(lvd(folder.path(), &["report", "run"]).status.success());
    let source = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    let page = Html::parse_document(&source);
    assert!(page.errors.is_empty() && !source.contains('\u{1b}'), "{:?}", page.errors);
    assert!(select(&page, "img").iter().all(|img| img.attr("onerror").is_none()));

    // Messages name files and values that somebody else wrote.
    std::fs::write(folder.path().join("run/results.json"), "[{\"stage\":\"x\",\"role\":\"\\u001b[31mred\"}]").unwrap();
    let said = error(folder.path(), &["report", "run"], 2);
    assert!(said.contains("\\u{1b}[31mred") && !said.contains('\u{1b}'), "{said}");
}
