//! What is accepted, since the Python service accepts it, and will hardly do.

use super::auth::default_max_connections;
use super::load::by_file;
use super::validate::{NO_URL, is_http_url};
use super::{
    AuthorizationConfig, Config, DataTransfer, SchedulerType, SshConfig, SshCredentials,
    StreamerConfig, SystemConfig,
};
use crate::ssh::{has_known_key, problem_of_key};

impl Config {
    /// One sentence for each doubt, with the key it is about.
    pub fn warnings(&self) -> Vec<String> {
        self.doubts(Keys::Quickly)
    }

    /// As [`warnings`](Self::warnings), with a try of each passphrase, which takes a good part of a
    /// second.
    pub fn thorough_warnings(&self) -> Vec<String> {
        self.doubts(Keys::WithPassphrases)
    }

    fn doubts(&self, keys: Keys) -> Vec<String> {
        let mut doubts = Vec::new();
        if !is_http_url(&self.auth.authentication.token_url) {
            doubts.push(format!(
                "auth.authentication.token_url {NO_URL}, so that health checks get no token"
            ));
        }
        let authorization = self.auth.authorization.iter();
        let bounded = |of: &&AuthorizationConfig| of.max_connections != default_max_connections();
        doubts.extend(authorization.filter(bounded).map(|_| {
            "auth.authorization.max_connections bounds nothing: there are as many connections as \
             requests that ask at once"
                .to_owned()
        }));
        if let Some(SshCredentials::StaticKeys(users)) = &self.ssh_credentials {
            let problems = users.iter().filter_map(|(user, key)| {
                let problem = problem_of_key(key, keys)?;
                let key = format!("ssh_credentials.keys.{user}");
                Some(format!("{key} cannot be used to log in: {problem}"))
            });
            doubts.extend(problems);
        }
        for (index, system) in self.clusters.iter().enumerate() {
            let of_system = of_system(system, &format!("clusters[{index}]"));
            doubts.extend(of_system.iter().map(|text| by_file(&self.files, text)));
        }
        doubts
    }
}

/// How keys are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Whether they are any.
    Quickly,
    /// And opened.
    WithPassphrases,
}

fn of_system(system: &SystemConfig, key: &str) -> Vec<String> {
    // Jobs of a local system are where the service is, perhaps with its only user.
    if system.scheduler.kind == SchedulerType::Local {
        return Vec::new();
    }
    let operation = &system.data_operation;
    let mut doubts: Vec<String> = system
        .ssh
        .iter()
        .flat_map(|ssh| of_hosts(ssh, key))
        .collect();
    for method in operation.methods() {
        let DataTransfer::S3(s3) = method else {
            continue;
        };
        let urls = [
            ("private_url", s3.private_url.expose()),
            ("public_url", &s3.public_url),
        ];
        for (name, url) in urls {
            if !is_http_url(url) {
                let key = format!("{key}.data_operation.data_transfer.{name}");
                doubts.push(format!("{key} {NO_URL}, so that transfers by s3 fail"));
            }
        }
    }
    let needs_program = |method: &DataTransfer| !matches!(method, DataTransfer::Wormhole(_));
    if operation.program().is_none()
        && operation.methods().any(needs_program)
        && let Some(source) = &operation.streamer_binary_source
        && !source.is_file()
    {
        doubts.push(format!(
            "{key}.data_operation.streamer_binary_source {} is no file here, so that transfers fail",
            source.display()
        ));
    }
    let endpoints = endpoints(system);
    doubts.extend(endpoints.flat_map(|(name, streamer)| {
        of_endpoint(&format!("{key}.data_operation.{name}"), streamer)
    }));
    doubts
}

/// The file is read at each login, so that keys may come later.
fn of_hosts(ssh: &SshConfig, key: &str) -> Vec<String> {
    let Some(file) = &ssh.known_hosts else {
        return Vec::new();
    };
    let jump = ssh.proxy_host.as_deref();
    let jump = jump.map(|host| (host, ssh.proxy_port.unwrap_or(22)));
    let hosts = jump.into_iter().chain([(ssh.host.as_str(), ssh.port)]);
    hosts
        .filter(|(host, port)| matches!(has_known_key(host, *port, file.as_ref()), Ok(false)))
        .map(|(host, port)| {
            format!(
                "{key}.ssh.known_hosts {file} has no key of {host} port {port}, so that nobody can \
                 log in; `ssh-keyscan -p {port} {host}` prints it"
            )
        })
        .collect()
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
