//! Parse, set up logging, dispatch, print, choose the exit code. Everything else is in the library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use lvd::cli::output::{Output, visible};
use lvd::cli::{self, Cli};
use lvd::device;
use lvd::device::fault;
use lvd::refusal::{Interrupted, Refusal};
use lvd::run::{interrupt, log, progress};
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: OrExit = OrExit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return help_or_usage(&said),
    };
    device::keep_freed_memory();
    std::panic::set_hook(Box::new(report_panic));
    log::init(match (cli.verbose, cli.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (_, true) => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    });
    if cli.quiet {
        progress::hide();
    }
    if let Err(error) = interrupt::install() {
        return fail(&error);
    }
    match std::panic::catch_unwind(|| cli::execute(&cli)) {
        Ok(Ok(Output { text, fault })) => {
            let printed = if text.is_empty() { Ok(()) } else { writeln!(io::stdout(), "{}", visible(text.trim_end())) };
            fault.map_or_else(|| printed_or_fail(printed), |fault| fail(&fault))
        }
        Ok(Err(error)) => fail(&error),
        Err(_) => ExitCode::FAILURE,
    }
}

/// What the command line's parser has to say instead of a command: help and version on stdout, mistakes on stderr.
fn help_or_usage(said: &clap::Error) -> ExitCode {
    let printed = said.print().and_then(|()| io::stdout().flush());
    if said.use_stderr() { ExitCode::from(2) } else { printed_or_fail(printed) }
}

/// A reader that has seen enough, such as `head`, is no fault; a full disk is.
fn printed_or_fail(printed: io::Result<()>) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&anyhow::Error::from(error).context("stdout: cannot be written"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("lvd: {}", fault::told(&format!("{error:#}"))));
    match error {
        e if e.is::<Interrupted>() => ExitCode::from(130),
        e if e.is::<Refusal>() => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// A fault of libtorch is no bug of ours: it is told in a line. Everything else is.
fn report_panic(panic: &std::panic::PanicHookInfo) {
    if let Some(fault) = fault::of_libtorch(&panic.to_string()) {
        return say(&format!("lvd: {fault}"));
    }
    let version = env!("CARGO_PKG_VERSION");
    say(&format!("lvd {version}: this is a bug, please report it with the command and the lines below\n{panic}"));
}

/// Write a line to stderr, if there is one that can be written to.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(line));
}

/// The system's allocator; where it has no memory left, the process ends with a line instead of a signal.
struct OrExit;

// SAFETY: every call goes to the system's allocator, and what it returns is returned unless it is null.
unsafe impl GlobalAlloc for OrExit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        or_exit(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        or_exit(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        or_exit(unsafe { System.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

fn or_exit(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null() {
        // No allocation here: the digits go into an array.
        let mut digits = [b'0'; 20];
        let (mut rest, mut first) = (size, digits.len());
        while rest > 0 && first > 0 {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(b"lvd: out of memory: ").and_then(|()| stderr.write_all(&digits[first..]));
        let _ = stderr.write_all(fault::LOWER.as_bytes());
        // SAFETY: ends the process without running destructors, which could need memory.
        unsafe { libc::_exit(1) }
    }
    memory
}
