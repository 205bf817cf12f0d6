//! The source of a transfer: opened, read by blocks, watched for change.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FileType;

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::{Hash, hash_block, root_of};
use crate::limits;
use crate::path::RelPath;
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::sparse;
use crate::store::walk::SourceTree;
use crate::wire::message::{Entry, EntryKind, Held, SessionId, Timestamp};

/// What is being sent, as the user named it.
#[derive(Debug, Clone)]
pub enum Source {
    /// One file.
    File(Arc<SourceFile>),
    /// A directory and all that is in it.
    Tree(Arc<SourceTree>),
}

impl Source {
    /// Opens a file or directory. A symlink is followed: the user named it.
    ///
    /// # Errors
    /// When it is missing, cannot be read, or is neither.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let found = std::fs::metadata(path);
        let found = found.map_err(|error| StoreError::source(error, "read", path))?;
        Ok(if found.is_dir() {
            Self::Tree(Arc::new(SourceTree::open(path)?))
        } else {
            Self::File(Arc::new(SourceFile::open(path)?))
        })
    }

    /// What has its name now: this, unless it was changed or replaced since it was opened, which may be
    /// days ago.
    ///
    /// # Errors
    /// When it is missing, cannot be read, or is neither file nor directory any more.
    fn renewed(&self) -> Result<Self, StoreError> {
        let failed = |error| StoreError::source(error, "read", self.path());
        let now = std::fs::metadata(self.path()).map_err(failed)?;
        let is_same = match self {
            Self::File(file) => is_unchanged(&file.opened, &now),
            Self::Tree(tree) => tree.is(&now)?,
        };
        match is_same {
            true => Ok(self.clone()),
            false => Self::open(self.path()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(file) => &file.path,
            Self::Tree(tree) => tree.path(),
        }
    }

    /// The file, where it is one: all that the plaintext protocol can carry.
    ///
    /// # Errors
    /// [`ErrorCode::UnsupportedType`] when it is a directory.
    pub fn one_file(&self) -> Result<Arc<SourceFile>, StoreError> {
        match self {
            Self::File(file) => Ok(Arc::clone(file)),
            Self::Tree(tree) => {
                let code = ErrorCode::UnsupportedType;
                Err(StoreError::refused(code, "send by WebSocket", tree.path()))
            }
        }
    }

    /// Opens what was offered as `entry`.
    ///
    /// # Errors
    /// When it cannot be read, or is not any more what was offered.
    pub(crate) fn file(&self, entry: &Entry) -> Result<Arc<SourceFile>, StoreError> {
        match self {
            Self::File(file) => Ok(Arc::clone(file)),
            Self::Tree(tree) => Ok(Arc::new(SourceFile::open_in(tree, entry)?)),
        }
    }
}

/// A source over all sessions of an endpoint or a client: who comes back is given what it was given
/// before, also where that has lost its name; anybody else what has the name then, which may be days
/// after it was opened.
#[derive(Debug, Clone)]
pub struct Pinned(Arc<Mutex<Pin>>);

#[derive(Debug)]
struct Pin {
    /// Who was given it; nobody yet, or somebody who cannot come back.
    session: Option<SessionId>,
    source: Source,
}

impl Pinned {
    /// Opens a file or directory, as [`Source::open`] does.
    ///
    /// # Errors
    /// The same.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Source::open(path)?.into())
    }

    /// Whether it is a directory, as far as was looked.
    pub fn is_tree(&self) -> bool {
        matches!(self.lock().source, Source::Tree(_))
    }

    /// What this session is given; `None`: one that cannot be continued.
    ///
    /// # Errors
    /// When another one had it before, and it cannot be opened any more.
    pub(crate) fn of(&self, session: Option<SessionId>) -> Result<Source, StoreError> {
        let mut pin = self.lock();
        if session.is_none() || pin.session != session {
            pin.source = pin.source.renewed()?;
            pin.session = session;
        }
        Ok(pin.source.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Pin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Source> for Pinned {
    fn from(source: Source) -> Self {
        let session = None;
        Self(Arc::new(Mutex::new(Pin { session, source })))
    }
}

/// An open regular file that is being sent.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    path: PathBuf,
    opened: Metadata,
    plan: BlockPlan,
    hashes: Mutex<Vec<Option<Hash>>>,
}

impl SourceFile {
    /// Opens a file. A symlink is followed: the user named it.
    ///
    /// # Errors
    /// When it is missing, cannot be read, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::source(error, "read", path);
        // Looked at before it is opened: opening a FIFO would wait for its other end.
        let found = std::fs::metadata(path).map_err(failed)?;
        if !found.is_file() {
            return Err(StoreError::refused(
                ErrorCode::UnsupportedType,
                "send",
                path,
            ));
        }
        let file = File::open(path).map_err(failed)?;
        Self::of(file, path.to_owned())
    }

    fn open_in(tree: &SourceTree, entry: &Entry) -> Result<Self, StoreError> {
        let file = File::from(tree.open_file(&entry.path)?);
        let source = Self::of(file, tree.shown(&entry.path))?;
        let EntryKind::File { size } = entry.kind else {
            let code = ErrorCode::UnsupportedType;
            return Err(StoreError::refused(code, "send", &source.path));
        };
        if source.plan.size() != size || modified(&source.opened) != entry.modified {
            return Err(source.changed());
        }
        Ok(source)
    }

    fn of(file: File, path: PathBuf) -> Result<Self, StoreError> {
        let opened = file.metadata();
        let opened = opened.map_err(|error| StoreError::source(error, "read", &path))?;
        let plan = BlockPlan::new(opened.len())
            .filter(|_| opened.is_file())
            .ok_or_else(|| StoreError::refused(ErrorCode::UnsupportedType, "send", &path))?;
        let hashes = Mutex::new(vec![None; plan.count() as usize]);
        Ok(Self {
            file,
            path,
            opened,
            plan,
            hashes,
        })
    }

    /// How it is offered, as the root of a transfer.
    pub fn entry(&self) -> Entry {
        Entry {
            path: RelPath::root(),
            kind: EntryKind::File {
                size: self.plan.size(),
            },
            mode: self.opened.mode() & 0o777,
            modified: modified(&self.opened),
            has_holes: sparse::has_holes(&self.file, self.opened.len(), self.opened.blocks()),
        }
    }

    /// How it is cut.
    pub fn plan(&self) -> BlockPlan {
        self.plan
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When reading fails; [`ErrorCode::SourceChanged`] when the file has become shorter.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(buffer, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return StoreError::refused(ErrorCode::SourceChanged, "read", &self.path);
            }
            StoreError::source(error, "read", &self.path)
        })
    }

    /// Whether a block is nothing but a hole, so that it need not be read.
    pub(crate) fn is_hole(&self, block: u64) -> bool {
        let has_holes = self.opened.blocks().saturating_mul(512) < self.opened.len();
        has_holes && sparse::is_hole(&self.file, &self.plan.range(block))
    }

    /// Remembers the hash of a block that was read.
    pub fn put_hash(&self, block: u64, hash: Hash) {
        if let Some(slot) = self.hashes().get_mut(block as usize) {
            *slot = Some(hash);
        }
    }

    /// Whether the file has these blocks too: reads and hashes them.
    ///
    /// # Errors
    /// When reading fails, or nobody waits for it any more.
    pub fn check_held(
        &self,
        held: &Held,
        buffer: &mut [u8],
        leaving: &Leaving,
    ) -> Result<bool, StoreError> {
        for (block, theirs) in (held.first_block..).zip(&held.hashes) {
            self.check_awaited(leaving)?;
            let ours = self.hash_block(block, buffer)?;
            if ours != *theirs {
                return Ok(false);
            }
            self.put_hash(block, ours);
        }
        Ok(true)
    }

    fn hash_block(&self, block: u64, buffer: &mut [u8]) -> Result<Hash, StoreError> {
        let read = |bytes: &mut [u8], offset| self.read_exact_at(bytes, offset);
        hash_block(self.plan, block, buffer, read)
    }

    /// The root of the file, once every block was read and if it did not change meanwhile.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] when size, time of modification or content differ from
    /// when it was opened, and when nobody waits for it any more.
    pub fn seal(&self, leaving: &Leaving) -> Result<Hash, StoreError> {
        let look = || {
            let now = self.file.metadata();
            now.map_err(|error| StoreError::source(error, "read", &self.path))
        };
        let mut seen = touched(&self.opened);
        let mut now = look()?;
        if now.len() != self.opened.len() || modified(&now) != modified(&self.opened) {
            return Err(self.changed());
        }
        let hashes: Option<Vec<Hash>> = self.hashes().iter().copied().collect();
        // Local invariant: the session seals only when every block was sent or checked.
        let hashes = hashes.ok_or_else(|| self.changed())?;
        // Whoever writes can set the time of modification back, but not this one. It also moves
        // with a new name or mode, so only the bytes tell, and may be changed while they do.
        for _ in 0..COMPARISONS {
            if touched(&now) == seen {
                return Ok(root_of(&hashes));
            }
            seen = touched(&now);
            self.compare(&hashes, leaving)?;
            now = look()?;
        }
        Err(self.changed())
    }

    fn compare(&self, hashes: &[Hash], leaving: &Leaving) -> Result<(), StoreError> {
        let mut buffer = vec![0; limits::BLOCK_MIN_BYTES as usize];
        for (block, sent) in (0..).zip(hashes) {
            self.check_awaited(leaving)?;
            if self.hash_block(block, &mut buffer)? != *sent {
                return Err(self.changed());
            }
        }
        Ok(())
    }

    fn check_awaited(&self, leaving: &Leaving) -> Result<(), StoreError> {
        match leaving.is_set() {
            false => Ok(()),
            true => Err(StoreError::refused(
                ErrorCode::Interrupted,
                "read",
                &self.path,
            )),
        }
    }

    fn changed(&self) -> StoreError {
        StoreError::refused(ErrorCode::SourceChanged, "send", &self.path)
    }

    fn hashes(&self) -> MutexGuard<'_, Vec<Option<Hash>>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn modified(metadata: &Metadata) -> Timestamp {
    Timestamp {
        seconds: metadata.mtime(),
        nanos: metadata.mtime_nsec() as u32,
    }
}

fn is_unchanged(opened: &Metadata, now: &Metadata) -> bool {
    let seen = |metadata: &Metadata| {
        let (place, times) = ((metadata.dev(), metadata.ino()), touched(metadata));
        (place, times, metadata.len(), modified(metadata))
    };
    now.is_file() && seen(opened) == seen(now)
}

/// When the file last changed in any way: `st_ctime`, which the system alone sets.
fn touched(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

/// Reads a small file of a tree in one visit: fills `buffer` with all of it. Its root.
///
/// # Errors
/// When it cannot be read, or is not any more what was offered.
pub(crate) fn read_whole(
    tree: &SourceTree,
    entry: &Entry,
    buffer: &mut [u8],
) -> Result<Hash, StoreError> {
    let shown = || tree.shown(&entry.path);
    let failed = |error: rustix::io::Errno| StoreError::source(error, "read", &shown());
    let changed = || StoreError::refused(ErrorCode::SourceChanged, "send", &shown());
    let file = File::from(tree.open_file(&entry.path)?);
    let before = rustix::fs::fstat(&file).map_err(failed)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&file, &mut buffer[filled..]) {
            Ok(0) => return Err(changed()),
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // Looked at after it was read: what is the same now was the same all the time.
    let now = rustix::fs::fstat(&file).map_err(failed)?;
    let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
    let modified = Timestamp {
        seconds: now.st_mtime,
        nanos: u32::try_from(now.st_mtime_nsec).unwrap_or_default(),
    };
    // The time of modification can be set back.
    let is_same = (now.st_ctime, now.st_ctime_nsec) == (before.st_ctime, before.st_ctime_nsec);
    let length = now.st_size as u64;
    if !is_file || !is_same || length != buffer.len() as u64 || modified != entry.modified {
        return Err(changed());
    }
    Ok(Hash::of(buffer))
}

/// Of a file that goes on changing without other bytes.
const COMPARISONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;

    fn file_of(size: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        let bytes: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn whatever_was_changed_or_replaced_is_opened_anew_and_nothing_else() {
        let is_same = |source: &Source, renewed: &Source| match (source, renewed) {
            (Source::File(one), Source::File(other)) => Arc::ptr_eq(one, other),
            (Source::Tree(one), Source::Tree(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let (dir, path, bytes) = file_of(10);
        let source = Source::open(&path).unwrap();
        assert!(is_same(&source, &source.renewed().unwrap()));
        std::fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
        let appended = source.renewed().unwrap();
        assert!(!is_same(&source, &appended));
        assert_eq!(appended.one_file().unwrap().plan().size(), 14);
        // As a program does that never leaves half a file.
        let other = dir.path().join("other");
        std::fs::write(&other, [0; 14]).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!is_same(&appended, &appended.renewed().unwrap()));
        let tree = Source::open(dir.path()).unwrap();
        std::fs::write(&other, "more").unwrap();
        assert!(is_same(&tree, &tree.renewed().unwrap()));
        std::fs::remove_file(&path).unwrap();
        let code = source.renewed().unwrap_err().code;
        assert_eq!(code, ErrorCode::SourceMissing);
        std::fs::create_dir(&path).unwrap();
        let inside = Source::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!is_same(&inside, &inside.renewed().unwrap()));
    }

    #[test]
    fn who_comes_back_is_given_the_same_and_anybody_else_what_is_there_then() {
        let (_dir, path, bytes) = file_of(10);
        let size = |source: Result<Source, StoreError>| {
            let file = source.unwrap().one_file().unwrap();
            file.plan().size()
        };
        let pinned = Pinned::open(&path).unwrap();
        let [one, other] = [1, 2].map(|id| Some(SessionId([id; 16])));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(pinned.of(one).unwrap_err().code, ErrorCode::SourceMissing);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(size(pinned.of(one)), 10);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(size(pinned.of(one)), 10);
        std::fs::write(&path, b"more").unwrap();
        assert_eq!(size(pinned.of(one)), 10);
        assert_eq!(size(pinned.of(other)), 4);
        std::fs::write(&path, b"other").unwrap();
        assert_eq!(size(pinned.of(None)), 5);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(size(pinned.of(None)), 0);
    }

    #[test]
    fn held_blocks_are_compared_and_complete_the_root() {
        let (_dir, path, bytes) = file_of(2 * BLOCK_MIN_BYTES as usize + 5);
        let source = SourceFile::open(&path).unwrap();
        let mut buffer = vec![0; 100_000];
        let hashes = (0..3)
            .map(|b| source.hash_block(b, &mut buffer).unwrap())
            .collect();
        let mut held = Held {
            entry: 0,
            first_block: 0,
            hashes,
        };
        assert!(
            source
                .check_held(&held, &mut buffer, &Leaving::default())
                .unwrap()
        );
        assert_eq!(source.seal(&Leaving::default()).unwrap(), Hash::of(&bytes));
        held.hashes[1] = Hash([0; 32]);
        assert!(
            !source
                .check_held(&held, &mut buffer, &Leaving::default())
                .unwrap()
        );
    }

    #[test]
    fn nothing_is_hashed_for_a_session_that_is_over() {
        let (_dir, path, _) = file_of(10);
        let source = SourceFile::open(&path).unwrap();
        let leaving = Leaving::default();
        leaving.set();
        let held = Held {
            entry: 0,
            first_block: 0,
            hashes: vec![Hash([0; 32])],
        };
        let error = source
            .check_held(&held, &mut [0; 10], &leaving)
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Interrupted);
    }

    #[test]
    fn a_change_is_noticed_when_sealing_and_when_reading() {
        let (_dir, path, _) = file_of(10);
        let source = SourceFile::open(&path).unwrap();
        source.put_hash(0, Hash([1; 32]));
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(9)
            .unwrap();
        assert_eq!(
            source.seal(&Leaving::default()).unwrap_err().code,
            ErrorCode::SourceChanged
        );
        let error = source.read_exact_at(&mut [0; 10], 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::SourceChanged);
    }

    #[test]
    fn a_change_whose_time_was_set_back_is_noticed_by_the_bytes() {
        let (_dir, path, bytes) = file_of(2 * BLOCK_MIN_BYTES as usize + 5);
        let source = SourceFile::open(&path).unwrap();
        let mut buffer = vec![0; 100_000];
        for block in 0..3 {
            let hash = source.hash_block(block, &mut buffer).unwrap();
            source.put_hash(block, hash);
        }
        let file = File::options().write(true).open(&path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        let opened = touched(&file.metadata().unwrap());
        // The clock of the file system may be coarse.
        while touched(&file.metadata().unwrap()) == opened {
            file.set_permissions(file.metadata().unwrap().permissions())
                .unwrap();
        }
        assert_eq!(
            source.seal(&Leaving::default()).unwrap(),
            Hash::of(&bytes),
            "only its mode"
        );
        file.write_all_at(b"other", 7).unwrap();
        file.set_modified(time).unwrap();
        assert_eq!(
            source.seal(&Leaving::default()).unwrap_err().code,
            ErrorCode::SourceChanged
        );
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SourceFile::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.code, ErrorCode::SourceMissing);
        let directory = SourceFile::open(dir.path()).unwrap_err();
        assert_eq!(directory.code, ErrorCode::UnsupportedType);
    }
}
