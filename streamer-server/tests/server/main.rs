//! An endpoint among strangers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod strangers;
mod world;
