//! End-to-end tests, one file a behaviour.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bare_node;
mod busy;
mod cancel;
mod leaks;
mod login_node;
mod object_store;
mod operator;
mod pasted;
mod provider;
mod pyfirecrest;
mod python_streamer;
mod quota;
mod schedulers;
mod secret;
mod slurm_jobs;
mod slurm_rest;
mod slurm_transfers;
mod slurm_trouble;
mod stranger;
mod whole_way;
mod wormhole;
