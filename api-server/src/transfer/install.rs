//! The program that jobs run, put by the service itself where the user's jobs find it.
//!
//! It lies under a name that is a hash of its content: a new version is a new file, and a
//! file that is there is complete, since it gets its name in one step.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::{OnSystem, TransferError};
use crate::command::{self, InstallProgram, UseProgram};
use crate::executor::RunLimits;
use crate::{bounded, limits};

/// Installs one program on one system, for each user when they first need it.
#[derive(Debug)]
pub struct Installer {
    source: PathBuf,
    known: Mutex<Option<(Stamp, String)>>,
    /// By user: of several requests at once, one installs and the others wait for it.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Tells one version of a file from another.
type Stamp = (u64, u64, i64, i64);

/// The program at one moment.
struct Program {
    bytes: Vec<u8>,
    hash: String,
}

impl Installer {
    /// Will install the program at `source` on the service's own machine.
    pub fn new(source: PathBuf) -> Self {
        Self {
            source,
            known: Mutex::default(),
            busy: Mutex::default(),
        }
    }

    /// Makes sure that the program is there. Its path on the system.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub(super) async fn install(
        &self,
        on: OnSystem<'_>,
        directory: &str,
        command_limits: RunLimits,
    ) -> Result<String, TransferError> {
        let hash = self.hash().await?;
        let path = program_path(directory, &hash);
        if self.is_there(on, directory, &path, command_limits).await? {
            return Ok(path);
        }
        let user = on.caller.name().to_string();
        let turn = Arc::clone(lock(&self.busy).entry(user.clone()).or_default());
        let result = async {
            let _turn = turn.lock().await;
            if self.is_there(on, directory, &path, command_limits).await? {
                return Ok(());
            }
            self.write(on, directory, &hash, command_limits).await
        }
        .await;
        // Whoever still waits holds the lock's owner; it is made again for the next one.
        lock(&self.busy).remove(&user);
        result.map(|()| path)
    }

    async fn is_there(
        &self,
        on: OnSystem<'_>,
        directory: &str,
        path: &str,
        limits: RunLimits,
    ) -> Result<bool, TransferError> {
        let command = UseProgram {
            path: path.to_owned(),
            directory: directory.to_owned(),
        };
        Ok(command::run(on.executor, on.caller, limits, &command).await?)
    }

    async fn write(
        &self,
        on: OnSystem<'_>,
        directory: &str,
        hash: &str,
        command_limits: RunLimits,
    ) -> Result<(), TransferError> {
        let program = self.read().await?;
        if short(&program.hash) != hash {
            return Err(self.unreadable(std::io::Error::other("it has just changed; try again")));
        }
        let command = InstallProgram {
            path: program_path(directory, hash),
            directory: directory.to_owned(),
            bytes: program.bytes,
            sha256: program.hash,
        };
        let limits = RunLimits {
            timeout: command_limits.timeout.max(INSTALL_TIMEOUT),
            ..command_limits
        };
        command::run(on.executor, on.caller, limits, &command).await?;
        tracing::info!(system_path = %command.path, "installed the program of transfer jobs");
        Ok(())
    }

    /// Of the program as it is now; computed once for each version.
    async fn hash(&self) -> Result<String, TransferError> {
        let stamp = {
            let source = self.source.clone();
            let stamp = blocking(move || stamp(&source)).await;
            stamp.map_err(|error| self.unreadable(error))?
        };
        if let Some((known, hash)) = &*lock(&self.known)
            && *known == stamp
        {
            return Ok(hash.clone());
        }
        let hash = short(&self.read().await?.hash).to_owned();
        *lock(&self.known) = Some((stamp, hash.clone()));
        Ok(hash)
    }

    async fn read(&self) -> Result<Program, TransferError> {
        let source = self.source.clone();
        let read = blocking(move || {
            let bytes = bounded::read(&source, limits::PROGRAM_MAX_BYTES)?;
            let hash = hex(digest(&SHA256, &bytes).as_ref());
            Ok(Program { bytes, hash })
        });
        read.await.map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, source: std::io::Error) -> TransferError {
        TransferError::NoProgram {
            path: self.source.display().to_string(),
            source,
        }
    }
}

fn program_path(directory: &str, hash: &str) -> String {
    format!("{directory}/streamer-{hash}")
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Enough of the hash to tell versions apart; the whole of it is checked when it is written.
fn short(hash: &str) -> &str {
    &hash[..16]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Values without in-between states: a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program of some ten megabytes, over a slow line.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);
