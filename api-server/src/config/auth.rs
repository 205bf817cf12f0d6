//! `auth`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::values;

/// `auth`.
#[derive(Debug, Clone, Deserialize)]
pub struct AuthConfig {
    /// How tokens are verified.
    pub authentication: AuthenticationConfig,
    /// Who may use which system; absent: everybody with a token.
    #[serde(default)]
    pub authorization: Option<AuthorizationConfig>,
}

/// `auth.authentication`.
#[derive(Debug, Clone, Deserialize)]
pub struct AuthenticationConfig {
    /// Token endpoint, for the health checks' own token.
    #[serde(alias = "tokenUrl")]
    pub token_url: String,
    /// How the health checks' client shows its secret there.
    #[serde(default, alias = "tokenEndpointAuthMethod")]
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// URLs (`http`, `https`, `file`) of key sets.
    #[serde(default, alias = "publicCerts")]
    pub public_certs: Vec<String>,
    /// Claim with the user name.
    #[serde(default = "username_claim", alias = "usernameClaim")]
    pub username_claim: String,
    /// Algorithm of keys that name none.
    #[serde(default, alias = "jwkAlgorithm")]
    pub jwk_algorithm: Option<String>,
    /// Least remaining life of a token, in seconds.
    #[serde(
        default = "min_token_ttl",
        alias = "minTokenTtl",
        deserialize_with = "values::integer"
    )]
    pub min_token_ttl: u64,
    /// For the OpenAPI description.
    #[serde(default)]
    pub scopes: Option<BTreeMap<String, String>>,
    /// Extension: audiences of which a token must name one. Empty: not checked.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub aud: Vec<String>,
    /// Extension: issuer a token must come from. Absent: not checked.
    #[serde(default)]
    pub iss: Option<String>,
}

/// How an OAuth client authenticates (RFC 6749 § 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// In the `Authorization` header.
    #[default]
    ClientSecretBasic,
    /// In the form.
    ClientSecretPost,
}

/// `auth.authorization`.
#[derive(Debug, Clone, Deserialize)]
pub struct AuthorizationConfig {
    /// Where the question is posted.
    pub url: String,
    /// Time allowed, in seconds.
    #[serde(default = "one", deserialize_with = "values::integer")]
    pub timeout: u64,
    /// Accepted for compatibility: connections are pooled and bounded by requests in flight.
    #[serde(
        default = "default_max_connections",
        alias = "maxConnections",
        deserialize_with = "values::integer"
    )]
    pub max_connections: u32,
}

fn username_claim() -> String {
    "preferred_username".to_owned()
}

fn min_token_ttl() -> u64 {
    30
}

fn one() -> u64 {
    1
}

pub(super) fn default_max_connections() -> u32 {
    100
}
