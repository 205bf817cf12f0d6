//! The `streamer` binary.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = streamer_cli::args::Args::parse();
    streamer_cli::run(args).into()
}
