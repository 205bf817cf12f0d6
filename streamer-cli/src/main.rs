//! The `streamer` binary.

use std::process::ExitCode;

use streamer_cli::args::Args;

fn main() -> ExitCode {
    streamer_cli::leave_no_core();
    match Args::read(std::env::args_os()) {
        Ok(args) => streamer_cli::run(args).into(),
        Err(error) => error.exit(),
    }
}
