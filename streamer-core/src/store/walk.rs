//! A tree that is being sent: walked once, in order, while its first files are on their way.
//!
//! The order is that of the bytes of names within a directory, a directory before what is in
//! it. Memory is that of the names of the directories between the root and here.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::Metadata;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::limits;
use crate::path::RelPath;
use crate::store::filter::Filter;
use crate::store::{StoreError, beneath, sparse, tree_journal};
use crate::wire::message::{Entry, EntryKind, Timestamp};

/// A directory that is being sent, held open.
#[derive(Debug)]
pub struct SourceTree {
    root: OwnedFd,
    path: PathBuf,
}

impl SourceTree {
    /// Opens a directory. A symlink is followed: the user named it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| StoreError::source(error, "read", path))?;
        Ok(Self {
            root: file.into(),
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is this directory that was found.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub(crate) fn is(&self, found: &Metadata) -> Result<bool, StoreError> {
        let failed = |error| StoreError::source(error, "read", &self.path);
        let opened = rustix::fs::fstat(&self.root).map_err(failed)?;
        Ok((opened.st_dev, opened.st_ino) == (found.dev(), found.ino()))
    }

    /// Opens something in it, never through a symlink, and never waiting for a pipe.
    pub(crate) fn open_file(&self, path: &RelPath) -> Result<OwnedFd, StoreError> {
        let open = |flags| beneath::open(self.root.as_fd(), path, OFlags::NOCTTY | flags);
        let opened = match open(OFlags::RDONLY | OFlags::NONBLOCK) {
            // Another program has a lease on it (Samba, a server of NFS), which it gives up when asked.
            Err(Errno::AGAIN) if self.is_file(path) => open(OFlags::RDONLY),
            opened => opened,
        };
        opened.map_err(|error| StoreError::source(error, "read", &self.shown(path)))
    }

    fn is_file(&self, path: &RelPath) -> bool {
        beneath::open(self.root.as_fd(), path, OFlags::PATH)
            .and_then(rustix::fs::fstat)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// A path in it, for messages.
    pub(crate) fn shown(&self, path: &RelPath) -> PathBuf {
        beneath::shown(&self.path, path)
    }
}

/// Yields the entries of a tree in order, the root first.
#[derive(Debug)]
pub struct Walk {
    tree: Arc<SourceTree>,
    filter: Option<Filter>,
    stack: Vec<Level>,
    ready: VecDeque<Entry>,
}

/// A directory that is being read.
#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    path: RelPath,
    /// Last name first.
    names: Vec<CString>,
    /// Taken when it is offered.
    entry: Option<Entry>,
}

impl Walk {
    /// Starts at the root.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn new(tree: Arc<SourceTree>, filter: Option<Filter>) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| StoreError::source(error, "read", &tree.path);
        let directory = beneath::open_directory(tree.root.as_fd(), &RelPath::root());
        let directory = directory.map_err(|error| failed(error.into()))?;
        let stat = rustix::fs::fstat(&directory).map_err(|error| failed(error.into()))?;
        let names = names_of(&directory).map_err(|error| failed(error.into()))?;
        let root = entry_of(RelPath::root(), EntryKind::Directory, &stat);
        let level = Level {
            directory,
            path: RelPath::root(),
            names,
            entry: None,
        };
        Ok(Self {
            tree,
            filter,
            stack: vec![level],
            ready: VecDeque::from([root]),
        })
    }

    /// The next entry, or `None` too once `is_over`, which is asked for each name that is looked at.
    pub(crate) fn next_unless(&mut self, is_over: impl Fn() -> bool) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            if is_over() {
                return None;
            }
            self.step()?;
        }
    }

    /// Looks at one name, or leaves a directory. `None` when the root is left.
    fn step(&mut self) -> Option<()> {
        let level = self.stack.last_mut()?;
        let Some(name) = level.names.pop() else {
            self.stack.pop();
            return Some(());
        };
        let path = match level.path.join(name.to_bytes()) {
            Ok(path) => path,
            Err(error) => {
                // It cannot even be offered: its directory stands for it.
                let shown = self.tree.shown(&level.path);
                tracing::warn!(directory = %shown.display(), %error, "something is left out");
                let unsent = unsent(level.path.clone(), ErrorCode::NameRefused);
                self.ready.push_back(unsent);
                return Some(());
            }
        };
        if level.path.is_root() && tree_journal::is_left_in(&level.directory, name.to_bytes()) {
            let shown = self.tree.shown(&path);
            // Whoever asks for no warnings hears it too: files may be missing here.
            tracing::error!(
                journal = %shown.display(),
                "not sent: it is of a transfer into this directory that is not over, or not complete"
            );
            return Some(());
        }
        let found = rustix::fs::statat(&level.directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        match found {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.enter(path, &stat);
            }
            Ok(stat) => {
                if self
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.wants(&path))
                {
                    let mut entry = entry_of(path, kind_of(level, &name, &stat), &stat);
                    entry.has_holes = has_holes(level, &name, &stat, &entry.kind);
                    self.offer(entry);
                }
            }
            Err(error) => {
                if self
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.wants(&path))
                {
                    self.offer(unsent(path, code_of(error)));
                }
            }
        }
        Some(())
    }

    fn enter(&mut self, path: RelPath, stat: &Stat) {
        if !self
            .filter
            .as_ref()
            .is_none_or(|filter| filter.enters(&path))
        {
            return;
        }
        let opened = beneath::open_directory(self.tree.root.as_fd(), &path)
            .and_then(|directory| Ok((names_of(&directory)?, directory)));
        let (names, directory) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.offer(unsent(path, code_of(error))),
        };
        let entry = entry_of(path.clone(), EntryKind::Directory, stat);
        self.stack.push(Level {
            directory,
            path,
            names,
            entry: Some(entry),
        });
        if self.filter.as_ref().is_none_or(|filter| !filter.selects()) {
            self.offer_directories();
        }
    }

    fn offer(&mut self, entry: Entry) {
        self.offer_directories();
        self.ready.push_back(entry);
    }

    /// Those above here that were not offered yet.
    fn offer_directories(&mut self) {
        let unoffered = self.stack.iter_mut().filter_map(|level| level.entry.take());
        self.ready.extend(unoffered);
    }
}

impl Iterator for Walk {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.next_unless(|| false)
    }
}

/// Names in a directory, the last one first.
fn names_of(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for found in Dir::read_from(directory)? {
        let found = found?;
        let name = found.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn kind_of(level: &Level, name: &CString, stat: &Stat) -> EntryKind {
    let refused = |code| EntryKind::Unsent { code };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => match u64::try_from(stat.st_size).map(BlockPlan::new) {
            Ok(Some(plan)) => EntryKind::File { size: plan.size() },
            _ => refused(ErrorCode::LimitExceeded),
        },
        FileType::Symlink => match rustix::fs::readlinkat(&level.directory, name, Vec::new()) {
            Ok(target) if target.as_bytes().len() > limits::PATH_MAX_BYTES => {
                refused(ErrorCode::NameRefused)
            }
            Ok(target) if beneath::link_stays(level.path.depth(), target.as_bytes()) => {
                EntryKind::Symlink {
                    target: target.into_bytes(),
                }
            }
            Ok(_) => refused(ErrorCode::LinkLeavesTree),
            Err(error) => refused(code_of(error)),
        },
        _ => refused(ErrorCode::UnsupportedType),
    }
}

fn entry_of(path: RelPath, kind: EntryKind, stat: &Stat) -> Entry {
    // Setgid and sticky mean something else of files.
    let bits = match kind {
        EntryKind::Directory => 0o3777,
        _ => 0o777,
    };
    Entry {
        path,
        kind,
        mode: stat.st_mode & bits,
        modified: Timestamp {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        },
        has_holes: false,
    }
}

/// Opens the file only if it has to be asked.
fn has_holes(level: &Level, name: &CString, stat: &Stat, kind: &EntryKind) -> bool {
    let EntryKind::File { size } = *kind else {
        return false;
    };
    let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
    if !sparse::may_have_holes(size, blocks) || sparse::is_believed(size) {
        return sparse::may_have_holes(size, blocks);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let opened = rustix::fs::openat(
        &level.directory,
        name,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    );
    // What cannot be opened cannot be sent either, which is told when its turn comes.
    opened.is_ok_and(|file| sparse::has_holes(file, size, blocks))
}

fn unsent(path: RelPath, code: ErrorCode) -> Entry {
    Entry {
        path,
        kind: EntryKind::Unsent { code },
        mode: 0,
        modified: Timestamp::default(),
        has_holes: false,
    }
}

fn code_of(error: Errno) -> ErrorCode {
    StoreError::source(error, "read", Path::new("")).code
}
