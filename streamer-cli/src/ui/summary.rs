//! What was done.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use streamer_core::net::progress::Snapshot;
use streamer_core::net::{Counts, Transferred};
use streamer_core::path::Shown;
use streamer_core::{Operation, Transport};

use crate::ui::json_path::JsonPath;
use crate::units::show_bytes;

/// What was done, for people and for scripts. Fields are added, never changed.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    message_type: &'static str,
    operation: Operation,
    #[serde(flatten)]
    path: JsonPath,
    /// For people.
    #[serde(skip)]
    shown: String,
    files: u64,
    /// Of a tree: directories, links, what failed, and files that were there before.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    tree: Option<TreeSummary>,
    /// Size of all files.
    bytes: u64,
    /// Of these, there when the last connection began: moved by an earlier one, or run.
    bytes_resumed: u64,
    seconds: f64,
    /// Of what this run moved.
    bytes_per_second: f64,
    transport: Transport,
    /// Why it was this one; known to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport_reason: Option<&'static str>,
    connections: u32,
    retries: u32,
    /// BLAKE3 of the file, or of the tree where every file of it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// The target existed and was kept.
    skipped: bool,
    /// The receiver has proven what it has: of a tree every file that was moved, and none failed.
    verified: bool,
}

impl Summary {
    pub(crate) fn new(
        operation: Operation,
        path: &Path,
        transferred: &Transferred,
        moved: Snapshot,
        elapsed: Duration,
    ) -> Self {
        let receipt = transferred.conclusion.receipt;
        let seconds = elapsed.as_secs_f64();
        let skipped = transferred.tree.is_none() && transferred.root.is_none();
        let bytes_moved = match skipped {
            true => 0,
            false => receipt.bytes.saturating_sub(moved.held_bytes()),
        };
        Self {
            message_type: "summary",
            operation,
            path: JsonPath::of(path.as_os_str().as_bytes()),
            shown: Shown(path.as_os_str().as_bytes()).to_string(),
            files: transferred
                .tree
                .map_or_else(|| receipt.entries.into(), |tree| tree.files),
            tree: transferred.tree.map(TreeSummary::from),
            bytes: receipt.bytes,
            bytes_resumed: moved.resumed_bytes,
            seconds,
            bytes_per_second: if seconds > 0.0 {
                bytes_moved as f64 / seconds
            } else {
                0.0
            },
            transport: Transport::Quic,
            transport_reason: None,
            connections: transferred.lanes,
            retries: 0,
            root: transferred.root.map(|root| root.to_string()),
            skipped,
            verified: match transferred.tree {
                Some(tree) => tree.failed == 0,
                None => transferred.root.is_some(),
            },
        }
    }

    /// With how it travelled.
    pub(crate) fn over(self, transport: Transport, retries: u32) -> Self {
        let summary = Self {
            transport,
            retries,
            ..self
        };
        Self {
            verified: summary.verified && summary.confirmed(),
            ..summary
        }
    }

    /// With why it travelled so.
    pub(crate) fn because(self, reason: &'static str) -> Self {
        Self {
            transport_reason: Some(reason),
            ..self
        }
    }

    /// Whether it travelled over a WebSocket.
    pub(crate) fn is_plain(&self) -> bool {
        self.transport == Transport::Ws
    }

    /// Whoever sends a WebSocket hears that it was closed, and nothing else.
    fn confirmed(&self) -> bool {
        !(self.is_plain() && self.operation == Operation::Send)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.skipped {
            return write!(f, "kept {}: it exists", self.shown);
        }
        let done = match self.operation {
            Operation::Send => "sent",
            Operation::Receive => "received",
        };
        writeln!(
            f,
            "{done} {}: {}{} in {:.2} s, {}/s",
            self.shown,
            self.contents(),
            show_bytes(self.bytes),
            self.seconds,
            show_bytes(self.bytes_per_second as u64),
        )?;
        if let Some(removed) = self.tree.as_ref().map(|tree| tree.files_removed)
            && removed > 0
        {
            let what = match removed {
                1 => "1 file that an earlier run received is".to_owned(),
                _ => format!("{removed} files that earlier runs received are"),
            };
            writeln!(
                f,
                "removed: {what} not in the source, or not wanted, any more"
            )?;
        }
        if self.bytes_resumed > 0 {
            writeln!(
                f,
                "resumed: {} were there already",
                show_bytes(self.bytes_resumed)
            )?;
        }
        let plural = if self.connections == 1 { "" } else { "s" };
        writeln!(
            f,
            "{}, {} connection{plural}, {} retries",
            self.transport, self.connections, self.retries
        )?;
        if let Some(reason) = self.transport_reason {
            writeln!(f, "{}: {reason}", self.transport)?;
        }
        match &self.root {
            Some(root) if self.confirmed() => write!(f, "verified: blake3 {root}"),
            Some(root) => write!(
                f,
                "not confirmed, this protocol has no receipt: blake3 {root}"
            ),
            None => write!(f, "verified: every file that was moved"),
        }
    }
}

impl Summary {
    /// What a tree was made of; nothing for a file.
    fn contents(&self) -> String {
        let Some(tree) = &self.tree else {
            return String::new();
        };
        let many = |count: u64, one: &str, many: &str| match count {
            1 => format!("1 {one}, "),
            _ => format!("{count} {many}, "),
        };
        let mut text = many(self.files, "file", "files");
        text += &many(tree.directories, "directory", "directories");
        if tree.links > 0 {
            text += &many(tree.links, "link", "links");
        }
        if tree.files_kept > 0 {
            text += &format!("{} kept as they were, ", tree.files_kept);
        }
        if tree.failed > 0 {
            text += &format!("{} failed, ", tree.failed);
        }
        text
    }
}

#[derive(Debug, Serialize)]
struct TreeSummary {
    directories: u64,
    links: u64,
    failed: u64,
    files_kept: u64,
    files_removed: u64,
}

impl From<Counts> for TreeSummary {
    fn from(counts: Counts) -> Self {
        Self {
            directories: counts.directories,
            links: counts.links,
            failed: counts.failed,
            files_kept: counts.kept,
            files_removed: counts.removed,
        }
    }
}
