//! One command a file; the only place that prints.

mod check_config;
mod demo;
mod openapi;
mod serve;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::inherited::Inherited;

pub(crate) async fn run(args: Args, inherited: Inherited) -> anyhow::Result<()> {
    match args.command {
        Command::Serve { config, host, port } => serve::run(config, host, port, inherited).await,
        Command::CheckConfig { config } => check_config::run(config),
        Command::Openapi => openapi::run(),
        Command::Demo(args) => demo::run(args, inherited).await,
    }
}

/// Logs to standard error; `RUST_LOG` chooses how much, `default` unless it is set.
pub(crate) fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_writer(std::io::stderr)
        .init();
}

/// Prints an error and its causes, once.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Nothing is left to do when standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

/// Says what was accepted with doubts.
pub(crate) fn warn(text: &str) {
    // As in `report`.
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Writes a result to standard output. Who closed it has read enough.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written to")
        }
        _ => Ok(()),
    }
}
