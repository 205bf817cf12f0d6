//! The `streamer` command: client verbs, and `server`, which is the `streamer-server`
//! library. [`run`] is all of it; `main` only parses.

pub mod args;
pub mod client;
mod commands;
mod config;
pub mod embed;
pub mod exit;
pub mod job;
mod line;
mod signals;
mod status_file;
mod ui;
mod units;

use crate::args::{Args, Command};
use crate::exit::ExitStatus;

/// Does what was asked for, prints what there is to print, and says how to exit.
pub fn run(args: Args) -> ExitStatus {
    start_log(&args);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return commands::no_runtime(&error),
    };
    let status = runtime.block_on(async {
        match args.command {
            Command::Send(args) => commands::client::send(args).await,
            Command::Receive(args) => commands::client::receive(args).await,
            Command::Server(args) => commands::server::server(args).await,
            Command::Inspect(args) => commands::inspect::inspect(&args),
            Command::S3(args) => commands::s3::s3(args).await,
        }
    });
    // A thread may be waiting in a read of a file system that hangs.
    runtime.shutdown_timeout(SHUTDOWN);
    status
}

/// Logs go to stderr; `STREAMER_LOG` chooses what, as in `STREAMER_LOG=debug`. Nobody who wants errors
/// only, or JSON, is given warnings in another form unasked.
fn start_log(args: &Args) {
    let filter = config::log_filter(if args.command.is_terse() {
        "error"
    } else {
        "warn"
    });
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .finish();
    // Fails only where a log was started before: then that one is used.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(subscriber);
}

const SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(5);
