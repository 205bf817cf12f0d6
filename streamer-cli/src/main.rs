//! The `streamer` binary.

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

fn main() -> ExitCode {
    leave_no_core();
    let args = streamer_cli::args::Args::parse();
    streamer_cli::run(args).into()
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
