//! Why a transfer over one connection ended early.

use crate::error::ErrorCode;
use crate::net::control::ControlError;
use crate::session::SessionError;
use crate::store::StoreError;

/// Why a transfer over one connection ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The connection broke: the same transfer may go on over a new one.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// One of the two sides gave up, or broke the protocol.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file on this side.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TransferError {
    /// The code that says why; `None` for a lost connection.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Lost(_) => None,
            Self::Session(error) => Some(error.code()),
            Self::Store(error) => Some(error.code),
        }
    }

    /// Whether a new connection may continue where this one broke.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

impl From<ControlError> for TransferError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Ended => Self::Lost(error.to_string()),
            ControlError::Stream(error) => Self::Lost(error.to_string()),
            ControlError::Protocol(error) => Self::Session(error.into()),
        }
    }
}

impl From<quinn::ConnectionError> for TransferError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Lost(error.to_string())
    }
}
