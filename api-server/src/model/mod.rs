//! Request and response bodies: names and types of the API, without behaviour.

pub mod files;
pub mod jobs;
pub mod status;
pub mod systems;
pub mod transfer;
