//! Whether a login node is the one that is known.

use std::path::{Path, PathBuf};

use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::error::{HostKeyError, SshError};
use crate::{bounded, limits};

/// One host, and the file that knows its keys.
#[derive(Debug, Clone)]
pub(super) struct HostKeys {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None`: every key is accepted.
    pub(super) known_hosts: Option<PathBuf>,
}

impl HostKeys {
    /// `host:port`, for people.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Accepts a key, or says why not.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), HostKeyError> {
        let Some(path) = &self.known_hosts else {
            return Ok(());
        };
        let file = || path.display().to_string();
        let host = || format!("{}:{}", self.host, self.port);
        let text = read(path)?;
        if revoked(&text).any(|revoked| revoked == *key) {
            return Err(HostKeyError::Revoked {
                host: host(),
                file: file(),
            });
        }
        let known = known_host_keys_path(&self.host, self.port, path).map_err(|error| {
            HostKeyError::File {
                file: file(),
                source: Box::new(error),
            }
        })?;
        // One name may be that of several machines, or of one whose key is being replaced.
        if known.iter().any(|(_, it)| it.key_data() == key.key_data()) {
            return Ok(());
        }
        let (host, file) = (host(), file());
        match known
            .iter()
            .any(|(_, it)| it.algorithm() == key.algorithm())
        {
            true => Err(HostKeyError::Changed { host, file }),
            false => Err(HostKeyError::Unknown { host, file }),
        }
    }

    /// Which kinds of key to ask the host for: those that are known, else any.
    pub(super) fn algorithms(&self) -> Option<Vec<Algorithm>> {
        let path = self.known_hosts.as_ref()?;
        // What looks for the host's keys reads to the end, wherever that is.
        read(path).ok()?;
        let keys = known_host_keys_path(&self.host, self.port, path).ok()?;
        let mut algorithms = Vec::new();
        for (_, key) in keys {
            match key.algorithm() {
                Algorithm::Rsa { .. } => algorithms.extend(
                    [HashAlg::Sha512, HashAlg::Sha256]
                        .map(|hash| Algorithm::Rsa { hash: Some(hash) }),
                ),
                other => algorithms.push(other),
            }
        }
        algorithms.dedup();
        (!algorithms.is_empty()).then_some(algorithms)
    }
}

fn read(path: &Path) -> Result<String, HostKeyError> {
    let text = bounded::read_text(path, limits::KNOWN_HOSTS_MAX_BYTES);
    text.map_err(|source| HostKeyError::File {
        file: path.display().to_string(),
        source: Box::new(source),
    })
}

/// Keys of `@revoked` lines, whichever host they name: a revoked key is good for none.
fn revoked(text: &str) -> impl Iterator<Item = PublicKey> + '_ {
    text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("@revoked")?;
        let (_, key) = rest.trim_start().split_once(char::is_whitespace)?;
        PublicKey::from_openssh(key.trim()).ok()
    })
}

impl russh::client::Handler for HostKeys {
    type Error = SshError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        // Certificates are not asked for, so none is presented.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(false);
        };
        self.check(key).map_err(SshError::HostKey)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn checked(lines: &str, key: &str) -> Result<(), HostKeyError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        let keys = HostKeys {
            host: "login".into(),
            port: 2222,
            known_hosts: Some(file.path().into()),
        };
        keys.check(&PublicKey::from_openssh(key).unwrap())
    }

    #[test]
    fn only_the_known_key_of_this_host_and_port() {
        assert!(checked(&format!("[login]:2222 {ONE}\n"), ONE).is_ok());
        let changed = checked(&format!("# c\n[login]:2222 {ONE}\n"), TWO);
        assert!(matches!(changed, Err(HostKeyError::Changed { .. })));
        // Several machines of one name.
        let both = format!("[login]:2222 {TWO}\n[login]:2222 {ONE}\n");
        assert!(checked(&both, ONE).is_ok() && checked(&both, TWO).is_ok());
        for lines in [
            "",
            &format!("login {ONE}\n"),
            &format!("[other]:2222 {ONE}\n"),
        ] {
            let unknown = checked(lines, ONE);
            assert!(
                matches!(unknown, Err(HostKeyError::Unknown { .. })),
                "{lines}"
            );
        }
        let revoked = checked(&format!("[login]:2222 {ONE}\n@revoked * {ONE}\n"), ONE);
        assert!(matches!(revoked, Err(HostKeyError::Revoked { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_read_trusts_nobody() {
        let mut keys = HostKeys {
            host: "login".into(),
            port: 22,
            known_hosts: Some("/nonexistent/known_hosts".into()),
        };
        let key = PublicKey::from_openssh(ONE).unwrap();
        assert!(matches!(keys.check(&key), Err(HostKeyError::File { .. })));
        // It has no end.
        keys.known_hosts = Some("/dev/zero".into());
        assert_eq!(keys.algorithms(), None);
        assert!(matches!(keys.check(&key), Err(HostKeyError::File { .. })));
        keys.known_hosts = None;
        assert!(keys.check(&key).is_ok());
    }
}
