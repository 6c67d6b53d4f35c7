//! What the documents tell their reader to type is typed: every command that they show is run on small data, in a folder that looks
//! like this one. What cannot be run here is on a list with the reason, so that nothing is left out in silence.

mod data;
mod place;
mod rules;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;

use clap::CommandFactory;

use place::{Place, python_has, root};
use rules::{NOT_RUN, filled, missing, modules};
use shown::{Form, Shown, variants};

/// A command that can be run, the one that it was made of, and the document.
#[derive(Clone, Debug)]
struct Line {
    document: String,
    shown: String,
    filled: String,
}

/// What a thing that is shown is called on the list of those that are not run.
fn name(shown: &Shown) -> &str {
    shown.text.lines().next().unwrap_or_default()
}

fn of_form(form: Form) -> impl Iterator<Item = Shown> {
    shown::all().into_iter().filter(move |shown| shown.form == form)
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// All commands that are run, each once, and what is wrong with others.
fn lines() -> (Vec<Line>, Vec<String>) {
    let (mut lines, mut problems, mut known): (Vec<Line>, Vec<_>, BTreeSet<_>) = Default::default();
    let is_run = |shown: &Shown| NOT_RUN.iter().all(|(text, _)| *text != name(shown));
    for Shown { document, text, .. } in of_form(Form::Command).filter(is_run) {
        for variant in variants(&text).into_iter().filter(|variant| known.insert(variant.clone())) {
            match filled(&variant) {
                Ok(filled) => lines.push(Line { document: document.clone(), shown: text.clone(), filled }),
                Err(problem) => problems.push(format!("{document}: {text}: {problem} (tests/docs_commands/rules.rs)")),
            }
        }
    }
    (lines, problems)
}

/// Which commands wait for each other: those that make runs of one experiment, those of the same kind otherwise.
fn lane(line: &Line) -> (bool, String) {
    let mut words = line.filled.split(' ');
    let (program, command) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let trains = matches!(command, "distill" | "train-teacher" | "sweep" | "run");
    let subject = words.next().filter(|word| trains && !word.starts_with('-'));
    let kind = if program.starts_with("scripts/") { program } else { command };
    (!trains, subject.unwrap_or(if trains { "digits" } else { kind }).to_owned())
}

/// What went wrong with a command, if something did.
fn problem(line: &Line, output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n    ");
    let Line { document, shown, filled } = line;
    (!output.status.success()).then(|| format!("{document}: {shown}\n  as: {filled}\n  {}\n    {last}", output.status))
}

/// Run lanes beside each other, long ones first, the lines of each in their order.
fn run(place: &Place, mut lanes: Vec<Vec<Line>>) -> Vec<String> {
    lanes.sort_by_key(Vec::len);
    let waiting = Mutex::new(lanes);
    let problems = Mutex::new(Vec::new());
    let work = || {
        while let Some(lane) = { waiting.lock().unwrap().pop() } {
            for line in lane {
                eprintln!("{}", line.filled);
                let output = place.shell(&line.filled);
                problems.lock().unwrap().extend(problem(&line, &output));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    problems.into_inner().unwrap()
}

/// Runs that stand for those that a reader has made: `runs/a` and `runs/b`; a container of the first one's test pictures; modules
/// in the place of exported ones; and the experiments that documents show.
fn prepare(place: &Place) {
    for experiment in of_form(Form::Experiment) {
        place.experiment(&file_of(&experiment.text), &experiment.text.replace("FOLDER", "photos"));
    }
    let commands = [
        "lvd run digits --quiet --run-dir runs/a",
        "lvd run digits --quiet --run-dir runs/b --set seed=2",
        "lvd compress runs/a -o x.lvdz",
        "lvd train-teacher cifar10/pixel --quiet --run-dir runs/teacher --set data.root=sets",
        "cp runs/teacher/teacher/teacher.pt weights/vqvae2.pt",
        "cp runs/a/teacher/teacher.pt weights/vqvae2-digits.pt",
    ];
    for command in commands {
        let output = place.shell(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The file that documents call an experiment by: its name.
fn file_of(yaml: &str) -> String {
    format!("{}.yaml", yaml.lines().next().unwrap().trim_start_matches("name:").trim())
}

#[test]
fn every_command_that_the_documents_show_runs() {
    let (lines, mut problems) = lines();
    assert_none(&problems);
    let place = Place::new();
    prepare(&place);
    let (lines, left_out): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| python_has(modules(&line.filled)));
    for line in left_out {
        eprintln!("skipped: {}: {:?} are not all there", line.filled, modules(&line.filled));
    }
    let mut lanes: BTreeMap<(bool, String), Vec<Line>> = BTreeMap::new();
    for line in lines {
        lanes.entry(lane(&line)).or_default().push(line);
    }
    let (first, then): (BTreeMap<_, _>, BTreeMap<_, _>) = lanes.into_iter().partition(|((reads, _), _)| !reads);
    for lanes in [first, then] {
        problems.extend(run(&place, lanes.into_values().collect()));
    }
    problems.extend(programs_in_python(&place));
    assert_none(&problems);
}

/// Run the blocks in Python behind lines that make what they speak of.
fn programs_in_python(place: &Place) -> Vec<String> {
    const BEFORE: &str = "import numpy\nx = numpy.random.default_rng(1).integers(0, 256, (2, 28, 28), dtype='uint8')\n\
                          mask = numpy.arange(28 * 28).reshape(28, 28) < 392\n";
    if !python_has(&["numpy", "safetensors", "yaml"]) {
        eprintln!("skipped: programs in Python: numpy, safetensors and PyYAML are not all there");
        return Vec::new();
    }
    let is_run = |shown: &Shown| NOT_RUN.iter().all(|(text, _)| *text != name(shown));
    let run = |shown: Shown| {
        std::fs::write(place.path().join("shown.py"), format!("{BEFORE}{}", shown.text)).unwrap();
        let filled = "python3 shown.py".to_owned();
        let output = place.shell(&filled);
        problem(&Line { shown: name(&shown).to_owned(), document: shown.document, filled }, &output)
    };
    of_form(Form::Python).filter(is_run).filter_map(run).collect()
}

#[test]
fn every_experiment_that_the_documents_show_is_planned() {
    let (place, mut problems) = (Place::new(), Vec::new());
    for Shown { document, text, .. } in of_form(Form::Experiment) {
        let file = file_of(&text);
        std::fs::write(place.path().join(&file), text.replace("FOLDER", "photos")).unwrap();
        let line = Line { document, shown: file.clone(), filled: format!("lvd plan {file}") };
        problems.extend(problem(&line, &place.shell(&line.filled)));
    }
    assert_none(&problems);
    assert!(of_form(Form::Experiment).count() >= 2);
}

/// Every experiment of the project, and those that documents show.
fn experiments(place: &Path) -> Vec<PathBuf> {
    for shown in of_form(Form::Experiment) {
        std::fs::write(place.join(file_of(&shown.text)), shown.text).unwrap();
    }
    let files = [root().join("experiments"), place.to_owned()].into_iter().flat_map(walkdir::WalkDir::new);
    let paths = files.map(|file| file.unwrap().into_path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
}

#[test]
fn keys_that_the_documents_show_fit_an_experiment() {
    let place = tempfile::tempdir().unwrap();
    let (experiments, mut problems) = (experiments(place.path()), Vec::new());
    for Shown { document, text, .. } in of_form(Form::Part).chain(of_form(Form::Settings)) {
        let (file, sets) = settings(&text);
        let fits = |path: &&PathBuf| path.ends_with(&file) || file.is_empty();
        let answers = experiments.iter().filter(fits).map(|path| lvd::experiment::read::read(path, &sets));
        let answers: Vec<_> = answers.map(|answer| answer.err().map(|problem| problem.to_string())).collect();
        if answers.iter().all(Option::is_some) {
            problems.push(format!("{document}: {text}: fits no experiment; the first says {:?}", answers.first()));
        }
    }
    assert_none(&problems);
}

/// The file that settings are shown for, if one is named, and the settings: `key=value` of `--set key=value` and of `key: {...}`.
fn settings(text: &str) -> (String, Vec<String>) {
    let text = text.replace(", ...}", "}").replace("KEY=VALUE", "seed=2");
    if let Some((key, value)) = text.split_once(": ").filter(|_| !text.contains("--set")) {
        return (String::new(), vec![format!("{key}={value}")]);
    }
    let (file, sets) = text.split_once("--set ").unwrap();
    (file.trim().to_owned(), sets.split(" --set ").map(|set| set.trim_matches('\'').to_owned()).collect())
}

#[test]
fn options_that_the_documents_mention_exist() {
    let mut program = lvd::cli::Cli::command();
    program.build();
    let mut problems = Vec::new();
    for Shown { document, text, .. } in of_form(Form::Mention) {
        let unknown = unknown_option(&program, &text).map(|option| format!("{document}: {text}: there is no {option}"));
        problems.extend(unknown);
    }
    assert_none(&problems);
}

/// The first option of a mentioned command, of the program or of a script, that it does not have, or the command itself.
fn unknown_option(program: &clap::Command, mention: &str) -> Option<String> {
    let mut words = mention.split(' ');
    let script = words.next().filter(|word| word.starts_with("scripts/"));
    let source = script.map(|path| std::fs::read_to_string(root().join(path)).unwrap_or_default());
    let command = words.clone().next().and_then(|name| program.find_subcommand(name));
    if script.is_none() && command.is_none() {
        return Some(mention.to_owned());
    }
    let is_known = |option: &&str| match (&source, command) {
        (Some(source), _) => source.contains(&format!("\"--{option}\"")),
        (None, Some(command)) => command.get_arguments().any(|argument| argument.get_long() == Some(*option)),
        (None, None) => false,
    };
    words
        .filter_map(|word| word.strip_prefix("--"))
        .find(|option| !is_known(option))
        .map(|option| format!("--{option}"))
}

#[test]
fn what_is_not_run_is_shown_somewhere_and_exists() {
    let shown: BTreeSet<_> = shown::all().iter().map(|shown| name(shown).to_owned()).collect();
    let gone = NOT_RUN.iter().filter(|(text, _)| !shown.contains(*text));
    let mut problems: Vec<_> = gone.map(|(text, _)| format!("no document shows it any more: {text}")).collect();
    problems.extend(NOT_RUN.iter().filter_map(|(text, _)| Some(format!("{text}: {}", missing(text)?))));
    assert_none(&problems);
}

#[test]
fn the_reading_of_documents_sees_what_is_code() {
    let found =
        |text: &str| shown::of("x.md", text).into_iter().map(|shown| (shown.form, shown.text)).collect::<Vec<_>>();
    let command = |text: &str| (Form::Command, text.to_owned());
    assert_eq!(found("    just distill       # the job\n"), [command("just distill")]);
    assert_eq!(found("    $ lvd ask RUN      which question\n    p(x) = 1\n"), [command("lvd ask RUN")]);
    assert_eq!(found("```sh\nOMP_NUM_THREADS=1 lvd ask RUN\n```\n"), [command("OMP_NUM_THREADS=1 lvd ask RUN")]);
    assert_eq!(
        found("a `just\nplan` b `lvd x.lvdz` c `x` d `lvd teacher inspect M.pt`"),
        [command("just plan"), (Form::Mention, "lvd x.lvdz".to_owned()), command("lvd teacher inspect M.pt"),]
    );
    assert_eq!(
        found("`lvd score --map`, `lvd schema`"),
        [(Form::Mention, "lvd score --map".to_owned()), command("lvd schema"),]
    );
    assert_eq!(
        found("```yaml\nname: x\n```\n```yaml\na: {b: c}\n```\n    data: {a: b}\n")[1..],
        [(Form::Part, "a: {b: c}".to_owned()), (Form::Part, "data: {a: b}".to_owned()),]
    );
    assert_eq!(
        found("`a.yaml --set x=1` and `--set y=2`").iter().filter(|(form, _)| *form == Form::Settings).count(),
        2
    );
}

#[test]
fn commands_with_choices_stand_for_several() {
    assert_eq!(variants("lvd x RUN"), ["lvd x RUN"]);
    assert_eq!(
        variants("a DIR|x.npy [--b | --c] --d '[e|f]' [G...]"),
        [
            "a DIR --d '[e|f]'",
            "a x.npy --d '[e|f]'",
            "a DIR --b --d '[e|f]'",
            "a DIR --c --d '[e|f]'",
            "a DIR --d '[e|f]' G...",
        ]
    );
    assert_eq!(filled("lvd compare RUN RUN...").unwrap(), "lvd compare runs/a runs/b");
    assert_eq!(filled("just x --set data.root=FOLDER FOLDER/y").unwrap(), "just x --set data.root=sets sets/y");
    assert!(filled("lvd ask NONE").is_err() && filled("curl x.org").is_err() && filled("python x.py").is_err());
}
