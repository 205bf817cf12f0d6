//! A name in an open directory: where a target, its partial and its journal are.
//!
//! The directory is held open, so that nobody can swap it for another while bytes arrive.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, StatVfs, StatxFlags,
};
use rustix::io::Errno;

use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::limits;
use crate::store::StoreError;

/// A name in a directory that is held open.
#[derive(Debug, Clone)]
pub struct Place {
    directory: Arc<OwnedFd>,
    name: OsString,
    /// For messages only.
    shown: PathBuf,
}

impl Place {
    /// The place that a path given by the user names.
    ///
    /// # Errors
    /// When its directory is missing or cannot be opened, or the path has no final name.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let Some(name) = path.file_name() else {
            // Such as `.`: what is there has a name.
            return match path.canonicalize() {
                Ok(named) if named.file_name().is_some() => Self::of(&named),
                _ => Err(StoreError::refused(ErrorCode::NameRefused, "create", path)),
            };
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |access| rustix::fs::openat(CWD, parent, flags | access, Mode::empty());
        let directory = match open(OFlags::RDONLY) {
            // A drop box takes names and shows none.
            Err(Errno::ACCESS) => open(OFlags::PATH),
            opened => opened,
        }
        .map_err(|error| StoreError::target(error, "open the directory", parent))?;
        Ok(Self {
            directory: Arc::new(directory),
            name: name.to_owned(),
            shown: path.to_owned(),
        })
    }

    /// The same, or, where a link is there that leads to what is `wanted`, the place of that: it is
    /// the user's to say what their name stands for.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn through_link(
        path: &Path,
        wanted: impl Fn(std::fs::FileType) -> bool,
    ) -> Result<Self, StoreError> {
        let place = Self::of(path)?;
        let is_link = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        // Of the name, not of the path, which may end with a slash.
        if !place.stat()?.is_some_and(is_link) {
            return Ok(place);
        }
        // Followed by the system, which follows no link that somebody else left in a directory that
        // is everybody's.
        let found = std::fs::metadata(path).map(|found| found.file_type());
        match path.canonicalize() {
            Ok(named) if found.is_ok_and(wanted) => Self::of(&named),
            _ => Ok(place),
        }
    }

    /// A name in a directory that is open.
    pub(crate) fn within(directory: Arc<OwnedFd>, name: &[u8], shown: PathBuf) -> Self {
        Self {
            directory,
            name: OsStr::from_bytes(name).to_owned(),
            shown,
        }
    }

    /// Makes a directory here with mode 0700; `false` when something is here already.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn make_directory(&self) -> Result<bool, StoreError> {
        match rustix::fs::mkdirat(&self.directory, self.name(), Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(StoreError::target(error, "create", &self.shown)),
        }
    }

    /// Opens the directory that is here, never through a symlink.
    ///
    /// # Errors
    /// As the operating system says; also when it is no directory.
    pub(crate) fn open_directory(&self) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, self.name(), flags, Mode::empty())
            .map_err(|error| StoreError::target(error, "open the directory", &self.shown))
    }

    /// Removes whatever is here, and all that is in it; follows no symlink. How many these were,
    /// directories not counted.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn remove_all(&self) -> Result<u64, StoreError> {
        let name = CString::new(self.name.as_bytes()).unwrap_or_default();
        remove_all(self.directory.as_fd(), &name, limits::PATH_MAX_NAMES + 2)
            .map_err(|error| StoreError::target(error, "remove", &self.shown))
    }

    /// Removes an empty directory; one that is not, or is gone, is somebody else's by now.
    ///
    /// # Errors
    /// As the operating system says otherwise.
    pub(crate) fn remove_directory(&self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.directory, self.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(StoreError::target(error, "remove", &self.shown)),
        }
    }

    /// The path, for messages.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A place in the same directory whose name is this one's with `suffix`; shortened, with
    /// a hash in it, where the file system would not take so long a name.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let name = self.name.as_bytes();
        let mut bytes = name.to_vec();
        if name.len() + suffix.len() > limits::NAME_MAX_BYTES {
            let hash = format!("~{}", Hash::of(name));
            bytes.truncate(limits::NAME_MAX_BYTES - suffix.len() - hash.len());
            bytes.extend_from_slice(hash.as_bytes());
        }
        bytes.extend_from_slice(suffix.as_bytes());
        let name = OsString::from_vec(bytes);
        let shown = self.shown.with_file_name(&name);
        Self {
            directory: Arc::clone(&self.directory),
            name,
            shown,
        }
    }

    /// What is there, symlinks not followed; `None` when nothing is.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn stat(&self) -> Result<Option<Stat>, StoreError> {
        match rustix::fs::statat(&self.directory, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::target(error, "look at", &self.shown)),
        }
    }

    /// Whether its directory takes new names from us, which can be moved into `inner`.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn takes_names_for(&self, inner: &OwnedFd) -> Result<bool, StoreError> {
        let failed = |error| StoreError::target(error, "look at the directory of", &self.shown);
        let there = rustix::fs::fstat(inner).map_err(failed)?;
        let stat = rustix::fs::fstat(&self.directory).map_err(failed)?;
        // Nothing moves between two mounts, of the same file system either.
        let is_one_mount = mount_of(inner) == mount_of(&self.directory);
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let allowed = rustix::fs::accessat(&self.directory, ".", access, AtFlags::EACCESS);
        Ok(stat.st_dev == there.st_dev && is_one_mount && allowed.is_ok())
    }

    /// Sees that the owner of what was found here is us: what somebody else left for us to take up
    /// could be read and changed by them.
    ///
    /// # Errors
    /// [`ErrorCode::NameTaken`] when it is not, and the usual file errors.
    pub(crate) fn check_owner(&self, owner: u32) -> Result<(), StoreError> {
        if owner == rustix::process::geteuid().as_raw() || owner == self.own_uid()? {
            return Ok(());
        }
        Err(StoreError::refused(
            ErrorCode::NameTaken,
            "write to",
            &self.shown,
        ))
    }

    /// Whose a new file is here: file systems of other machines know users by other numbers.
    fn own_uid(&self) -> Result<u32, StoreError> {
        // One that a run that was killed has left is in nobody's way.
        let probe = self.with_suffix(&format!(".{:x}", RandomState::new().hash_one(())));
        let file = probe.open(OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
        let owner = rustix::fs::fstat(file).map(|stat| stat.st_uid);
        probe.remove()?;
        owner.map_err(|error| StoreError::target(error, "look at", probe.shown()))
    }

    /// Opens or makes a file with mode 0600, never through a symlink.
    ///
    /// # Errors
    /// As the operating system says; with `OFlags::EXCL` also when something is there.
    pub fn open(&self, flags: OFlags) -> Result<File, StoreError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.directory, self.name(), flags, mode)
            .map(File::from)
            .map_err(|error| StoreError::target(error, "write", &self.shown))
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn remove(&self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.directory, self.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(StoreError::target(error, "remove", &self.shown)),
        }
    }

    /// Gives the file or directory here the name of `target`, in one step.
    ///
    /// # Errors
    /// [`ErrorCode::TargetExists`] when something has that name and `replace` is false.
    pub fn rename_to(&self, target: &Self, replace: bool) -> Result<(), StoreError> {
        let flags = if replace {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        let (from, to) = (&self.directory, &target.directory);
        let mut result = rustix::fs::renameat_with(from, self.name(), to, target.name(), flags);
        if matches!(result, Err(Errno::INVAL | Errno::NOSYS)) && !replace {
            result = self.rename_without_noreplace(target);
        }
        result.map_err(|error| StoreError::target(error, "create", &target.shown))
    }

    /// Some file systems know no NOREPLACE, NFS among them.
    fn rename_without_noreplace(&self, target: &Self) -> Result<(), Errno> {
        let (from, to) = (&self.directory, &target.directory);
        self.rename_by_link(target, || {
            rustix::fs::linkat(from, self.name(), to, target.name(), AtFlags::empty())
        })
    }

    /// By a hard link, which refuses as well, and the end of the old name.
    fn rename_by_link(
        &self,
        target: &Self,
        link: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (from, to) = (&self.directory, &target.directory);
        let stat = |place: &Self| {
            rustix::fs::statat(&place.directory, place.name(), AtFlags::SYMLINK_NOFOLLOW)
        };
        let ours = stat(self)?;
        if FileType::from_raw_mode(ours.st_mode) != FileType::Directory {
            let linked = link();
            // Servers of NFS 3 may do what they are asked and lose the answer: asked again, they say
            // that the name is there, or is gone.
            let is_ours = match linked {
                Ok(()) => is_same_inode(&ours, &stat(target)?),
                Err(Errno::EXIST) => stat(target).is_ok_and(|there| is_same_inode(&ours, &there)),
                Err(_) => false,
            };
            if is_ours {
                return match rustix::fs::unlinkat(from, self.name(), AtFlags::empty()) {
                    Err(Errno::NOENT) => Ok(()),
                    unlinked => unlinked,
                };
            }
            match linked {
                // BeeGFS can be told to make a symlink instead, which would lead to nothing.
                Ok(()) => rustix::fs::unlinkat(to, target.name(), AtFlags::empty())?,
                Err(error) if LINKS_REFUSED.contains(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match stat(target) {
            // What comes here meanwhile is not replaced either, unless it is an empty directory.
            Err(Errno::NOENT) => rustix::fs::renameat(from, self.name(), to, target.name()),
            Ok(_) => Err(Errno::EXIST),
            Err(error) => Err(error),
        }
    }

    /// Makes names in the directory durable.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn sync_directory(&self) -> Result<(), StoreError> {
        match rustix::fs::fsync(&self.directory) {
            // Some file systems cannot sync directories, and nobody can one that may not be read:
            // nothing more can be done there.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::BADF) => Ok(()),
            Err(error) => Err(StoreError::target(
                error,
                "sync the directory of",
                &self.shown,
            )),
        }
    }

    /// Bytes that an unprivileged user may still write here; `None` when it cannot be told.
    pub fn free_bytes(&self) -> Option<u64> {
        free_of(&rustix::fs::fstatvfs(&self.directory).ok()?)
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }
}

/// `None` of file systems that do not say: programs behind FUSE may answer with zeros.
fn free_of(stat: &StatVfs) -> Option<u64> {
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(crate) fn is_same_inode(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// The mount that a directory is reached by, where the kernel says so (Linux 5.8).
fn mount_of(directory: &OwnedFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(directory, c"", flags, StatxFlags::MNT_ID).ok()?;
    let is_said = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    is_said.then_some(found.stx_mnt_id)
}

fn remove_all(directory: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<u64, Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    // It may have got its own mode already.
    rustix::fs::fchmod(&inner, Mode::RWXU)?;
    let mut removed = 0;
    for found in rustix::fs::Dir::read_from(&inner)? {
        let found = found?;
        if found.file_name() != c"." && found.file_name() != c".." {
            removed += remove_all(inner.as_fd(), found.file_name(), depth - 1)?;
        }
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}

/// Of file systems without hard links, and of AFS, which has them within one directory only.
const LINKS_REFUSED: [Errno; 4] = [Errno::PERM, Errno::NOTSUP, Errno::NOSYS, Errno::XDEV];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_get_a_partial_that_fits() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        let place = Place::of(&dir.path().join(&name)).unwrap();
        let part = place.with_suffix(".part");
        assert_eq!(part.name.len(), 255);
        assert!(
            part.open(OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL)
                .is_ok()
        );
        part.rename_to(&place, false).unwrap();
        assert!(dir.path().join(&name).exists());
    }

    #[test]
    fn a_name_that_is_taken_is_not_replaced_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "a").unwrap();
        std::fs::write(&b, "b").unwrap();
        let (a_place, b_place) = (Place::of(&a).unwrap(), Place::of(&b).unwrap());
        let error = a_place.rename_to(&b_place, false).unwrap_err();
        assert_eq!(error.code, ErrorCode::TargetExists);
        a_place.rename_to(&b_place, true).unwrap();
        assert_eq!(std::fs::read(&b).unwrap(), b"a");
    }

    #[test]
    fn without_noreplace_neither_file_nor_directory_replaces_anything() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| Place::of(&dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join("file"), "f").unwrap();
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        std::fs::write(dir.path().join("directory/inner"), "i").unwrap();
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        for name in ["file", "directory"] {
            let taken = place(name).rename_without_noreplace(&place("taken"));
            assert_eq!(taken, Err(Errno::EXIST), "{name}");
            let free = place(name).rename_without_noreplace(&place(&format!("{name}-new")));
            assert_eq!(free, Ok(()), "{name}");
            assert!(place(name).stat().unwrap().is_none());
        }
        let inner = std::fs::read(dir.path().join("directory-new/inner")).unwrap();
        assert_eq!(inner, b"i");
    }

    #[test]
    fn where_no_link_is_made_a_file_is_renamed_and_replaces_nothing() {
        for refusal in [Errno::PERM, Errno::XDEV] {
            let dir = tempfile::tempdir().unwrap();
            let place = |name: &str| Place::of(&dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join("file"), "f").unwrap();
            std::fs::write(dir.path().join("taken"), "t").unwrap();
            let taken = place("file").rename_by_link(&place("taken"), || Err(refusal));
            assert_eq!(taken, Err(Errno::EXIST), "{refusal:?}");
            let free = place("file").rename_by_link(&place("new"), || Err(refusal));
            assert_eq!(free, Ok(()), "{refusal:?}");
            assert_eq!(std::fs::read(dir.path().join("new")).unwrap(), b"f");
        }
    }

    #[test]
    fn a_link_that_was_made_and_whose_answer_was_lost_gives_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| Place::of(&dir.path().join(name)).unwrap();
        let at = |name: &str| dir.path().join(name);
        for is_gone in [false, true] {
            std::fs::write(at("file"), "f").unwrap();
            let named = place("file").rename_by_link(&place("new"), || {
                std::fs::hard_link(at("file"), at("new")).unwrap();
                if is_gone {
                    std::fs::remove_file(at("file")).unwrap();
                }
                Err(Errno::EXIST)
            });
            assert_eq!(named, Ok(()));
            assert!(!at("file").exists());
            std::fs::remove_file(at("new")).unwrap();
        }
        std::fs::write(at("file"), "f").unwrap();
        std::fs::write(at("new"), "n").unwrap();
        let taken = place("file").rename_by_link(&place("new"), || Err(Errno::EXIST));
        assert_eq!(taken, Err(Errno::EXIST));
        assert_eq!(std::fs::read(at("file")).unwrap(), b"f");
    }

    #[test]
    fn a_file_system_that_does_not_say_how_large_it_is_is_not_full() {
        let mut stat = rustix::fs::statvfs("/").unwrap();
        (stat.f_blocks, stat.f_bavail, stat.f_frsize) = (10, 0, 512);
        assert_eq!(free_of(&stat), Some(0));
        stat.f_bavail = 3;
        assert_eq!(free_of(&stat), Some(3 * 512));
        (stat.f_blocks, stat.f_bavail, stat.f_frsize) = (0, 0, 0);
        assert_eq!(free_of(&stat), None);
    }

    #[test]
    fn a_symlink_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), dir.path().join("a")).unwrap();
        let place = Place::of(&dir.path().join("a")).unwrap();
        assert!(place.open(OFlags::CREATE | OFlags::WRONLY).is_err());
        assert!(!dir.path().join("victim").exists());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Place::of(Path::new("/nonexistent/x")).unwrap_err();
        assert_eq!(error.code, ErrorCode::ParentMissing);
        assert_eq!(
            error.to_string(),
            "cannot open the directory '/nonexistent'"
        );
        assert_eq!(
            Place::of(Path::new("/")).unwrap_err().code,
            ErrorCode::NameRefused
        );
        let here = Place::of(Path::new(".")).unwrap();
        assert_eq!(here.shown(), std::env::current_dir().unwrap());
    }
}
