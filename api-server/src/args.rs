//! What was typed; no input or output.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use streamer_core::size::parse_bytes;

/// FirecREST v2 API server: runs jobs and moves files on HPC systems.
#[derive(Debug, Parser)]
#[command(name = "firecrest-api", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1")]
        host: IpAddr,
        /// Port to listen on; 0 takes a free one.
        #[arg(long, default_value_t = 5000)]
        port: u16,
    },
    /// Check a configuration, without listening.
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print the OpenAPI description.
    Openapi,
    /// Everything on this machine, on loopback, to try it out. For development only.
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// YAML file; else YAML_CONFIG_FILE or INPUT_YAML_CONFIG_FILE names it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Port of the API; 0 takes a free one. The identity provider takes the next one.
    #[arg(long, default_value_t = 8025)]
    pub(crate) port: u16,
    /// Directory for the demo's files, kept; without it a temporary one, removed at the end.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The `streamer` program; without it the one beside this program, else the one on PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) streamer: Option<PathBuf>,
    /// Let endpoints answer the plaintext protocol of pyfirecrest and the Python streamer too.
    #[arg(long)]
    pub(crate) allow_websocket: bool,
    /// Move a file both ways through everything, compare checksums, and exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Size of the file that --check moves, e.g. 64MiB.
    #[arg(long, default_value = "64MiB", requires = "check", value_parser = parse_bytes)]
    pub(crate) size: u64,
}

impl Args {
    /// What is logged unless the environment says otherwise. The demo talks by itself.
    pub(crate) fn default_log(&self) -> &'static str {
        match self.command {
            Command::Demo(_) => "warn",
            Command::Serve { .. } | Command::CheckConfig { .. } | Command::Openapi => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
