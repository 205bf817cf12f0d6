//! Commands on a login node over SSH, as the caller. Nothing outside of here names the library.

mod channel;
mod connection;
mod credentials;
mod error;
mod frame;
mod host_key;
mod pool;
mod session;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use credentials::Credentials;
pub(crate) use credentials::problem_of_key;
pub use error::{HostError, HostKeyError, RefusedKey, SshError};

use crate::auth::Caller;
use crate::command::ShellLine;
use crate::config::SshConfig;
use crate::executor::{BoxFuture, ExecError, Executor, Output, RunLimits};
use crate::{bounded, limits};
use connection::{Connection, Place};
use host_key::HostKeys;
use pool::Pool;
use worker::{Worker, WorkerError, within};

/// Runs command lines on one login node.
#[derive(Debug)]
pub struct SshExecutor {
    pool: Arc<Pool>,
}

/// Where to, and with how much patience.
#[derive(Debug, Clone)]
struct Target {
    host: HostKeys,
    jump: Option<HostKeys>,
    max_clients: usize,
    timeouts: Timeouts,
}

#[derive(Debug, Clone)]
struct Timeouts {
    connection: Duration,
    login: Duration,
    idle: Duration,
    /// Nothing is sent to keep a connection where this is absent.
    keep_alive: Option<Duration>,
}

impl SshExecutor {
    /// An executor for the login node of a system. Nothing is opened yet. Needs a runtime.
    pub fn new(system: &str, config: &SshConfig, credentials: Arc<Credentials>) -> Self {
        if config.known_hosts.is_none() {
            tracing::warn!(
                system,
                host = config.host,
                "ssh.known_hosts is not set: anybody who can answer in place of this host will \
                 be trusted with commands and files"
            );
        }
        Self {
            pool: Pool::new(system, Target::from(config), credentials),
        }
    }

    /// In a shell that stays, or in a new one.
    async fn by_worker(
        &self,
        caller: &Caller,
        connection: &Arc<Connection>,
        line: &ShellLine,
        limits: RunLimits,
    ) -> Result<Output, ExecError> {
        let _session = waited(limits, connection.session()).await?;
        // One process less than a shell that waits for the program.
        let line = line.replacing_the_shell();
        loop {
            let place = opened(limits, connection.shell_or_channel()).await?;
            let (worker, reused) = match place {
                Place::Shell(worker) if worker.is_old() => continue,
                Place::Shell(worker) => (worker, true),
                Place::Channel(channel) => (Worker::start(channel).await?, false),
            };
            match worker.run(&line, limits).await {
                Ok((output, worker)) => {
                    connection.rest(worker);
                    return Ok(output);
                }
                // A shell can end while it rests. A new one that does is broken.
                Err(WorkerError::Stale(_)) if reused => {}
                Err(WorkerError::Stale(said)) => {
                    self.pool.give_up(caller, connection, &said);
                    return Err(SshError::Reset.into());
                }
                Err(WorkerError::Failed(error)) => return Err(error),
            }
        }
    }

    async fn by_session(
        &self,
        connection: &Connection,
        line: &ShellLine,
        input: &[u8],
        limits: RunLimits,
    ) -> Result<Output, ExecError> {
        let _session = waited(limits, connection.session()).await?;
        let channel = opened(limits, connection.channel()).await?;
        session::run(channel, line, input, limits).await
    }
}

/// Whether a file of host keys has one of this host.
pub(crate) fn has_known_key(host: &str, port: u16, known_hosts: &Path) -> std::io::Result<bool> {
    bounded::read_text(known_hosts, limits::KNOWN_HOSTS_MAX_BYTES)?;
    let keys = HostKeys {
        host: host.to_owned(),
        port,
        known_hosts: Some(known_hosts.to_owned()),
    };
    Ok(keys.algorithms().is_some())
}

/// Waiting for a free session takes no longer than the command may.
async fn waited<T>(
    limits: RunLimits,
    session: impl Future<Output = Result<T, SshError>>,
) -> Result<T, SshError> {
    let waited = tokio::time::timeout(limits.timeout, session).await;
    waited.unwrap_or(Err(SshError::Capacity))
}

/// Where the login node says nothing for so long, that is what took too long.
async fn opened<T>(
    limits: RunLimits,
    channel: impl Future<Output = Result<T, SshError>>,
) -> Result<T, ExecError> {
    within(limits.timeout, async { Ok(channel.await?) }).await
}

impl Executor for SshExecutor {
    fn run_with_input<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        Box::pin(async move {
            let connection = self.pool.connection(caller).await?;
            let result = match input {
                [] => self.by_worker(caller, &connection, line, limits).await,
                input => self.by_session(&connection, line, input, limits).await,
            };
            // One on which nothing succeeds is not kept by asking again and again.
            if result.is_ok() {
                connection.touch();
            }
            result
        })
    }
}

impl From<&SshConfig> for Target {
    fn from(config: &SshConfig) -> Self {
        let known_hosts: Option<PathBuf> = config.known_hosts.as_ref().map(PathBuf::from);
        let host = |host: &str, port| HostKeys {
            host: host.to_owned(),
            port,
            known_hosts: known_hosts.clone(),
        };
        let timeouts = &config.timeout;
        Self {
            host: host(&config.host, config.port),
            jump: config
                .proxy_host
                .as_deref()
                .map(|name| host(name, config.proxy_port.unwrap_or(22))),
            max_clients: usize::try_from(config.max_clients).unwrap_or(usize::MAX),
            timeouts: Timeouts {
                connection: Duration::from_secs(timeouts.connection),
                login: Duration::from_secs(timeouts.login),
                idle: Duration::from_secs(timeouts.idle_timeout),
                // 0 turns it off, as in the Python service; the library would send without pause.
                keep_alive: match timeouts.keep_alive {
                    0 => None,
                    seconds => Some(Duration::from_secs(seconds)),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_keep_alive_is_none_at_all() {
        let target = |seconds| {
            let timeout = json!({"keep_alive": seconds});
            let config = json!({"host": "login", "port": 22, "timeout": timeout});
            Target::from(&serde_json::from_value::<SshConfig>(config).unwrap())
        };
        let interval =
            |target: Target| connection::library_config(&target, &target.host).keepalive_interval;
        assert_eq!(interval(target(0)), None);
        assert_eq!(interval(target(7)), Some(Duration::from_secs(7)));
    }

    /// A login node that knows anybody, and starts shells for nobody: how often it was logged in to.
    #[derive(Clone, Default)]
    struct NoLogin(Arc<std::sync::atomic::AtomicUsize>);

    impl russh::server::Handler for NoLogin {
        type Error = russh::Error;

        async fn auth_publickey(
            &mut self,
            _: &str,
            _: russh::server::VerifiedPublicKey<'_>,
        ) -> Result<russh::server::Auth, russh::Error> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(russh::server::Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            _: russh::Channel<russh::server::Msg>,
            reply: russh::server::ChannelOpenHandle,
            _: &mut russh::server::Session,
        ) -> Result<(), russh::Error> {
            reply.accept().await;
            Ok(())
        }

        async fn exec_request(
            &mut self,
            channel: russh::ChannelId,
            _: &[u8],
            session: &mut russh::server::Session,
        ) -> Result<(), russh::Error> {
            session.channel_success(channel)?;
            session.data(channel, &b"This account is not available.\n"[..])?;
            session.eof(channel)?;
            session.close(channel)
        }
    }

    fn new_key() -> russh::keys::PrivateKey {
        let algorithm = russh::keys::Algorithm::Ed25519;
        russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm).unwrap()
    }

    const LIMITS: RunLimits = RunLimits {
        timeout: Duration::from_secs(10),
        output_bytes: 1000,
    };

    /// Of a system with two users, bob and eve, of whom one at a time may be connected.
    fn executor(host: &str, port: u16) -> SshExecutor {
        let key = new_key().to_openssh(russh::keys::ssh_key::LineEnding::LF);
        let key = json!({"private_key": key.unwrap().as_str()});
        let keys = json!({"type": "SSHStaticKeys", "keys": {"bob": key, "eve": key}});
        let http = Arc::new(crate::http_client::HttpClient::new().unwrap());
        let credentials = Credentials::new(&serde_json::from_value(keys).unwrap(), http);
        let config = json!({"host": host, "port": port, "max_clients": 1});
        let config = serde_json::from_value(config).unwrap();
        SshExecutor::new("one", &config, Arc::new(credentials))
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_reached_is_named() {
        let (bob, line) = (Caller::for_tests("bob"), ShellLine::new("true"));
        for host in ["127.0.0.1", "no such host"] {
            let error = executor(host, 1)
                .run(&bob, &line, LIMITS)
                .await
                .unwrap_err();
            let causes = crate::error::causes(&error);
            assert!(causes.starts_with(&format!("{host}:1: ")), "{causes}");
        }
    }

    /// Starts it, and tells its port.
    async fn started(node: &NoLogin) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(russh::server::Config {
            keys: vec![new_key()],
            ..russh::server::Config::default()
        });
        let handler = node.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let running =
                    russh::server::run_stream(Arc::clone(&server), stream, handler.clone());
                tokio::spawn(async move { running.await.unwrap().await });
            }
        });
        port
    }

    #[tokio::test]
    async fn a_connection_on_which_no_shell_starts_is_not_used_again() {
        let node = NoLogin::default();
        let executor = executor("127.0.0.1", started(&node).await);
        let (bob, line) = (Caller::for_tests("bob"), ShellLine::new("true"));
        for logins in 1..=2 {
            let lost = executor.run(&bob, &line, LIMITS).await;
            assert!(
                matches!(lost, Err(ExecError::Ssh(SshError::Reset))),
                "{lost:?}"
            );
            assert_eq!(node.0.load(std::sync::atomic::Ordering::Relaxed), logins);
        }
    }
    #[tokio::test]
    async fn a_user_counts_once_and_has_two_connections_at_most() {
        let node = NoLogin::default();
        let pool = executor("127.0.0.1", started(&node).await).pool;
        let (bob, eve) = (Caller::for_tests("bob"), Caller::for_tests("eve"));
        let connect = async || pool.connection(&bob).await.unwrap();
        let logins = || node.0.load(std::sync::atomic::Ordering::Relaxed);
        // What is held here is in use by a command.
        let (first, failed) = (connect().await, connect().await);
        pool.give_up(&bob, &failed, "");
        drop(failed);
        let (second, failed) = (connect().await, connect().await);
        assert!(!Arc::ptr_eq(&first, &second));
        pool.give_up(&bob, &failed, "");
        assert!(Arc::ptr_eq(&second, &connect().await));
        assert_eq!(logins(), 2);
        // With no other command on it, nothing is left of it.
        drop(second);
        pool.give_up(&bob, &failed, "");
        drop(failed);
        drop(connect().await);
        assert_eq!(logins(), 3);

        // The one at rest makes no room: bob is connected by the first one as well.
        let refused = pool.connection(&eve).await.unwrap_err();
        assert!(
            refused.to_string() == SshError::Capacity.to_string(),
            "{refused}"
        );
        drop(connect().await);
        assert_eq!(logins(), 3);
        drop(first);
        pool.connection(&eve).await.unwrap();
    }
}
