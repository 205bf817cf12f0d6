//! Counters of a running transfer, for whoever shows them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ErrorCode;
use crate::store::StoreError;
use crate::wire::message::Entry;

/// Written by the drivers, read by tickers. Never decided upon.
#[derive(Default)]
pub struct Progress {
    total_bytes: AtomicU64,
    moved_bytes: AtomicU64,
    resumed_bytes: AtomicU64,
    entries: AtomicU64,
    entries_done: AtomicU64,
    observer: Option<Observer>,
}

/// Called for each entry of a tree that is over, on the thread of the network: it must not
/// wait for long.
type Observer = Box<dyn Fn(&EntryReport<'_>) + Send + Sync>;

/// How one entry of a tree ended.
#[derive(Debug, Clone, Copy)]
pub struct EntryReport<'a> {
    /// As it was offered.
    pub entry: &'a Entry,
    /// How.
    pub outcome: Outcome<'a>,
}

/// How an entry ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// In place.
    Done,
    /// A file that was in place before.
    Kept,
    /// Why it failed, and what is known here about it.
    Failed(ErrorCode, Option<&'a StoreError>),
}

/// [`Progress`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Bytes of the files offered so far.
    pub total_bytes: u64,
    /// Bytes that crossed the network in this run: sent, or received and proven.
    pub moved_bytes: u64,
    /// Bytes that an earlier run had moved.
    pub resumed_bytes: u64,
    /// Entries offered so far.
    pub entries: u64,
    /// Entries in place.
    pub entries_done: u64,
}

impl Progress {
    /// Counters, and somebody to be told of each entry of a tree. It must not wait for long.
    pub fn observed(observer: impl Fn(&EntryReport<'_>) + Send + Sync + 'static) -> Self {
        Self {
            observer: Some(Box::new(observer)),
            ..Self::default()
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            total_bytes: read(&self.total_bytes),
            moved_bytes: read(&self.moved_bytes),
            resumed_bytes: read(&self.resumed_bytes),
            entries: read(&self.entries),
            entries_done: read(&self.entries_done),
        }
    }

    /// A new session offers everything anew; what was moved stays moved.
    pub(crate) fn on_session(&self) {
        for counter in [
            &self.total_bytes,
            &self.resumed_bytes,
            &self.entries,
            &self.entries_done,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn on_offered(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn on_moved(&self, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn on_resumed(&self, bytes: u64) {
        self.resumed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn on_entry_done(&self) {
        self.entries_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self, report: &EntryReport<'_>) {
        if let Some(observer) = &self.observer {
            observer(report);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.snapshot()).finish()
    }
}
