//! What can go wrong between two sides, as one table: number on the wire, name, sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines [`ErrorCode`]: the same numbers serve messages, stream resets and connection
/// closes. Numbers are never reused (`docs/PROTOCOL.md#error-codes`).
macro_rules! error_codes {
    ($($number:literal $name:ident $fault:ident $sentence:literal)*) => {
        /// Why a side gives up, as told to its peer: a number and a fixed sentence, never a
        /// path or other detail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "u16", into = "u16")]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $sentence] $name,)*
            /// A number this version does not know: treated as a failure.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every code this version knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* Self::Unknown(number) => number }
            }

            /// Who has to act.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* Self::Unknown(_) => Fault::Other }
            }

            fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* Self::Unknown(_) => "failed for a reason this version does not know" }
            }
        }

        impl From<u16> for ErrorCode {
            fn from(number: u16) -> Self {
                match number { $($number => Self::$name,)* other => Self::Unknown(other) }
            }
        }
    };
}

error_codes! {
    1  Internal             Other     "an internal error; please report it"
    2  ProtocolViolation    Other     "a message broke the protocol"
    3  UnsupportedVersion   Admission "the two sides speak no common protocol version"
    4  LimitExceeded        Other     "a bound of the protocol was exceeded"
    10 Busy                 Admission "another client is being served with these coordinates"
    11 WrongDirection       Admission "both sides want to do the same: these coordinates are for the other direction"
    12 TransferOver         Admission "the transfer of these coordinates is over"
    20 SourceMissing        File      "the source does not exist"
    21 TargetExists         File      "the target already exists"
    22 PermissionDenied     File      "permission denied"
    23 NoSpace              File      "no space left on the device, or quota exceeded"
    24 OverInboundLimit     File      "larger than the inbound transfer limit"
    25 UnsupportedType      File      "not a kind of file that can be transferred"
    26 ParentMissing        File      "the directory of the target does not exist"
    27 FileSystem           File      "the file system failed"
    28 NameRefused          File      "a name that cannot be created here"
    29 TargetBusy           File      "another transfer is writing this target"
    30 HashMismatch         Integrity "the bytes that arrived are not those that were sent"
    31 SourceChanged        Integrity "the source changed since the transfer began"
    32 LinkLeavesTree       File      "a symlink that leads out of the tree"
    33 NameTaken            File      "something else has the name of what is not finished yet"
    34 FileTooLarge         File      "larger than the file system, or a limit of this process, allows"
    40 Interrupted          Stopped   "interrupted by the user"
    41 Terminated           Stopped   "the job is ending; the transfer can be resumed"
    42 TimedOut             Stopped   "the other side did not answer in time"
}

/// The family of an [`ErrorCode`]; exit codes follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The coordinates do not admit this client now.
    Admission,
    /// A file or directory, on either side.
    File,
    /// Bytes are not what they should be.
    Integrity,
    /// Somebody or something ended it.
    Stopped,
    /// Anything else.
    Other,
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        code.number()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A message that must not have been sent, sorted by whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The peer sent something this state does not allow.
    #[error("the peer sent {message} while {state}")]
    Unexpected {
        /// Name of the message.
        message: &'static str,
        /// Name of the state that got it.
        state: &'static str,
    },
    /// The peer's message contradicts an earlier one or itself.
    #[error("the peer misbehaved: {0}")]
    Misbehaved(&'static str),
    /// A bound of `limits.rs` was exceeded.
    #[error("the peer exceeded a bound: {0}")]
    LimitExceeded(&'static str),
    /// A message does not decode.
    #[error("the peer sent a malformed message")]
    Malformed,
    /// It greets with another version than ours.
    #[error("the two sides speak no common protocol version")]
    OtherVersion,
}

impl ProtocolError {
    /// What the peer is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::LimitExceeded(_) => ErrorCode::LimitExceeded,
            Self::OtherVersion => ErrorCode::UnsupportedVersion,
            Self::Unexpected { .. } | Self::Misbehaved(_) | Self::Malformed => {
                ErrorCode::ProtocolViolation
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_are_unique() {
        let mut numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from(code.number()), *code);
        }
        numbers.dedup();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::from(999), ErrorCode::Unknown(999));
    }
}
