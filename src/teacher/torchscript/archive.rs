//! What a file of the user's is, before libtorch is asked to load it: TorchScript, or one of the things that are often
//! taken for it. And what a TorchScript archive says of itself: methods, devices, the extra file `lvd.json`.
//!
//! The archive is a zip: `NAME/data.pkl` (the module's attributes), `NAME/code/...py` (its methods), `NAME/extra/...`.
//! libtorch has no list of methods that Rust could ask for, so the `def` lines of the code are read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use anyhow::Result;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::contract::Contract;
use super::nesting;
use crate::data::source;
use crate::{refusal, require};

/// Name of the extra file with the module's own contract.
pub const EXTRA: &str = "lvd.json";

const ZIP: &[u8] = b"PK\x03\x04";
/// Bytes that all packed entries of an archive unpack to, and of an entry that is read here, at most. Weights are stored as
/// they are.
const MOST: u64 = 64 << 20;
/// What to do with anything that is not TorchScript.
const EXPORT: &str = "load it in Python and write torch.jit.script(model).save(PATH), see experiments/teachers, or write its features to a .npy file for teacher.kind: features";

/// What a TorchScript file says of itself.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Its methods that can be called from outside, in the order of their names.
    pub methods: Vec<Method>,
    /// Its own contract, in the extra file `lvd.json`.
    pub contract: Option<Contract>,
    /// Devices that its tensors lay on when they were saved, and those that its code names.
    pub devices: Vec<String>,
}

/// A method of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Names and types of its arguments but for `self`, such as `x: Tensor`; with `=` where there is a default.
    pub arguments: Vec<String>,
    /// Type of what it gives.
    pub returns: String,
}

impl Method {
    /// Whether it can be called with pictures alone.
    #[must_use]
    pub fn takes_pictures(&self) -> bool {
        let mut arguments = self.arguments.iter();
        let first = arguments.next().is_some_and(|first| first.ends_with(": Tensor"));
        first && arguments.all(|other| other.contains('='))
    }

    /// Its head as Python writes it.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{}({}) -> {}", self.name, self.arguments.join(", "), self.returns)
    }
}

impl Archive {
    /// Look into a file; nothing of it is run.
    ///
    /// # Errors
    /// A refusal that says what the file is, if it is not TorchScript, and what to do.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.display();
        require!(!path.is_dir(), "{file}: is a folder, expected a TorchScript file");
        let mapped = source::map(path)?;
        let bytes = (*mapped).as_ref();
        require!(bytes.starts_with(ZIP), "{file}: {}, expected TorchScript: {EXPORT}", kind_of(bytes));
        let mut entries = Entries::open(bytes).map_err(|error| {
            refusal!(
                "{file}: a truncated or damaged archive ({} bytes: {error}), expected TorchScript: copy or fetch it again",
                bytes.len()
            )
        })?;
        entries.check_sizes(path)?;
        entries.check_names(bytes, path)?;
        let found = entries.kind();
        require!(found.is_empty(), "{file}: {found}, expected TorchScript: {EXPORT}");
        entries.check_depths(path)?;
        let contract = match entries.text(&format!("extra/{EXTRA}"))? {
            Some(text) => Some(Contract::from_json(&text, &format!("{file}, extra file {EXTRA}"))?),
            None => None,
        };
        let methods = entries.methods()?;
        require!(!methods.is_empty(), "{file}: a TorchScript module without methods: {EXPORT}");
        Ok(Self { methods, contract, devices: entries.devices()? })
    }

    /// The method of this name, or what is wrong with it.
    ///
    /// # Errors
    /// A refusal where there is none, or it wants other arguments than pictures.
    pub fn method(&self, name: &str) -> Result<&Method> {
        let names: Vec<_> = self.methods.iter().map(|method| method.name.as_str()).collect();
        let found = self.methods.iter().find(|method| method.name == name);
        let found = found.ok_or_else(|| {
            refusal!("no method `{name}`, found {}: choose one of them by contract.method", names.join(", "))
        })?;
        require!(
            found.takes_pictures(),
            "wants other arguments: expected {name}(x: Tensor), found {}: export a method of pictures alone",
            found.signature()
        );
        Ok(found)
    }
}

/// What a file that is no zip archive looks like.
fn kind_of(bytes: &[u8]) -> &'static str {
    let header = bytes.get(..8).map(|length| u64::from_le_bytes(length.try_into().expect("eight bytes")));
    match bytes {
        [] => "an empty file",
        [0x80, 2..=5, ..] => "a pickle (a model or state_dict saved by pickle or an old torch.save)",
        [_, _, _, _, _, _, _, _, b'{', ..] if header.is_some_and(|n| n < bytes.len() as u64) => {
            "a safetensors file, which holds tensors and no code"
        }
        [b'P', b'K', ..] => "a broken zip archive",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        [8, ..] if ["onnx", "pytorch"].iter().any(|name| contains(bytes, name.as_bytes())) => "an ONNX file",
        _ => "not TorchScript",
    }
}

/// Whether a name stands in the first kilobytes.
fn contains(bytes: &[u8], name: &[u8]) -> bool {
    bytes[..bytes.len().min(4096)].windows(name.len()).any(|window| window == name)
}

/// The zip archive, by names without the leading folder.
struct Entries<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Entries<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(bytes))?;
        let first = archive.file_names().next().unwrap_or_default();
        let folder = first.split_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        Ok(Self { archive, folder })
    }

    /// Refuse packed entries that together unpack to more than code and tables can be, before libtorch unpacks them.
    fn check_sizes(&mut self, path: &Path) -> Result<()> {
        let mut all = 0u64;
        for i in 0..self.archive.len() {
            let entry = self.archive.by_index_raw(i)?;
            if entry.compression() == CompressionMethod::Stored {
                continue;
            }
            all = all.saturating_add(entry.size());
            require!(
                all <= MOST,
                "{}: with entry {:?} its packed entries unpack to {all} bytes, expected at most {MOST}: this is no TorchScript \
                 module that can be trusted",
                path.display(),
                entry.name()
            );
        }
        Ok(())
    }

    /// Refuse two entries of one name: libtorch may read another one of them than we do.
    fn check_names(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let names: BTreeSet<String> = self.archive.file_names().map(str::to_lowercase).collect();
        let directory = bytes.get(self.archive.central_directory_start() as usize..).unwrap_or_default();
        let listed = directory.windows(4).filter(|window| window == b"PK\x01\x02").count();
        require!(
            names.len() == listed,
            "{}: lists {listed} entries under {} names: this is no TorchScript module that can be trusted",
            path.display(),
            names.len()
        );
        Ok(())
    }

    /// Refuse code and pickles that are nested deeper than libtorch's recursion bears.
    fn check_depths(&mut self, path: &Path) -> Result<()> {
        let file = path.display();
        for i in 0..self.archive.len() {
            // libtorch finds entries whatever their case.
            let whole = self.archive.name_for_index(i).unwrap_or_default().to_owned();
            let (lower, name) = (whole.to_lowercase(), whole.strip_prefix(&self.folder).unwrap_or(&whole));
            if !lower.contains("code/") && !lower.ends_with("pkl") {
                continue;
            }
            let bytes = self.bytes_at(i, name)?;
            let (depth, most) = if lower.ends_with("pkl") {
                let depth = nesting::of_pickle(&bytes).map_err(|error| refusal!("{file}: entry {name:?}: {error}"))?;
                (depth, nesting::PICKLE)
            } else {
                (nesting::of_code(&String::from_utf8_lossy(&bytes)), nesting::CODE)
            };
            require!(
                depth <= most,
                "{file}: entry {name:?} is nested {depth} deep, expected at most {most}: this is no TorchScript module that can be \
                 trusted"
            );
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{}{name}", self.folder)).is_some()
    }

    /// What this archive is if it is not TorchScript, or nothing.
    fn kind(&self) -> &'static str {
        let code = self.archive.file_names().any(|name| name.starts_with(&format!("{}code/", self.folder)));
        match (self.has("data.pkl"), code && self.has("constants.pkl")) {
            (true, true) => "",
            (true, false) => "a state_dict or model saved by torch.save, which holds tensors and no code",
            _ if self.has("archive_format") || self.has("models/model.json") => "a package of torch.export",
            _ => "a zip archive of something else",
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let index = self.archive.index_for_name(&format!("{}{name}", self.folder));
        index.map(|index| self.bytes_at(index, name)).transpose()
    }

    /// The content of the entry with this number.
    fn bytes_at(&mut self, index: usize, name: &str) -> Result<Vec<u8>> {
        let damaged = |error: &dyn std::fmt::Display| refusal!("{name}: damaged: {error}");
        let file = self.archive.by_index(index).map_err(|error| damaged(&error))?;
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        require!(bytes.len() as u64 <= MOST, "{name}: has more than {MOST} bytes");
        Ok(bytes)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        Ok(Some(String::from_utf8(bytes).map_err(|error| refusal!("{name}: not text: {error}"))?))
    }

    /// The methods of the root class, which `data.pkl` names first.
    fn methods(&mut self) -> Result<Vec<Method>> {
        let data = self.bytes("data.pkl")?.unwrap_or_default();
        let Some((module, class)) = root_class(&data) else { return Ok(Vec::new()) };
        let code = self.text(&format!("code/{}.py", module.replace('.', "/")))?.unwrap_or_default();
        let mut methods = methods(&code, &class);
        methods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(methods)
    }

    fn devices(&mut self) -> Result<Vec<String>> {
        let code = format!("{}code/", self.folder);
        let names: Vec<String> = self.archive.file_names().map(str::to_owned).collect();
        let mut found = BTreeSet::new();
        let telling =
            |name: &&String| Path::new(name).extension().is_some_and(|e| e == "pkl") || name.starts_with(&code);
        for name in names.iter().filter(telling) {
            let bytes = self.bytes(&name[self.folder.len()..])?.unwrap_or_default();
            for device in ["cpu", "cuda:0", "cuda", "mps"] {
                // As a pickled string, or quoted in code.
                let pickled = [&[b'X', device.len() as u8, 0, 0, 0], device.as_bytes()].concat();
                let quoted = format!("\"{device}\"");
                let named = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
                if named(&pickled) || named(quoted.as_bytes()) {
                    found.insert(device.to_owned());
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// Module and name of the first class that a pickle mentions (opcode `c`, module, name, a line each).
fn root_class(pickle: &[u8]) -> Option<(String, String)> {
    let mark = b"c__torch__";
    let start = pickle.windows(mark.len()).position(|window| window == mark)? + 1;
    let mut lines = pickle[start..].split(|&byte| byte == b'\n');
    let mut line = || String::from_utf8(lines.next()?.to_vec()).ok();
    Some((line()?, line()?))
}

/// The methods of a class in serialised code, which has one form: a head over one or more lines, ending in a colon.
fn methods(code: &str, class: &str) -> Vec<Method> {
    let head = format!("class {class}(Module):");
    let lines = code.lines().skip_while(|line| *line != head).skip(1);
    let body: Vec<_> = lines.take_while(|line| !line.starts_with("class ")).collect();
    let starts = (0..body.len()).filter(|&i| body[i].starts_with("  def "));
    starts.filter_map(|start| method(&body[start..])).collect()
}

fn method(lines: &[&str]) -> Option<Method> {
    let end = lines.iter().position(|line| line.ends_with(':'))?;
    let head = lines[..=end].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let (name, rest) = head.strip_prefix("def ")?.split_once('(')?;
    let (arguments, returns) = rest.strip_suffix(':')?.rsplit_once(") -> ")?;
    let arguments = split_outside_brackets(arguments).into_iter().skip(1).collect(); // but for self
    Some(Method { name: name.to_owned(), arguments, returns: returns.to_owned() })
}

fn split_outside_brackets(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in list.chars() {
        depth += i32::from("[(".contains(character)) - i32::from("])".contains(character));
        match (character, parts.last_mut()) {
            (',', _) if depth == 0 => parts.push(String::new()),
            (other, Some(part)) => part.push(other),
            _ => {}
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Add the extra file `lvd.json` to a TorchScript file that has none; everything else stays where it is.
///
/// # Errors
/// When the file is no archive or cannot be written.
pub fn add_contract(path: &Path, contract: &Contract) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut writer = ZipWriter::new_append(file)?;
    let folder = {
        let archive = ZipArchive::new(File::open(path)?)?;
        let first = archive.file_names().next().unwrap_or_default().to_owned();
        first.split_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())
    };
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    writer.start_file(format!("{folder}/extra/{EXTRA}"), stored)?;
    writer.write_all(serde_json::to_string_pretty(contract)?.as_bytes())?;
    writer.finish()?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_methods_are_read() {
        let code = "class Other(Module):\n  def forward(self: __torch__.Other,\n    x: Tensor) -> Tensor:\n    return x\n\
                    class Net(Module):\n  __parameters__ = []\n  def forward(self: __torch__.Net,\n    x: Tensor,\n    \
                    pair: Tuple[int, int],\n    scale: float=1.) -> Dict[str, Tensor]:\n    return {}\n  \
                    def encode(self: __torch__.Net,\n    argument_1: Tensor) -> Tuple[Tensor, Tensor]:\n    return x\n\
                    def helper(x: Tensor) -> Tensor:\n  return x\n";
        let found = methods(code, "Net");
        let signatures: Vec<_> = found.iter().map(Method::signature).collect();
        let forward = "forward(x: Tensor, pair: Tuple[int, int], scale: float=1.) -> Dict[str, Tensor]";
        assert_eq!(signatures, [forward, "encode(argument_1: Tensor) -> Tuple[Tensor, Tensor]"]);
        assert_eq!(found.iter().map(Method::takes_pictures).collect::<Vec<_>>(), [false, true]);
        assert_eq!(root_class(b"\x80\x02c__torch__.a.b\nNet\n)\x81c__torch__\nX\n").unwrap().0, "__torch__.a.b");
    }
}
