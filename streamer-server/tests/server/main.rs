//! An endpoint among strangers.

mod strangers;
mod world;
