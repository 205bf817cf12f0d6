//! Everything on one machine, for trying it out: a development identity provider, a `local`
//! system, the API. Loopback only. Nothing here is for production.

pub mod check;
mod identity;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Secret;
use crate::config::{ConfigError, Sources};
use crate::serve;
use crate::state::{AppState, BuildError};
use identity::{IdentityProvider, Registration};

/// What the operator of a demo chooses.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Port of the API; 0: a free one. The identity provider takes the next one.
    pub port: u16,
    /// Where the demo's files go; absent: a temporary directory, removed at the end.
    pub directory: Option<PathBuf>,
    /// The `streamer` program that jobs run.
    pub streamer: PathBuf,
    /// Whether endpoints also answer the plaintext protocol of the Python streamer.
    pub allow_websocket: bool,
}

/// A running demo. Dropping it stops the servers; [`stop`](Self::stop) also waits for jobs.
#[derive(Debug)]
#[must_use = "dropping a demo stops it"]
pub struct Demo {
    /// Base URL of the API.
    pub api_url: String,
    /// Base URL of the identity provider.
    pub identity_url: String,
    /// OAuth client id.
    pub client_id: &'static str,
    /// Its secret: a development credential, made for this run.
    pub client_secret: Secret,
    /// Password of the user on the login page, made for this run.
    pub password: Secret,
    /// Where the user's jobs run.
    pub home: PathBuf,
    /// The `streamer` program.
    pub streamer: PathBuf,
    stop: CancellationToken,
    servers: JoinSet<std::io::Result<()>>,
    _temporary: Option<TempDir>,
}

/// Name of the demo's only system.
pub const SYSTEM: &str = "demo";
/// Name of the demo's only user.
pub const USER: &str = "demo";

/// Why a demo cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A file or directory cannot be made.
    #[error("{} could not be written", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A port is taken.
    #[error("cannot listen on {address}; choose another --port, or 0 for a free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No randomness, so no keys.
    #[error("the operating system gave no randomness")]
    NoRandomness,
    /// The generated configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The service does not start.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Demo {
    /// Starts the identity provider and the API.
    ///
    /// # Errors
    /// When a port is taken or a file cannot be written.
    pub async fn start(options: DemoOptions) -> Result<Self, DemoError> {
        let (temporary, directory) = directory(options.directory.clone())?;
        let home = directory.join("work").join(USER);
        write_sample(&home)?;
        let api = listen(options.port).await?;
        let next = if options.port == 0 {
            0
        } else {
            options.port.saturating_add(1)
        };
        let identity = listen(next).await?;
        let (api_url, identity_url) = (url(&api), url(&identity));
        let registration = Registration::new(USER).ok_or(DemoError::NoRandomness)?;
        let (client_id, client_secret, password) = registration.credentials();
        let provider = IdentityProvider::new(&identity_url, registration);
        let provider = Arc::new(provider.ok_or(DemoError::NoRandomness)?);

        let stop = CancellationToken::new();
        let mut servers = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        let router = identity::router(provider);
        servers.spawn(async move {
            axum::serve(identity, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        let config = write_config(&directory, &identity_url, &options)?;
        let sources = Sources {
            file: Some(config),
            ..Sources::default()
        };
        let state = AppState::new(sources.load()?).await?;
        servers.spawn(serve::run(api, state, stop.clone().cancelled_owned()));
        Ok(Self {
            api_url,
            identity_url,
            client_id,
            client_secret,
            password,
            home,
            streamer: options.streamer,
            stop,
            servers,
            _temporary: temporary,
        })
    }

    /// Waits until one of the servers fails, which they normally do not. Cancel-safe.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn failed(&mut self) -> std::io::Result<()> {
        match self.servers.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(std::io::Error::other(error)),
            None => Ok(()),
        }
    }

    /// Stops the servers and the jobs, and removes temporary files.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.servers.join_next().await.is_some() {}
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn directory(chosen: Option<PathBuf>) -> Result<(Option<TempDir>, PathBuf), DemoError> {
    if let Some(path) = chosen {
        std::fs::create_dir_all(&path).map_err(files(&path))?;
        let path = path.canonicalize().map_err(files(&path))?;
        return Ok((None, path));
    }
    let prefix = "firecrest-demo-";
    let directory = tempfile::Builder::new().prefix(prefix).tempdir();
    let directory = directory.map_err(files(&std::env::temp_dir()))?;
    let path = directory.path().to_owned();
    Ok((Some(directory), path))
}

fn write_sample(home: &Path) -> Result<(), DemoError> {
    std::fs::create_dir_all(home).map_err(files(home))?;
    let path = home.join("sample.txt");
    std::fs::write(&path, "This file travelled by streamer.\n").map_err(files(&path))
}

/// The demo's configuration, as a file: what an operator would write, in JSON, which is YAML.
fn write_config(
    directory: &Path,
    identity_url: &str,
    options: &DemoOptions,
) -> Result<PathBuf, DemoError> {
    let config = json!({
        "auth": {"authentication": {
            "token_url": format!("{identity_url}/token"),
            "public_certs": [format!("{identity_url}/jwks")],
            "iss": identity_url,
        }},
        "clusters": [{
            "name": SYSTEM,
            // One person's own machine: their demo user is they themselves.
            "scheduler": {"type": "local", "dangerous_everybody_as_service": true},
            "file_systems": [{
                "path": directory.join("work"), "data_type": "users", "default_work_dir": true,
            }],
            "data_operation": {"data_transfer": {
                "service_type": "streamer",
                "host": "127.0.0.1",
                "public_ips": ["127.0.0.1"],
                "port_range": [5665, 5764],
                "wait_timeout": 600,
                "inbound_transfer_limit": 1_u64 << 40,
                "streamer_binary": options.streamer,
                "allow_websocket": options.allow_websocket,
            }},
        }],
    });
    let path = directory.join("config.yaml");
    std::fs::write(&path, format!("{config:#}\n")).map_err(files(&path))?;
    Ok(path)
}

async fn listen(port: u16) -> Result<TcpListener, DemoError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .map_err(|source| DemoError::Listen { address, source })
}

fn url(listener: &TcpListener) -> String {
    // Local invariant: a bound TCP socket has an address.
    listener
        .local_addr()
        .map(|address| format!("http://{address}"))
        .unwrap_or_default()
}

fn files(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError {
    let path = path.to_owned();
    move |source| DemoError::Files { path, source }
}
