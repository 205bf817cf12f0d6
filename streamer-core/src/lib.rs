//! The transfer engine of `streamer`.
//!
//! Without features this crate decides: coordinates, identity, messages, session state
//! machines, block plans, hashing. It has no clock, network, file or environment there.
//! The feature `net` adds [`net`] (connections) and [`store`] (files), which move bytes.
//!
//! Start reading at `docs/ARCHITECTURE.md`; the protocol is `docs/PROTOCOL.md`.

pub mod blocks;
pub mod coordinates;
pub mod dial_plan;
pub mod error;
pub mod hash;
pub mod identity;
pub mod limits;
pub mod path;
pub mod port_order;
pub mod secret;
pub mod session;
pub mod size;
pub mod tree_hash;
pub mod websocket;
pub mod wire;

pub use coordinates::{
    Coordinates, CoordinatesError, JobName, Operation, PortRange, Transport, check_hosts,
};
pub use error::ErrorCode;
pub use hash::Hash;
pub use secret::TransferSecret;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "net")]
pub mod store;
