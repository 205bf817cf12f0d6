//! Why nothing can be run over SSH.

use std::error::Error as StdError;
use std::sync::Arc;

/// A cause from the SSH library, or from the keys.
pub(super) type Cause = Box<dyn StdError + Send + Sync>;

/// Why a command could not be run on a login node. The texts are what existing clients show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// No connection, or no login, within the configured time.
    #[error("SSH connection timeout limit exceeded.")]
    ConnectTimeout,
    /// The key service did not answer in time.
    #[error("SSH keys generation timeout limit exceeded.")]
    KeyTimeout,
    /// No TCP connection to the login node or its jump host: refused, no route, unknown name.
    #[error("Unable to establish SSH connection.")]
    Unreachable(#[source] HostError),
    /// What is there speaks no SSH, or the jump host does not reach the login node.
    #[error("Unable to establish SSH connection.")]
    Connect(#[source] HostError),
    /// The host is not the one that is known, or it is unknown. Nothing was sent to it.
    #[error("Unable to establish SSH connection.")]
    HostKey(#[source] HostKeyError),
    /// The login node does not accept the user's key. It is not asked again for a while.
    #[error("Unable to establish SSH connection.")]
    Refused(#[source] RefusedKey),
    /// As many users as allowed have a connection, and all of them are in use.
    #[error("SSH connection pool capacity exceeded")]
    Capacity,
    /// The login node opens no more sessions.
    #[error("Unable to open a new SSH channel.")]
    Channel(#[source] Cause),
    /// The login node broke the protocol.
    #[error("SSH Protocol Error.")]
    Protocol(#[source] Cause),
    /// The connection, or the session, ended before the command did.
    #[error("SSH connection Reset.")]
    Reset,
    /// Nothing is configured for this user.
    #[error("No SSH credentials found for user:{user}")]
    NoCredentials {
        /// Whom.
        user: String,
    },
    /// The login that this request waited for has failed.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// A key or certificate that cannot be used.
    #[error("The SSH credentials of user:{user} cannot be used")]
    BadCredentials {
        /// Whose.
        user: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The key service refused, or answered something else.
    #[error("Unexpected {service} response. {problem}")]
    KeyService {
        /// Which.
        service: &'static str,
        /// What it said.
        problem: String,
    },
}

/// Which host it is about, the login node or its jump host.
#[derive(Debug, thiserror::Error)]
#[error("{host}")]
pub struct HostError {
    /// Where to.
    pub host: String,
    /// Why.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

/// Which login was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} does not accept the key of {user}")]
pub struct RefusedKey {
    /// Where.
    pub host: String,
    /// Whose key.
    pub user: String,
}

/// Why a host is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// Another key than the one in `known_hosts`.
    #[error("the host key of {host} is not the one in {file}")]
    Changed {
        /// Which host.
        host: String,
        /// The file.
        file: String,
    },
    /// No key of this host there.
    #[error("the host key of {host} is not in {file}")]
    Unknown {
        /// Which host.
        host: String,
        /// The file.
        file: String,
    },
    /// The key is marked `@revoked` there.
    #[error("the host key of {host} is revoked in {file}")]
    Revoked {
        /// Which host.
        host: String,
        /// The file.
        file: String,
    },
    /// The file cannot be used.
    #[error("{file} could not be read")]
    File {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

impl From<russh::Error> for SshError {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::ChannelOpenFailure(_) => Self::Channel(Box::new(error)),
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::KeepaliveTimeout
            | russh::Error::SendError
            | russh::Error::RecvError
            | russh::Error::IO(_) => Self::Reset,
            other => Self::Protocol(Box::new(other)),
        }
    }
}

/// What signs for a login has nobody any more to give it to.
impl From<russh::SendError> for SshError {
    fn from(_: russh::SendError) -> Self {
        Self::Reset
    }
}
