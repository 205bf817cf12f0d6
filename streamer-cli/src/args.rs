//! What can be typed. Nothing here looks at files, the environment or the network.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use streamer_core::Coordinates;
use streamer_core::store::target::Existing;
use zeroize::Zeroizing;

use crate::line::Connections;
use crate::units::{parse_bytes, parse_connections, parse_duration, parse_rate};

/// Moves very large files in and out of HPC centres: encrypted, verified, resumed.
#[derive(Debug, Parser)]
#[command(
    name = "streamer",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Args {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Reads a command line. What is refused is not repeated where it is coordinates: the message may
    /// go to the log of a job.
    ///
    /// # Errors
    /// What is wrong, for the user; also `--help` and `--version`.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|mut error| {
            let is_secret = |word: &str| {
                let mut parts = word.split('=').map(|part| part.trim_start_matches('-'));
                Coordinates::parse(word).is_ok()
                    || parts.any(|part| Coordinates::parse(part).is_ok())
            };
            let says_it = |(kind, value): (ContextKind, &ContextValue)| match value {
                ContextValue::String(word) => is_secret(word).then_some(kind),
                ContextValue::Strings(words) => {
                    words.iter().any(|word| is_secret(word)).then_some(kind)
                }
                _ => None,
            };
            let kinds: Vec<ContextKind> = error.context().filter_map(says_it).collect();
            for kind in kinds {
                let hidden = "coordinates, which go to --coordinates-file or STREAMER_COORDINATES";
                error.insert(kind, ContextValue::String(hidden.to_owned()));
            }
            error
        })
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a file or directory to the endpoint that the coordinates lead to
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// Receive a file or directory from the endpoint that the coordinates lead to
    #[command(after_help = RECEIVE_EXAMPLES)]
    Receive(ReceiveArgs),
    /// Be the endpoint: listen, serve one transfer, leave
    #[command(after_help = SERVER_EXAMPLES)]
    Server(ServerArgs),
    /// Show what coordinates say, without the secret
    Inspect(InspectArgs),
    /// Move a file between this machine and an object store, as a job does
    #[command(hide = true)]
    S3(S3Args),
}

impl Command {
    /// Whether nothing is to be printed but errors, or objects of JSON.
    pub(crate) fn is_terse(&self) -> bool {
        let terse = |output: &OutputArgs| output.json || output.quiet;
        match self {
            Self::Send(args) => terse(&args.client.output),
            Self::Receive(args) => terse(&args.client.output),
            Self::Server(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::S3(_) => false,
        }
    }
}

/// A secret as it was typed: shown by nothing.
#[derive(Clone)]
pub struct SecretArg(Zeroizing<Vec<u8>>);

impl SecretArg {
    /// A copy of the text.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        self.0.clone()
    }
}

impl std::fmt::Debug for SecretArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretArg(…)")
    }
}

fn secret_parser() -> impl TypedValueParser<Value = SecretArg> {
    OsStringValueParser::new().map(|text| SecretArg(Zeroizing::new(text.into_vec())))
}

/// Where coordinates come from.
#[derive(Debug, clap::Args)]
pub struct CoordinatesArgs {
    /// The coordinates; every user of this machine can see them in the list of processes:
    /// prefer --coordinates-file or STREAMER_COORDINATES
    #[arg(long, value_name = "C", conflicts_with = "coordinates_file", value_parser = secret_parser())]
    pub coordinates: Option<SecretArg>,
    /// Read the coordinates from a file; - for standard input
    #[arg(long, value_name = "FILE")]
    pub coordinates_file: Option<PathBuf>,
}

/// Who can say how the job stands that hosts the endpoint.
#[derive(Debug, clap::Args)]
pub struct ApiArgs {
    /// The FirecREST API that issued the coordinates: while the endpoint does not answer, show how
    /// its job stands, and stop waiting when the job has ended [default: FIRECREST_URL]
    #[arg(long = "api", value_name = "URL")]
    pub url: Option<String>,
    /// Read the access token for that from a file, each time it is needed
    /// [default: what FIRECREST_TOKEN holds]
    #[arg(long = "api-token-file", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl ApiArgs {
    /// Whether the user asked for it, or the variables just happen to be there.
    pub fn is_given(&self) -> bool {
        self.url.is_some() || self.token_file.is_some()
    }
}

/// What both client verbs take.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// Where the coordinates are.
    #[command(flatten)]
    pub coordinates: CoordinatesArgs,
    /// Keep trying for this long while the endpoint does not answer, as in 90s, 10m or 2h
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub wait: Duration,
    /// How bytes travel; auto is QUIC, and TLS over TCP where UDP does not get through or where
    /// the other machine is near
    #[arg(long, value_enum, default_value_t)]
    pub transport: TransportArg,
    /// Connections that carry the file, up to 32; auto is one over QUIC, and over TLS as many as
    /// the machine has cores for
    #[arg(long, value_name = "N", default_value = "auto", value_parser = parse_connections)]
    pub connections: Connections,
    /// Move at most this much in a second, as in 50MB or 20MiB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit_rate: Option<u64>,
    /// Speak the plaintext protocol of the Python streamer to an endpoint that understands
    /// nothing else: whoever is on the way can read and change the file
    #[arg(long)]
    pub allow_websocket: bool,
    /// Who knows about the job.
    #[command(flatten)]
    pub api: ApiArgs,
    /// How it is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `--transport` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum TransportArg {
    /// QUIC, and TLS where UDP does not get through or the other machine is near
    #[default]
    Auto,
    /// QUIC over UDP only
    Quic,
    /// TLS over TCP only
    Tls,
    /// The plaintext WebSocket protocol of the Python streamer only
    Ws,
}

/// How things are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OutputArgs {
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Show no progress bar, even on a terminal
    #[arg(long)]
    pub no_progress: bool,
}

/// What of a tree is moved.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// Of a directory, move only what matches, of a directory in it all that is in there; may be
    /// repeated. A pattern without a slash matches a name at any depth, one with a slash the path
    /// below the directory, one that ends in a slash directories; * and ? stay within a name,
    /// ** does not
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Of a directory, leave out what matches, with all that is in it; may be repeated, and
    /// wins over --include
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

/// `streamer send`.
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// The file or directory to send
    #[arg(long, value_name = "SOURCE", value_parser = path_parser())]
    pub path: PathBuf,
    /// What of a directory.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Have the other side throw away what an earlier run has sent instead of continuing it
    #[arg(long)]
    pub restart: bool,
    /// What both verbs take.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `streamer receive`.
#[derive(Debug, clap::Args)]
pub struct ReceiveArgs {
    /// The file or directory to create: a directory gets what is in that of the other side
    #[arg(long, value_name = "TARGET", value_parser = path_parser())]
    pub path: PathBuf,
    /// What to do about what exists.
    #[command(flatten)]
    pub existing: ExistingArgs,
    /// What of a directory.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Throw away what an earlier run has received instead of continuing it
    #[arg(long)]
    pub restart: bool,
    /// What both verbs take.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What becomes of a target that exists, at whichever end receives.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ExistingArgs {
    /// Replace the target if it exists, once the new file is complete. Of a directory, replace
    /// files that differ in size or time, one by one; others in it stay
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,
    /// Keep the target if it exists, and succeed. Of a directory, keep the files that exist
    #[arg(long)]
    pub skip_existing: bool,
}

impl ExistingArgs {
    /// The same for the store.
    pub(crate) fn policy(self) -> Existing {
        match (self.overwrite, self.skip_existing) {
            (true, _) => Existing::Overwrite,
            (false, true) => Existing::Skip,
            (false, false) => Existing::Refuse,
        }
    }
}

/// `streamer inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// Where the coordinates are.
    #[command(flatten)]
    pub coordinates: CoordinatesArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `streamer server`.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Address or name to listen on
    #[arg(long, value_name = "ADDR", default_value = "localhost")]
    pub host: String,
    /// Address or name under which clients reach this machine; may be repeated
    #[arg(long, value_name = "IP", default_value = "localhost")]
    pub public_ips: Vec<String>,
    /// First and last of the ports to choose from
    #[arg(long, value_names = ["FIRST", "LAST"], num_args = 2, default_values = ["5665", "5670"])]
    pub port_range: Vec<u16>,
    /// Leave when no client has come for this long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = parse_duration)]
    pub wait_timeout: Duration,
    /// Refuse to receive more than this, as in 5GiB; plain numbers are bytes
    #[arg(long, value_name = "BYTES", default_value = "5GiB", value_parser = parse_bytes)]
    pub inbound_transfer_limit: u64,
    /// Read the secret from a file; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
    /// Remove the secret file when the transfer has ended; not when a signal ends it, since a
    /// job may be started again
    #[arg(long, requires = "secret_file")]
    pub remove_secret_file: bool,
    /// Keep a file that says, in JSON, how the transfer stands; then only errors are printed
    /// as such
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<PathBuf>,
    /// The secret; every user of this machine can see it in the list of processes: prefer
    /// --secret-file or STREAMER_SECRET
    #[arg(long, value_name = "SECRET", value_parser = secret_parser())]
    pub secret: Option<SecretArg>,
    /// Also answer the Python streamer and pyfirecrest, in plaintext: whoever is on the way can
    /// read and change the file
    #[arg(long)]
    pub allow_websocket: bool,
    /// Do not print the coordinates
    #[arg(long)]
    pub no_announce: bool,
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub operation: ServerOperation,
}

/// `streamer s3`.
#[derive(Debug, clap::Args)]
pub struct S3Args {
    /// Read the URLs to use from a file
    #[arg(long, value_name = "FILE")]
    pub plan_file: PathBuf,
    /// Remove that file when the transfer has ended; not when a signal ends it, since a job
    /// may be started again
    #[arg(long)]
    pub remove_plan_file: bool,
    /// Keep a file that says, in JSON, how the transfer stands
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<PathBuf>,
    /// Parts on the way at once
    #[arg(long, value_name = "N", default_value = "3")]
    pub parallel: u16,
    /// Wait this long for the object to be there
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    pub wait: Duration,
    /// What to do.
    #[command(subcommand)]
    pub operation: S3Operation,
}

/// Which way.
#[derive(Debug, Subcommand)]
pub enum S3Operation {
    /// Make a file of the object
    Get(PathArgs),
    /// Make the object of a file
    Put(PathArgs),
}

/// What an endpoint does.
#[derive(Debug, Subcommand)]
pub enum ServerOperation {
    /// Send a file or directory to the client that calls
    Send(PathArgs),
    /// Receive a file or directory from the client that calls
    Receive(ServerReceiveArgs),
}

/// The endpoint's side.
#[derive(Debug, clap::Args)]
pub struct PathArgs {
    /// The file or directory to send, or for 's3 get' the file to create
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    pub path: PathBuf,
}

/// The endpoint's side of an upload.
#[derive(Debug, clap::Args)]
pub struct ServerReceiveArgs {
    /// The file or directory to create
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    pub path: PathBuf,
    /// What to do about what exists.
    #[command(flatten)]
    pub existing: ExistingArgs,
}

const RECEIVE_EXAMPLES: &str = "\
Examples:
  STREAMER_COORDINATES=… streamer receive --path result.h5
  streamer receive --coordinates-file coordinates --path result.h5 --json
  streamer receive --coordinates-file coordinates --path run42 --include '*.h5' --exclude tmp/
  streamer receive --coordinates-file - --path result.h5 < coordinates";

const SEND_EXAMPLES: &str = "\
Examples:
  STREAMER_COORDINATES=… streamer send --path input.tar
  streamer send --coordinates-file coordinates --path input.tar --wait 2h";

const SERVER_EXAMPLES: &str = "\
Examples:
  streamer server send --path /scratch/me/result.h5
  streamer server --host 0.0.0.0 --public-ips node7.example.org receive --path /scratch/me/input.tar
  STREAMER_SECRET=… streamer server --no-announce --port-range 5665 5675 send --path result.h5";

/// Who types `-` means a pipe, which cannot be resumed.
fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("standard input and output are not supported; './-' is a file of that name"),
        false => Ok(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use streamer_core::{PortRange, TransferSecret};

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn coordinates_in_the_wrong_place_are_not_repeated() {
        let secret = TransferSecret::generate().unwrap();
        let coordinates = Coordinates {
            ports: PortRange::new(1, 2).unwrap(),
            ips: vec!["localhost".to_owned()],
            secret,
            operation: None,
            transports: Vec::new(),
            job: None,
        };
        let text = coordinates.encode();
        let wait = format!("streamer send --path x --wait {}", *text);
        for line in [
            format!("streamer receive {} --path x", *text),
            format!("streamer {} receive --path x", *text),
            format!("streamer inspect --coordinates-file x --{}", *text),
            format!("streamer inspect --json={}", *text),
            wait.clone(),
        ] {
            let error = Args::read(line.split(' ').map(Into::into)).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains(&**text), "{said}");
        }
        let typed = format!("streamer inspect --coordinates {}", *text);
        let args = Args::read(typed.split(' ').map(Into::into)).unwrap();
        assert!(!format!("{args:?}").contains(&**text));
    }

    #[test]
    fn the_job_template_of_the_python_service_parses() {
        let words = "streamer server --secret S --host 0.0.0.0 --public-ips a --public-ips b \
            --port-range 5665 5670 --wait-timeout 60 --inbound-transfer-limit 5368709120 \
            receive --path /x";
        let args = Args::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Server(args) = args.command else {
            panic!("not server")
        };
        assert_eq!(args.public_ips, ["a", "b"]);
        assert_eq!(args.port_range, [5665, 5670]);
        assert_eq!(args.wait_timeout, Duration::from_secs(60));
        assert_eq!(args.inbound_transfer_limit, 5 << 30);
    }
}
