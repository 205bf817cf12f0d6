//! The job's side of a transfer through object storage: one file, one object, by presigned
//! URLs only. Parts travel at the same time, are tried again, and are compared by checksum.
//!
//! Nothing here knows credentials, and no URL is ever printed: each opens the object.

mod client;
mod etag;
mod get;
mod journal;
mod parts;
mod put;
#[cfg(test)]
mod store;

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use serde::Deserialize;
use streamer_core::ErrorCode;
use streamer_core::store::StoreError;
use zeroize::Zeroizing;

pub use get::{GetOptions, get};
pub use put::{PutOptions, put};

/// How an object is fetched.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetPlan {
    /// Tells whether the object is there.
    pub head: PresignedUrl,
    /// Reads ranges of it.
    pub get: PresignedUrl,
    /// Size of the parts that it was made of, in bytes.
    pub part_bytes: u64,
    /// The largest object that room was asked for, in bytes.
    pub most_bytes: u64,
}

/// How an object is made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutPlan {
    /// Takes each part, in order.
    pub parts: Vec<PresignedUrl>,
    /// Makes the object of them.
    pub complete: PresignedUrl,
    /// Throws them away.
    pub abort: PresignedUrl,
    /// Tells whether the object is there.
    pub head: PresignedUrl,
    /// Size of each part but the last, in bytes.
    pub part_bytes: u64,
}

/// A URL that whoever holds it may use: a secret.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct PresignedUrl(Zeroizing<String>);

impl From<String> for PresignedUrl {
    fn from(url: String) -> Self {
        Self(Zeroizing::new(url))
    }
}

impl PresignedUrl {
    fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PresignedUrl(redacted)")
    }
}

/// Bytes of a running transfer, for whoever shows them.
#[derive(Debug, Default)]
pub struct Moved {
    moved_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Moved {
    /// Bytes in place, and bytes there are.
    pub fn snapshot(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.moved_bytes), read(&self.total_bytes))
    }

    fn on_total(&self, bytes: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    fn on_moved(&self, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A part is begun again.
    fn on_taken_back(&self, bytes: u64) {
        self.moved_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why an object was not fetched or made. Never contains a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum S3Error {
    /// The plan does not fit the file or is no plan.
    #[error("the plan of the transfer is not usable: {0}")]
    Plan(&'static str),
    /// The trusted certificates of this machine cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The connection failed or stalled, again and again.
    #[error("the connection to the object store failed: {0}")]
    Connection(String),
    /// The store said no.
    #[error("the object store refused to {action}: {status} {code}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// Its answer.
        status: StatusCode,
        /// The reason in its answer, a word.
        code: String,
    },
    /// Nobody completed the upload.
    #[error("the object was not uploaded within {seconds} s")]
    NobodyCame {
        /// How long was waited.
        seconds: u64,
    },
    /// What arrived is not what was sent.
    #[error("the checksum of {what} does not agree with the object store's")]
    Integrity {
        /// A part, or all of it.
        what: String,
    },
    /// The source or the object is another one by now.
    #[error("the {0} changed while it was being read")]
    Changed(&'static str),
    /// A file of this machine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading the source, or writing what arrived.
    #[error("cannot {action} '{path}'")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another run has the same file.
    #[error("another transfer to '{path}' is under way; wait for it, or cancel its job")]
    Busy {
        /// Which.
        path: String,
    },
    /// A task of this program panicked.
    #[error("an internal error; please report it")]
    Internal,
    /// Asked to leave.
    #[error("{0}")]
    Stopped(ErrorCode),
}

impl S3Error {
    /// Whether trying again may help.
    fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Integrity { .. } => true,
            // Also behind a 200: making an object of many parts is answered before it is over.
            Self::Refused { status, code, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
                    || ["InternalError", "SlowDown", "ServiceUnavailable"].contains(&code.as_str())
            }
            _ => false,
        }
    }

    /// Whether a later run may go on with the parts that were sent. Those that arrive damaged each
    /// time it is tried are of no use to it.
    fn keeps_parts(&self) -> bool {
        self.is_transient() && !matches!(self, Self::Integrity { .. })
    }

    /// Whether the store does not know these parts: somebody made an object of them, or they
    /// were thrown away.
    fn has_no_parts(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NoSuchUpload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_behind_its_200_is_tried_again_where_that_may_help() {
        let refused = |code: &str| S3Error::Refused {
            action: "complete the object",
            status: StatusCode::OK,
            code: code.to_owned(),
        };
        assert!(
            ["InternalError", "SlowDown"]
                .iter()
                .all(|code| refused(code).is_transient())
        );
        assert!(!refused("InvalidPart").is_transient());
        assert!(refused("SlowDown").keeps_parts() && !refused("InvalidPart").keeps_parts());
        let gone = refused("NoSuchUpload");
        assert!(gone.has_no_parts() && !gone.is_transient());
    }

    #[test]
    fn damage_is_tried_again_and_keeps_no_parts() {
        let damaged = S3Error::Integrity {
            what: "part 1".to_owned(),
        };
        assert!(damaged.is_transient() && !damaged.keeps_parts());
    }
}
