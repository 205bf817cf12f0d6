//! Why a client failed.

use std::io;
use std::path::PathBuf;

use streamer_core::net::TransferError;
use streamer_core::net::dial::DialError;
use streamer_core::net::ws::dial::Plaintext;
use streamer_core::store::StoreError;
use streamer_core::store::filter::FilterError;
use streamer_core::{Coordinates, CoordinatesError, ErrorCode, Operation};

use crate::config::ApiInputError;
use crate::job::{AskError, JobState};

/// Why a client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The coordinates are none.
    #[error(transparent)]
    Coordinates(#[from] CoordinatesError),
    /// They are for the other verb.
    #[error("these coordinates are of an endpoint that wants to {operation} too")]
    WrongDirection {
        /// What both want to do.
        operation: Operation,
    },
    /// The file with the coordinates.
    #[error("cannot read the coordinates from '{}'", path.display())]
    Input {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The source or the target.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pattern of the filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The endpoint was not found.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No endpoint of ours was found with coordinates of the Python service.
    #[error("these coordinates were issued for the Python streamer, and nothing else was found")]
    NotProven {
        /// What the search said.
        #[source]
        error: DialError,
    },
    /// The endpoint's job has ended: nobody will answer.
    #[error("{state}")]
    JobOver {
        /// How.
        state: Box<JobState>,
    },
    /// The endpoint's job has not come to listening in time.
    #[error("{state}")]
    JobToCome {
        /// Where it is.
        state: Box<JobState>,
        /// What the search said.
        #[source]
        error: DialError,
    },
    /// Nobody can be asked how the job stands.
    #[error(transparent)]
    Ask(AskError),
    /// Who could say how the job stands was not named well.
    #[error(transparent)]
    Api(#[from] ApiInputError),
    /// The endpoint was lost, and not found again.
    #[error("the connection was lost and the endpoint did not come back")]
    LostForGood {
        /// What the last search said.
        #[source]
        error: DialError,
    },
    /// A side gave up.
    #[error(transparent)]
    Transfer(TransferError),
    /// A side gave up, or was lost, over the plaintext protocol.
    #[error(transparent)]
    Plain(TransferError),
    /// What the plaintext protocol cannot carry.
    #[error("cannot send '{}': the plaintext protocol carries single files, and this is a directory", path.display())]
    PlainTree {
        /// Which.
        path: PathBuf,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// Signals cannot be watched.
    #[error("cannot watch for signals")]
    Signals {
        /// Why.
        source: io::Error,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl From<TransferError> for ClientError {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl ClientError {
    /// What the peer or this side said, where somebody said something.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Transfer(error) | Self::Plain(error) => error.code(),
            Self::Store(error) => Some(error.code),
            _ => None,
        }
    }
}

/// Why the search failed, as the user should see it.
pub(super) fn not_found(
    error: DialError,
    coordinates: &Coordinates,
    plaintext: Plaintext,
    retries: u32,
    job: Option<&JobState>,
) -> ClientError {
    if retries > 0 {
        return ClientError::LostForGood { error };
    }
    if let Some(state) = job.filter(|state| state.is_to_come()) {
        let state = Box::new(state.clone());
        return ClientError::JobToCome { state, error };
    }
    let resolved = !matches!(error, DialError::Resolve { .. });
    if resolved && plaintext == Plaintext::Never && !coordinates.secret.is_key() {
        return ClientError::NotProven { error };
    }
    error.into()
}
