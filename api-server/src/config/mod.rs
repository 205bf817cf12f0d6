//! The configuration: FirecREST v2's YAML schema, read unchanged, plus optional extensions.
//!
//! `load` finds and merges the sources, `values` holds the lenient types, the other files
//! hold the schema. A `Config` that exists has passed `validate`; `warnings` has doubts.

mod auth;
mod load;
mod ssh;
mod system;
mod transfer;
mod validate;
mod values;
mod warnings;

use serde::Deserialize;

pub use auth::{AuthConfig, AuthenticationConfig, AuthorizationConfig, TokenEndpointAuthMethod};
pub use load::{ConfigError, Sources};
pub use ssh::{KeyService, SshCredentials, StaticKey};
pub use system::{
    ConnectionMode, DataOperation, DataType, FileSystem, Probe, Probing, ProbingServices,
    SchedulerConfig, SchedulerType, ServiceAccount, SshConfig, SshTimeouts, SystemConfig,
};
pub use transfer::{DataTransfer, Multipart, S3Config, StreamerConfig, WormholeConfig};
pub(crate) use validate::normal_path;
pub(crate) use values::parse_boolean;
pub(crate) use warnings::Keys;

/// Everything the operator decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Accepted for compatibility; answers never carry stack traces.
    #[serde(default, deserialize_with = "values::boolean")]
    pub app_debug: bool,
    /// Accepted for compatibility when it is the reference's placeholder or our own version.
    #[serde(default)]
    pub app_version: Option<String>,
    /// Optional prefix under which all routes answer as well, e.g. `/f7t/v2`.
    #[serde(default)]
    pub apis_root_path: String,
    /// `servers` of the OpenAPI description.
    #[serde(default)]
    pub doc_servers: Option<Vec<DocServer>>,
    /// Who may call.
    pub auth: AuthConfig,
    /// How to reach systems by SSH. Required when a system is reached that way.
    #[serde(default)]
    pub ssh_credentials: Option<SshCredentials>,
    /// The systems.
    #[serde(default)]
    pub clusters: Vec<SystemConfig>,
    /// What is logged.
    #[serde(default)]
    pub logger: LoggerConfig,
    /// The file of each system, where `clusters` names a directory; for messages.
    #[serde(skip)]
    files: Vec<std::path::PathBuf>,
}

/// An entry of `doc_servers`.
#[derive(Debug, Clone, Deserialize)]
pub struct DocServer {
    /// Base URL.
    pub url: String,
    /// Shown beside it.
    #[serde(default)]
    pub description: Option<String>,
}

/// `logger`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LoggerConfig {
    /// Write two records for each request.
    #[serde(
        default,
        alias = "enableTracingLog",
        deserialize_with = "values::boolean"
    )]
    pub enable_tracing_log: bool,
    /// Request headers copied into those records.
    #[serde(default, alias = "loggableRequestHeaders")]
    pub loggable_request_headers: Vec<LoggableHeader>,
}

/// An entry of `logger.loggable_request_headers`.
#[derive(Debug, Clone, Deserialize)]
pub struct LoggableHeader {
    /// Name of the request header.
    pub input: String,
    /// Name of the log field.
    pub output: String,
}

#[cfg(test)]
mod tests;
