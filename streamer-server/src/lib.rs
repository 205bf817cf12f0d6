//! The endpoint that a job hosts: bind, announce, accept, serve one transfer, leave.
//!
//! [`serve()`] is the whole life of an endpoint. What it may be told is [`Config`]; what it says
//! while it lives is [`Notice`]. [`s3`] is what a job does instead where the two sides meet at
//! an object store.

mod admission;
mod bind;
mod callers;
mod config;
mod handshakes;
pub mod https;
mod lobby;
mod pace;
pub mod s3;
mod serve;

pub use bind::{BindError, Bound, bind};
pub use config::{Config, ConfigError};
pub use pace::{Pace, drive};
pub use serve::{Notice, ServeError, Served, serve};
