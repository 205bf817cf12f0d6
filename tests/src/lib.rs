//! What the end-to-end tests share: the real programs, real HTTP, real files.
//!
//! Everything here stops the test at the first surprise: a helper that fails says what it
//! needed, and there is nothing a test could do about it.

pub mod bare_node;
pub mod cluster;
pub mod demo;
pub mod file;
pub mod http;
pub mod job;
pub mod key_service;
pub mod object_store;
pub mod process;
pub mod program;
pub mod python;
pub mod service;
pub mod sshd;
pub mod transfer_service;
pub mod wormhole;

/// Says that something is not tested here, past the test harness, which keeps what a test that
/// passes prints to itself.
pub fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
