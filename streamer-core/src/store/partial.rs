//! A file that is being received: `NAME.part` and its journal, until it is `NAME`.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Advice, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash, root_of};
use crate::limits;
use crate::store::StoreError;
use crate::store::attributes::Attributes;
use crate::store::journal::{self, Journal, SourceStamp};
use crate::store::place::{Place, is_same_inode};
use crate::store::places::{NEW, Places};
use crate::store::sparse;
use crate::wire::message::Entry;

/// Blocks that a partial holds: runs of hashes, each with its first block.
pub type HeldRuns = Vec<(u64, Vec<Hash>)>;

/// Tells whoever hashes a partial, which may take hours, that its session is over.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the bytes of one file go. Only [`finish`](Self::finish) gives it its name.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    journal: Option<File>,
    places: Places,
    plan: BlockPlan,
    offered: Entry,
    replace: bool,
    hashes: Mutex<Vec<Option<Hash>>>,
    /// From the comparison of the root on: nothing is written any more.
    finished: AtomicBool,
    /// It has its name; the journal stays until the receipt was heard.
    named: AtomicBool,
}

impl PartialFile {
    /// Opens the partial of `target`, or makes it. Returns the blocks that it proves to hold.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] when it is a partial of another source, and the usual
    /// file errors. With `restart` what was there is thrown away.
    pub(crate) fn open(
        target: &Place,
        offered: &Entry,
        replace: bool,
        restart: bool,
        leaving: &Leaving,
    ) -> Result<(Self, HeldRuns), StoreError> {
        let places = Places::beside(target);
        Self::open_as(places, offered, replace, restart, leaving)
    }

    /// The same, with the partial elsewhere in the same file system.
    pub(crate) fn open_as(
        places: Places,
        offered: &Entry,
        replace: bool,
        restart: bool,
        leaving: &Leaving,
    ) -> Result<(Self, HeldRuns), StoreError> {
        let plan = offered.plan().ok_or_else(|| {
            let (code, shown) = (ErrorCode::UnsupportedType, places.target.shown());
            StoreError::refused(code, "create", shown)
        })?;
        places.let_go_of_named()?;
        places.check_journal()?;
        let file = places.open_part()?;
        if restart {
            // Not before it is known to be ours and nobody writes to it. Without a journal it must be
            // as one that was just made.
            // Best effort: some file systems know no modes.
            let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
            let emptied = file.set_len(0);
            emptied.map_err(|error| StoreError::target(error, "write", places.part.shown()))?;
            places.journal.remove()?;
        }
        let hashes = Mutex::new(vec![None; plan.count() as usize]);
        let mut partial = Self {
            file,
            journal: None,
            places,
            plan,
            offered: offered.clone(),
            replace,
            hashes,
            finished: AtomicBool::new(false),
            named: AtomicBool::new(false),
        };
        let held = partial.take_up(leaving)?;
        partial.make_room(held.iter().map(|(_, hashes)| hashes.len() as u64).sum())?;
        Ok((partial, held))
    }

    /// The file of an earlier run that got its name and whose receipt nobody is known to have
    /// heard, if it is what is offered now: read and hashed anew. `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorCode::TargetBusy`] while that run still lives, and the usual file errors.
    pub(crate) fn find_named(
        target: &Place,
        offered: &Entry,
        leaving: &Leaving,
    ) -> Result<Option<Self>, StoreError> {
        let places = Places::beside(target);
        places.let_go_of_named()?;
        let (Some(plan), Some(journal)) = (offered.plan(), places.unconfirmed()?) else {
            return Ok(None);
        };
        if journal.stamp.size != plan.size() || journal.stamp.modified != offered.modified {
            return Ok(None);
        }
        let file = target.open(OFlags::RDONLY)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            == Err(Errno::WOULDBLOCK)
        {
            let (code, shown) = (ErrorCode::TargetBusy, target.shown());
            return Err(StoreError::refused(code, "look at", shown));
        }
        let partial = Self {
            file,
            journal: None,
            places,
            plan,
            offered: offered.clone(),
            replace: false,
            hashes: Mutex::new(vec![None; plan.count() as usize]),
            finished: AtomicBool::new(true),
            named: AtomicBool::new(true),
        };
        // Whoever changed it since then owns what it is now.
        let is_whole = partial.rehash(&journal, leaving)?.len() as u64 == plan.count();
        Ok(is_whole.then_some(partial))
    }

    /// Sees to it that nothing of a file is left where a tree goes, which is thrown away with
    /// `restart`.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] where a partial is to be kept, [`ErrorCode::NameTaken`] where
    /// something else has the name, and the usual file errors.
    pub(crate) fn make_way(target: &Place, restart: bool) -> Result<(), StoreError> {
        let places = Places::beside(target);
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_left = match places.journal.stat()? {
            Some(stat) => is_file(stat),
            // As a run leaves it that was killed before it made the journal.
            None => places.part.stat()?.is_some_and(|part| {
                is_file(part) && part.st_mode & 0o7777 == 0o600 && part.st_size == 0
            }),
        };
        if !is_left {
            return Ok(());
        }
        places.check_journal()?;
        if !restart {
            let (code, shown) = (ErrorCode::SourceChanged, places.part.shown());
            return Err(StoreError::refused(code, "continue", shown));
        }
        if places.part.stat()?.is_some_and(is_file) {
            places.lock_part(&places.open_writable()?)?;
            places.part.remove()?;
        }
        places.journal.remove()
    }

    /// Whether nothing is at `target`, and nothing that an earlier run left for it.
    pub(crate) fn is_vacant(target: &Place) -> bool {
        let places = Places::beside(target);
        [&places.target, &places.part, &places.journal]
            .iter()
            .all(|place| place.stat().is_ok_and(|stat| stat.is_none()))
    }

    /// Whether `target` is a file of an earlier run whose receipt may not have been heard.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn awaits_receipt(target: &Place) -> Result<bool, StoreError> {
        let places = Places::beside(target);
        Ok(places.unconfirmed()?.is_some())
    }

    /// As what it was offered.
    pub(crate) fn offered(&self) -> &Entry {
        &self.offered
    }

    /// How it is cut.
    pub fn plan(&self) -> BlockPlan {
        self.plan
    }

    /// The blocks that are proven.
    pub(crate) fn held(&self) -> HeldRuns {
        let hashes = self.hashes();
        let proven = (0..).zip(hashes.iter());
        runs(proven.filter_map(|(block, hash)| Some((block, (*hash)?))))
    }

    /// Whether a block is still to come: not proven, and the file not finished.
    pub fn wants(&self, block: u64) -> bool {
        let missing = self
            .hashes()
            .get(block as usize)
            .is_some_and(Option::is_none);
        missing && !self.finished.load(Ordering::Acquire)
    }

    /// Writes bytes at their place.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        self.check_open()?;
        let written = match self.offered.has_holes {
            true => sparse::write_all_at(&self.file, bytes, offset),
            false => self.file.write_all_at(bytes, offset),
        };
        written.map_err(|error| StoreError::target(error, "write", self.places.part.shown()))
    }

    /// Makes zeros of a range, as a hole where there are such.
    ///
    /// # Errors
    /// As [`write_all_at`](Self::write_all_at).
    pub(crate) fn clear(&self, range: std::ops::Range<u64>) -> Result<(), StoreError> {
        self.check_open()?;
        sparse::clear(&self.file, range)
            .map_err(|error| StoreError::target(error, "write", self.places.part.shown()))
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if !self.finished.load(Ordering::Acquire) {
            return Ok(());
        }
        let (code, part) = (ErrorCode::ProtocolViolation, self.places.part.shown());
        Err(StoreError::refused(code, "write", part))
    }

    /// Remembers that a block is written and has this hash.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn prove(&self, block: u64, hash: Hash) -> Result<(), StoreError> {
        if let Some(journal) = &self.journal {
            journal::append(journal, block, hash)
                .map_err(|error| StoreError::target(error, "write", self.places.journal.shown()))?;
        }
        if let Some(slot) = self.hashes().get_mut(block as usize) {
            *slot = Some(hash);
        }
        Ok(())
    }

    /// Compares the root, makes the file durable and gives it its name, unless it has it from
    /// an earlier run. The journal stays until `settle`, so that whoever missed
    /// the receipt can ask once more.
    ///
    /// # Errors
    /// [`ErrorCode::HashMismatch`] when the root differs; [`ErrorCode::TargetExists`] when
    /// somebody took the name meanwhile; the partial stays in both cases.
    pub fn finish(&self, root: Hash) -> Result<(), StoreError> {
        self.accept(root)?;
        self.sync()?;
        if self.named.load(Ordering::Acquire) {
            return Ok(());
        }
        self.note_whole(root)
            .map_err(|error| StoreError::target(error, "write", self.places.journal.shown()))?;
        self.check_ours()?;
        let Places { target, part, .. } = &self.places;
        part.rename_to(target, self.replace)?;
        self.named.store(true, Ordering::Release);
        target.sync_directory()
    }

    /// Nobody will ask for the receipt again.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.places.journal.remove()
    }

    /// Makes durable that the file is whole, before it gets its name.
    fn note_whole(&self, root: Hash) -> Result<(), std::io::Error> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        journal::append_whole(journal, root)?;
        journal.sync_data()
    }

    fn stamp(&self) -> SourceStamp {
        SourceStamp {
            size: self.plan.size(),
            modified: self.offered.modified,
        }
    }

    /// Compares the root, and gives the file its mode and time. Nothing is written any more.
    pub(crate) fn accept(&self, root: Hash) -> Result<(), StoreError> {
        let target = self.places.target.shown();
        self.finished.store(true, Ordering::Release);
        let hashes: Option<Vec<Hash>> = self.hashes().iter().copied().collect();
        if hashes.map(|hashes| root_of(&hashes)) != Some(root) {
            return Err(StoreError::refused(
                ErrorCode::HashMismatch,
                "accept",
                target,
            ));
        }
        Attributes::of(&self.offered)
            .apply(&self.file, || target.to_owned())
            .map_err(|error| StoreError::target(error, "finish", self.places.part.shown()))
    }

    /// Makes the file durable, but not its name.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.sync_all();
        synced.map_err(|error| self.on_unsynced(error, "finish"))
    }

    /// Gives an accepted and synced file its name, which its caller makes durable.
    pub(crate) fn give_name(&self) -> Result<(), StoreError> {
        let Places {
            target,
            part,
            journal,
            ..
        } = &self.places;
        self.check_ours()?;
        part.rename_to(target, self.replace)?;
        journal.remove()
    }

    /// Where there are no locks, somebody may have put another file in its place.
    fn check_ours(&self) -> Result<(), StoreError> {
        let part = &self.places.part;
        let ours = rustix::fs::fstat(&self.file)
            .map_err(|error| StoreError::target(error, "look at", part.shown()))?;
        match part.stat()? {
            Some(there) if is_same_inode(&there, &ours) => Ok(()),
            Some(_) => {
                let (code, shown) = (ErrorCode::TargetBusy, part.shown());
                Err(StoreError::refused(code, "finish", shown))
            }
            // Somebody removed it, or its directory.
            None => Err(StoreError::target(Errno::NOENT, "finish", part.shown())),
        }
    }

    /// Makes what is there durable, for a later resume.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn suspend(&self) -> Result<(), StoreError> {
        let part = self.places.part.shown();
        let synced = self.file.sync_data();
        synced.map_err(|error| self.on_unsynced(error, "sync"))?;
        if let Some(journal) = &self.journal {
            let synced = journal.sync_data();
            synced.map_err(|error| StoreError::target(error, "sync", part))?;
        }
        self.places.part.sync_directory()
    }

    /// What could not be written may still be in memory, where it looks as if it had been: the
    /// next run has to read what the disk holds.
    fn on_unsynced(&self, error: std::io::Error, action: &'static str) -> StoreError {
        // Best effort, as the error is what counts.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        StoreError::target(error, action, self.places.part.shown())
    }

    /// Gives up a partial that cannot be resumed: nothing is in it.
    pub fn discard_if_useless(&self) {
        let is_named = self.named.load(Ordering::Acquire);
        let is_empty = self.hashes().iter().all(Option::is_none);
        if !is_named && is_empty && self.check_ours().is_ok() {
            // Best effort: the error that led here is the one to report.
            let removed = self.places.part.remove();
            let _ = removed.and_then(|()| self.places.journal.remove());
        }
    }

    /// Reads the journal of an earlier run and hashes what it claims; starts a new one where
    /// there is none.
    fn take_up(&mut self, leaving: &Leaving) -> Result<HeldRuns, StoreError> {
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
    fn rehash(&self, journal: &Journal, leaving: &Leaving) -> Result<Vec<(u64, Hash)>, StoreError> {
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

    /// `None` when the partial is too short to hold the block.
    fn hash_block(&self, block: u64, buffer: &mut [u8]) -> Result<Option<Hash>, StoreError> {
        let mut hasher = BlockHasher::new(self.plan, block);
        let range = self.plan.range(block);
        for start in range.clone().step_by(buffer.len()) {
            let length = (range.end - start).min(buffer.len() as u64) as usize;
            match self.file.read_exact_at(&mut buffer[..length], start) {
                Ok(()) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => {
                    return Err(StoreError::target(error, "read", self.places.part.shown()));
                }
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// Fails early where the file cannot fit; reserves its space where that is cheap.
    fn make_room(&self, held_blocks: u64) -> Result<(), StoreError> {
        let part = self.places.part.shown();
        let size = self.plan.size();
        if self.offered.has_holes {
            // Nobody knows how much of it is none.
            let sized = self.file.set_len(size);
            return sized.map_err(|error| StoreError::target(error, "write", part));
        }
        let missing = size.saturating_sub(held_blocks * self.plan.block_bytes());
        let allocated = self.file.metadata().map_or(0, |found| found.blocks() * 512);
        let free = self.places.part.free_bytes().unwrap_or(u64::MAX);
        if missing > free.saturating_add(allocated) {
            self.discard_if_useless();
            return Err(StoreError::refused(
                ErrorCode::NoSpace,
                "reserve space for",
                part,
            ));
        }
        // Memory-backed file systems would clear every page once more than needed.
        let in_memory = rustix::fs::fstatfs(&self.file).is_ok_and(|stat| stat.f_type == TMPFS);
        if size > limits::BLOCK_MIN_BYTES && !in_memory {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => {
                    self.discard_if_useless();
                    return Err(StoreError::target(error, "reserve space for", part));
                }
            }
        }
        self.file
            .set_len(size)
            .map_err(|error| StoreError::target(error, "write", part))
    }

    fn hashes(&self) -> MutexGuard<'_, Vec<Option<Hash>>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runs(blocks: impl Iterator<Item = (u64, Hash)>) -> HeldRuns {
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

/// `TMPFS_MAGIC` of `statfs(2)`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;
    use crate::path::RelPath;
    use crate::wire::message::{EntryKind, Timestamp};
    use std::path::Path;

    const SIZE: u64 = 2 * BLOCK_MIN_BYTES + 100;

    fn offered(size: u64) -> Entry {
        let modified = Timestamp {
            seconds: 1_000_000_000,
            nanos: 5,
        };
        Entry {
            path: RelPath::root(),
            kind: EntryKind::File { size },
            mode: 0o4751,
            modified,
            has_holes: false,
        }
    }

    fn open(path: &Path, offered: &Entry) -> Result<(PartialFile, HeldRuns), StoreError> {
        PartialFile::open(
            &Place::of(path).unwrap(),
            offered,
            false,
            false,
            &Leaving::default(),
        )
    }

    fn bytes(size: u64) -> Vec<u8> {
        (0..size).map(|i| (i % 241) as u8).collect()
    }

    /// Writes one block as the receiver does.
    fn put(partial: &PartialFile, block: u64) {
        let range = partial.plan().range(block);
        let bytes = bytes(SIZE);
        let block_bytes = &bytes[range.start as usize..range.end as usize];
        partial.write_all_at(block_bytes, range.start).unwrap();
        let mut hasher = BlockHasher::new(partial.plan(), block);
        hasher.update(block_bytes);
        partial.prove(block, hasher.finish()).unwrap();
    }

    #[test]
    fn a_complete_file_gets_its_name_mode_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, held) = open(&path, &offered(SIZE)).unwrap();
        assert!(held.is_empty());
        (0..3).for_each(|block| put(&partial, block));
        assert!(!path.exists());
        partial.finish(Hash::of(&bytes(SIZE))).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes(SIZE));
        assert_eq!(
            (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
            (0o751, 1_000_000_000, 5)
        );
        // What purges files that nobody has used must not find it.
        assert!(found.atime() > 1_000_000_000);
        partial.settle().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// A process that is gone after the file got its name and before anybody heard of it.
    fn named_and_gone(path: &Path, size: u64) {
        let (partial, _) = open(path, &offered(size)).unwrap();
        let blocks = partial.plan().count();
        (0..blocks).for_each(|block| put(&partial, block));
        partial.finish(Hash::of(&bytes(size))).unwrap();
    }

    #[test]
    fn a_file_whose_receipt_was_lost_is_found_and_proven_once_more() {
        for size in [0, SIZE] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("target");
            named_and_gone(&path, size);
            let place = Place::of(&path).unwrap();
            assert!(PartialFile::awaits_receipt(&place).unwrap());
            let found =
                PartialFile::find_named(&place, &offered(size), &Leaving::default()).unwrap();
            let found = found.unwrap();
            let held: usize = found.held().iter().map(|(_, hashes)| hashes.len()).sum();
            assert_eq!(held as u64, found.plan().count());
            assert!(!found.wants(0));
            let wrong = found.finish(Hash([1; 32])).unwrap_err();
            assert_eq!(wrong.code, ErrorCode::HashMismatch);
            found.finish(Hash::of(&bytes(size))).unwrap();
            found.settle().unwrap();
            assert!(!PartialFile::awaits_receipt(&place).unwrap());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_was_changed_after_it_got_its_name_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        named_and_gone(&path, SIZE);
        let place = Place::of(&path).unwrap();
        let other =
            PartialFile::find_named(&place, &offered(SIZE - 1), &Leaving::default()).unwrap();
        assert!(other.is_none());
        let times = std::fs::metadata(&path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"mine", 5).unwrap();
        assert!(
            PartialFile::find_named(&place, &offered(SIZE), &Leaving::default())
                .unwrap()
                .is_none()
        );
        // Also when its time says nothing of it.
        file.set_modified(times).unwrap();
        assert!(PartialFile::awaits_receipt(&place).unwrap());
        assert!(
            PartialFile::find_named(&place, &offered(SIZE), &Leaving::default())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_file_of_one_block_is_received_whatever_was_left_of_it() {
        for (mode, size) in [(0o400, 700), (0o644, 700), (0o600, 900), (0, 0)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("target");
            // Killed after it got its mode and before it got its name.
            let (partial, _) = open(&path, &offered(700)).unwrap();
            partial.write_all_at(&bytes(700), 0).unwrap();
            partial.prove(0, Hash::of(&bytes(700))).unwrap();
            partial.accept(Hash::of(&bytes(700))).unwrap();
            rustix::fs::fchmod(&partial.file, Mode::from_raw_mode(mode)).unwrap();
            drop(partial);
            let (partial, _) = open(&path, &offered(size)).unwrap();
            let content = bytes(size);
            partial.write_all_at(&content, 0).unwrap();
            partial.prove(0, Hash::of(&content)).unwrap();
            partial.finish(Hash::of(&content)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_restart_that_is_killed_leaves_what_the_next_one_takes_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        put(&partial, 0);
        rustix::fs::fchmod(&partial.file, Mode::RUSR).unwrap();
        drop(partial);
        let restart = || {
            let place = Place::of(&path).unwrap();
            PartialFile::open(&place, &offered(SIZE), false, true, &Leaving::default())
        };
        assert!(restart().unwrap().1.is_empty());
        // Before it made a journal of its own.
        let part = dir.path().join("target.part");
        File::options()
            .write(true)
            .open(&part)
            .unwrap()
            .set_len(0)
            .unwrap();
        std::fs::remove_file(dir.path().join("target.part.journal")).unwrap();
        open(&path, &offered(SIZE)).unwrap();
    }

    #[test]
    fn a_journal_without_its_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        named_and_gone(&path, SIZE);
        std::fs::remove_file(&path).unwrap();
        let (_, held) = open(&path, &offered(SIZE + 1)).unwrap();
        assert!(held.is_empty());
    }

    #[test]
    fn a_later_run_holds_what_is_proven_and_still_true() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        [0, 2].into_iter().for_each(|block| put(&partial, block));
        assert!(matches!(open(&path, &offered(SIZE)), Err(e) if e.code == ErrorCode::TargetBusy));
        drop(partial);
        let (partial, held) = open(&path, &offered(SIZE)).unwrap();
        assert_eq!(
            held.iter().map(|(b, h)| (*b, h.len())).collect::<Vec<_>>(),
            [(0, 1), (2, 1)]
        );
        partial.write_all_at(b"damage", 7).unwrap();
        drop(partial);
        let (_, held) = open(&path, &offered(SIZE)).unwrap();
        assert_eq!(held.iter().map(|(b, _)| *b).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn whoever_fails_or_is_killed_while_taking_up_a_partial_loses_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        [0, 1].into_iter().for_each(|block| put(&partial, block));
        drop(partial);
        let journal = dir.path().join("target.part.journal");
        let before = std::fs::read(&journal).unwrap();
        let in_the_way = dir.path().join("target.part.journal.new");
        std::fs::create_dir(&in_the_way).unwrap();
        open(&path, &offered(SIZE)).unwrap_err();
        assert_eq!(std::fs::read(&journal).unwrap(), before);
        std::fs::remove_dir(&in_the_way).unwrap();
        // As a kill leaves it.
        std::fs::write(&in_the_way, &before[..50]).unwrap();
        let (partial, held) = open(&path, &offered(SIZE)).unwrap();
        assert_eq!(
            held.iter().map(|(_, hashes)| hashes.len()).sum::<usize>(),
            2
        );
        put(&partial, 2);
        partial.finish(Hash::of(&bytes(SIZE))).unwrap();
        partial.settle().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_partial_of_another_source_is_kept_and_refused_unless_restarted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        put(&partial, 1);
        drop(partial);
        let error = open(&path, &offered(SIZE + 1)).unwrap_err();
        assert_eq!(error.code, ErrorCode::SourceChanged);
        assert_eq!(open(&path, &offered(SIZE)).unwrap().1.len(), 1);
        let place = Place::of(&path).unwrap();
        let (_, held) =
            PartialFile::open(&place, &offered(SIZE + 1), false, true, &Leaving::default())
                .unwrap();
        assert!(held.is_empty());
    }

    #[test]
    fn a_restart_takes_neither_what_is_being_written_nor_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let restart = || {
            let place = Place::of(&path).unwrap();
            PartialFile::open(&place, &offered(SIZE), false, true, &Leaving::default())
        };
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        (0..3).for_each(|block| put(&partial, block));
        assert_eq!(restart().unwrap_err().code, ErrorCode::TargetBusy);
        partial.finish(Hash::of(&bytes(SIZE))).unwrap();
        partial.settle().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes(SIZE));
        drop(partial);
        std::fs::remove_file(&path).unwrap();
        let part = dir.path().join("target.part");
        std::fs::write(&part, "of somebody else").unwrap();
        assert_eq!(restart().unwrap_err().code, ErrorCode::NameTaken);
        assert_eq!(std::fs::read(&part).unwrap(), b"of somebody else");
    }

    /// Where there are no locks, another process can do that.
    #[test]
    fn a_partial_that_was_replaced_gives_no_name_to_what_replaced_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let part = dir.path().join("target.part");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        (0..3).for_each(|block| put(&partial, block));
        std::fs::remove_file(&part).unwrap();
        std::fs::write(&part, "half").unwrap();
        let error = partial.finish(Hash::of(&bytes(SIZE))).unwrap_err();
        assert_eq!(error.code, ErrorCode::TargetBusy);
        assert!(!path.exists());
        assert_eq!(std::fs::read(&part).unwrap(), b"half");
    }

    #[test]
    fn a_file_with_both_names_is_the_one_that_awaits_its_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        (0..3).for_each(|block| put(&partial, block));
        partial.finish(Hash::of(&bytes(SIZE))).unwrap();
        drop(partial);
        // Killed in the middle of a rename by link.
        std::fs::hard_link(&path, dir.path().join("target.part")).unwrap();
        let place = Place::of(&path).unwrap();
        assert!(PartialFile::awaits_receipt(&place).unwrap());
        let named = PartialFile::find_named(&place, &offered(SIZE), &Leaving::default()).unwrap();
        named.unwrap().settle().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_session_that_is_over_ends_the_hashing_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(SIZE)).unwrap();
        put(&partial, 1);
        drop(partial);
        let (place, leaving) = (Place::of(&path).unwrap(), Leaving::default());
        leaving.set();
        let error = PartialFile::open(&place, &offered(SIZE), false, false, &leaving);
        assert_eq!(error.unwrap_err().code, ErrorCode::Interrupted);
        assert_eq!(open(&path, &offered(SIZE)).unwrap().1.len(), 1);
    }

    #[test]
    fn a_wrong_root_or_a_taken_name_leaves_the_target_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let (partial, _) = open(&path, &offered(0)).unwrap();
        assert_eq!(
            partial.finish(Hash([1; 32])).unwrap_err().code,
            ErrorCode::HashMismatch
        );
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(
            partial.finish(Hash::of(&[])).unwrap_err().code,
            ErrorCode::TargetExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_foreign_file_with_the_name_of_a_partial_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("target.part");
        for size in [6, SIZE] {
            std::fs::write(&part, bytes(size)).unwrap();
            let error = open(&dir.path().join("target"), &offered(5)).unwrap_err();
            assert_eq!(error.code, ErrorCode::NameTaken);
            assert_eq!(std::fs::read(&part).unwrap(), bytes(size));
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_before_a_byte_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(&dir.path().join("target"), &offered(1 << 60)).unwrap_err();
        assert_eq!(error.code, ErrorCode::NoSpace);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
