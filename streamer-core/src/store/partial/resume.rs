//! What an earlier run left of a partial: read, hashed, taken up.

use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{HeldRuns, PartialFile};
use crate::error::ErrorCode;
use crate::hash::{Hash, hash_block};
use crate::limits;
use crate::store::StoreError;
use crate::store::journal::{self, Journal};
use crate::store::leaving::Leaving;
use crate::store::places::NEW;

impl PartialFile {
    /// Reads the journal of an earlier run and hashes what it claims; starts a new one where
    /// there is none.
    pub(super) fn take_up(&mut self, leaving: &Leaving) -> Result<HeldRuns, StoreError> {
        let place = &self.places.journal;
        if self.plan.count() <= 1 && self.places.in_tree && place.stat()?.is_none() {
            // Nothing smaller than a block is resumed, and what is there is ours anyway.
            return Ok(Vec::new());
        }
        let length = self.file.metadata().map(|found| found.len());
        let is_empty = length.is_ok_and(|length| length == 0);
        let file = place.open(OFlags::CREATE | OFlags::RDWR | OFlags::APPEND)?;
        let stamp = self.stamp();
        let found = Journal::read(&file, self.plan)
            .map_err(|error| StoreError::target(error, "read", place.shown()))?;
        let held = match found {
            Some(journal) if journal.stamp == stamp => self.rehash(&journal, leaving)?,
            // Of another source, but nothing of it arrived, or a block at most: nothing is lost.
            Some(journal)
                if journal.blocks.is_empty()
                    || is_empty
                    || journal.stamp.size <= limits::BLOCK_MIN_BYTES =>
            {
                Vec::new()
            }
            Some(_) => {
                let part = self.places.part.shown();
                return Err(StoreError::refused(
                    ErrorCode::SourceChanged,
                    "continue",
                    part,
                ));
            }
            None => Vec::new(),
        };
        let failed = |error| StoreError::target(error, "write", place.shown());
        // Written anew, so that torn records do not hide those that follow.
        self.journal = Some(if held.is_empty() {
            place.with_suffix(NEW).remove()?;
            file.set_len(0).map_err(failed)?;
            journal::write_header(&file, stamp).map_err(failed)?;
            file
        } else {
            self.places.replace_journal(stamp, &held)?
        });
        Ok(runs(held.into_iter()))
    }

    /// The blocks of the journal that the partial really holds, in order.
    pub(super) fn rehash(
        &self,
        journal: &Journal,
        leaving: &Leaving,
    ) -> Result<Vec<(u64, Hash)>, StoreError> {
        let mut claimed = vec![None; self.plan.count() as usize];
        journal
            .blocks
            .iter()
            .for_each(|(block, hash)| claimed[*block as usize] = Some(*hash));
        let mut held = Vec::new();
        let mut buffer = vec![0; REHASH_BYTES];
        for (block, hash) in (0..).zip(claimed).filter_map(|(b, hash)| Some((b, hash?))) {
            if leaving.is_set() {
                // Nothing of it was changed: the next session begins anew.
                let (code, part) = (ErrorCode::Interrupted, self.places.part.shown());
                return Err(StoreError::refused(code, "read", part));
            }
            if self.hash_block(block, &mut buffer)? == Some(hash) {
                self.hashes()[block as usize] = Some(hash);
                held.push((block, hash));
            }
        }
        Ok(held)
    }

    /// `None` when the partial does not hold the block.
    fn hash_block(&self, block: u64, buffer: &mut [u8]) -> Result<Option<Hash>, StoreError> {
        let part = self.places.part.shown();
        let read = |bytes: &mut [u8], offset| self.file.read_exact_at(bytes, offset);
        let hashed = hash_block(self.plan, block, buffer, read);
        if let Err(error) = &hashed
            && is_damaged(error)
        {
            tracing::warn!(path = %part.display(), block, %error, "a block is asked for again");
        }
        if_held(hashed).map_err(|error| StoreError::target(error, "read", part))
    }
}

/// `None` of a block that is not there, or that the disk does not give back: what is sent again is
/// written anew.
fn if_held(hashed: io::Result<Hash>) -> io::Result<Option<Hash>> {
    match hashed {
        Ok(hash) => Ok(Some(hash)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) if is_damaged(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_damaged(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

pub(super) fn runs(blocks: impl Iterator<Item = (u64, Hash)>) -> HeldRuns {
    let mut runs: HeldRuns = Vec::new();
    for (block, hash) in blocks {
        match runs.last_mut() {
            Some((first, hashes)) if *first + hashes.len() as u64 == block => hashes.push(hash),
            _ => runs.push((block, vec![hash])),
        }
    }
    runs
}

/// Read at a time while a partial is checked.
const REHASH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_back_is_not_held_and_other_errors_count() {
        let failed = |error: io::Error| if_held(Err(error)).map_err(|error| error.kind());
        assert_eq!(failed(io::ErrorKind::UnexpectedEof.into()), Ok(None));
        assert_eq!(failed(Errno::IO.into()), Ok(None));
        let denied = io::ErrorKind::PermissionDenied;
        assert_eq!(failed(Errno::ACCESS.into()), Err(denied));
    }
}
