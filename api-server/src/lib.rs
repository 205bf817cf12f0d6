//! The `firecrest-api` server: FirecREST v2 over real systems, transfers by `streamer`.
//!
//! Routes know HTTP; services decide; commands are pure (render a shell line, parse its
//! output); executors run them; schedulers and transfer methods are traits.
//! Start reading at [`app`], where every route is on one screen.

pub mod app;
pub mod auth;
pub mod command;
pub mod config;
pub mod context;
pub mod demo;
pub mod error;
pub mod executor;
pub mod health;
pub mod http_client;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod openapi;
pub mod scheduler;
pub mod serve;
pub mod ssh;
pub mod state;
pub mod storage;
pub mod tracing_log;
pub mod transfer;

mod bounded;
mod docs;
mod front;
mod routes;
mod secret;
#[cfg(test)]
mod test_support;

pub use secret::Secret;
