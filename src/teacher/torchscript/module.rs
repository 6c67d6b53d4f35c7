//! A loaded TorchScript module: called with gradients off and in evaluation mode, its exceptions in one line.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::{CModule, Device, IValue, Kind, TchError, Tensor};

use super::archive::Archive;
use crate::{refusal, require};

/// A module and what it says of itself.
pub struct Module {
    path: PathBuf,
    archive: Archive,
    loaded: CModule,
    device: Device,
}

/// Parameters of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Kind of their numbers.
    pub kind: Kind,
    /// How many tensors.
    pub tensors: usize,
    /// How many numbers.
    pub numbers: usize,
}

/// Bytes of the stack that a module is loaded on.
const STACK: usize = 256 << 20;

impl Module {
    /// Load a file onto a device, in evaluation mode.
    ///
    /// # Errors
    /// A refusal where the file is not TorchScript or libtorch cannot load it.
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        let archive = Archive::open(path)?;
        let file = path.display();
        let load = || -> Result<CModule, TchError> {
            let mut module = CModule::load_on_device(path, device)?;
            module.f_set_eval()?;
            Ok(module)
        };
        let module = with_deep_stack(load)?.map_err(|error| {
            refusal!(
                "{file}: libtorch {} cannot load it: {}",
                crate::device::libtorch_version(),
                one_line(&error.to_string())
            )
        })?;
        Ok(Self { path: path.to_owned(), archive, loaded: module, device })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What a message about a method begins with.
    #[must_use]
    pub fn about(&self, method: &str) -> String {
        format!("{}, method {method}", self.path.display())
    }

    /// Call a method with a batch.
    ///
    /// # Errors
    /// A refusal with the module's own message in one line where it raises.
    pub fn call(&self, method: &str, batch: &Tensor) -> Result<IValue> {
        let _guard = tch::no_grad_guard();
        let input = IValue::Tensor(batch.f_to_device(self.device)?);
        self.loaded.method_is(method, &[input]).map_err(|error| self.raised(method, batch, &error.to_string()))
    }

    fn raised(&self, method: &str, batch: &Tensor, error: &str) -> anyhow::Error {
        let (about, message) = (self.about(method), one_line(error));
        let wants_cuda = ["CUDA", "cuda"].iter().any(|word| message.contains(word));
        if self.device == Device::Cpu && wants_cuda {
            return refusal!(
                "{about}: its code runs on CUDA, and this run computes on the CPU ({message}): trace or script it on the \
                 CPU without naming a device, or use --device cuda"
            );
        }
        refusal!("{about}: raised on pictures {:?}: {message}", batch.size())
    }

    /// Its parameters by kind; buffers, and weights that became constants of the code, are not among them.
    ///
    /// # Errors
    /// When libtorch cannot list them.
    pub fn parameters(&self) -> Result<Vec<Parameters>> {
        let mut found: Vec<Parameters> = Vec::new();
        for (_, tensor) in self.loaded.named_parameters()? {
            let kind = tensor.kind();
            if !found.iter().any(|known| known.kind == kind) {
                found.push(Parameters { kind, tensors: 0, numbers: 0 });
            }
            if let Some(known) = found.iter_mut().find(|known| known.kind == kind) {
                known.tensors += 1;
                known.numbers += tensor.numel();
            }
        }
        Ok(found)
    }

    /// Refuse a method that is not there or cannot be called with pictures.
    ///
    /// # Errors
    /// A refusal naming module and method.
    pub fn require(&self, method: &str) -> Result<()> {
        let found = self.archive.method(method);
        let about = if found.is_err() { self.about(method) } else { String::new() };
        found.map(|_| ()).map_err(|error| refusal!("{about}: {error}"))
    }
}

/// The tensor that a method gave, or the part of it that `entry` names.
///
/// # Errors
/// A refusal where there is no such part or it is no tensor.
pub fn tensor(value: IValue, entry: Option<&super::contract::Entry>) -> Result<Tensor> {
    use super::contract::Entry;
    let (found, returned) = returned(value);
    let many = || refusal!("gives {found}: say which part by contract.output.entry");
    let chosen = match (entry, returned) {
        (None, Returned::One(tensor)) => return Ok(tensor),
        (None, Returned::Other) => None,
        (None, _) => return Err(many()),
        (Some(Entry::Number(n)), Returned::List(list)) => list.into_iter().nth(*n),
        (Some(Entry::Name(name)), Returned::Dict(dict)) => {
            dict.into_iter().find(|(key, _)| *key == IValue::String(name.clone())).map(|(_, value)| value)
        }
        (Some(_), _) => None,
    };
    match (chosen, entry) {
        (Some(IValue::Tensor(tensor)), _) => Ok(tensor),
        (_, Some(Entry::Number(n))) => Err(refusal!("gives {found}: expected a tensor as its entry {n}")),
        (_, Some(Entry::Name(name))) => Err(refusal!("gives {found}: expected a tensor as its entry '{name}'")),
        (_, None) => Err(refusal!("gives {found}: expected a tensor")),
    }
}

/// What a method gave, as far as a part of it can be named.
enum Returned {
    One(Tensor),
    List(Vec<IValue>),
    Dict(Vec<(IValue, IValue)>),
    Other,
}

/// What a value is called in messages, and its parts.
fn returned(value: IValue) -> (String, Returned) {
    match value {
        IValue::Tensor(tensor) => ("a tensor".to_owned(), Returned::One(tensor)),
        IValue::Tuple(list) => (format!("a tuple of {}", list.len()), Returned::List(list)),
        IValue::GenericList(list) => (format!("a list of {}", list.len()), Returned::List(list)),
        IValue::TensorList(list) => {
            (format!("a list of {}", list.len()), Returned::List(list.into_iter().map(IValue::Tensor).collect()))
        }
        IValue::GenericDict(dict) => {
            let name =
                |key: &IValue| if let IValue::String(name) = key { format!("'{name}'") } else { format!("{key:?}") };
            let names: Vec<_> = dict.iter().map(|(key, _)| name(key)).collect();
            (format!("a dict with {}", names.join(", ")), Returned::Dict(dict))
        }
        IValue::None => ("None".to_owned(), Returned::Other),
        IValue::Int(_) | IValue::Double(_) | IValue::Bool(_) => ("a number".to_owned(), Returned::Other),
        IValue::String(_) => ("a text".to_owned(), Returned::Other),
        _ => ("something else".to_owned(), Returned::Other),
    }
}

/// The line of an exception that says what happened: after the tracebacks of TorchScript, before the C++ stack.
#[must_use]
pub fn one_line(error: &str) -> String {
    let before_stack = error.split("\nException raised from").next().unwrap_or(error);
    let lines: Vec<&str> = before_stack.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // `RuntimeError: shape ...`, or `builtins.ValueError: ...`, whose message may go on over more lines.
    let is_head = |line: &str| {
        let head = line.split_once(": ").map_or("", |(head, _)| head);
        (head.ends_with("Error") || head.ends_with("Exception")) && !head.contains(' ')
    };
    let start = lines.iter().rposition(|line| is_head(line)).unwrap_or(0);
    let message = lines[start..].join(" ");
    let message = message.strip_prefix("builtins.").unwrap_or(&message);
    message.chars().take(300).collect()
}

/// Refuse an output that has a gradient: it would grow the graph with every batch.
///
/// # Errors
/// A refusal.
pub fn require_no_gradient(tensor: &Tensor) -> Result<()> {
    require!(
        !tensor.requires_grad(),
        "its output requires grad though gradients are off: detach it before it is returned"
    );
    Ok(())
}

/// Do something on a thread whose stack bears the recursion over what `nesting` lets through.
fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread that loads the module has panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_become_one_line() {
        let interpreter = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, \
                           serialized code (most recent call last):\n  File \"code/__torch__.py\", line 7, in forward\n    \
                           x: Tensor) -> Tensor:\n    ops.prim.RaiseException(\"too\\nsmall\")\n    ~~~~ <--- HERE\n    \
                           return None\nbuiltins.ValueError: too\nsmall\n";
        assert_eq!(one_line(interpreter), "ValueError: too small");
        let stack = "Internal torch error: shape '[4]' is invalid\nException raised from view at a.cpp:1 (most recent):\nframe #0";
        assert_eq!(one_line(stack), "Internal torch error: shape '[4]' is invalid");
    }
}
