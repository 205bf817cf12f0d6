//! What a driver remembers of the entries that are open, and counts of those that are over.

use std::collections::HashMap;
use std::sync::Arc;

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::net::Progress;
use crate::net::progress::{EntryReport, Outcome};
use crate::store::StoreError;
use crate::tree_hash::TreeHasher;
use crate::wire::message::{Entry, EntryKind};

/// How many entries are in place, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files, also those that were kept.
    pub files: u64,
    /// Of these, files that were in place before.
    pub kept: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Entries of any kind that failed.
    pub failed: u64,
    /// Files of an earlier run that were not offered any more, and are gone: known to the receiver.
    pub removed: u64,
}

/// Bounded by the session's window, but for the counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    open: HashMap<u32, Open>,
    counts: Counts,
    is_tree: bool,
    tree: TreeHasher,
    file_root: Option<Hash>,
    failures: Vec<StoreError>,
}

#[derive(Debug)]
struct Open {
    entry: Arc<Entry>,
    root: Option<Hash>,
    error: Option<StoreError>,
}

impl Tally {
    /// An entry was offered. Returns it to be shared.
    pub(crate) fn offered(&mut self, number: u32, entry: Entry) -> Arc<Entry> {
        if entry.path.is_root() && entry.kind == EntryKind::Directory {
            self.is_tree = true;
        }
        let entry = Arc::new(entry);
        let open = Open {
            entry: Arc::clone(&entry),
            root: None,
            error: None,
        };
        self.open.insert(number, open);
        entry
    }

    pub(crate) fn is_tree(&self) -> bool {
        self.is_tree
    }

    pub(crate) fn entry(&self, number: u32) -> Option<&Arc<Entry>> {
        self.open.get(&number).map(|open| &open.entry)
    }

    pub(crate) fn rooted(&mut self, number: u32, root: Hash) {
        if let Some(open) = self.open.get_mut(&number) {
            open.root = Some(root);
        }
    }

    /// An entry failed on this side.
    pub(crate) fn failed(&mut self, number: u32, error: StoreError) {
        match self.open.get_mut(&number) {
            Some(open) if self.is_tree => open.error = Some(error),
            Some(_) => self.failures.push(error),
            None => {}
        }
    }

    /// An entry is over.
    pub(crate) fn released(
        &mut self,
        number: u32,
        failure: Option<ErrorCode>,
        progress: &Progress,
    ) {
        let Some(Open { entry, root, error }) = self.open.remove(&number) else {
            return;
        };
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let outcome = match failure {
            Some(code) => Outcome::Failed(code, error.as_ref()),
            None if is_file && root.is_none() => Outcome::Kept,
            None => Outcome::Done,
        };
        if failure.is_some() {
            self.counts.failed += 1;
            self.tree.leave_out(number);
        } else {
            if is_file && root.is_none() && self.is_tree {
                self.counts.kept += 1;
                progress.on_resumed(entry.plan().map_or(0, BlockPlan::size));
            }
            match entry.kind {
                EntryKind::File { .. } => self.counts.files += 1,
                EntryKind::Directory => self.counts.directories += 1,
                EntryKind::Symlink { .. } => self.counts.links += 1,
                EntryKind::Unsent { .. } => {}
            }
            self.tree.put(number, &entry, root);
            self.file_root = root;
        }
        progress.on_entry_done();
        if self.is_tree {
            progress.report(&EntryReport {
                entry: &entry,
                outcome,
            });
        }
    }

    /// So many files of an earlier run were removed.
    pub(crate) fn removed(&mut self, count: u64) {
        self.counts.removed = count;
    }

    /// Root of the file or tree, counts, and failures of a transfer of one file.
    pub(crate) fn finish(self) -> (Option<Hash>, Option<Counts>, Vec<StoreError>) {
        let root = match self.is_tree {
            true => self.tree.finish(),
            false => self.file_root,
        };
        (root, self.is_tree.then_some(self.counts), self.failures)
    }
}
