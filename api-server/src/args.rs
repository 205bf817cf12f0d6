//! What was typed; no input or output.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    #[arg(long, default_value = "64MiB", requires = "check", value_parser = parse_size)]
    pub(crate) size: u64,
}

/// Bytes, with an optional unit, as `streamer` reads them: a bare letter is binary.
fn parse_size(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("the unit must be B, kB, KiB, MB, MiB, GB or GiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a size, e.g. 64MiB".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
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
    fn sizes() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("20MB"), Ok(20_000_000));
        assert_eq!(parse_size("0"), Ok(0));
        for bad in ["", "MiB", "5 parsecs", "-1", "99999999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
