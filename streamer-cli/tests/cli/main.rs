//! The command as its users see it: the real binary, what it prints and how it exits.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking too"
)]

mod coordinates;
mod faults;
mod half;
mod harness;
mod idle;
mod interrupted;
mod killed;
mod lanes;
mod links;
mod lost_lanes;
mod memory;
mod namespace;
mod output;
mod receipts;
mod refused;
mod relay;
mod secrets;
mod system;
mod trees;
mod unread;
mod waiting;
mod whole;
