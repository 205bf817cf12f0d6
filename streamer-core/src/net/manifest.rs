//! Reads the manifest of a source on a thread of its own, a little ahead of who wants it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::limits;
use crate::store::StoreError;
use crate::store::filter::Filter;
use crate::store::source::Source;
use crate::store::walk::{SourceTree, Walk};
use crate::wire::message::Entry;

/// Entries that come next, and whether they are the last.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) last: bool,
}

/// The manifest, in batches.
pub(crate) type Manifest = mpsc::Receiver<Result<Batch, StoreError>>;

/// Starts reading. Dropping the manifest ends it.
pub(crate) fn read(source: &Source, filter: Option<Filter>) -> Manifest {
    let (batches, manifest) = mpsc::channel(BATCHES_AHEAD);
    match source {
        Source::File(file) => {
            let entries = vec![file.entry()];
            // Local invariant: the channel is new and has room.
            let _ = batches.try_send(Ok(Batch {
                entries,
                last: true,
            }));
        }
        Source::Tree(tree) => {
            let tree = Arc::clone(tree);
            tokio::task::spawn_blocking(move || walk(tree, filter, &batches));
        }
    }
    manifest
}

fn walk(
    tree: Arc<SourceTree>,
    filter: Option<Filter>,
    batches: &mpsc::Sender<Result<Batch, StoreError>>,
) {
    let mut walk = match Walk::new(tree, filter) {
        Ok(walk) => walk,
        Err(error) => {
            let _ = batches.blocking_send(Err(error));
            return;
        }
    };
    // Between two that a filter wants there may be millions.
    let mut walk = std::iter::from_fn(|| walk.next_unless(|| batches.is_closed())).peekable();
    let mut size = FIRST_BATCH;
    loop {
        let entries: Vec<Entry> = walk.by_ref().take(size).collect();
        let last = walk.peek().is_none();
        let sent = batches.blocking_send(Ok(Batch { entries, last }));
        if last || sent.is_err() {
            return;
        }
        size = (size * 2).min(limits::BATCH_MAX_ENTRIES);
    }
}

/// Small, so that the first byte does not wait for much of a walk; each one after is twice
/// as large.
const FIRST_BATCH: usize = 16;

/// Batches read ahead.
const BATCHES_AHEAD: usize = 2;
