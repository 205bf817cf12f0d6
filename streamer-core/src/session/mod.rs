//! One session: what both sides say to each other over one control stream, decided without
//! network, clock or files.
//!
//! [`Sender`] and [`Receiver`] are driven alike: feed every [`SenderInput`] or
//! [`ReceiverInput`] to `handle`, then call `poll_output` until it returns `None` and do what
//! it says. An error from `handle` ends the session: the last output is then an
//! [`Abort`](crate::wire::message::Abort) for the peer. Payload never passes through here.
//!
//! ```text
//!  sender                                            receiver
//!  ExpectHello ──────── Hello ⇄ Hello ───────────── ExpectHello
//!  Transferring         Offer… ──►                  Transferring
//!                   ◄── Held…, Answer…
//!                       records, Complete… ──►
//!                   ◄── Again…, Done…
//!  ExpectReceipt        Finish ──►                  Syncing
//!                   ◄── Receipt
//!  Closed                                           Closed
//! ```

mod offers;
mod receiver;
mod sender;
pub mod stall;
#[cfg(test)]
mod tests;

pub use receiver::{Preparation, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput};
pub use sender::{Sender, SenderInput, SenderOutput};

use crate::error::{ErrorCode, ProtocolError};
use crate::wire::VERSION;
use crate::wire::message::{EntryFailure, Hello, Receipt, Role, SessionId, Wanted};

/// A file that is transferred alone, or the root of a tree.
pub const FIRST_ENTRY: u32 = 0;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What the receiver proved.
    pub receipt: Receipt,
    /// Entries that failed, the first [`crate::limits::RECEIPT_MAX_FAILURES`] of them.
    pub failures: Vec<EntryFailure>,
}

/// Why a session ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer gave up and said why.
    #[error("the other side gave up: {0}")]
    Peer(ErrorCode),
    /// This side gave up.
    #[error("{0}")]
    Ours(ErrorCode),
}

impl SessionError {
    /// The code that says why, whoever said it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Protocol(error) => error.code(),
            Self::Peer(code) | Self::Ours(code) => *code,
        }
    }

    /// What to tell the peer; `None` when it was the peer who ended it.
    fn farewell(&self) -> Option<ErrorCode> {
        match self {
            Self::Protocol(error) => Some(error.code()),
            Self::Ours(code) => Some(*code),
            Self::Peer(_) => None,
        }
    }
}

/// The first message of a side.
pub fn hello(role: Role, session: SessionId, lane: u16) -> Hello {
    let software = concat!("streamer ", env!("CARGO_PKG_VERSION")).to_owned();
    Hello {
        version: VERSION,
        role,
        session,
        lane,
        software,
        wanted: Wanted::default(),
        restart: false,
        vacant: false,
    }
}

/// Whether the peer's first message fits ours.
///
/// # Errors
/// The code to refuse it with.
pub fn check_hello(ours: Role, theirs: &Hello) -> Result<(), ErrorCode> {
    if theirs.version != VERSION {
        return Err(ErrorCode::UnsupportedVersion);
    }
    if theirs.role == ours {
        return Err(ErrorCode::WrongDirection);
    }
    Ok(())
}

/// Whether the peer's first message is of this session and on its control stream.
fn check_control(session: SessionId, theirs: &Hello) -> Result<(), ProtocolError> {
    if theirs.session != session {
        return Err(ProtocolError::Misbehaved("greeted another session"));
    }
    if theirs.lane != 0 {
        return Err(ProtocolError::Misbehaved("controls from a lane"));
    }
    Ok(())
}
