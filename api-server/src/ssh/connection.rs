//! One authenticated connection of one user to a login node.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use russh::client::{AuthResult, Config, Handle, Msg};
use russh::keys::agent::AgentIdentity;
use russh::keys::key::PrivateKeyWithHashAlg;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};
use russh::{Channel, Disconnect, Signer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Target;
use super::credentials::LoginKeys;
use super::error::{HostError, RefusedKey, SshError};
use super::host_key::HostKeys;
use super::worker::Worker;
use crate::limits;

/// A connection, its sessions and its shells at rest.
pub(super) struct Connection {
    handle: Handle<HostKeys>,
    /// The connection that this one is tunnelled through; it lives as long.
    _jump: Option<Handle<HostKeys>>,
    /// Counts towards the users who may be connected; that of a user's other connection, if there
    /// is one.
    permit: Arc<OwnedSemaphorePermit>,
    sessions: Semaphore,
    /// Told of each session that ends.
    freed: Notify,
    resting: Mutex<Vec<Worker>>,
    last_used: Mutex<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, through the jump host where there is one, and logs in.
    pub(super) async fn open(
        target: &Target,
        user: &str,
        keys: &LoginKeys,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Result<Self, SshError> {
        let (jump, handle) = match &target.jump {
            None => (None, reach(target, user, keys).await?),
            Some(jump) => {
                let tcp = dial(target, jump).await?;
                let outer = login(target, jump, tcp, user, keys).await?;
                let inner = through(target, &outer, user, keys).await?;
                (Some(outer), inner)
            }
        };
        Ok(Self {
            handle,
            _jump: jump,
            permit,
            sessions: Semaphore::new(limits::SSH_SESSIONS_MAX),
            freed: Notify::new(),
            resting: Mutex::default(),
            last_used: Mutex::new(Instant::now()),
        })
    }

    /// What its user's next connection shares while this one is still there.
    pub(super) fn permit(&self) -> Arc<OwnedSemaphorePermit> {
        Arc::clone(&self.permit)
    }

    /// Whether its user has no other one.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.permit) == 1
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Notes that it is in use.
    pub(super) fn touch(&self) {
        if let Ok(mut last_used) = self.last_used.lock() {
            *last_used = Instant::now();
        }
    }

    /// Time since it was last used.
    pub(super) fn idle(&self) -> Duration {
        self.last_used
            .lock()
            .map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Says goodbye. Cancel-safe.
    pub(super) async fn close(&self) {
        // Nobody listens when the connection is gone already.
        let _ = self
            .handle
            .disconnect(Disconnect::ByApplication, "", "en")
            .await;
    }

    /// Waits for one of the sessions this connection may have. Cancel-safe.
    pub(super) async fn session(&self) -> Result<Session<'_>, SshError> {
        let permit = self.sessions.acquire().await;
        Ok(Session {
            _permit: permit.map_err(|_| SshError::Reset)?,
            freed: &self.freed,
        })
    }

    /// A shell that rests, if there is one.
    pub(super) fn resting(&self) -> Option<Worker> {
        self.resting.lock().ok()?.pop()
    }

    /// Takes a shell back.
    pub(super) fn rest(&self, worker: Worker) {
        if let Ok(mut resting) = self.resting.lock() {
            resting.push(worker);
        }
    }

    /// A shell at rest, or a new channel. When the node opens no more, those who have one are
    /// waited for. Cancel-safe.
    pub(super) async fn shell_or_channel(&self) -> Result<Place, SshError> {
        loop {
            if let Some(worker) = self.resting() {
                return Ok(Place::Shell(worker));
            }
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(Place::Channel(channel)),
                Err(russh::Error::ChannelOpenFailure(_)) if self.others_are_busy() => {
                    self.freed.notified().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new channel; a shell at rest gives its own up for it. Cancel-safe.
    pub(super) async fn channel(&self) -> Result<Channel<Msg>, SshError> {
        loop {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(error @ russh::Error::ChannelOpenFailure(_)) => match self.resting() {
                    Some(worker) => worker.close().await,
                    None if self.others_are_busy() => self.freed.notified().await,
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether anybody but the one who asks has a session.
    fn others_are_busy(&self) -> bool {
        self.sessions.available_permits() + 1 < limits::SSH_SESSIONS_MAX
    }
}

/// Where a command can run.
pub(super) enum Place {
    /// In a shell that is there.
    Shell(Worker),
    /// In a new one.
    Channel(Channel<Msg>),
}

/// The right to use one session; given back, it wakes who waits for one.
pub(super) struct Session<'a> {
    _permit: SemaphorePermit<'a>,
    freed: &'a Notify,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.freed.notify_one();
    }
}

async fn reach(
    target: &Target,
    user: &str,
    keys: &LoginKeys,
) -> Result<Handle<HostKeys>, SshError> {
    let tcp = dial(target, &target.host).await?;
    login(target, &target.host, tcp, user, keys).await
}

/// A tunnel over the jump host's connection, and the login at its end.
async fn through(
    target: &Target,
    jump: &Handle<HostKeys>,
    user: &str,
    keys: &LoginKeys,
) -> Result<Handle<HostKeys>, SshError> {
    let (host, port) = (target.host.host.clone(), u32::from(target.host.port));
    let open = jump.channel_open_direct_tcpip(host, port, "127.0.0.1", 0);
    let channel = in_time(target.timeouts.connection, open).await?;
    let channel = channel.map_err(|error| no_ssh(&target.host, error))?;
    login(target, &target.host, channel.into_stream(), user, keys).await
}

async fn dial(target: &Target, host: &HostKeys) -> Result<TcpStream, SshError> {
    let connect = TcpStream::connect((host.host.as_str(), host.port));
    let tcp = in_time(target.timeouts.connection, connect).await?;
    // Without it every short command waits for the acknowledgement of the one before.
    let tcp = tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp));
    tcp.map_err(|error| SshError::Unreachable(about(host, error)))
}

async fn login(
    target: &Target,
    host: &HostKeys,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    user: &str,
    keys: &LoginKeys,
) -> Result<Handle<HostKeys>, SshError> {
    let config = Arc::new(library_config(target, host));
    let connect = russh::client::connect_stream(config, stream, host.clone());
    let handle = in_time(target.timeouts.connection, connect).await?;
    let mut handle = handle.map_err(|error| match error {
        error @ (SshError::Protocol(_) | SshError::Reset) => no_ssh(host, error),
        other => other,
    })?;
    let answer = in_time(target.timeouts.login, offer(&mut handle, user, keys)).await??;
    match answer {
        AuthResult::Success => Ok(handle),
        AuthResult::Failure { .. } => Err(SshError::Refused(RefusedKey {
            host: host.address(),
            user: user.to_owned(),
        })),
    }
}

/// Offers one key, once.
async fn offer(
    handle: &mut Handle<HostKeys>,
    user: &str,
    keys: &LoginKeys,
) -> Result<AuthResult, SshError> {
    let key = Arc::clone(&keys.key);
    // Only RSA keys have a choice, and asking takes a round trip.
    let hash = match key.algorithm().is_rsa() {
        true => handle.best_supported_rsa_hash().await?.flatten(),
        false => None,
    };
    match keys.certificate.clone() {
        Some(certificate) => {
            let signer = &mut CertifiedKey(key);
            handle
                .authenticate_certificate_with(user, certificate, hash, signer)
                .await
        }
        None => {
            let key = PrivateKeyWithHashAlg::new(key, hash);
            Ok(handle.authenticate_publickey(user, key).await?)
        }
    }
}

/// Signs for its certificate: what the library does by itself there knows SHA-1 only for RSA, which
/// sshd takes no more.
struct CertifiedKey(Arc<PrivateKey>);

impl Signer for CertifiedKey {
    type Error = SshError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut message: Vec<u8>,
    ) -> Result<Vec<u8>, SshError> {
        let signature = match self.0.key_data() {
            KeypairData::Rsa(key) => (key, hash).try_sign(&message),
            key => key.try_sign(&message),
        };
        let signature = signature.map_err(russh::Error::from)?;
        let signed = signature.encode_prefixed(&mut message);
        signed.map_err(russh::Error::from)?;
        Ok(message)
    }
}

pub(super) fn library_config(target: &Target, host: &HostKeys) -> Config {
    let mut config = Config {
        window_size: limits::SSH_WINDOW_BYTES,
        keepalive_interval: target.timeouts.keep_alive,
        keepalive_max: 3,
        ..Config::default()
    };
    if let Some(algorithms) = host.algorithms() {
        config.preferred.key = algorithms.into();
    }
    config
}

fn no_ssh(host: &HostKeys, source: impl std::error::Error + Send + Sync + 'static) -> SshError {
    SshError::Connect(about(host, source))
}

fn about(host: &HostKeys, source: impl std::error::Error + Send + Sync + 'static) -> HostError {
    HostError {
        host: host.address(),
        source: Box::new(source),
    }
}

async fn in_time<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, SshError> {
    let result = tokio::time::timeout(limit, future).await;
    result.map_err(|_| SshError::ConnectTimeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SshConfig;
    use std::os::fd::OwnedFd;
    use std::process::Command;

    /// A login by a key of this kind and its certificate, at the sshd of this machine.
    async fn logged_in(kind: &str) -> Option<Result<(), SshError>> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap().trim().to_owned();
        let keygen = |arguments: &[&str]| {
            Command::new("ssh-keygen")
                .arg("-q")
                .args(arguments)
                .status()
        };
        for (name, kind) in [("host", "ed25519"), ("authority", "ed25519"), ("key", kind)] {
            let made = keygen(&["-t", kind, "-N", "", "-f", &at(name)]);
            assert!(made.ok()?.success());
        }
        let (host, authority, key) = (at("host"), at("authority"), at("key.pub"));
        let signed = keygen(&["-s", &authority, "-I", "it", "-n", &user, &key]);
        assert!(signed.unwrap().success());
        let config = format!(
            "HostKey {host}\nTrustedUserCAKeys {authority}.pub\nAuthorizedKeysFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\n"
        );
        std::fs::write(at("config"), config).unwrap();
        // Where root's sshd wants it; nobody else may make it, nor needs it.
        let _ = std::fs::create_dir_all("/run/sshd");
        let (own, other) = std::os::unix::net::UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-i", "-f", &at("config")])
            .stdin(OwnedFd::from(other.try_clone().unwrap()))
            .stdout(OwnedFd::from(other))
            .spawn();
        let mut sshd = sshd.ok()?;
        let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        let keys = LoginKeys {
            key: Arc::new(russh::keys::decode_secret_key(&text("key"), None).unwrap()),
            certificate: Some(
                russh::keys::Certificate::from_openssh(&text("key-cert.pub")).unwrap(),
            ),
        };
        let config = serde_json::json!({"host": "login", "port": 22});
        let target = Target::from(&serde_json::from_value::<SshConfig>(config).unwrap());
        let own = tokio::net::UnixStream::from_std(own).unwrap();
        let login = login(&target, &target.host, own, &user, &keys).await;
        let login = login.map(drop);
        let _ = sshd.kill();
        sshd.wait().unwrap();
        Some(login)
    }

    #[tokio::test]
    async fn certificates_of_every_kind_of_key_open_the_door() {
        for kind in ["rsa", "ecdsa", "ed25519"] {
            let Some(login) = logged_in(kind).await else {
                return eprintln!("skipped: sshd or ssh-keygen is absent");
            };
            assert!(login.is_ok(), "{kind}: {login:?}");
        }
    }
}
