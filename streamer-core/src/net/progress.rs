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
    moved_before_bytes: AtomicU64,
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
    /// Those of them that had moved before this session began.
    pub moved_before_bytes: u64,
    /// Bytes that were there when this session began: moved by an earlier run, or session.
    pub resumed_bytes: u64,
    /// Entries offered so far.
    pub entries: u64,
    /// Entries in place.
    pub entries_done: u64,
}

impl Snapshot {
    /// Bytes that are there now, as far as known.
    pub fn present_bytes(&self) -> u64 {
        let moved = self.moved_bytes.saturating_sub(self.moved_before_bytes);
        let present = self.resumed_bytes.saturating_add(moved);
        present.min(self.total_bytes)
    }

    /// Bytes that an earlier run had moved.
    pub fn held_bytes(&self) -> u64 {
        self.resumed_bytes.saturating_sub(self.moved_before_bytes)
    }
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
            moved_before_bytes: read(&self.moved_before_bytes),
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
        let moved = self.moved_bytes.load(Ordering::Relaxed);
        self.moved_before_bytes.store(moved, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_finds_of_the_one_before_is_counted_once() {
        let progress = Progress::default();
        progress.on_session();
        progress.on_offered(1, 100);
        progress.on_resumed(20);
        progress.on_moved(50);
        let first = progress.snapshot();
        assert_eq!((first.present_bytes(), first.held_bytes()), (70, 20));
        // Five bytes that were sent got lost with the connection.
        progress.on_session();
        progress.on_offered(1, 100);
        progress.on_resumed(65);
        let second = progress.snapshot();
        assert_eq!((second.present_bytes(), second.held_bytes()), (65, 15));
        progress.on_moved(35);
        let end = progress.snapshot();
        assert_eq!((end.present_bytes(), end.moved_bytes), (100, 85));
    }
}
