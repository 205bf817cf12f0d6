//! Keys to log in with: configured, or issued for each login.

mod issued;

use std::collections::BTreeMap;
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey, decode_secret_key};

use super::error::SshError;
use crate::auth::Caller;
use crate::config::{Keys, SshCredentials, StaticKey};
use crate::http_client::HttpClient;
use issued::{CertificateAuthority, KeyService};

/// A key, and its certificate where it has one.
pub(super) struct LoginKeys {
    pub(super) key: Arc<PrivateKey>,
    pub(super) certificate: Option<Certificate>,
}

impl std::fmt::Debug for LoginKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginKeys(redacted)")
    }
}

/// Where keys come from.
#[derive(Debug)]
pub struct Credentials(Source);

#[derive(Debug)]
enum Source {
    Configured(BTreeMap<String, StaticKey>),
    Service(KeyService),
    Authority(CertificateAuthority),
}

impl Credentials {
    /// As configured.
    pub fn new(config: &SshCredentials, http: Arc<HttpClient>) -> Self {
        Self(match config {
            SshCredentials::StaticKeys(keys) => Source::Configured(keys.clone()),
            SshCredentials::Service(service) => Source::Service(KeyService::new(service, http)),
            SshCredentials::CertificateAuthority(service) => {
                Source::Authority(CertificateAuthority::new(service, http))
            }
        })
    }

    /// What `caller` logs in with. Cancel-safe.
    pub(super) async fn of(&self, caller: &Caller) -> Result<LoginKeys, SshError> {
        match &self.0 {
            Source::Configured(keys) => configured(keys, caller).await,
            Source::Service(service) => service.issue(caller).await,
            Source::Authority(authority) => authority.issue(caller).await,
        }
    }
}

async fn configured(
    keys: &BTreeMap<String, StaticKey>,
    caller: &Caller,
) -> Result<LoginKeys, SshError> {
    let user = caller.name().as_str();
    let key = keys.get(user).ok_or_else(|| SshError::NoCredentials {
        user: user.to_owned(),
    })?;
    let key = key.clone();
    // A passphrase is stretched on purpose: a good part of a second of computing.
    let read = move || {
        let passphrase = key.passphrase.as_ref().map(crate::Secret::expose);
        read(
            key.private_key.expose(),
            passphrase,
            key.public_cert.as_deref(),
        )
    };
    let keys = tokio::task::spawn_blocking(read).await;
    keys.map_err(|error| bad(user, error))?
        .map_err(|error| bad(user, error))
}

/// Reads a key in any usual format, and its certificate.
fn read(
    key: &str,
    passphrase: Option<&str>,
    certificate: Option<&str>,
) -> Result<LoginKeys, russh::keys::Error> {
    // The line break at the end is part of the format, and trimmed from files.
    let text = zeroize::Zeroizing::new(format!("{}\n", key.trim_end()));
    let certificate = certificate.map(|text| Certificate::from_openssh(text.trim()));
    let certificate = certificate.transpose()?;
    Ok(LoginKeys {
        key: Arc::new(decode_secret_key(&text, passphrase)?),
        certificate,
    })
}

/// Why a configured key opens nothing, if that can be told here.
pub(crate) fn problem_of_key(key: &StaticKey, how: Keys) -> Option<String> {
    let (text, certificate) = (key.private_key.expose(), key.public_cert.as_deref());
    let passphrase = key.passphrase.as_ref().map(crate::Secret::expose);
    let opened = match how {
        Keys::WithPassphrases => read(text, passphrase, certificate),
        Keys::Quickly => match read(text, None, certificate) {
            Err(russh::keys::Error::KeyIsEncrypted) if passphrase.is_some() => return None,
            opened => opened,
        },
    };
    Some(match opened.err()? {
        russh::keys::Error::KeyIsEncrypted => {
            "it is encrypted, and passphrase is absent".to_owned()
        }
        error => error.to_string(),
    })
}

fn bad(user: &str, source: impl std::error::Error + Send + Sync + 'static) -> SshError {
    SshError::BadCredentials {
        user: user.to_owned(),
        source: Box::new(source),
    }
}
