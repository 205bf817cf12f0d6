//! One look at one service.

use std::time::Duration;

use crate::auth::Caller;
use crate::command::{CommandError, ShellLine};
use crate::config::{DataTransfer, SystemConfig};
use crate::error::ApiError;
use crate::executor::RunLimits;
use crate::model::systems::BackendServiceType;
use crate::scheduler::Ping;
use crate::state::System;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    Scheduler,
    Ssh,
    Filesystem(String),
    S3,
}

impl Probe {
    /// The probes that a system is configured to have, in the order of reports, each with
    /// the time it may take.
    pub(super) fn of(config: &SystemConfig) -> Vec<(Self, Duration)> {
        let services = config.probing.as_ref().and_then(|p| p.services.as_ref());
        let Some(services) = services else {
            return Vec::new();
        };
        let seconds = |probe: &crate::config::Probe| Duration::from_secs(probe.timeout);
        let mut probes = Vec::new();
        if let Some(probe) = &services.scheduler {
            probes.push((Self::Scheduler, seconds(probe)));
        }
        if let Some(probe) = &services.ssh {
            probes.push((Self::Ssh, seconds(probe)));
        }
        if let Some(probe) = &services.filesystem {
            let paths = config.file_systems.iter().map(|f| f.path.clone());
            probes.extend(paths.map(|path| (Self::Filesystem(path), seconds(probe))));
        }
        let mut methods = config.data_operation.methods();
        let by_s3 = methods.any(|method| matches!(method, DataTransfer::S3(_)));
        if let (Some(probe), true) = (&services.s3, by_s3) {
            probes.push((Self::S3, seconds(probe)));
        }
        probes
    }

    pub(super) fn kind(&self) -> BackendServiceType {
        match self {
            Self::Scheduler => BackendServiceType::Scheduler,
            Self::Ssh => BackendServiceType::Ssh,
            Self::Filesystem(_) => BackendServiceType::Filesystem,
            Self::S3 => BackendServiceType::S3,
        }
    }

    pub(super) fn into_path(self) -> Option<String> {
        match self {
            Self::Filesystem(path) => Some(path),
            _ => None,
        }
    }

    /// What a healthy service says, or what is wrong.
    pub(super) async fn run(
        &self,
        system: &System,
        caller: &Caller,
        timeout: Duration,
    ) -> Result<Option<String>, String> {
        match self {
            Self::Scheduler => scheduler(system, caller, timeout).await.map(Some),
            Self::Ssh => command(system, caller, &ShellLine::new("true"), timeout).await,
            Self::Filesystem(path) => {
                let line = ShellLine::new("ls").args(["-d", "--", path]);
                command(system, caller, &line, timeout).await
            }
            Self::S3 => match &system.object_store {
                Some(store) => match store.probe(timeout).await {
                    Ok(()) => Ok(None),
                    Err(error) => Err(error.to_string()),
                },
                None => Err("no object store is configured".to_owned()),
            },
        }
    }
}

async fn scheduler(system: &System, caller: &Caller, timeout: Duration) -> Result<String, String> {
    let pings = system.scheduler.ping(caller, timeout).await;
    let pings = pings.map_err(|error| format!("SchedulerError: {error}"))?;
    let text = python_list(&pings);
    let up = |ping: &Ping| ping.pinged.eq_ignore_ascii_case("up");
    if !pings.is_empty() && pings.iter().all(up) {
        Ok(text)
    } else {
        Err(text)
    }
}

/// The pings as the reference shows them, which is as Python prints them.
fn python_list(pings: &[Ping]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let optional =
        |text: &Option<String>| text.as_deref().map_or_else(|| "None".to_owned(), quoted);
    let one = |ping: &Ping| {
        let (mode, host) = (optional(&ping.mode), optional(&ping.hostname));
        let pinged = quoted(&ping.pinged);
        format!("{{'mode': {mode}, 'hostname': {host}, 'pinged': {pinged}}}")
    };
    let list: Vec<String> = pings.iter().map(one).collect();
    format!("[{}]", list.join(", "))
}

async fn command(
    system: &System,
    caller: &Caller,
    line: &ShellLine,
    timeout: Duration,
) -> Result<Option<String>, String> {
    let Some(executor) = &system.executor else {
        return Err("This version of the server does not run commands there.".to_owned());
    };
    let limits = RunLimits {
        timeout,
        output_bytes: 64 * 1024,
    };
    let output = executor.run(caller, line, limits).await;
    let output = output.map_err(|error| error.to_string())?;
    if output.exit_code == Some(0) {
        return Ok(None);
    }
    let error = ApiError::from(CommandError::from_output(&output));
    Err(format!("{}: {}", error.status().as_u16(), error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_shown_as_python_prints_them() {
        let ping = |mode: &str, host: Option<&str>, pinged: &str| Ping {
            mode: Some(mode.into()),
            hostname: host.map(str::to_owned),
            pinged: pinged.into(),
        };
        assert_eq!(
            python_list(&[
                ping("primary", Some("vm"), "UP"),
                ping("backup", None, "DOWN")
            ]),
            "[{'mode': 'primary', 'hostname': 'vm', 'pinged': 'UP'}, \
             {'mode': 'backup', 'hostname': None, 'pinged': 'DOWN'}]"
        );
        assert_eq!(python_list(&[]), "[]");
    }
}
