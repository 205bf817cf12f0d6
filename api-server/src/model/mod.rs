//! Request and response bodies: names and types of the API, without behaviour.

pub mod jobs;
pub mod systems;
pub mod transfer;
