//! Parse, set up logging, dispatch, print, choose the exit code. Everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use lvd::cli::{self, Cli};
use lvd::device;
use lvd::refusal::{Interrupted, Refusal};
use lvd::run::{interrupt, log};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    device::keep_freed_memory();
    std::panic::set_hook(Box::new(report_bug));
    log::init(if cli.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO });
    if let Err(error) = interrupt::install() {
        return fail(&error);
    }
    match std::panic::catch_unwind(|| cli::execute(&cli)) {
        Ok(Ok(text)) => {
            // A reader that has seen enough, such as `head`, is no fault.
            match writeln!(std::io::stdout(), "{}", text.trim_end()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(&error.into()),
                _ => ExitCode::SUCCESS,
            }
        }
        Ok(Err(error)) => fail(&error),
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("lvd: {error:#}");
    match error {
        e if e.is::<Interrupted>() => ExitCode::from(130),
        e if e.is::<Refusal>() => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn report_bug(panic: &std::panic::PanicHookInfo) {
    let version = env!("CARGO_PKG_VERSION");
    eprintln!("lvd {version}: this is a bug, please report it with the command and the lines below\n{panic}");
}
