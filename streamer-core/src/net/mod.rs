//! Connections: dialling and accepting with an identity from the secret, and driving the
//! sessions of [`crate::session`] over them. Drivers move; they decide nothing.

mod blocking_tls;
mod buffer;
mod congestion;
mod connection_id;
pub mod control;
mod conversation;

pub mod dial;
pub mod error;
mod keeper;
mod lane;
mod lane_log;
mod lane_reader;
pub mod limit;
pub mod link;
mod manifest;
mod outbox;
mod outlet;
pub mod path_mtu;
pub mod progress;
mod queue;
pub mod quic;
pub mod receive;
mod resolve;
pub mod send;
mod socket;
mod stall;
pub mod stop;
mod tally;
pub mod tcp;
pub mod tls;
mod tls_channel;
mod tls_handshake;
mod tls_record;
pub mod ws;

pub use error::TransferError;
pub use progress::Progress;
pub use tally::Counts;

use crate::hash::Hash;
use crate::session::Conclusion;
use crate::store::StoreError;

/// How a session ended after which nothing is left to be moved.
#[derive(Debug)]
pub struct Transferred {
    /// What the receiver proved, and which entries failed.
    pub conclusion: Conclusion,
    /// What failed on this side, in the words of this side.
    pub failures: Vec<StoreError>,
    /// BLAKE3 of the file, or of the tree; `None` when not all of it was read.
    pub root: Option<Hash>,
    /// What a tree was made of; `None` where the transfer was of one file.
    pub tree: Option<Counts>,
    /// Connections that carried records.
    pub lanes: u32,
    /// Both sides know: the receipt was heard. Otherwise another session may pass it on.
    pub is_settled: bool,
}
