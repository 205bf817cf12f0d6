//! The service in process: one test binary, one file a group of routes.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod authorization;
mod bodies;
mod contract;
mod login_nodes;
mod observed;
mod ops;
mod ops_change;
mod router;
mod stopping;
mod support;
