//! What is accepted, since the Python service accepts it, and will hardly do.

use super::{Config, DataTransfer, SchedulerType, StreamerConfig, SystemConfig};

impl Config {
    /// One sentence for each doubt, with the key it is about.
    pub fn warnings(&self) -> Vec<String> {
        let systems = self.clusters.iter().enumerate();
        systems
            // Jobs of a local system are where the service is, perhaps with its only user.
            .filter(|(_, system)| system.scheduler.kind != SchedulerType::Local)
            .flat_map(|(index, system)| {
                let key = format!("clusters[{index}].data_operation");
                endpoints(system).flat_map(move |(name, streamer)| {
                    of_endpoint(&format!("{key}.{name}"), streamer)
                })
            })
            .collect()
    }
}

/// Each with its place in `data_operation`.
fn endpoints(system: &SystemConfig) -> impl Iterator<Item = (String, &StreamerConfig)> {
    let operation = &system.data_operation;
    let first = operation.data_transfer.iter();
    let first = first.map(|method| ("data_transfer".to_owned(), method));
    let others = operation.data_transfers.iter().enumerate();
    let others = others.map(|(at, method)| (format!("data_transfers[{at}]"), method));
    first
        .chain(others)
        .filter_map(|(name, method)| match method {
            DataTransfer::Streamer(streamer) => Some((name, streamer)),
            DataTransfer::S3(_) | DataTransfer::Wormhole(_) => None,
        })
}

/// By a tunnel to the node such endpoints can be reached all the same.
fn of_endpoint(key: &str, streamer: &StreamerConfig) -> Vec<String> {
    let mut doubts = Vec::new();
    let host = streamer.host.as_deref();
    if host.is_none_or(is_loopback) {
        doubts.push(format!(
            "{key}.host {} listen on the loopback of their node, where nobody else reaches them; \
             set it to 0.0.0.0, or to what the node is called on the network of the users",
            such(host)
        ));
    }
    let public = streamer.public_ips.as_deref().unwrap_or_default();
    if public.iter().all(|address| is_loopback(address)) {
        doubts.push(format!(
            "{key}.public_ips {} are looked for by users on their own machine; list the addresses \
             under which the nodes can be reached",
            such(public.first().map(String::as_str))
        ));
    }
    doubts
}

fn such(value: Option<&str>) -> String {
    match value {
        Some(value) => format!("is '{value}', so that transfer jobs"),
        None => "is absent, so that transfer jobs".to_owned(),
    }
}

fn is_loopback(address: &str) -> bool {
    let name = address.trim_start_matches('[').trim_end_matches(']');
    match name.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}
