//! The journal of a tree: the directory of what is not finished.
//!
//! `NAME.part.journal`, beside the tree. A directory that is filled in place, and whose own
//! directory takes no new names or is of another file system, has it within instead.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::ErrorCode;
use crate::path::RelPath;
use crate::store::attributes::{UNCHANGED, make_writable};
use crate::store::place::{Place, is_same_inode};
use crate::store::places::not_ours;
use crate::store::{Reason, StoreError};

/// Where the journal of a tree is.
#[derive(Debug)]
pub(crate) struct TreeJournal {
    place: Place,
    /// The tree, where the journal is in it.
    tree: Option<Arc<OwnedFd>>,
}

impl TreeJournal {
    /// The journal of what is, or will be, at `target`.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn of(target: &Place) -> Result<Self, StoreError> {
        let beside = Self {
            place: target.with_suffix(".part.journal"),
            tree: None,
        };
        if !target.stat()?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(beside);
        }
        let tree = Arc::new(target.open_directory()?);
        if target.takes_names_for(&tree)? {
            return Ok(beside);
        }
        let shown = target.shown().join(OsStr::from_bytes(WITHIN));
        Ok(Self {
            place: Place::within(Arc::clone(&tree), WITHIN, shown),
            tree: Some(tree),
        })
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self) -> Result<bool, StoreError> {
        Ok(self.place.stat()?.is_some_and(|stat| is_directory(&stat)))
    }

    /// Whether it has this name of the tree, which can have no other meaning then.
    pub(crate) fn has_name(&self, directory: &RelPath, name: &[u8]) -> bool {
        self.tree.is_some() && directory.is_root() && name == WITHIN
    }

    /// Opens it, and sees that it is one.
    ///
    /// # Errors
    /// [`ErrorCode::NameTaken`] where it is none, and the usual file errors.
    pub(crate) fn open(&self) -> Result<OwnedFd, StoreError> {
        let work = self.place.open_directory()?;
        self.check_ours(&work)?;
        Ok(work)
    }

    /// Opens it, or makes it, and locks it. It marks `part` as ours where the tree grows there; one
    /// that it marked before is thrown away with `restart`.
    ///
    /// # Errors
    /// [`ErrorCode::TargetBusy`] where another transfer holds it, [`ErrorCode::SourceChanged`] where it
    /// is that of a file, [`ErrorCode::NameTaken`] where it or `part` is not ours, or `part` is to be
    /// kept, and the usual file errors.
    pub(crate) fn take_up(
        &self,
        part: &Place,
        grows: Grows,
        restart: bool,
    ) -> Result<(OwnedFd, File), StoreError> {
        if let Some(tree) = &self.tree {
            make_writable(tree);
        }
        for _ in 0..TAKEN_UP_AGAIN {
            if let Some(taken) = self.try_take_up(part, grows, restart)? {
                return Ok(taken);
            }
        }
        let (code, shown) = (ErrorCode::TargetBusy, self.place.shown());
        Err(StoreError::refused(code, "continue", shown))
    }

    /// `None` where another run removed it meanwhile.
    fn try_take_up(
        &self,
        part: &Place,
        grows: Grows,
        restart: bool,
    ) -> Result<Option<(OwnedFd, File)>, StoreError> {
        let is_new = self.place.make_directory()?;
        let refused = |code, place: &Place| StoreError::refused(code, "continue", place.shown());
        let work = match self.place.open_directory() {
            Ok(work) => work,
            // The journal of a file: the source was one when this began.
            Err(_) => return Err(refused(ErrorCode::SourceChanged, &self.place)),
        };
        self.check_ours(&work)?;
        let found = |error| StoreError::target(error, "look at", self.place.shown());
        if !is_new {
            let stat = rustix::fs::fstat(&work).map_err(found)?;
            self.place.check_owner(stat.st_uid)?;
        }
        let shared = Arc::new(work);
        let lock = self.within(&shared, LOCK);
        let mut file = match lock.open(OFlags::CREATE | OFlags::RDWR) {
            Err(error) if error.code == ErrorCode::ParentMissing => return Ok(None),
            opened => opened?,
        };
        let failed = |error: std::io::Error| StoreError::target(error, "write", lock.shown());
        let deadline = Instant::now() + LOCK_PATIENCE;
        // A session of ours that was cut off may still be leaving.
        while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            == Err(Errno::WOULDBLOCK)
        {
            if Instant::now() >= deadline {
                return Err(refused(ErrorCode::TargetBusy, &self.place));
            }
            std::thread::sleep(LOCK_PATIENCE / 100);
        }
        // Whoever held it may have been done with all of it.
        let held = rustix::fs::fstat(&file).map_err(found)?;
        if !lock
            .stat()?
            .is_some_and(|there| is_same_inode(&there, &held))
        {
            return Ok(None);
        }
        let mut there = Vec::new();
        std::io::Read::by_ref(&mut file)
            .take(MAGIC.len() as u64 + 1)
            .read_to_end(&mut there)
            .map_err(failed)?;
        let before = Said::by(&there);
        if before.is_none() && !is_new && !there.is_empty() {
            return Err(refused(ErrorCode::TargetExists, &self.place));
        }
        // A journal within marks nothing beside the tree.
        let is_there = self.tree.is_none() && part.stat()?.is_some();
        match grows.beside(before, is_there, restart) {
            Beside::Kept => {}
            Beside::Removed => drop(part.remove_all()?),
            Beside::ToBeKept => return Err(unfinished(part)),
            Beside::NotOurs => {
                if is_new {
                    // What is open stays for a while on some file systems.
                    drop(file);
                    self.place.remove_all()?;
                }
                return Err(not_ours(part));
            }
        }
        if before != Some(Said::Grows(grows)) {
            // Before `part` is made, which it marks as ours.
            grows.note_in(&file).map_err(failed)?;
        }
        drop(lock);
        self.clear_scratch(&shared)?;
        // Local invariant: the place was the only other owner.
        let work =
            Arc::try_unwrap(shared).map_err(|_| refused(ErrorCode::Internal, &self.place))?;
        Ok(Some((work, file)))
    }

    /// The tree has its name, which is durable: what comes to be at that of `part` is not ours.
    pub(crate) fn note_named(&self, lock: &File) -> Result<(), StoreError> {
        let noted = Grows::InPlace.note_in(lock);
        noted.map_err(|error| StoreError::target(error, "write", self.place.shown()))
    }

    /// Makes durable which directory is the whole tree, before it gets its name.
    pub(crate) fn note_complete(
        &self,
        work: &Arc<OwnedFd>,
        root: &OwnedFd,
    ) -> Result<(), StoreError> {
        let place = self.within(work, COMPLETE);
        let failed = |error| StoreError::target(error, "write", place.shown());
        let root = rustix::fs::fstat(root).map_err(|error| failed(error.into()))?;
        let mut file = place.open(OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC)?;
        file.write_all(&identity(&root)).map_err(failed)?;
        file.sync_data().map_err(failed)
    }

    /// Whether it is noted that `tree` is the whole one.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn says_complete(
        &self,
        work: &Arc<OwnedFd>,
        tree: &Stat,
    ) -> Result<bool, StoreError> {
        let place = self.within(work, COMPLETE);
        if place.stat()?.is_none() {
            return Ok(false);
        }
        let mut there = Vec::new();
        place
            .open(OFlags::RDONLY)?
            .take(identity(tree).len() as u64 + 1)
            .read_to_end(&mut there)
            .map_err(|error| StoreError::target(error, "read", place.shown()))?;
        Ok(there == identity(tree))
    }

    /// Removes it, but for the partials that are to be kept. The lock may be let go of by `unlock`.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn clear_away(
        &self,
        work: &Arc<OwnedFd>,
        keep: impl Fn(&[u8]) -> bool,
        unlock: impl FnOnce(),
    ) -> Result<(), StoreError> {
        let names = self.names(work)?;
        let is_partial = |name: &[u8]| name.ends_with(PART.as_bytes()) && keep(name);
        if !names.iter().any(|name| is_partial(name)) {
            return self.remove(work, unlock);
        }
        // The lock says that it is ours.
        let is_kept = |name: &[u8]| {
            name == LOCK || is_partial(name.strip_suffix(b".journal").unwrap_or(name))
        };
        self.remove_others(work, is_kept)
    }

    /// Removes it and all that is in it; what marks it as ours last, and of that what says that the
    /// tree is complete: who is killed meanwhile leaves something that the next run knows.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn remove(
        &self,
        work: &Arc<OwnedFd>,
        unlock: impl FnOnce(),
    ) -> Result<(), StoreError> {
        self.remove_others(work, |name| MARKS.contains(&name))?;
        // From here on another run may take up what is there: nothing of it is touched.
        unlock();
        self.within(work, LOCK).remove()?;
        self.within(work, COMPLETE).remove()?;
        let Some(tree) = &self.tree else {
            return self.place.remove_directory();
        };
        // The tree has its mode and time already.
        let failed = |error| StoreError::target(error, "look at", self.place.shown());
        let before = rustix::fs::fstat(tree).map_err(failed)?;
        make_writable(tree);
        self.place.remove_directory()?;
        restore(tree, &before).map_err(failed)
    }

    /// A directory with its name must be one, or be empty: what is in it will be removed.
    fn check_ours(&self, work: &OwnedFd) -> Result<(), StoreError> {
        let names = self.names(work)?;
        match names.is_empty() || names.iter().any(|name| MARKS.contains(&&**name)) {
            true => Ok(()),
            false => Err(not_ours(&self.place)),
        }
    }

    /// Removes what a run that was killed had not given its name.
    fn clear_scratch(&self, work: &Arc<OwnedFd>) -> Result<(), StoreError> {
        self.remove_others(work, |name| {
            MARKS.contains(&name) || name.windows(PART.len()).any(|at| at == PART.as_bytes())
        })
    }

    /// Removes what in it is not kept.
    fn remove_others(
        &self,
        work: &Arc<OwnedFd>,
        is_kept: impl Fn(&[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut names = self.names(work)?;
        names.retain(|name| !is_kept(name));
        names
            .iter()
            .try_for_each(|name| self.within(work, name).remove_all().map(drop))
    }

    fn names(&self, work: &OwnedFd) -> Result<Vec<Vec<u8>>, StoreError> {
        names_in(work).map_err(|error| StoreError::target(error, "look at", self.place.shown()))
    }

    fn within(&self, work: &Arc<OwnedFd>, name: &[u8]) -> Place {
        let shown = self.place.shown().join(OsStr::from_bytes(name));
        Place::within(Arc::clone(work), name, shown)
    }
}

/// Where a tree grows, which the lock of its journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grows {
    /// At `NAME.part`, which is ours.
    Beside,
    /// At its name. What is at `NAME.part`, if anything, is somebody else's.
    InPlace,
}

/// What becomes of what is at `NAME.part`.
#[derive(Debug, PartialEq, Eq)]
enum Beside {
    /// It stays, if there is anything.
    Kept,
    /// It is ours, and not wanted.
    Removed,
    /// It is ours, and would be nobody's after a run that grows elsewhere.
    ToBeKept,
    NotOurs,
}

/// What a lock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Grows(Grows),
    /// One or the other: by a version that did not tell them apart.
    Either,
}

impl Said {
    fn by(lock: &[u8]) -> Option<Self> {
        match lock {
            MAGIC_BESIDE => Some(Self::Grows(Grows::Beside)),
            MAGIC_IN_PLACE => Some(Self::Grows(Grows::InPlace)),
            MAGIC => Some(Self::Either),
            _ => None,
        }
    }
}

impl Grows {
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Beside => MAGIC_BESIDE,
            Self::InPlace => MAGIC_IN_PLACE,
        }
    }

    /// Durably. What is there is empty, or another of these.
    fn note_in(self, lock: &File) -> std::io::Result<()> {
        lock.write_all_at(self.magic(), 0)?;
        lock.sync_data()
    }

    /// Of a tree that grows like this, and grew as the lock says `before`.
    fn beside(self, before: Option<Said>, is_there: bool, restart: bool) -> Beside {
        let is_marked = before == Some(Said::Grows(Self::Beside));
        let may_be_marked = is_marked || before == Some(Said::Either);
        match self {
            _ if !is_there => Beside::Kept,
            Self::Beside if may_be_marked && restart => Beside::Removed,
            Self::Beside if may_be_marked => Beside::Kept,
            Self::Beside => Beside::NotOurs,
            Self::InPlace if is_marked && restart => Beside::Removed,
            Self::InPlace if is_marked => Beside::ToBeKept,
            Self::InPlace => Beside::Kept,
        }
    }
}

/// Whether this name of the root of a source is the journal within that an earlier run, which filled it
/// in place, has left or still uses: no data of anybody, and a name that no target in place takes.
/// A directory of that name in which something else may be is the user's, and so is everything called
/// `NAME.part`: others use such names too.
pub(crate) fn is_left_in(tree: &OwnedFd, name: &[u8]) -> bool {
    name == WITHIN && is_journal(tree).unwrap_or(false)
}

fn is_journal(tree: &OwnedFd) -> std::io::Result<bool> {
    let open = |within: &OwnedFd, name: &[u8], flags| {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(within, name, flags, Mode::empty())
    };
    let work = open(tree, WITHIN, OFlags::DIRECTORY)?;
    let mut mark = Vec::new();
    match open(&work, LOCK, OFlags::NONBLOCK) {
        // One that a run which is over was removing.
        Err(Errno::NOENT) => {}
        lock => {
            let mut lock = File::from(lock?).take(MAGIC.len() as u64 + 1);
            lock.read_to_end(&mut mark)?;
        }
    }
    if Said::by(&mark).is_some() {
        return Ok(true);
    }
    let names = names_in(&work)?;
    Ok(mark.is_empty() && names.iter().all(|name| MARKS.contains(&&**name)))
}

/// What would be nobody's once the journal of a tree elsewhere is removed.
fn unfinished(part: &Place) -> StoreError {
    StoreError {
        code: ErrorCode::NameTaken,
        action: "leave behind",
        path: part.shown().to_owned(),
        reason: Reason::Unfinished,
    }
}

/// Mode and time of a directory, as they were.
fn restore(directory: &OwnedFd, before: &Stat) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: UNCHANGED,
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec.try_into().unwrap_or(0),
        },
    };
    let after = rustix::fs::fstat(directory)?;
    let own = match after.st_mode == before.st_mode {
        true => Ok(()),
        false => rustix::fs::fchmod(directory, Mode::from_raw_mode(before.st_mode & 0o7777)),
    };
    match own.and_then(|()| rustix::fs::futimens(directory, &times)) {
        // Of a directory that belongs to somebody else.
        Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        other => other,
    }
}

/// What is in a directory, in no order.
pub(crate) fn names_in(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for found in rustix::fs::Dir::read_from(directory)? {
        let name = found?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Tells a directory from every other, whatever its name.
fn identity(directory: &Stat) -> Vec<u8> {
    [
        directory.st_dev.to_be_bytes(),
        directory.st_ino.to_be_bytes(),
    ]
    .concat()
}

/// The name of a journal that is in its tree.
const WITHIN: &[u8] = b".streamer.part.journal";

/// How the names of partials in a journal end.
pub(crate) const PART: &str = ".part";

/// The file in a journal that is locked, and marks it as ours.
const LOCK: &[u8] = b"lock";

/// The file in a journal that says which tree is complete.
const COMPLETE: &[u8] = b"complete";

/// What only a journal has.
const MARKS: [&[u8]; 2] = [LOCK, COMPLETE];

/// What the lock of a tree of ours says: of one anywhere, at `NAME.part`, and at its name.
const MAGIC: &[u8] = b"FSTREE01";
const MAGIC_BESIDE: &[u8] = b"FSBESID1";
const MAGIC_IN_PLACE: &[u8] = b"FSPLACE1";

/// How often a journal that another run has just removed is made anew.
const TAKEN_UP_AGAIN: u32 = 10;

/// Longest wait for an earlier session of this process to let go.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_lock_marks_is_taken_up_or_thrown_away() {
        use Beside::{Kept, NotOurs, Removed, ToBeKept};
        use Grows::{Beside as AtPart, InPlace};
        let [beside, in_place] = [AtPart, InPlace].map(Said::Grows);
        for (grows, before, [as_it_is, anew]) in [
            (AtPart, Some(beside), [Kept, Removed]),
            (AtPart, Some(Said::Either), [Kept, Removed]),
            (AtPart, Some(in_place), [NotOurs, NotOurs]),
            (AtPart, None, [NotOurs, NotOurs]),
            (InPlace, Some(beside), [ToBeKept, Removed]),
            // It may be the user's.
            (InPlace, Some(Said::Either), [Kept, Kept]),
            (InPlace, Some(in_place), [Kept, Kept]),
            (InPlace, None, [Kept, Kept]),
        ] {
            assert_eq!(grows.beside(before, true, false), as_it_is);
            assert_eq!(grows.beside(before, true, true), anew);
            assert_eq!(grows.beside(before, false, true), Kept);
            assert_eq!(Said::by(grows.magic()), Some(Said::Grows(grows)));
        }
        assert_eq!(Said::by(MAGIC), Some(Said::Either));
        assert_eq!(Said::by(b"FSTREE012"), None);
    }
}
