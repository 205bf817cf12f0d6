//! `ssh_credentials`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;

use super::values;
use crate::Secret;

/// Where keys for SSH come from.
#[derive(Debug, Clone)]
pub enum SshCredentials {
    /// A service that issues key pairs with certificates.
    Service(KeyService),
    /// A certificate authority that signs keys made here.
    CertificateAuthority(KeyService),
    /// Keys in the configuration, by user.
    StaticKeys(BTreeMap<String, StaticKey>),
}

/// `type: SSHService` and `type: SSHCA`.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyService {
    /// Base URL.
    pub url: String,
    /// Connections at once; 0: unlimited.
    #[serde(
        default = "max_connections",
        alias = "maxConnections",
        deserialize_with = "values::integer"
    )]
    pub max_connections: u32,
}

/// A key of `type: SSHStaticKeys`.
#[derive(Debug, Clone, Deserialize)]
pub struct StaticKey {
    /// OpenSSH or PEM text.
    #[serde(alias = "privateKey")]
    pub private_key: Secret,
    /// Certificate of the key.
    #[serde(default, alias = "publicCert")]
    pub public_cert: Option<String>,
    /// Opens the key.
    #[serde(default)]
    pub passphrase: Option<Secret>,
}

#[derive(Deserialize)]
struct StaticKeys {
    keys: BTreeMap<String, StaticKey>,
}

impl<'de> Deserialize<'de> for SshCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.get("type").and_then(Value::as_str) {
            Some("SSHService") => values::alternative(value).map(Self::Service),
            Some("SSHCA") => values::alternative(value).map(Self::CertificateAuthority),
            Some("SSHStaticKeys") => {
                values::alternative::<StaticKeys, _>(value).map(|k| Self::StaticKeys(k.keys))
            }
            Some(other) => Err(de::Error::unknown_variant(
                other,
                &["SSHService", "SSHCA", "SSHStaticKeys"],
            )),
            None => Err(de::Error::missing_field("type")),
        }
    }
}

fn max_connections() -> u32 {
    100
}
