//! Rules that concern more than one value.

use super::{
    Config, ConfigError, ConnectionMode, DataTransfer, SchedulerType, SshConfig, SshCredentials,
    SshTimeouts, SystemConfig,
};
use crate::auth::is_algorithm;
use crate::openapi::API_VERSION;
use crate::scheduler::{parse_api_version, parse_program_version};
use crate::ssh::has_known_key;

impl Config {
    /// Normalises names and paths and checks what one value alone cannot tell.
    pub(super) fn validated(mut self) -> Result<Self, ConfigError> {
        if let Some(version) = &self.app_version
            && version != "2.x.x"
            && version != API_VERSION
        {
            return Err(invalid(
                "app_version",
                format!("must be absent, '2.x.x' or '{API_VERSION}'"),
            ));
        }
        self.apis_root_path
            .truncate(self.apis_root_path.trim_end_matches('/').len());
        // Paths of requests are compared in lower case.
        self.apis_root_path = self.apis_root_path.to_lowercase();
        if !self.apis_root_path.is_empty() && !self.apis_root_path.starts_with('/') {
            return Err(invalid("apis_root_path", "must start with '/'"));
        }
        for url in &self.auth.authentication.public_certs {
            if !["http://", "https://", "file://"]
                .iter()
                .any(|scheme| url.starts_with(scheme))
            {
                let text = format!("'{url}' is not an http, https or file URL");
                return Err(invalid("auth.authentication.public_certs", text));
            }
            if url.strip_prefix("file://").is_some_and(is_descriptor) {
                let key = "auth.authentication.public_certs";
                return Err(invalid(key, format!("'{url}' {READ_ONCE}")));
            }
        }
        if let Some(name) = &self.auth.authentication.jwk_algorithm
            && !is_algorithm(name)
        {
            let text = format!("'{name}' is no algorithm of signatures that is supported");
            return Err(invalid("auth.authentication.jwk_algorithm", text));
        }
        let authentication = &self.auth.authentication;
        if authentication.iss.as_deref() == Some("")
            || authentication.aud.iter().any(String::is_empty)
        {
            let text = "iss and aud must not be empty; leave them out where they are not checked";
            return Err(invalid("auth.authentication", text));
        }
        if let Some(authorization) = &self.auth.authorization {
            not_zero("auth.authorization", &[("timeout", authorization.timeout)])?;
            http_url("auth.authorization.url", &authorization.url)?;
        }
        if let Some(
            SshCredentials::Service(service) | SshCredentials::CertificateAuthority(service),
        ) = &self.ssh_credentials
        {
            http_url("ssh_credentials.url", &service.url)?;
        }
        let mut names = std::collections::HashSet::new();
        for (index, system) in self.clusters.iter_mut().enumerate() {
            system.normalise();
            let key = format!("clusters[{index}]");
            check_system(system, &key)?;
            if !names.insert(system.name.clone()) {
                let text = format!("another system is named '{}' already", system.name);
                return Err(invalid(format!("{key}.name"), text));
            }
        }
        let by_ssh = |system: &SystemConfig| system.scheduler.kind != SchedulerType::Local;
        if self.ssh_credentials.is_none() && self.clusters.iter().any(by_ssh) {
            return Err(invalid(
                "ssh_credentials",
                "missing, and a system is reached by SSH",
            ));
        }
        Ok(self)
    }
}

impl SystemConfig {
    fn normalise(&mut self) {
        self.name = self.name.to_lowercase();
        for file_system in &mut self.file_systems {
            file_system.path = normal_path(&file_system.path);
        }
    }
}

fn check_system(system: &SystemConfig, key: &str) -> Result<(), ConfigError> {
    let missing = |name: &str| Err(invalid(format!("{key}.{name}"), "missing field"));
    if system.name.is_empty() || system.name.contains(['/', '?', '#', '%']) {
        return Err(invalid(format!("{key}.name"), "must be usable in a URL"));
    }
    for (index, file_system) in system.file_systems.iter().enumerate() {
        if !file_system.path.starts_with('/') {
            let key = format!("{key}.file_systems[{index}].path");
            return Err(invalid(key, "must be absolute"));
        }
    }
    check_amounts(system, key)?;
    let mut methods = std::collections::HashSet::new();
    if let Some(method) = system
        .data_operation
        .methods()
        .find(|m| !methods.insert(m.name()))
    {
        let text = format!("{:?} is configured twice", method.name());
        return Err(invalid(
            format!("{key}.data_operation.data_transfers"),
            text,
        ));
    }
    let scheduler = &system.scheduler;
    if scheduler.kind == SchedulerType::Local {
        if scheduler.max_running_jobs == 0 || scheduler.wall_time == 0 {
            let text = "max_running_jobs and wall_time must be at least 1";
            return Err(invalid(format!("{key}.scheduler"), text));
        }
        return Ok(());
    }
    let Some(version) = &scheduler.version else {
        return missing("scheduler.version");
    };
    if parse_program_version(version).is_none() {
        let text = format!("'{version}' is no version such as 24.11.5");
        return Err(invalid(format!("{key}.scheduler.version"), text));
    }
    if system.service_account.is_none() {
        return missing("service_account");
    }
    if system.probing.is_none() {
        return missing("probing");
    }
    let Some(ssh) = &system.ssh else {
        return missing("ssh");
    };
    check_hosts(ssh, key)?;
    if ssh.timeout.idle_timeout <= ssh.timeout.command_execution {
        let key = format!("{key}.ssh.timeout.idle_timeout");
        return Err(invalid(key, "must be greater than command_execution"));
    }
    if scheduler.connection_mode != ConnectionMode::Ssh {
        if scheduler.kind == SchedulerType::Pbs {
            let key = format!("{key}.scheduler.connection_mode");
            return Err(invalid(key, "pbs is spoken to by ssh only"));
        }
        let Some(url) = &scheduler.api_url else {
            return missing("scheduler.api_url");
        };
        http_url(format!("{key}.scheduler.api_url"), url)?;
        let Some(version) = &scheduler.api_version else {
            return missing("scheduler.api_version");
        };
        if parse_api_version(version).is_none_or(|minor| minor < 38) {
            let text = format!("'{version}' is not served; give 0.0.38 or later");
            return Err(invalid(format!("{key}.scheduler.api_version"), text));
        }
    }
    Ok(())
}

/// Refuses what nobody can connect to.
fn check_hosts(ssh: &SshConfig, key: &str) -> Result<(), ConfigError> {
    let hosts = [
        ("host", Some(&ssh.host)),
        ("proxy_host", ssh.proxy_host.as_ref()),
    ];
    for (name, host) in hosts {
        if host.is_some_and(|host| host.trim().is_empty()) {
            let text = "must be the name or the address of a host";
            return Err(invalid(format!("{key}.ssh.{name}"), text));
        }
    }
    for (name, port) in [("port", Some(ssh.port)), ("proxy_port", ssh.proxy_port)] {
        if port == Some(0) {
            return Err(zero(format!("{key}.ssh.{name}")));
        }
    }
    let Some(file) = &ssh.known_hosts else {
        return Ok(());
    };
    if is_descriptor(file) {
        let text = format!("'{file}' {READ_ONCE}");
        return Err(invalid(format!("{key}.ssh.known_hosts"), text));
    }
    has_known_key(&ssh.host, ssh.port, file.as_ref())
        .map(drop)
        .map_err(|error| {
            let text = format!("{file} could not be read, and nobody can log in: {error}");
            invalid(format!("{key}.ssh.known_hosts"), text)
        })
}

fn http_url(key: impl Into<String>, text: &str) -> Result<(), ConfigError> {
    match is_http_url(text) {
        true => Ok(()),
        // It may hold a password.
        false => Err(invalid(key, NO_URL)),
    }
}

pub(super) const NO_URL: &str = "is no http or https URL with a host";

pub(super) fn is_http_url(text: &str) -> bool {
    let Ok(url) = text.parse::<axum::http::Uri>() else {
        return false;
    };
    ["http", "https"].contains(&url.scheme_str().unwrap_or_default())
        && url.host().is_some_and(|host| !host.is_empty())
}

/// Refuses amounts of nothing with which everything would fail. The Python service reads some of
/// them as no limit, which would let one silent host hold requests for ever.
fn check_amounts(system: &SystemConfig, key: &str) -> Result<(), ConfigError> {
    if let Some(ssh) = &system.ssh {
        let SshTimeouts {
            connection,
            login,
            command_execution,
            // Greater than `command_execution`.
            idle_timeout: _,
            // None are sent then.
            keep_alive: _,
        } = ssh.timeout;
        let amounts = [
            ("max_clients", u64::from(ssh.max_clients)),
            ("timeout.connection", connection),
            ("timeout.login", login),
            ("timeout.command_execution", command_execution),
        ];
        not_zero(&format!("{key}.ssh"), &amounts)?;
    }
    if system.scheduler.connection_mode != ConnectionMode::Ssh {
        let amounts = [("timeout", system.scheduler.timeout)];
        not_zero(&format!("{key}.scheduler"), &amounts)?;
    }
    let services = system.probing.as_ref().and_then(|p| p.services.as_ref());
    if let Some(services) = services {
        let probes = [
            ("ssh.timeout", &services.ssh),
            ("scheduler.timeout", &services.scheduler),
            ("filesystem.timeout", &services.filesystem),
            ("s3.timeout", &services.s3),
        ];
        for (name, probe) in probes {
            let timeout = probe.as_ref().map_or(1, |probe| probe.timeout);
            not_zero(&format!("{key}.probing.services"), &[(name, timeout)])?;
        }
    }
    let operation = &system.data_operation;
    if operation.max_ops_file_size == 0 {
        return Err(zero(format!("{key}.data_operation.max_ops_file_size")));
    }
    for method in operation.methods() {
        let amount = match method {
            DataTransfer::Streamer(streamer) => ("wait_timeout", streamer.wait_timeout),
            DataTransfer::S3(s3) => ("ttl", s3.ttl),
            DataTransfer::Wormhole(_) => continue,
        };
        not_zero(&format!("{key}.data_operation.data_transfer"), &[amount])?;
    }
    Ok(())
}

fn not_zero(key: &str, amounts: &[(&str, u64)]) -> Result<(), ConfigError> {
    match amounts.iter().find(|(_, amount)| *amount == 0) {
        Some((name, _)) => Err(zero(format!("{key}.{name}"))),
        None => Ok(()),
    }
}

fn zero(key: String) -> ConfigError {
    invalid(key, "must be at least 1")
}

const READ_ONCE: &str =
    "is a file that was left open for this program; name one that can be read again and again";

/// Whether a file is one that is open already, as `<(…)` is: such are closed when the service begins.
fn is_descriptor(path: &str) -> bool {
    // As Linux reads it, also with two slashes at its front.
    let path = normal_path(&format!("/{}", path.trim_start_matches('/')));
    let of_process = |rest: &str| {
        let mut parts = rest.split('/');
        let _process = parts.next();
        parts.any(|part| part == "fd")
    };
    path.starts_with("/dev/fd/")
        || ["/dev/stdin", "/dev/stdout", "/dev/stderr"].contains(&&*path)
        || path.strip_prefix("/proc/").is_some_and(of_process)
}

/// `.`, `..` and repeated slashes removed, textually; a leading `//` stays (POSIX).
pub(crate) fn normal_path(path: &str) -> String {
    let lead = match path.bytes().take_while(|b| *b == b'/').count() {
        0 => return path.trim_end_matches('/').to_owned(),
        2 => "//",
        _ => "/",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{lead}{}", parts.join("/"))
}

fn invalid(key: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        key: key.into(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::normal_path;

    #[test]
    fn paths_are_normalised_as_text() {
        for (path, expected) in [
            ("/home/", "/home"),
            ("/a/../b/./c", "/b/c"),
            ("//x", "//x"),
            ("///x", "/x"),
            ("/", "/"),
        ] {
            assert_eq!(normal_path(path), expected);
        }
    }
}
