//! Bodies of `/status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::config::{
    ConnectionMode, DataOperation, FileSystem, ProbingServices, SchedulerType, SshTimeouts,
    SystemConfig,
};

/// `GET /status/systems`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetSystemsResponse {
    /// All systems, in the order of the configuration.
    #[schema(value_type = Vec<System>)]
    pub systems: Vec<Arc<RawValue>>,
}

/// One system.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Name in URLs.
    pub name: String,
    /// Login node; null for a local system.
    pub ssh: Option<Ssh>,
    /// What runs jobs.
    pub scheduler: SchedulerView,
    /// Results of the last health check.
    pub services_health: Option<Vec<ServiceHealth>>,
    /// What is checked.
    pub probing: ProbingView,
    /// When the last health check ended.
    pub last_health_check: Option<String>,
    /// Allowed paths.
    pub file_systems: Vec<FileSystem>,
    /// Limits and transfers.
    pub data_operation: DataOperation,
}

/// `ssh` of a system.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the configuration's own names")]
pub struct Ssh {
    pub host: String,
    pub port: u16,
    pub proxy_host: Option<String>,
    pub proxy_port: Option<u16>,
    pub max_clients: u32,
    pub timeout: SshTimeouts,
}

/// `scheduler` of a system.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the configuration's own names")]
pub struct SchedulerView {
    #[serde(rename = "type")]
    pub kind: SchedulerType,
    pub connection_mode: Option<ConnectionMode>,
    pub version: String,
    pub api_url: Option<String>,
    pub api_version: Option<String>,
    pub timeout: u64,
}

/// `probing` of a system.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the configuration's own names")]
pub struct ProbingView {
    pub services: Option<ProbingServices>,
    pub interval_check: u64,
}

/// One result of a health check.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceHealth {
    /// What was checked.
    pub service_type: BackendServiceType,
    /// When it was checked.
    pub last_checked: Option<String>,
    /// Seconds it took.
    pub latency: Option<f64>,
    /// Whether it works.
    pub healthy: bool,
    /// What it said.
    pub message: Option<String>,
    /// For a file system, which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What a health check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendServiceType {
    /// Answers a ping.
    Scheduler,
    /// Takes logins.
    Ssh,
    /// Can be listed.
    Filesystem,
    /// Lists its buckets.
    S3,
    /// Nothing: the check itself could not be made.
    Exception,
}

impl BackendServiceType {
    /// As the API and the metrics spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Ssh => "ssh",
            Self::Filesystem => "filesystem",
            Self::S3 => "s3",
            Self::Exception => "exception",
        }
    }
}

/// `GET /status/liveness/`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetLiveness {
    /// When each system's last health check ended; absent until one has.
    pub healthcheck_runs: BTreeMap<String, String>,
    /// Seconds since the oldest of them; 0 when there is none.
    pub last_update: u64,
}

impl From<&SystemConfig> for System {
    fn from(config: &SystemConfig) -> Self {
        let scheduler = &config.scheduler;
        let local = scheduler.kind == SchedulerType::Local;
        let version = scheduler.version.clone();
        Self {
            name: config.name.clone(),
            ssh: config.ssh.as_ref().map(|ssh| Ssh {
                host: ssh.host.clone(),
                port: ssh.port,
                proxy_host: ssh.proxy_host.clone(),
                proxy_port: ssh.proxy_port,
                max_clients: ssh.max_clients,
                timeout: ssh.timeout.clone(),
            }),
            scheduler: SchedulerView {
                kind: scheduler.kind,
                connection_mode: (!local).then_some(scheduler.connection_mode),
                version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
                api_url: scheduler.api_url.clone(),
                api_version: scheduler.api_version.clone(),
                timeout: scheduler.timeout,
            },
            services_health: None,
            probing: ProbingView {
                services: config
                    .probing
                    .as_ref()
                    .and_then(|probing| probing.services.clone()),
                interval_check: config
                    .probing
                    .as_ref()
                    .map_or(120, |probing| probing.interval_check),
            },
            last_health_check: None,
            file_systems: config.file_systems.clone(),
            data_operation: DataOperation {
                // What clients know that expect one.
                data_transfer: config.data_operation.methods().next().cloned(),
                ..config.data_operation.clone()
            },
        }
    }
}
