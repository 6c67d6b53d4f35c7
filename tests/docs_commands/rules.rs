//! How a shown command becomes one that can be run here, and which ones are not run.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::place::root;
use super::shown::has_ending;

/// What is not run, each with the reason: commands as they are shown, programs in Python by their first line.
pub const NOT_RUN: [(&str, &str); 37] = [
    ("pip install rust-just", "it fetches; .ci/run does it"),
    ("cargo install just", "it fetches"),
    ("pip install ./python", "it fetches; .ci/run does it"),
    ("pip install ./python matplotlib nbclient ipykernel", "it fetches"),
    ("python -m jupyter execute --inplace examples/notebook.ipynb", "it wants Jupyter"),
    ("just setup", "it fetches libtorch where there is none; .ci/run does it"),
    ("just setup cuda", "it fetches gigabytes"),
    ("just test", "it is these tests"),
    ("just test-python", "a step of .ci/run"),
    ("cd python && python -m unittest discover -s tests -t .", "the same as just test-python"),
    ("just lint", "a step of .ci/run"),
    ("just fmt", "it changes the sources"),
    ("just clean-runs", "it asks, and removes runs"),
    ("just clean", "it removes the program"),
    ("just bench hclt", "it measures for minutes"),
    ("just bench gaussian", "it measures for minutes"),
    ("just bench query", "it measures for minutes"),
    ("just bench kmeans", "it measures for minutes"),
    ("just bench chow_liu", "it measures for minutes"),
    ("just bench teacher", "it measures for minutes"),
    ("just bench hclt --device cuda", "it wants a GPU"),
    ("just bench peers --data FILE", "it wants other libraries, and measures for minutes"),
    ("just gpu-check --data-root FOLDER", "it measures for minutes; its list of steps is run"),
    ("pip install pyjuice", "it fetches"),
    ("cargo check --all-targets", "it is cargo's work"),
    ("cargo doc --no-deps --open", "it is cargo's work"),
    ("cargo test --test em", "it is one of these tests"),
    ("cargo test --test format", "it is one of these tests"),
    ("cd examples/outside && cargo run --release -- ../../runs/digits", "it builds; .ci/run does it"),
    ("cargo run --release --example score -- RUN [STAGE]", "it builds; .ci/run does it"),
    ("cargo run --release --example sample -- RUN FILE.png [SEED]", "it builds; .ci/run does it"),
    (
        "python3 scripts/gallery.py DATA_ROOT --lvd target/release/lvd",
        "it trains four models on 4,096 real pictures each",
    ),
    ("python weights/tiny/make.py", "it wants torch for Python"),
    (
        "python experiments/teachers/vqvae2.py --random-weights --size 8 --channels 1 --out weights/vqvae2-digits.pt",
        "it wants torch for Python",
    ),
    ("python experiments/teachers/vqvae2.py --random-weights --out weights/vqvae2.pt", "it wants torch for Python"),
    ("scripts/photos.py FOLDER", "it wants scikit-image"),
    ("import numpy, safetensors.torch, torch", "it wants torch for Python"),
];

/// What is put in the place of words that stand for others, one after the other; `#` becomes a number that is used once.
const WORDS: [(&str, &str); 30] = [
    ("root=NEW", "root=sets"),
    ("RUN --reading", "runs/photos --reading"),
    ("roundtrip.py RUN", "roundtrip.py runs/mnist"),
    ("RUN RUN...", "runs/a runs/b"),
    ("RUN...", "runs/a runs/b"),
    ("RUN", "runs/a"),
    ("EXPERIMENT", "digits"),
    ("NAME", "mine#"),
    ("FOLDER/", "sets/"),
    ("codecs.py FOLDER", "codecs.py pictures"),
    ("FOLDER", "sets"),
    ("FILE", "pictures.npy"),
    ("-o DIR", "-o out#"),
    ("--data-root DIR", "--data-root sets"),
    ("DIR", "bright"),
    ("INPUT...", "pictures"),
    ("BIN", "target/release/lvd"),
    ("MODULE.pt", "weights/tiny/good.pt"),
    ("F.npy", "f.npy"),
    ("--stage S", "--stage soft"),
    ("--observed A", "--observed bottom"),
    ("--given B", "--given top"),
    ("--draws M", "--draws 2"),
    ("--first N", "--first 20"),
    ("--only N", "--only 3"),
    ("--first 1000", "--first 20"),
    ("key=value ...", "seed=2"),
    ("clusters=K", "clusters=3"),
    ("clusters=4,8,16", "clusters=2,3"),
    ("seed=1,2,3", "seed=1,2"),
];

/// A shown command with things of the place for words that stand for others, and fewer values of a sweep.
///
/// # Errors
/// Where nothing here runs such a command, or a word in capitals is left for which nothing is known.
pub fn filled(command: &str) -> Result<String, String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut words = command.split(' ').skip_while(|word| word.contains('='));
    let is_run = match words.next().unwrap_or_default() {
        "lvd" | "target/release/lvd" | "just" => true,
        "python" | "python3" => words.next().is_some_and(|script| script.starts_with("scripts/")),
        program => program.starts_with("scripts/"),
    };
    if !is_run {
        return Err("nothing runs it: put it on the list of those that are not run, with a reason".to_owned());
    }
    let mut filled = command.to_owned();
    for (words, thing) in WORDS {
        let number = if thing.contains('#') { NUMBER.fetch_add(1, Ordering::Relaxed) } else { 0 };
        filled = replaced(&filled, words, &thing.replace('#', &number.to_string()));
    }
    let is_unknown = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || "_.".contains(c));
    let unknown = filled.split([' ', '=', '/', ',']).find(is_unknown);
    unknown.map_or(Ok(filled.clone()), |word| Err(format!("nothing is known for {word}")))
}

/// A text with other words in the place of some, where they stand by themselves.
fn replaced(text: &str, words: &str, others: &str) -> String {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut pieces = text.split(words);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let goes_on = !words.ends_with('/') && piece.starts_with(|letter| is_letter(letter) || letter == '.');
        let stands_alone = !whole.ends_with(is_letter) && !goes_on;
        whole += if stands_alone { others } else { words };
        whole += piece;
    }
    whole
}

/// What a command that is not run names and the project does not have: a recipe, a script, a test, an example.
pub fn missing(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let has = |path: String| root().join(path).exists();
    let named = |word: &str, folder: &str| {
        let name = words.iter().skip_while(|&&option| option != word).nth(1)?;
        let found = has(format!("{folder}/{name}.rs")) || has(format!("{folder}/{name}"));
        (!found).then(|| format!("there is no {folder}/{name}"))
    };
    let script = words.iter().find(|word| word.contains('/') && word.contains('.') && !word.starts_with('.'));
    let script = script.filter(|path| has_ending(path, "py") || has_ending(path, "ipynb"));
    let recipe = words.get(1).filter(|_| words[0] == "just");
    let justfile = fs::read_to_string(root().join("justfile")).unwrap();
    let is_recipe = |name: &&&str| justfile.lines().any(|line| line.split([' ', ':']).next() == Some(**name));
    let script = script.filter(|path| !has((**path).to_owned())).map(|path| format!("there is no {path}"));
    let recipe = recipe.filter(|name| !is_recipe(name)).map(|name| format!("there is no recipe {name}"));
    script.or(recipe).or_else(|| named("--test", "tests")).or_else(|| named("--example", "examples"))
}

/// The modules that a script wants beside those that come with Python.
pub fn modules(command: &str) -> &'static [&'static str] {
    if command.contains("scripts/") { &["numpy", "PIL", "yaml"] } else { &[] }
}
