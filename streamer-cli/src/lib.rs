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

use std::sync::Arc;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::args::{Args, Command};
use crate::exit::ExitStatus;
use crate::ui::output::{Log, Output};

/// Does what was asked for, prints what there is to print, and says how to exit.
pub fn run(args: Args) -> ExitStatus {
    let output = Output::start();
    start_log(&args, &output);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let status = commands::no_runtime(&output, &error);
            output.flush();
            return status;
        }
    };
    let (status, is_read) = runtime.block_on(async {
        let status = run_command(args.command, &output).await;
        (status, output.finished().await)
    });
    // A thread may be waiting in a read of a file system that hangs.
    runtime.shutdown_timeout(SHUTDOWN);
    match is_read {
        true => {
            // What such a thread has logged.
            output.flush();
            status
        }
        // The transfer may be over; what there is to know about it was not read.
        false => ExitStatus::Interrupted,
    }
}

/// A crash would write the secret to disk, or hand it to whoever collects what crashed. Where
/// one of these is not to be had the other one may be.
pub fn leave_no_core() {
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, nothing);
    // The limit does not hold for a program that the kernel pipes cores to.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

async fn run_command(command: Command, output: &Arc<Output>) -> ExitStatus {
    match command {
        Command::Send(args) => commands::client::send(output, args).await,
        Command::Receive(args) => commands::client::receive(output, args).await,
        Command::Server(args) => commands::server::server(output, args).await,
        Command::Inspect(args) => commands::inspect::inspect(output, &args),
        Command::S3(args) => commands::s3::s3(output, args).await,
    }
}

/// Logs go to stderr; `STREAMER_LOG` chooses what, as in `STREAMER_LOG=debug`. Nobody who wants errors
/// only, or JSON, is given warnings in another form unasked.
fn start_log(args: &Args, output: &Arc<Output>) {
    let filter = config::log_filter(if args.command.is_terse() {
        "error"
    } else {
        "warn"
    });
    let output = Arc::clone(output);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || Log(Arc::clone(&output)))
        .finish();
    // Fails only where a log was started before: then that one is used.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(subscriber);
}

const SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(5);
