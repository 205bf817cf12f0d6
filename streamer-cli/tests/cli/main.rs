//! The command as its users see it: the real binary, what it prints and how it exits.

mod coordinates;
mod harness;
mod interrupted;
mod memory;
mod output;
mod refused;
mod secrets;
mod system;
mod whole;
