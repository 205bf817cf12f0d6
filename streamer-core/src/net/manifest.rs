//! Reads the manifest of a source on a thread of its own, a little ahead of who wants it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::limits;
use crate::store::StoreError;
use crate::store::filter::Filter;
use crate::store::source::{Pinned, Source};
use crate::store::walk::Walk;
use crate::wire::message::{Entry, SessionId};

/// Entries that come next, and whether they are the last.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Of which they are.
    pub(crate) source: Source,
    pub(crate) entries: Vec<Entry>,
    pub(crate) last: bool,
}

/// The manifest, in batches.
pub(crate) type Manifest = mpsc::Receiver<Result<Batch, StoreError>>;

/// Starts reading what `session` is given of `source`. Dropping the manifest ends it.
pub(crate) fn read(source: Pinned, session: SessionId, filter: Option<Filter>) -> Manifest {
    let (batches, manifest) = mpsc::channel(BATCHES_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_into(&batches, &source, session, filter) {
            let _ = batches.blocking_send(Err(error));
        }
    });
    manifest
}

type Batches = mpsc::Sender<Result<Batch, StoreError>>;

fn read_into(
    batches: &Batches,
    source: &Pinned,
    session: SessionId,
    filter: Option<Filter>,
) -> Result<(), StoreError> {
    let source = source.of(Some(session))?;
    match &source {
        Source::File(file) => {
            let entries = vec![file.entry()];
            let _ = batches.blocking_send(Ok(Batch {
                source,
                entries,
                last: true,
            }));
        }
        Source::Tree(tree) => walk(Walk::new(Arc::clone(tree), filter)?, &source, batches),
    }
    Ok(())
}

fn walk(mut walk: Walk, source: &Source, batches: &Batches) {
    // Between two that a filter wants there may be millions.
    let mut walk = std::iter::from_fn(|| walk.next_unless(|| batches.is_closed())).peekable();
    let mut size = FIRST_BATCH;
    loop {
        let entries: Vec<Entry> = walk.by_ref().take(size).collect();
        let last = walk.peek().is_none();
        let source = source.clone();
        let sent = batches.blocking_send(Ok(Batch {
            source,
            entries,
            last,
        }));
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
