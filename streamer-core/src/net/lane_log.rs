//! What a lane was given, for when it is lost.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::blocks::BlockRun;
use crate::wire::message::EntryRun;

/// The blocks that one lane was given, of entries that are not over: bounded by the window.
#[derive(Debug)]
pub(crate) struct LaneLog(Mutex<Option<BTreeMap<u32, Vec<BlockRun>>>>);

impl LaneLog {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(BTreeMap::new())))
    }

    /// Notes a block before its first byte; `false` once the lane is lost: it is for another.
    pub(crate) fn begin(&self, entry: u32, block: u64) -> bool {
        let mut given = self.lock();
        let Some(given) = &mut *given else {
            return false;
        };
        let runs = given.entry(entry).or_default();
        match runs.last_mut() {
            Some(run) if run.blocks().end == block => run.count += 1,
            _ => runs.push(BlockRun {
                first: block,
                count: 1,
            }),
        }
        true
    }

    /// The entry is over.
    pub(crate) fn forget(&self, entry: u32) {
        if let Some(given) = &mut *self.lock() {
            given.remove(&entry);
        }
    }

    /// The lane is lost: what it was given. Nothing is given to it from now on.
    pub(crate) fn close(&self) -> Vec<EntryRun> {
        let given = self.lock().take().unwrap_or_default();
        let runs = given
            .into_iter()
            .flat_map(|(entry, runs)| runs.into_iter().map(move |run| EntryRun { entry, run }));
        runs.collect()
    }

    /// Whether the lane is lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u32, Vec<BlockRun>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lane_tells_what_it_was_given_and_is_given_nothing_more() {
        let log = LaneLog::new();
        assert!(
            [(1, 0), (1, 1), (2, 0), (1, 7)]
                .iter()
                .all(|(entry, block)| log.begin(*entry, *block))
        );
        log.forget(2);
        let run = |first, count| EntryRun {
            entry: 1,
            run: BlockRun { first, count },
        };
        assert_eq!(log.close(), [run(0, 2), run(7, 1)]);
        assert!(!log.begin(1, 8));
        assert!(log.close().is_empty());
    }
}
