//! The one table from what went wrong to the code that a script sees.

use std::process::ExitCode;

use streamer_core::ErrorCode;
use streamer_core::error::Fault;
use streamer_core::net::dial::DialError;
use streamer_core::net::{TransferError, Transferred};
use streamer_server::ServeError;
use streamer_server::s3::S3Error;

use crate::client::ClientError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done and verified.
    Success = 0,
    /// Failed; the reason is printed.
    Failure = 1,
    /// What was typed makes no sense.
    Usage = 2,
    /// Part of the files failed; which, is printed.
    Partial = 3,
    /// The endpoint waited and nobody came.
    NobodyCame = 4,
    /// No endpoint answered, or it went away for good.
    Unreachable = 10,
    /// Coordinates malformed, refused, for the other direction, or in use.
    Coordinates = 11,
    /// Hash mismatch, or the source changed.
    Integrity = 12,
    /// A file: missing, existing, forbidden, too large, no space.
    File = 13,
    /// Interrupted.
    Interrupted = 130,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

impl From<ErrorCode> for ExitStatus {
    fn from(code: ErrorCode) -> Self {
        match code.fault() {
            Fault::Admission => Self::Coordinates,
            Fault::File => Self::File,
            Fault::Integrity => Self::Integrity,
            Fault::Stopped => Self::Unreachable,
            Fault::Other => Self::Failure,
        }
    }
}

impl From<&ClientError> for ExitStatus {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Coordinates(_) | ClientError::WrongDirection { .. } => Self::Coordinates,
            ClientError::Input { .. } | ClientError::PlainTree { .. } => Self::File,
            ClientError::Store(error) => error.code.into(),
            ClientError::Filter(_) => Self::Usage,
            ClientError::Dial(DialError::Stranger { .. }) => Self::Coordinates,
            // A Python endpoint is a stranger to TLS, whatever the coordinates.
            ClientError::NotProven { .. } => Self::Unreachable,
            ClientError::JobOver { .. } | ClientError::JobToCome { .. } => Self::Unreachable,
            ClientError::Api(_) => Self::Usage,
            ClientError::Dial(_) | ClientError::LostForGood { .. } => Self::Unreachable,
            ClientError::Transfer(error) | ClientError::Plain(error) => error.into(),
            ClientError::Interrupted => Self::Interrupted,
            ClientError::NoRandomness | ClientError::Signals { .. } | ClientError::Ask(_) => {
                Self::Failure
            }
        }
    }
}

impl From<&TransferError> for ExitStatus {
    fn from(error: &TransferError) -> Self {
        error.code().map_or(Self::Unreachable, Self::from)
    }
}

impl From<&ServeError> for ExitStatus {
    fn from(error: &ServeError) -> Self {
        match error {
            ServeError::Store(error) => error.code.into(),
            ServeError::NobodyCame(_) => Self::NobodyCame,
            ServeError::Stopped(_) => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}

impl From<&S3Error> for ExitStatus {
    fn from(error: &S3Error) -> Self {
        match error {
            S3Error::Connection(_) => Self::Unreachable,
            S3Error::NobodyCame { .. } => Self::NobodyCame,
            S3Error::Integrity { .. } | S3Error::Changed(_) => Self::Integrity,
            S3Error::Store(_) | S3Error::File { .. } | S3Error::Busy { .. } => Self::File,
            S3Error::Stopped(_) => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}

impl From<&Transferred> for ExitStatus {
    fn from(transferred: &Transferred) -> Self {
        let receipt = transferred.conclusion.receipt;
        match transferred.conclusion.failures.first() {
            None => Self::Success,
            Some(_) if receipt.entries > 0 => Self::Partial,
            Some(failure) => failure.code.into(),
        }
    }
}
