//! A tree that is being received: it grows beside its name, and gets it when it is complete.
//!
//! `NAME.part` is the tree, `NAME.part.journal` a directory for what is not finished: partials,
//! and small files that wait to become durable together. A file has its name in the tree only
//! once its bytes are proven and durable, so that a later run knows by size and time what it
//! need not ask for again (`docs/design/0006-trees.md`). A directory that existed before is
//! filled in place, by the same rule; where its own directory takes no names its journal is within.

mod directory;
mod large;
mod unsynced;

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub(crate) use self::directory::Directory;
use self::directory::hash_of;
pub(crate) use self::large::LargePlace;
use self::large::partial_name;
use self::unsynced::Unsynced;
use crate::error::ErrorCode;
use crate::path::RelPath;
use crate::store::attributes::{Attributes, is_same_time, make_writable};
use crate::store::place::Place;
use crate::store::small::SmallFile;
use crate::store::target::{Existing, TargetPolicy};
use crate::store::tree_journal::{Grows, PART, TreeJournal, is_directory, names_in};
use crate::store::{StoreError, beneath};
use crate::wire::message::{Entry, EntryKind, Timestamp};

/// A directory that is being received.
#[derive(Debug)]
pub struct TreeTarget {
    target: Place,
    /// Where it grows; `None` when it grows at its name.
    part: Option<Place>,
    /// It was begun by an earlier run, and what has a name in it can be told by that.
    keeps_names: bool,
    journal: TreeJournal,
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
    unsynced: Unsynced,
    /// Hashes of the names of partials of what is offered: of files that did not succeed they stay.
    partials: Mutex<HashSet<u64>>,
    /// Tells the files of one session from those of every other.
    pub(crate) run: u64,
    /// Files of an earlier run that are not in the source any more, or not wanted.
    removed: Arc<AtomicU64>,
    lock: Mutex<Option<File>>,
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

/// A name of the tree and what is there.
enum Found {
    Nothing,
    /// What was offered, or what the user wants to keep.
    Kept,
    /// Something else, which may be replaced.
    Other,
}

impl TreeTarget {
    /// Opens the tree, or makes it, and locks it. What an earlier run received and is not offered any more
    /// is counted in `removed`.
    pub(crate) fn open(
        target: &Place,
        offered: &Entry,
        policy: TargetPolicy,
        removed: Arc<AtomicU64>,
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
        let grows = match exists {
            true => Grows::InPlace,
            false => Grows::Beside,
        };
        let part = target.with_suffix(".part");
        let journal = TreeJournal::of(target)?;
        let (work, lock) = journal.take_up(&part, grows, policy.restart)?;
        let part = (!exists).then_some(part);
        let place = part.as_ref().unwrap_or(target);
        let is_new = place.make_directory()?;
        let root = place.open_directory()?;
        if part.is_some() && !is_new {
            let found = rustix::fs::fstat(&root)
                .map_err(|error| StoreError::target(error, "look at", place.shown()))?;
            place.check_owner(found.st_uid)?;
        }
        make_writable(&root);
        let unsynced = Unsynced::new(&root);
        let keep_existing = exists && policy.existing == Existing::Skip;
        let keeps_names = part.is_some() && !is_new && keeps_names(&work);
        let shared = Arc::new(Shared {
            root,
            path: target.shown().to_owned(),
            work: Arc::new(work),
            opened: Mutex::default(),
            unsynced,
            partials: Mutex::default(),
            run: RandomState::new().hash_one(()),
            removed,
            lock: Mutex::new(Some(lock)),
        });
        let root = Arc::new(Directory {
            path: RelPath::root(),
            shared: Arc::clone(&shared),
            attributes: None,
            is_fresh: is_new,
            offered: keeps_names.then(Mutex::default),
            _parent: None,
        });
        Ok(Self {
            target: target.clone(),
            part,
            keeps_names,
            journal,
            restart: policy.restart,
            keep_existing,
            was_complete: was_complete && policy.existing == Existing::Refuse,
            attributes: (!keep_existing).then_some(attributes),
            stack: Mutex::new(vec![root]),
            shared,
        })
    }

    /// Sees to it that nothing of a tree is left where a file goes, which is thrown away with
    /// `restart`.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] where a partial is to be kept, [`ErrorCode::NameTaken`] where
    /// something else has the name, and the usual file errors.
    pub(crate) fn make_way(target: &Place, restart: bool) -> Result<(), StoreError> {
        let journal = TreeJournal::of(target)?;
        if !journal.is_there()? {
            return Ok(());
        }
        journal.open()?;
        let part = target.with_suffix(".part");
        if !restart {
            let (code, shown) = (ErrorCode::SourceChanged, part.shown());
            return Err(StoreError::refused(code, "continue", shown));
        }
        let (work, _lock) = journal.take_up(&part, Grows::Beside, restart)?;
        journal.remove(&Arc::new(work), || ())
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
        if self.journal.has_name(&parent.path, name) {
            return Err(self.refused(ErrorCode::NameTaken, &offered.path));
        }
        parent.note_offered(name);
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
                        self.shared.keep_partial(&offered.path);
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

    /// Something is offered whose place cannot be used now: what arrived of it in an earlier run stays.
    pub(crate) fn keep_partial(&self, path: &RelPath) {
        self.shared.keep_partial(path);
    }

    /// Something is offered that is refused, or cannot be sent: what is here of it from an
    /// earlier run stays.
    pub(crate) fn note_refused(&self, path: &RelPath) {
        self.shared.keep_partial(path);
        // It stands for something in it that has no name here.
        if let Some(within) = self.stack().iter().find(|within| within.path == *path) {
            within.note_unnamed();
            return;
        }
        if let Some((parent, name)) = path.split_last()
            && let Ok(parent) = self.enter(&parent, path)
        {
            parent.note_offered(name);
        }
    }

    /// The directory that an entry is in: offered before it, and nothing beside it since.
    fn enter(&self, parent: &RelPath, path: &RelPath) -> Result<Arc<Directory>, StoreError> {
        let mut stack = self.stack();
        while stack.len() > 1 && stack.last().is_some_and(|top| !path.is_in(&top.path)) {
            stack.pop().iter().for_each(|over| over.note_complete());
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
        let mut is_fresh = match rustix::fs::mkdirat(&within, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error)),
        };
        if !is_fresh {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&within, name, flags, Mode::empty()) {
                Ok(_) if self.keep_existing => {}
                Ok(found) => make_writable(&found),
                // What it was in the source when an earlier run began.
                Err(Errno::NOTDIR | Errno::LOOP) if self.keeps_names => {
                    rustix::fs::unlinkat(&within, name, AtFlags::empty()).map_err(failed)?;
                    rustix::fs::mkdirat(&within, name, Mode::RWXU).map_err(failed)?;
                    is_fresh = true;
                }
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
            offered: (self.keeps_names && !is_fresh).then(Mutex::default),
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
        let timed = rustix::fs::utimensat(&self.shared.work, work.name(), &times, flags);
        if let Err(error) = timed {
            // Many file systems keep no times of links, and each says so in another way.
            let shown = beneath::shown(&self.shared.path, &offered.path);
            tracing::warn!(path = %shown.display(), %error, "the time of a link is not kept");
        }
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
        if is_directory(&stat) && self.keeps_names {
            parent.place(name).map_err(failed)?.remove_all()?;
            return Ok(Found::Nothing);
        }
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
            let shown = || self.shared.shown(&parent.path, name);
            rustix::fs::openat(&within, name, flags, Mode::empty())
                .and_then(|file| Attributes::of(offered).correct_mode(file, shown))
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

    /// Whether [`sync`](Self::sync) says what could not be written.
    pub(crate) fn sync_tells(&self) -> bool {
        self.shared.unsynced.sync_tells()
    }

    /// How many files are synced at a time: more than one where each waits for another machine.
    pub(crate) fn synced_at_a_time(&self) -> usize {
        self.shared.unsynced.at_a_time()
    }

    /// Whether `target` is a tree that an earlier run completed, and whose receipt may not have
    /// been heard.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn awaits_receipt(target: &Place) -> Result<bool, StoreError> {
        let Some(tree) = target.stat()?.filter(is_directory) else {
            return Ok(false);
        };
        let journal = match TreeJournal::of(target) {
            // What may not be looked at was not made by us.
            Err(error) if error.code == ErrorCode::PermissionDenied => return Ok(false),
            journal => journal?,
        };
        if !journal.is_there()? {
            return Ok(false);
        }
        if target.with_suffix(".part").stat()?.is_some() {
            return Ok(false);
        }
        match journal.open() {
            Err(error) if error.code == ErrorCode::NameTaken => Ok(false),
            work => journal.says_complete(&Arc::new(work?), &tree),
        }
    }

    /// Removes what is left for that, where a tree awaits its receipt.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn forget(target: &Place) -> Result<(), StoreError> {
        match Self::awaits_receipt(target)? {
            true => {
                let journal = TreeJournal::of(target)?;
                journal.clear_away(&Arc::new(journal.open()?), |_| true, || ())
            }
            false => Ok(()),
        }
    }

    /// Nobody will ask for the receipt again. What arrived of files that did not succeed stays,
    /// for a later run.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let unlock = || {
            if !self.sync_tells() {
                // It may be that of another machine, where what is open cannot be removed.
                drop(self.shared.lock().take());
            }
        };
        let partials = self.shared.partials();
        let keep = |part: &[u8]| partials.contains(&hash_of(part));
        // Those of files that are not offered any more go with the journal.
        let names = names_in(&self.shared.work).unwrap_or_default();
        let is_left = |name: &&Vec<u8>| name.ends_with(PART.as_bytes()) && !keep(name);
        let left = names.iter().filter(is_left).count() as u64;
        self.journal.clear_away(&self.shared.work, keep, unlock)?;
        self.shared.removed.fetch_add(left, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the tree its name, once everything in it has its own, and makes all durable. The
    /// journal stays until [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`ErrorCode::TargetExists`] when somebody took the name meanwhile.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        let over = std::mem::take(&mut *self.stack());
        over.iter().for_each(|directory| directory.note_complete());
        drop(over);
        let synced = self.shared.unsynced.sync(&self.shared.root);
        synced.map_err(|(error, path)| self.failed(error, "sync", &path))?;
        let Shared { work, root, .. } = &*self.shared;
        self.journal.note_complete(work, root)?;
        // Before it has its name: who finds a tree of that name finds all of it.
        if let Some(attributes) = self.attributes {
            let failed = |error| self.failed(error, "finish", &RelPath::root());
            let shown = || self.target.shown().to_owned();
            attributes.apply(root, shown).map_err(failed)?;
            rustix::fs::fsync(root).map_err(failed)?;
        }
        if let Some(part) = &self.part {
            part.rename_to(&self.target, false)?;
        }
        self.target.sync_directory()?;
        // At once: until then what comes to be called as the partial was would be taken for it.
        if self.part.is_some()
            && let Some(lock) = &*self.shared.lock()
            && let Err(error) = self.journal.note_named(lock)
        {
            tracing::warn!(%error, "the journal still says that the tree has no name");
        }
        Ok(())
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

    /// Of what is offered a partial stays, unless it succeeds.
    fn keep_partial(&self, path: &RelPath) {
        let name = partial_name(path);
        // Of most that is refused there is none.
        let found = rustix::fs::statat(&self.work, &name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok() {
            self.partials().insert(hash_of(name.as_bytes()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partials(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory of the tree, from those used last or looked up anew.
    fn directory(&self, path: &RelPath) -> Result<Arc<OwnedFd>, Errno> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let at = opened.iter().position(|(there, _)| there == path);
        let found = match at.and_then(|at| opened.remove(at)) {
            Some((_, found)) => found,
            None => Arc::new(beneath::open_directory(self.root.as_fd(), path)?),
        };
        opened.truncate(OPEN_DIRECTORIES - 1);
        opened.push_front((path.clone(), Arc::clone(&found)));
        Ok(found)
    }
}

fn is_same_file(stat: &Stat, size: u64, modified: Timestamp) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_size as u64 == size
        && is_same_time(stat, modified)
}

/// Whether this file system gives names back as they were given, and tells those apart that differ
/// in case only: otherwise what was offered would not be found under its name.
fn keeps_names(work: &OwnedFd) -> bool {
    let (probe, folded) = ("N\u{e9}.".as_bytes(), "n\u{e9}.".as_bytes());
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(work, probe, flags, Mode::RUSR | Mode::WUSR);
    let is_kept = made.is_ok()
        && names_in(work).is_ok_and(|names| names.iter().any(|name| name == probe))
        && rustix::fs::statat(work, folded, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT);
    // Best effort: it goes with all that is here, at the latest.
    let _ = rustix::fs::unlinkat(work, probe, AtFlags::empty());
    is_kept
}

/// Directories held open for their next file.
const OPEN_DIRECTORIES: usize = 16;
