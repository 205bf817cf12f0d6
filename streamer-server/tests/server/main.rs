//! An endpoint among strangers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod long_life;
mod no_space;
mod receipt;
mod stalled;
mod strangers;
mod vacant;
mod versions;
mod world;
