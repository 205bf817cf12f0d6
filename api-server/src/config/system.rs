//! `clusters[]`: the systems.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::transfer::DataTransfer;
use super::values;
use crate::Secret;

/// One system.
#[derive(Debug, Clone, Deserialize)]
pub struct SystemConfig {
    /// Name in URLs; lower-cased when loaded.
    pub name: String,
    /// Login node. May be absent for a local system.
    #[serde(default)]
    pub ssh: Option<SshConfig>,
    /// What runs jobs.
    pub scheduler: SchedulerConfig,
    /// Client for health checks. May be absent for a local system.
    #[serde(default, alias = "serviceAccount")]
    pub service_account: Option<ServiceAccount>,
    /// Health checks. May be absent for a local system.
    #[serde(default)]
    pub probing: Option<Probing>,
    /// Allowed paths.
    #[serde(default, alias = "fileSystems")]
    pub file_systems: Vec<FileSystem>,
    /// Limits and transfers.
    #[serde(default, alias = "dataOperation")]
    pub data_operation: DataOperation,
}

/// `ssh`.
#[derive(Debug, Clone, Deserialize)]
pub struct SshConfig {
    /// Name or address of the login node.
    pub host: String,
    /// Its port.
    #[serde(deserialize_with = "values::integer")]
    pub port: u16,
    /// Jump host.
    #[serde(default, alias = "proxyHost")]
    pub proxy_host: Option<String>,
    /// Its port.
    #[serde(
        default,
        alias = "proxyPort",
        deserialize_with = "values::optional_integer"
    )]
    pub proxy_port: Option<u16>,
    /// Open user connections at once.
    #[serde(
        default = "hundred",
        alias = "maxClients",
        deserialize_with = "values::integer"
    )]
    pub max_clients: u32,
    /// Extension: file of the host keys that are trusted, as `ssh-keyscan` writes it. Absent:
    /// every host key is accepted.
    #[serde(default, alias = "knownHosts")]
    pub known_hosts: Option<String>,
    /// Patience.
    #[serde(default)]
    pub timeout: SshTimeouts,
}

/// `ssh.timeout`, in seconds.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all(serialize = "camelCase"))]
#[schema(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each name says what is waited for")]
pub struct SshTimeouts {
    #[serde(default = "five", deserialize_with = "values::integer")]
    pub connection: u64,
    #[serde(default = "five", deserialize_with = "values::integer")]
    pub login: u64,
    #[serde(
        default = "five",
        alias = "commandExecution",
        deserialize_with = "values::integer"
    )]
    pub command_execution: u64,
    #[serde(
        default = "sixty",
        alias = "idleTimeout",
        deserialize_with = "values::integer"
    )]
    pub idle_timeout: u64,
    #[serde(
        default = "five",
        alias = "keepAlive",
        deserialize_with = "values::integer"
    )]
    pub keep_alive: u64,
}

impl Default for SshTimeouts {
    fn default() -> Self {
        Self {
            connection: 5,
            login: 5,
            command_execution: 5,
            idle_timeout: 60,
            keep_alive: 5,
        }
    }
}

/// `scheduler`.
#[derive(Debug, Clone, Deserialize)]
pub struct SchedulerConfig {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: SchedulerType,
    /// Its version. Required except for `local`.
    #[serde(default)]
    pub version: Option<String>,
    /// How it is spoken to.
    #[serde(default, alias = "connectionMode")]
    pub connection_mode: ConnectionMode,
    /// Base URL of its REST service.
    #[serde(default, alias = "apiUrl")]
    pub api_url: Option<String>,
    /// Version of that service.
    #[serde(default, alias = "apiVersion")]
    pub api_version: Option<String>,
    /// Time allowed for a REST call, in seconds.
    #[serde(default = "ten", deserialize_with = "values::integer")]
    pub timeout: u64,
    /// Extension, `local` only: longest time a job may run, in seconds, and what it gets
    /// unless its script asks for less.
    #[serde(
        default = "day",
        alias = "wallTime",
        deserialize_with = "values::integer"
    )]
    pub wall_time: u64,
    /// Extension, `local` only: jobs running at once; more wait.
    #[serde(
        default = "sixteen",
        alias = "maxRunningJobs",
        deserialize_with = "values::integer"
    )]
    pub max_running_jobs: u32,
    /// Extension, `local` only: ended jobs remembered.
    #[serde(
        default = "thousand",
        alias = "maxHistory",
        deserialize_with = "values::integer"
    )]
    pub max_history: u32,
    /// Extension, `local` only: run everybody's commands and jobs as the service's own user.
    #[serde(
        default,
        alias = "dangerousEverybodyAsService",
        deserialize_with = "values::boolean"
    )]
    pub dangerous_everybody_as_service: bool,
}

/// `scheduler.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerType {
    /// Slurm.
    Slurm,
    /// OpenPBS.
    Pbs,
    /// Extension: child processes on this machine.
    Local,
}

/// `scheduler.connection_mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionMode {
    /// Command line over SSH.
    #[default]
    Ssh,
    /// REST.
    Rest,
    /// REST where it can, command line for the rest.
    Hybrid,
}

/// `service_account`.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceAccount {
    /// OAuth client id.
    #[serde(alias = "clientId")]
    pub client_id: String,
    /// Its secret.
    pub secret: Secret,
}

/// `probing`.
#[derive(Debug, Clone, Deserialize)]
pub struct Probing {
    /// Seconds between health checks.
    #[serde(
        default = "two_minutes",
        alias = "interval",
        deserialize_with = "values::integer"
    )]
    pub interval_check: u64,
    /// What is checked.
    #[serde(default)]
    pub services: Option<ProbingServices>,
}

/// `probing.services`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
pub struct ProbingServices {
    /// Log in.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub ssh: Option<Probe>,
    /// List each file system.
    #[serde(
        default,
        alias = "filesystems",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub filesystem: Option<Probe>,
    /// Ping the scheduler.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub scheduler: Option<Probe>,
    /// List the buckets.
    #[serde(
        default,
        alias = "storage",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub s3: Option<Probe>,
}

impl ProbingServices {
    /// Whether nothing is checked, which also opens all gates.
    pub fn is_empty(&self) -> bool {
        let Self {
            ssh,
            filesystem,
            scheduler,
            s3,
        } = self;
        [ssh, filesystem, scheduler, s3]
            .iter()
            .all(|probe| probe.is_none())
    }
}

/// One probe.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Probe {
    /// Time allowed, in seconds.
    #[serde(default = "ten", deserialize_with = "values::integer")]
    pub timeout: u64,
}

/// A probe that is named must be a map: null is refused.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Probe>, D::Error> {
    Probe::deserialize(deserializer).map(Some)
}

/// `file_systems[]`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all(serialize = "camelCase"))]
#[schema(rename_all = "camelCase")]
pub struct FileSystem {
    /// Directory.
    pub path: String,
    /// What it is for.
    #[serde(alias = "dataType")]
    pub data_type: DataType,
    /// Whether transfer jobs run in `<path>/<user>`.
    #[serde(
        default,
        alias = "defaultWorkDir",
        deserialize_with = "values::boolean"
    )]
    pub default_work_dir: bool,
}

/// `file_systems[].data_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the schema, for display only")]
pub enum DataType {
    Users,
    Store,
    Archive,
    Apps,
    Scratch,
    Project,
}

/// `data_operation`; its members keep their snake case in answers too.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct DataOperation {
    /// Lines at the top of transfer jobs; `{account}` stands for the account of the request.
    #[serde(default)]
    pub datatransfer_jobs_directives: Vec<String>,
    /// Most bytes of a direct upload, download or view, and of a command's output.
    #[serde(default = "five_mebibytes", deserialize_with = "values::integer")]
    pub max_ops_file_size: usize,
    /// How large files travel.
    #[serde(default)]
    pub data_transfer: Option<DataTransfer>,
    /// Extension: further ways; the request chooses one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_transfers: Vec<DataTransfer>,
    /// Extension: the `streamer` program on the system that transfer jobs run.
    #[serde(default, skip_serializing)]
    pub streamer_binary: Option<String>,
    /// Extension: the program on the service's own machine that is installed in the directory
    /// of each user's jobs where `streamer_binary` is absent.
    #[serde(default, skip_serializing)]
    pub streamer_binary_source: Option<PathBuf>,
}

impl DataOperation {
    /// All configured ways, in the order of the configuration.
    pub fn methods(&self) -> impl Iterator<Item = &DataTransfer> {
        self.data_transfer.iter().chain(&self.data_transfers)
    }

    /// The program on the system, where the configuration names one.
    pub fn program(&self) -> Option<&str> {
        let streamer = self.methods().find_map(|method| match method {
            DataTransfer::Streamer(config) => config.streamer_binary.as_deref(),
            _ => None,
        });
        self.streamer_binary.as_deref().or(streamer)
    }
}

impl Default for DataOperation {
    fn default() -> Self {
        Self {
            datatransfer_jobs_directives: Vec::new(),
            max_ops_file_size: five_mebibytes(),
            data_transfer: None,
            data_transfers: Vec::new(),
            streamer_binary: None,
            streamer_binary_source: None,
        }
    }
}

fn five() -> u64 {
    5
}
fn ten() -> u64 {
    10
}
fn sixty() -> u64 {
    60
}
fn two_minutes() -> u64 {
    120
}
fn day() -> u64 {
    86_400
}
fn sixteen() -> u32 {
    16
}
fn hundred() -> u32 {
    100
}
fn thousand() -> u32 {
    1000
}
fn five_mebibytes() -> usize {
    5 * 1024 * 1024
}
