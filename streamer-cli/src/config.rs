//! What was typed, with the environment and files: validated. Only this file reads them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use streamer_core::limits::{
    self, COORDINATES_TEXT_MAX_BYTES, S3_PLAN_MAX_BYTES, SECRET_TEXT_MAX_BYTES,
};
use streamer_core::secret::SecretError;
use streamer_core::store::target::Existing;
use streamer_core::{
    Coordinates, CoordinatesError, Operation, PortRange, TransferSecret, check_hosts,
};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::args::{ApiArgs, CoordinatesArgs, ServerArgs, ServerOperation};
use crate::client::ClientError;
use crate::exit::ExitStatus;
use crate::job::{ApiAccess, Token, UrlError};

/// The coordinates, when neither option is given.
const COORDINATES_VARIABLE: &str = "STREAMER_COORDINATES";
/// The endpoint's secret, when neither option is given.
const SECRET_VARIABLE: &str = "STREAMER_SECRET";
/// The API, as pyfirecrest's command reads it.
const API_VARIABLE: &str = "FIRECREST_URL";
/// The access token for it.
const API_TOKEN_VARIABLE: &str = "FIRECREST_TOKEN";
/// What is logged, as in `streamer_core=debug`.
const LOG_VARIABLE: &str = "STREAMER_LOG";

pub(crate) fn log_filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default))
}

/// Precedence: `--coordinates-file`, `--coordinates`, environment.
pub(crate) fn coordinates(args: &CoordinatesArgs) -> Result<Coordinates, ClientError> {
    let text = match (&args.coordinates_file, &args.coordinates) {
        (Some(file), _) => {
            read_secret_text(file, COORDINATES_TEXT_MAX_BYTES).map_err(|source| {
                ClientError::Input {
                    path: file.clone(),
                    source,
                }
            })?
        }
        (None, Some(text)) => text.bytes(),
        (None, None) => variable(COORDINATES_VARIABLE).unwrap_or_default(),
    };
    let text = std::str::from_utf8(&text).map_err(|_| CoordinatesError::NotBase64)?;
    Ok(Coordinates::parse(text)?)
}

/// Why the API cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiInputError {
    /// A URL without a token, or the other way round.
    #[error("{0} is missing: the API is asked only with a URL and an access token")]
    Missing(&'static str),
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The token is none.
    #[error("the access token is not UTF-8 text")]
    Token,
}

/// Whom to ask about the job; `None` where nobody was named.
pub(crate) fn api(args: &ApiArgs) -> Result<Option<ApiAccess>, ApiInputError> {
    let url = args.url.clone();
    let url = url.or_else(|| std::env::var(API_VARIABLE).ok());
    let token = match &args.token_file {
        Some(file) => Some(Token::File(file.clone())),
        None => variable(API_TOKEN_VARIABLE)
            .map(|text| std::str::from_utf8(&text).map(|text| Zeroizing::new(text.to_owned())))
            .transpose()
            .map_err(|_| ApiInputError::Token)?
            .map(Token::Text),
    };
    match (url, token) {
        (Some(url), Some(token)) => Ok(Some(ApiAccess::new(&url, token)?)),
        (None, Some(_)) if args.is_given() => Err(ApiInputError::Missing("--api")),
        (Some(_), None) if args.is_given() => Err(ApiInputError::Missing("--api-token-file")),
        _ => Ok(None),
    }
}

/// The access token in a file.
pub(crate) fn api_token(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = read_secret_text(path, API_TOKEN_MAX_BYTES)?;
    let text = std::str::from_utf8(&text).map_err(io::Error::other)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A server that cannot even be configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerInputError {
    #[error("cannot read the secret from '{path}'")]
    SecretFile { path: String, source: io::Error },
    #[error("the secret is not UTF-8 text")]
    NotText,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("'{0} {1}' is not a range of ports: give the lowest, then the highest, from 1 on")]
    PortRange(u16, u16),
    #[error(
        "'{0}' cannot be reached by clients: give --public-ips one name or address, without scheme or port, \
         and repeat it for another, up to {max} times",
        max = limits::COORDINATES_MAX_IPS
    )]
    PublicIps(String),
}

impl From<&ServerInputError> for ExitStatus {
    fn from(error: &ServerInputError) -> Self {
        match error {
            ServerInputError::PortRange(..) | ServerInputError::PublicIps(_) => Self::Usage,
            ServerInputError::SecretFile { .. } => Self::File,
            ServerInputError::Secret(_) | ServerInputError::NotText => Self::Failure,
        }
    }
}

/// What a server is to do, and whether its secret was in sight of other users.
pub(crate) fn server(
    args: &ServerArgs,
) -> Result<(streamer_server::Config, bool), ServerInputError> {
    let text = match (&args.secret_file, &args.secret) {
        (Some(file), _) => {
            let text = read_secret_text(file, SECRET_TEXT_MAX_BYTES);
            Some(text.map_err(|source| ServerInputError::SecretFile {
                path: file.display().to_string(),
                source,
            })?)
        }
        (None, Some(text)) => Some(text.bytes()),
        (None, None) => variable(SECRET_VARIABLE),
    };
    let secret = match text {
        Some(text) => {
            let text = std::str::from_utf8(&text).map_err(|_| ServerInputError::NotText)?;
            TransferSecret::parse(text)?
        }
        None => TransferSecret::generate()?,
    };
    let (first, last) = match args.port_range.as_slice() {
        [first, last] => (*first, *last),
        // Local invariant: clap takes exactly two.
        _ => (0, 0),
    };
    let ports = PortRange::new(first, last).ok_or(ServerInputError::PortRange(first, last))?;
    // Clients refuse coordinates that name anything else, when the job has waited for them.
    check_hosts(&args.public_ips)
        .map_err(|_| ServerInputError::PublicIps(args.public_ips.join(", ")))?;
    let (operation, path, existing) = match &args.operation {
        ServerOperation::Send(args) => (Operation::Send, &args.path, Existing::default()),
        ServerOperation::Receive(args) => (Operation::Receive, &args.path, args.existing.policy()),
    };
    let config = streamer_server::Config {
        host: args.host.clone(),
        public_ips: args.public_ips.clone(),
        ports,
        wait_timeout: args.wait_timeout,
        inbound_limit_bytes: args.inbound_transfer_limit,
        secret,
        operation,
        path: path.clone(),
        existing,
        allow_websocket: args.allow_websocket,
    };
    Ok((config, args.secret.is_some()))
}

/// The plan of a transfer through an object store: URLs, and so a secret.
pub(crate) fn s3_plan<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = read_secret_text(path, S3_PLAN_MAX_BYTES)?;
    // The position alone: the error's own words may hold what it found.
    serde_json::from_slice(&text).map_err(|error| {
        let text = format!("no plan at line {} column {}", error.line(), error.column());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

const SECRET_CAPACITY_BYTES: usize = 64 << 10;
/// Tokens are a few kibibytes; web servers take no longer header.
const API_TOKEN_MAX_BYTES: usize = 64 << 10;

/// What a variable holds: any bytes. `None` when it is not set.
fn variable(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    std::env::var_os(name).map(|text| Zeroizing::new(text.into_vec()))
}

/// Reads a few bytes from a file or, for `-`, from standard input.
fn read_secret_text(path: &Path, max_bytes: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Not copied about while it grows, but for plans, which are long.
    let capacity = (max_bytes + 1).min(SECRET_CAPACITY_BYTES);
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    let limit = max_bytes as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_may_be_as_long_as_the_service_makes_it() {
        let (directory, url) = (tempfile::tempdir().unwrap(), "x".repeat(1300));
        let path = directory.path().join("plan");
        let read = |urls: usize| {
            let plan = serde_json::to_vec(&vec![&url; urls]).unwrap();
            std::fs::write(&path, &plan).unwrap();
            let read = s3_plan::<Vec<String>>(&path).map(|urls| urls.len());
            (plan.len() <= S3_PLAN_MAX_BYTES, read.ok())
        };
        assert_eq!(read(10_000), (true, Some(10_000)));
        assert_eq!(read(30_000), (false, None));
    }
}
