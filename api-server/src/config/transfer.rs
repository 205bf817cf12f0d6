//! `data_operation.data_transfer`.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use streamer_core::PortRange;
use utoipa::ToSchema;

use super::values;
use crate::Secret;
use crate::model::transfer::TransferMethodName;

/// How large files travel, by `service_type`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "serviceType", rename_all = "lowercase")]
pub enum DataTransfer {
    /// Object storage.
    S3(S3Config),
    /// magic-wormhole.
    Wormhole(WormholeConfig),
    /// Directly between the user and the job.
    Streamer(StreamerConfig),
}

/// `service_type: s3`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all(serialize = "camelCase"))]
#[schema(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the schema's own names")]
pub struct S3Config {
    pub name: String,
    #[serde(alias = "privateUrl", serialize_with = "masked")]
    #[schema(value_type = String)]
    pub private_url: Secret,
    #[serde(alias = "publicUrl")]
    pub public_url: String,
    #[serde(alias = "accessKeyId", serialize_with = "masked")]
    #[schema(value_type = String)]
    pub access_key_id: Secret,
    #[serde(alias = "secretAccessKey", serialize_with = "masked")]
    #[schema(value_type = String)]
    pub secret_access_key: Secret,
    pub region: String,
    #[serde(deserialize_with = "values::integer")]
    pub ttl: u64,
    #[serde(default)]
    pub tenant: Option<String>,
    #[serde(default)]
    pub multipart: Multipart,
    #[serde(default, alias = "bucketLifecycleConfiguration")]
    pub bucket_lifecycle_configuration: BucketLifecycle,
}

/// `multipart`, snake case everywhere.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the schema's own names")]
pub struct Multipart {
    #[serde(deserialize_with = "values::boolean")]
    pub use_split: bool,
    #[serde(deserialize_with = "values::integer")]
    pub max_part_size: u64,
    #[serde(deserialize_with = "values::integer")]
    pub parallel_runs: u32,
    pub tmp_folder: String,
}

impl Default for Multipart {
    fn default() -> Self {
        let tmp_folder = "tmp".to_owned();
        Self {
            use_split: false,
            max_part_size: 2 << 30,
            parallel_runs: 3,
            tmp_folder,
        }
    }
}

/// `bucket_lifecycle_configuration`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct BucketLifecycle {
    /// Days after which objects are deleted.
    #[serde(default = "ten_days", deserialize_with = "values::integer")]
    pub days: u32,
}

impl Default for BucketLifecycle {
    fn default() -> Self {
        Self { days: ten_days() }
    }
}

/// `service_type: wormhole`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all(serialize = "camelCase"))]
#[schema(rename_all = "camelCase")]
pub struct WormholeConfig {
    /// Package index for the job's environment.
    #[serde(default, alias = "pypiIndexUrl")]
    pub pypi_index_url: Option<String>,
    /// Extension: the `wormhole` program on the node, a Python script. Absent: jobs install it.
    #[serde(default, alias = "wormholeBinary", skip_serializing)]
    pub wormhole_binary: Option<String>,
    /// Extension: URL of the mailbox server. Absent: the public one.
    #[serde(default, alias = "mailboxUrl", skip_serializing_if = "Option::is_none")]
    pub mailbox_url: Option<String>,
    /// Extension: the transit relay, as in `tcp:relay.example.org:4001`. Absent: the public one.
    #[serde(
        default,
        alias = "transitRelay",
        skip_serializing_if = "Option::is_none"
    )]
    pub transit_relay: Option<String>,
}

/// `service_type: streamer`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all(serialize = "camelCase"))]
#[schema(rename_all = "camelCase")]
pub struct StreamerConfig {
    /// Accepted and shown for compatibility: the job needs no package index.
    #[serde(default, alias = "pypiIndexUrl")]
    pub pypi_index_url: Option<String>,
    /// Address the endpoint binds. Absent: the endpoint's own default.
    #[serde(default)]
    pub host: Option<String>,
    /// First and last port the endpoint may use.
    #[serde(
        default = "default_ports",
        alias = "portRange",
        deserialize_with = "ports_in",
        serialize_with = "ports_out"
    )]
    #[schema(value_type = Vec<u16>)]
    pub port_range: PortRange,
    /// Addresses at which users reach the endpoint. Absent: `localhost`.
    #[serde(default, alias = "publicIps")]
    pub public_ips: Option<Vec<String>>,
    /// Seconds the endpoint waits for its client.
    #[serde(
        default = "wait",
        alias = "waitTimeout",
        deserialize_with = "values::integer"
    )]
    pub wait_timeout: u64,
    /// Most bytes accepted in one upload.
    #[serde(
        default = "inbound",
        alias = "inboundTransferLimit",
        deserialize_with = "values::integer"
    )]
    pub inbound_transfer_limit: u64,
    /// Extension: the `streamer` program on the system. Absent: found on the job's `PATH`.
    #[serde(default, alias = "streamerBinary", skip_serializing)]
    pub streamer_binary: Option<String>,
    /// Extension: the endpoint also answers the plaintext protocol of the Python streamer, as
    /// pyfirecrest speaks it. Whoever is on the way can then read and change the file.
    #[serde(
        default,
        alias = "allowWebsocket",
        skip_serializing,
        deserialize_with = "values::boolean"
    )]
    pub allow_websocket: bool,
}

impl DataTransfer {
    /// Its name in requests.
    pub fn name(&self) -> TransferMethodName {
        match self {
            Self::S3(_) => TransferMethodName::S3,
            Self::Wormhole(_) => TransferMethodName::Wormhole,
            Self::Streamer(_) => TransferMethodName::Streamer,
        }
    }
}

impl<'de> Deserialize<'de> for DataTransfer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let tag = value
            .get("service_type")
            .or_else(|| value.get("serviceType"));
        match tag.and_then(Value::as_str) {
            Some("s3") => values::alternative(value).map(Self::S3),
            Some("wormhole") => values::alternative(value).map(Self::Wormhole),
            Some("streamer") => values::alternative(value).map(Self::Streamer),
            Some(other) => Err(de::Error::unknown_variant(
                other,
                &["s3", "wormhole", "streamer"],
            )),
            None => Err(de::Error::missing_field("service_type")),
        }
    }
}

fn masked<S: Serializer>(_: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("**********")
}

fn ports_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortRange, D::Error> {
    #[derive(Deserialize)]
    struct Port(#[serde(deserialize_with = "values::integer")] u16);
    let [Port(first), Port(last)] = <[Port; 2]>::deserialize(deserializer)?;
    PortRange::new(first, last)
        .ok_or_else(|| de::Error::custom("port_range must be [first, last], 1 <= first <= last"))
}

fn ports_out<S: Serializer>(range: &PortRange, serializer: S) -> Result<S::Ok, S::Error> {
    [range.first(), range.last()].serialize(serializer)
}

fn default_ports() -> PortRange {
    // Local invariant: 1 <= 5665 <= 5675.
    PortRange::new(5665, 5675).expect("a constant range")
}
fn ten_days() -> u32 {
    10
}
fn wait() -> u64 {
    86_400
}
fn inbound() -> u64 {
    5 << 30
}
