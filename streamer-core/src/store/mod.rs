//! Files: reading a source, writing a target so that only proven bytes get its name.
//!
//! Everything here blocks; `net` calls it on threads of its own.

pub(crate) mod at_a_time;
pub(crate) mod attributes;
pub(crate) mod beneath;
#[cfg(test)]
mod damage;
pub mod filter;
pub mod journal;
pub mod leaving;
pub mod partial;
pub mod place;
pub mod places;
pub mod small;
pub mod source;
mod sparse;
mod syncfs;
pub mod target;
#[cfg(test)]
mod tests;
pub mod tree;
mod tree_journal;
pub mod umask;
pub mod walk;

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::ErrorCode;
use crate::path::Shown;

/// A file or directory that could not be used: what, which, why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} '{}'", Shown(path.as_os_str().as_bytes()))]
pub struct StoreError {
    /// What the peer is told.
    pub code: ErrorCode,
    /// What was tried, as in "cannot ACTION 'PATH'".
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The operating system said so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// We said so.
    #[error("{0}")]
    Code(ErrorCode),
    /// A directory came to be where a tree that is not complete would get its name.
    #[error(
        "it is a tree that is not complete; to continue it, move the directory away that has its \
         name now; --restart throws it away"
    )]
    Unfinished,
}

impl StoreError {
    /// Our own refusal.
    pub(crate) fn refused(code: ErrorCode, action: &'static str, path: &Path) -> Self {
        Self {
            code,
            action,
            path: path.to_owned(),
            reason: Reason::Code(code),
        }
    }

    /// The same error about one more entry.
    pub(crate) fn again(&self) -> Self {
        let reason = match &self.reason {
            Reason::Io(error) => match error.raw_os_error() {
                Some(number) => Reason::Io(io::Error::from_raw_os_error(number)),
                None => Reason::Io(error.kind().into()),
            },
            Reason::Code(code) => Reason::Code(*code),
            Reason::Unfinished => Reason::Unfinished,
        };
        Self {
            code: self.code,
            action: self.action,
            path: self.path.clone(),
            reason,
        }
    }

    /// An error of the operating system about a source.
    pub(crate) fn source(error: impl Into<io::Error>, action: &'static str, path: &Path) -> Self {
        let codes = (ErrorCode::SourceMissing, ErrorCode::SourceChanged);
        Self::io(error.into(), codes, action, path)
    }

    /// An error of the operating system about a target.
    pub(crate) fn target(error: impl Into<io::Error>, action: &'static str, path: &Path) -> Self {
        let codes = (ErrorCode::ParentMissing, ErrorCode::TargetExists);
        Self::io(error.into(), codes, action, path)
    }

    /// With the codes of what is missing, and of a symlink where there must be none.
    fn io(
        error: io::Error,
        (missing, link): (ErrorCode, ErrorCode),
        action: &'static str,
        path: &Path,
    ) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorCode::PermissionDenied
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
            io::ErrorKind::FileTooLarge => ErrorCode::FileTooLarge,
            io::ErrorKind::AlreadyExists => ErrorCode::TargetExists,
            io::ErrorKind::InvalidFilename => ErrorCode::NameRefused,
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => link,
            _ => ErrorCode::FileSystem,
        };
        Self {
            code,
            action,
            path: path.to_owned(),
            reason: Reason::Io(error),
        }
    }
}
