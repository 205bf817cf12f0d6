//! End-to-end tests, one file a behaviour.

mod busy;
mod cancel;
mod pasted;
mod secret;
mod stranger;
mod whole_way;
