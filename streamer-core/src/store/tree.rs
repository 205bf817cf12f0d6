//! A tree that is being received: it grows beside its name, and gets it when it is complete.
//!
//! `NAME.part` is the tree, `NAME.part.journal` a directory for what is not finished: partials,
//! and small files that wait to become durable together. A file has its name in the tree only
//! once its bytes are proven and durable, so that a later run knows by size and time what it
//! need not ask for again (`docs/design/0006-trees.md`). A directory that existed before is
//! filled in place, by the same rule.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::path::RelPath;
use crate::store::partial::{HeldRuns, PartialFile};
use crate::store::place::Place;
use crate::store::small::SmallFile;
use crate::store::target::{Existing, TargetPolicy};
use crate::store::{StoreError, beneath};
use crate::wire::message::{Entry, EntryKind, Timestamp};

/// A directory that is being received.
#[derive(Debug)]
pub struct TreeTarget {
    target: Place,
    /// Where it grows; `None` when it grows at its name.
    part: Option<Place>,
    journal: Place,
    restart: bool,
    keep_existing: bool,
    /// It was complete when an earlier run ended: what differs now is somebody else's.
    was_complete: bool,
    attributes: Option<Attributes>,
    /// The directories from the root to what was offered last.
    stack: Mutex<Vec<Arc<Directory>>>,
    shared: Arc<Shared>,
}

/// What everything in a tree shares.
#[derive(Debug)]
pub(crate) struct Shared {
    root: OwnedFd,
    /// For messages.
    path: PathBuf,
    pub(crate) work: Arc<OwnedFd>,
    /// Directories used last, the latest first.
    opened: Mutex<VecDeque<(RelPath, Arc<OwnedFd>)>>,
    /// Directories that are over and not durable; `None` when there are too many to name.
    unsynced: Mutex<Option<Vec<RelPath>>>,
    /// Tells the files of one session from those of another.
    pub(crate) run: u64,
    _lock: File,
}

/// A directory of a tree in which something is still to happen. It gets its mode and time
/// when the last user of it is gone.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: RelPath,
    pub(crate) shared: Arc<Shared>,
    attributes: Option<Attributes>,
    /// Made by us just now: nothing is in it that we did not put there.
    is_fresh: bool,
    /// What is above waits for what is below.
    _parent: Option<Arc<Self>>,
}

/// Mode and time, as offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) modified: Timestamp,
    pub(crate) has_holes: bool,
}

/// How an entry of a tree was found.
#[derive(Debug)]
pub(crate) enum Located {
    /// Made, or kept as it is.
    Present,
    /// A file that is written in one go.
    Small(SmallFile),
    /// A file that is written in blocks.
    Large(LargePlace),
}

/// Where a file of several blocks goes.
#[derive(Debug)]
pub(crate) struct LargePlace {
    pub(crate) parent: Arc<Directory>,
    offered: Entry,
    replace: bool,
    restart: bool,
}

/// A name of the tree and what is there.
enum Found {
    Nothing,
    /// What was offered, or what the user wants to keep.
    Kept,
    /// Something else, which may be replaced.
    Other,
}

impl TreeTarget {
    /// Opens the tree, or makes it, and locks it.
    pub(crate) fn open(
        target: &Place,
        offered: &Entry,
        policy: TargetPolicy,
    ) -> Result<Self, StoreError> {
        let attributes = Attributes::of(offered);
        let was_complete = Self::awaits_receipt(target)?;
        let exists = match target.stat()? {
            None => false,
            Some(_) if was_complete => true,
            Some(stat) if is_directory(&stat) && policy.existing != Existing::Refuse => true,
            Some(_) => {
                let (code, shown) = (ErrorCode::TargetExists, target.shown());
                return Err(StoreError::refused(code, "create", shown));
            }
        };
        let part = (!exists).then(|| target.with_suffix(".part"));
        let journal = target.with_suffix(".part.journal");
        let (work, lock) = take_up(&journal, part.as_ref())?;
        if policy.restart {
            part.iter().try_for_each(Place::remove_all)?;
        }
        let place = part.as_ref().unwrap_or(target);
        place.make_directory()?;
        let root = place.open_directory()?;
        make_writable(&root);
        let keep_existing = exists && policy.existing == Existing::Skip;
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            root,
            path: target.shown().to_owned(),
            work: Arc::new(work),
            opened: Mutex::default(),
            unsynced: Mutex::new(Some(Vec::new())),
            run: RUNS.fetch_add(1, Ordering::Relaxed),
            _lock: lock,
        });
        let root = Arc::new(Directory {
            path: RelPath::root(),
            shared: Arc::clone(&shared),
            attributes: None,
            is_fresh: false,
            _parent: None,
        });
        Ok(Self {
            target: target.clone(),
            part,
            journal,
            restart: policy.restart,
            keep_existing,
            was_complete: was_complete && policy.existing == Existing::Refuse,
            attributes: (!keep_existing).then_some(attributes),
            stack: Mutex::new(vec![root]),
            shared,
        })
    }

    /// Looks at the place of what is offered, and makes it where that takes no bytes.
    ///
    /// # Errors
    /// When it cannot be received.
    pub(crate) fn locate(&self, number: u32, offered: &Entry) -> Result<Located, StoreError> {
        let Some((parent, name)) = offered.path.split_last() else {
            return Err(self.refused(ErrorCode::TargetExists, &offered.path));
        };
        let parent = self.enter(&parent, &offered.path)?;
        match &offered.kind {
            EntryKind::Directory => self.make_directory(&parent, name, offered),
            EntryKind::Symlink { target } => self.make_link(&parent, name, offered, target, number),
            EntryKind::Unsent { code } => Err(self.refused(*code, &offered.path)),
            EntryKind::File { size } => match self.look(&parent, name, offered)? {
                Found::Kept => Ok(Located::Present),
                found => {
                    let replace = matches!(found, Found::Other);
                    Ok(if *size <= SmallFile::MAX_BYTES {
                        let attributes = Attributes::of(offered);
                        let file = SmallFile::new(parent, name, number, *size, attributes, replace);
                        Located::Small(file)
                    } else {
                        Located::Large(LargePlace {
                            parent,
                            offered: offered.clone(),
                            replace,
                            restart: self.restart,
                        })
                    })
                }
            },
        }
    }

    /// The directory that an entry is in: offered before it, and nothing beside it since.
    fn enter(&self, parent: &RelPath, path: &RelPath) -> Result<Arc<Directory>, StoreError> {
        let mut stack = self.stack();
        while stack.len() > 1 && stack.last().is_some_and(|top| !path.is_in(&top.path)) {
            stack.pop();
        }
        match stack.last() {
            Some(top) if top.path == *parent => Ok(Arc::clone(top)),
            _ => Err(self.refused(ErrorCode::ParentMissing, path)),
        }
    }

    fn make_directory(
        &self,
        parent: &Arc<Directory>,
        name: &[u8],
        offered: &Entry,
    ) -> Result<Located, StoreError> {
        let failed = |error| self.failed(error, "create", &offered.path);
        let within = parent.open().map_err(failed)?;
        let is_fresh = match rustix::fs::mkdirat(&within, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error)),
        };
        if !is_fresh {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&within, name, flags, Mode::empty()) {
                Ok(_) if self.keep_existing => {}
                Ok(found) => make_writable(&found),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(self.refused(ErrorCode::TargetExists, &offered.path));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let attributes = (is_fresh || !self.keep_existing).then(|| Attributes::of(offered));
        self.stack().push(Arc::new(Directory {
            path: offered.path.clone(),
            shared: Arc::clone(&self.shared),
            attributes,
            is_fresh,
            _parent: Some(Arc::clone(parent)),
        }));
        Ok(Located::Present)
    }

    fn make_link(
        &self,
        parent: &Directory,
        name: &[u8],
        offered: &Entry,
        target: &[u8],
        number: u32,
    ) -> Result<Located, StoreError> {
        if !beneath::link_stays(parent.path.depth(), target) {
            return Err(self.refused(ErrorCode::LinkLeavesTree, &offered.path));
        }
        let failed = |error| self.failed(error, "create", &offered.path);
        let replace = match self.look(parent, name, offered)? {
            Found::Kept => return Ok(Located::Present),
            found => matches!(found, Found::Other),
        };
        let work = self.shared.scratch(number);
        work.remove()?;
        rustix::fs::symlinkat(target, &self.shared.work, work.name()).map_err(failed)?;
        let times = Attributes::of(offered).times();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&self.shared.work, work.name(), &times, flags).map_err(failed)?;
        work.rename_to(&parent.place(name).map_err(failed)?, replace)?;
        Ok(Located::Present)
    }

    /// What has the name of a file or link.
    fn look(&self, parent: &Directory, name: &[u8], offered: &Entry) -> Result<Found, StoreError> {
        if parent.is_fresh {
            return Ok(Found::Nothing);
        }
        let failed = |error| self.failed(error, "look at", &offered.path);
        let within = parent.open().map_err(failed)?;
        let stat = match rustix::fs::statat(&within, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error)),
        };
        if is_directory(&stat) {
            return Err(self.refused(ErrorCode::TargetExists, &offered.path));
        }
        if self.keep_existing {
            return Ok(Found::Kept);
        }
        let is_same = match &offered.kind {
            EntryKind::File { size } => is_same_file(&stat, *size, offered.modified),
            EntryKind::Symlink { target } => {
                let there = rustix::fs::readlinkat(&within, name, Vec::new());
                there.is_ok_and(|there| there.as_bytes() == target)
            }
            EntryKind::Directory | EntryKind::Unsent { .. } => false,
        };
        if !is_same && self.was_complete {
            return Err(self.refused(ErrorCode::TargetExists, &offered.path));
        }
        if !is_same {
            return Ok(Found::Other);
        }
        let is_file = matches!(offered.kind, EntryKind::File { .. });
        if is_file && stat.st_mode & 0o7777 != offered.mode & 0o777 {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&within, name, flags, Mode::empty())
                .and_then(|file| rustix::fs::fchmod(file, mode_of(offered.mode)))
                .map_err(failed)?;
        }
        Ok(Found::Kept)
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// As the operating system says, also about what was written long ago.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::syncfs(&self.shared.root)
            .map_err(|error| self.failed(error, "sync", &RelPath::root()))
    }

    /// Whether `target` is a tree that an earlier run completed, and whose receipt may not have
    /// been heard.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn awaits_receipt(target: &Place) -> Result<bool, StoreError> {
        let journal = target.with_suffix(".part.journal");
        let (Some(tree), Some(_)) = (
            target.stat()?.filter(is_directory),
            journal.stat()?.filter(is_directory),
        ) else {
            return Ok(false);
        };
        if target.with_suffix(".part").stat()?.is_some() {
            return Ok(false);
        }
        let work = Arc::new(journal.open_directory()?);
        let place = complete_place(work, &journal);
        if place.stat()?.is_none() {
            return Ok(false);
        }
        let mut there = Vec::new();
        place
            .open(OFlags::RDONLY)?
            .take(identity(&tree).len() as u64 + 1)
            .read_to_end(&mut there)
            .map_err(|error| StoreError::target(error, "read", place.shown()))?;
        Ok(there == identity(&tree))
    }

    /// Removes what is left for that, where a tree awaits its receipt.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn forget(target: &Place) -> Result<(), StoreError> {
        match Self::awaits_receipt(target)? {
            true => target.with_suffix(".part.journal").remove_all(),
            false => Ok(()),
        }
    }

    /// Makes durable which directory is the whole tree, before it gets its name.
    fn note_complete(&self) -> Result<(), StoreError> {
        let place = complete_place(Arc::clone(&self.shared.work), &self.journal);
        let failed = |error| StoreError::target(error, "write", place.shown());
        let root = rustix::fs::fstat(&self.shared.root).map_err(|error| failed(error.into()))?;
        let mut file = place.open(OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC)?;
        file.write_all(&identity(&root)).map_err(failed)?;
        file.sync_data().map_err(failed)
    }

    /// Nobody will ask for the receipt again.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.journal.remove_all()
    }

    /// Gives the tree its name, once everything in it has its own, and makes all durable. The
    /// journal stays until [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`ErrorCode::TargetExists`] when somebody took the name meanwhile.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        self.stack().clear();
        self.sync_directories()?;
        self.note_complete()?;
        if let Some(part) = &self.part {
            part.rename_to(&self.target, false)?;
        }
        if let Some(attributes) = self.attributes {
            let failed = |error| self.failed(error, "finish", &RelPath::root());
            attributes.apply(&self.shared.root).map_err(failed)?;
            rustix::fs::fsync(&self.shared.root).map_err(failed)?;
        }
        self.target.sync_directory()
    }

    /// Makes the names and attributes in the tree durable.
    fn sync_directories(&self) -> Result<(), StoreError> {
        let Some(paths) = self.shared.unsynced().take() else {
            return self.sync();
        };
        let mut synced = paths.iter().map(|path| {
            beneath::open_directory(self.shared.root.as_fd(), path).and_then(rustix::fs::fsync)
        });
        match synced.try_for_each(|result| result) {
            Ok(()) => Ok(()),
            // Its mode may keep even its owner out; some file systems cannot sync directories.
            Err(Errno::ACCESS | Errno::INVAL | Errno::NOTSUP) => self.sync(),
            Err(error) => Err(self.failed(error, "sync", &RelPath::root())),
        }
    }

    fn refused(&self, code: ErrorCode, path: &RelPath) -> StoreError {
        StoreError::refused(code, "create", &beneath::shown(&self.shared.path, path))
    }

    fn failed(&self, error: Errno, action: &'static str, path: &RelPath) -> StoreError {
        StoreError::target(error, action, &beneath::shown(&self.shared.path, path))
    }

    fn stack(&self) -> MutexGuard<'_, Vec<Arc<Directory>>> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LargePlace {
    /// Opens the partial, or makes it.
    ///
    /// # Errors
    /// As [`PartialFile::open`].
    pub(crate) fn open(&self) -> Result<(PartialFile, HeldRuns), StoreError> {
        let (shared, path) = (&self.parent.shared, &self.offered.path);
        let failed =
            |error| StoreError::target(error, "create", &beneath::shown(&shared.path, path));
        let name = path.split_last().map_or(&b""[..], |(_, name)| name);
        let target = self.parent.place(name).map_err(failed)?;
        let work_name = format!("{}.part", Hash::of(path.as_bytes()));
        let shown = target.shown().to_owned();
        let part = Place::within(Arc::clone(&shared.work), work_name.as_bytes(), shown);
        PartialFile::open_as(&target, part, &self.offered, self.replace, self.restart)
    }
}

impl Shared {
    /// A name of this session's own for what becomes entry `number`.
    pub(crate) fn scratch(&self, number: u32) -> Place {
        let name = format!("{:x}-{number:x}", self.run);
        let shown = self.path.join(&name);
        Place::within(Arc::clone(&self.work), name.as_bytes(), shown)
    }

    pub(crate) fn shown(&self, directory: &RelPath, name: &[u8]) -> PathBuf {
        beneath::shown(&self.path, directory).join(OsStr::from_bytes(name))
    }

    fn unsynced(&self) -> MutexGuard<'_, Option<Vec<RelPath>>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory of the tree, from those used last or looked up anew.
    fn directory(&self, path: &RelPath) -> Result<Arc<OwnedFd>, Errno> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = opened.iter().position(|(there, _)| there == path) {
            opened.swap(0, at);
            return Ok(Arc::clone(&opened[0].1));
        }
        let found = Arc::new(beneath::open_directory(self.root.as_fd(), path)?);
        opened.truncate(OPEN_DIRECTORIES - 1);
        opened.push_front((path.clone(), Arc::clone(&found)));
        Ok(found)
    }
}

impl Directory {
    pub(crate) fn open(&self) -> Result<Arc<OwnedFd>, Errno> {
        self.shared.directory(&self.path)
    }

    /// A name in it.
    pub(crate) fn place(&self, name: &[u8]) -> Result<Place, Errno> {
        let shown = self.shared.shown(&self.path, name);
        Ok(Place::within(self.open()?, name, shown))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut unsynced = self.shared.unsynced();
        match &mut *unsynced {
            Some(paths) if paths.len() < SYNCED_ONE_BY_ONE => paths.push(self.path.clone()),
            _ => *unsynced = None,
        }
        drop(unsynced);
        let Some(attributes) = self.attributes else {
            return;
        };
        let opened = beneath::open_directory(self.shared.root.as_fd(), &self.path);
        if let Err(error) = opened.and_then(|directory| attributes.apply(directory)) {
            let path = beneath::shown(&self.shared.path, &self.path);
            tracing::warn!(path = %path.display(), %error, "mode or time of a directory is not kept");
        }
    }
}

impl Attributes {
    pub(crate) fn of(offered: &Entry) -> Self {
        Self {
            mode: offered.mode,
            modified: offered.modified,
            has_holes: offered.has_holes,
        }
    }

    pub(crate) fn times(self) -> rustix::fs::Timestamps {
        let time = rustix::fs::Timespec {
            tv_sec: self.modified.seconds,
            tv_nsec: i64::from(self.modified.nanos),
        };
        rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        }
    }

    /// Never setuid, setgid or sticky.
    pub(crate) fn apply(self, file: impl std::os::fd::AsFd) -> Result<(), Errno> {
        rustix::fs::fchmod(&file, mode_of(self.mode))?;
        rustix::fs::futimens(&file, &self.times())
    }
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_same_file(stat: &Stat, size: u64, modified: Timestamp) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_size as u64 == size
        && stat.st_mtime == modified.seconds
        && stat.st_mtime_nsec == u64::from(modified.nanos)
}

/// What is ours must be open to us until it gets its own mode.
fn make_writable(directory: &OwnedFd) {
    if let Ok(stat) = rustix::fs::fstat(directory)
        && stat.st_mode & 0o700 != 0o700
    {
        // Where it is not ours, what is created in it will say so.
        let _ = rustix::fs::fchmod(directory, Mode::from_raw_mode(stat.st_mode & 0o777 | 0o700));
    }
}

/// Opens the directory of what is not finished, or makes it, and locks it. It also marks
/// `part` as ours.
fn take_up(journal: &Place, part: Option<&Place>) -> Result<(OwnedFd, File), StoreError> {
    let is_new = journal.make_directory()?;
    let refused = |code, place: &Place| StoreError::refused(code, "continue", place.shown());
    let work = match journal.open_directory() {
        Ok(work) => work,
        // The journal of a file: the source was one when this began.
        Err(_) => return Err(refused(ErrorCode::SourceChanged, journal)),
    };
    if is_new
        && let Some(part) = part
        && part.stat()?.is_some()
    {
        journal.remove_all()?;
        return Err(refused(ErrorCode::TargetExists, part));
    }
    let shared = Arc::new(work);
    let lock = Place::within(Arc::clone(&shared), b"lock", journal.shown().join("lock"));
    let mut file = lock.open(OFlags::CREATE | OFlags::RDWR)?;
    let failed = |error: std::io::Error| StoreError::target(error, "write", lock.shown());
    let deadline = Instant::now() + LOCK_PATIENCE;
    // A session of ours that was cut off may still be leaving.
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        == Err(Errno::WOULDBLOCK)
    {
        if Instant::now() >= deadline {
            return Err(refused(ErrorCode::TargetBusy, journal));
        }
        std::thread::sleep(LOCK_PATIENCE / 100);
    }
    let mut there = Vec::new();
    Read::by_ref(&mut file)
        .take(MAGIC.len() as u64 + 1)
        .read_to_end(&mut there)
        .map_err(failed)?;
    if there != MAGIC {
        if !is_new && !there.is_empty() {
            return Err(refused(ErrorCode::TargetExists, journal));
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(MAGIC).map_err(failed)?;
    }
    drop(lock);
    // Local invariant: the place was the only other owner.
    let work = Arc::try_unwrap(shared).map_err(|_| refused(ErrorCode::Internal, journal))?;
    Ok((work, file))
}

/// Where it is noted that a tree is complete.
fn complete_place(work: Arc<OwnedFd>, journal: &Place) -> Place {
    Place::within(work, b"complete", journal.shown().join("complete"))
}

/// Tells a directory from every other, whatever its name.
fn identity(directory: &Stat) -> Vec<u8> {
    [
        directory.st_dev.to_be_bytes(),
        directory.st_ino.to_be_bytes(),
    ]
    .concat()
}

/// What the lock of a tree of ours says.
const MAGIC: &[u8] = b"FSTREE01";

/// Longest wait for an earlier session of this process to let go.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Directories that are synced each for itself; more are synced with the file system.
const SYNCED_ONE_BY_ONE: usize = 8;

/// Directories held open for their next file.
const OPEN_DIRECTORIES: usize = 16;
