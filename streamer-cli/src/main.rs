//! The `streamer` binary.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use streamer_cli::args::Args;

fn main() -> ExitCode {
    leave_no_core();
    match Args::read(std::env::args_os()) {
        Ok(args) => streamer_cli::run(args).into(),
        Err(error) => error.exit(),
    }
}

/// A crash would write the secret to disk, or hand it to whoever collects what crashed. Where
/// one of these is not to be had the other one may be.
fn leave_no_core() {
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, nothing);
    // The limit does not hold for a program that the kernel pipes cores to.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
