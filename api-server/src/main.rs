//! The `firecrest-api` binary.

mod args;
mod commands;
mod inherited;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

fn main() -> ExitCode {
    let inherited = inherited::Inherited::look();
    let args = args::Args::parse();
    commands::start_log(args.default_log());
    // Before there is anything secret in memory. The kernel takes it back for programs that are
    // started, which a limit on core dumps would be inherited by: they are dumped as ever.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be turned off: they would hold secrets");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return commands::report(&error.into()),
    };
    let result = runtime.block_on(commands::run(args, inherited));
    // A thread that reads from a file system that hangs has no end.
    runtime.shutdown_timeout(api_server::limits::CLOSE_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => commands::report(&error),
    }
}
