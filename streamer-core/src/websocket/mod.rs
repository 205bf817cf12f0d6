//! The WebSocket protocol of the existing Python streamer, decided without a network:
//! plaintext, one file, one SHA-256 at its end (`docs/PROTOCOL.md#websocket`).
//!
//! ```text
//!  sender                                  receiver
//!  Init (binary) ───────────►              creates the target
//!  5 MiB of the file (binary) … ───────►   writes, hashes
//!  Eof (text) ──────────────►              compares, names the file
//!                           ◄────────────  Close 1000, or why not
//! ```

pub mod bearer;
pub mod close;
pub mod message;
mod receiver;
mod sender;

pub use receiver::{Receiver, Step};
pub use sender::Sender;

use crate::error::ErrorCode;

/// How a transfer ended that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// This side gives up; the peer is to be told.
    Ours(ErrorCode),
    /// The peer gave up and said why.
    Theirs(ErrorCode),
    /// The peer left without a word about why.
    Lost,
}

/// What arrives from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A binary message.
    Binary(&'a [u8]),
    /// A text message.
    Text(&'a str),
    /// A close frame: its code, if there is one, and its reason.
    Close(Option<u16>, &'a str),
    /// The connection ended without a close frame.
    End,
}
