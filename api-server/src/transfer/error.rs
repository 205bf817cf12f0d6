//! Why there is no transfer.

use super::script::DirectiveError;
use crate::command::{CommandError, Counted, PathError, Quota};
use crate::scheduler::SchedulerError;
use crate::storage::{ObjectTooLarge, StorageError};

/// Why there is no transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Another method is configured for the system.
    #[error("Requested transfer method is not available.")]
    MethodNotAvailable,
    /// An upload never replaces a file.
    #[error("Target file '{path}' already exists.")]
    TargetExists {
        /// Which.
        path: String,
    },
    /// The file would not fit.
    #[error("A file of {size} bytes does not fit: the file system has room for {free} bytes.")]
    NoRoom {
        /// How large it is.
        size: u64,
        /// How much room there is.
        free: u64,
    },
    /// The file would not fit under a quota, or no file would.
    #[error("{} does not fit: {}", file_of(*size), said(quota))]
    OverQuota {
        /// How large it is, where that is known.
        size: Option<u64>,
        /// Which quota.
        quota: Quota,
    },
    /// The file is larger than an endpoint here takes.
    #[error(
        "A file of {size} bytes is over the limit (inboundTransferLimit) of {limit} bytes for one \
         upload by streamer."
    )]
    OverInboundLimit {
        /// How large it is.
        size: u64,
        /// What is configured.
        limit: u64,
    },
    /// An upload to an object store says how large the file is.
    #[error("The size of the file (fileSize) is required for transfers by s3.")]
    NoFileSize,
    /// A wormhole upload says the code that its sender was given.
    #[error("The wormhole code is missing or is none: a number, then words, joined by hyphens.")]
    BadWormholeCode,
    /// An object is one file.
    #[error("'{path}' is not a regular file.")]
    NotAFile {
        /// What was asked for.
        path: String,
    },
    /// An object cannot be so large.
    #[error(transparent)]
    ObjectTooLarge(#[from] ObjectTooLarge),
    /// A job would not read its plan.
    #[error(
        "The URLs for this file have {bytes} bytes together, over the limit of {limit}: give it a \
         shorter name."
    )]
    PlanTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The object store did not do as asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file is to be made in what is none.
    #[error("'{path}' is not a directory.")]
    NotADirectory {
        /// What is there.
        path: String,
    },
    /// The directory of transfer jobs is missing or not writable.
    #[error("Transfer jobs of user {user} cannot run: {source}")]
    WorkDirectory {
        /// Whose.
        user: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The configured batch directives need an account.
    #[error("Account parameter is required on this system.")]
    AccountRequired,
    /// The account would break out of its line in the job script.
    #[error("The account contains characters that are not allowed.")]
    BadAccount,
    /// The path is none.
    #[error("The provided path is not valid: {source}.")]
    BadPath {
        /// Why.
        #[from]
        source: PathError,
    },
    /// The configuration names no place for transfer jobs.
    #[error("The system {system} has no filesystem defined as default_work_dir")]
    NoWorkDirectory {
        /// Which system.
        system: String,
    },
    /// The program that jobs run cannot be read on the service's own machine.
    #[error("The program of transfer jobs, '{path}', cannot be read: {source}.")]
    NoProgram {
        /// Where it should be.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operating system's generator failed.
    #[error("no secret could be made")]
    NoRandomness,
    /// The check on the system failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The job was not taken.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

impl From<DirectiveError> for TransferError {
    fn from(error: DirectiveError) -> Self {
        match error {
            DirectiveError::AccountRequired => Self::AccountRequired,
            DirectiveError::BadAccount => Self::BadAccount,
        }
    }
}

fn file_of(size: Option<u64>) -> String {
    match size {
        Some(size) => format!("A file of {size} bytes"),
        None => "The file".to_owned(),
    }
}

fn said(quota: &Quota) -> String {
    let Quota {
        owner,
        mount,
        used,
        limit,
        counted,
    } = quota;
    let unit = match counted {
        Counted::Bytes => "bytes",
        Counted::Files => "files",
    };
    format!(
        "{owner} has {used} of the {limit} {unit} that the quota on '{mount}' allows. Remove \
         files there, or ask for a larger quota."
    )
}
