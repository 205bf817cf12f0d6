//! Opening what is below a directory, and nothing else, whatever symlinks are there and
//! whoever puts them there meanwhile.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::path::RelPath;

/// Opens `path` below `root`; no part of it may be a symlink. Creates nothing.
pub(crate) fn open(root: BorrowedFd<'_>, path: &RelPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let bytes: &[u8] = if path.is_root() {
        b"."
    } else {
        path.as_bytes()
    };
    match rustix::fs::openat2(root, bytes, flags, Mode::empty(), resolve) {
        // Linux before 5.6, or a container that knows no such call.
        Err(Errno::NOSYS | Errno::PERM) => open_by_steps(root, bytes, flags),
        other => other,
    }
}

/// Opens a directory below `root`.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Name by name, each held open while the next is looked up in it.
fn open_by_steps(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let within = held.as_ref().map_or(root, AsFd::as_fd);
        let flags = if names.peek().is_some() { step } else { flags };
        held = Some(rustix::fs::openat(within, name, flags, Mode::empty())?);
    }
    held.ok_or(Errno::NOENT)
}

/// `path` below `root`, for messages.
pub(crate) fn shown(root: &Path, path: &RelPath) -> PathBuf {
    if path.is_root() {
        return root.to_owned();
    }
    root.join(OsStr::from_bytes(path.as_bytes()))
}

/// Whether a symlink in a directory `depth` names below the root stays below it, wherever
/// other links of the tree lead: it goes up first, if at all, and not above the root.
pub(crate) fn link_stays(depth: usize, target: &[u8]) -> bool {
    let mut ups = 0;
    let mut went_down = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b".." if went_down => return false,
            b".." => ups += 1,
            b"" | b"." => {}
            _ => went_down = true,
        }
    }
    !target.is_empty() && !target.starts_with(b"/") && !target.contains(&0) && ups <= depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn links_that_stay_and_links_that_leave() {
        for (depth, target) in [
            (0, "a"),
            (0, "./a/b"),
            (1, "../a"),
            (2, "../../a//b"),
            (1, ".."),
        ] {
            assert!(link_stays(depth, target.as_bytes()), "{target}");
        }
        let leaving = [
            (0, ".."),
            (0, "/etc"),
            (1, "../../a"),
            (0, ""),
            // Another link may lead up: what follows it must not.
            (2, "a/../b"),
            (2, "a/.."),
            // The same, however it is written.
            (2, "a/./../b"),
            (2, "a//../b"),
        ];
        for (depth, target) in leaving {
            assert!(!link_stays(depth, target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn both_ways_open_what_is_below_and_no_symlink() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        std::fs::write(dir.path().join("root/a/b/file"), "inside").unwrap();
        std::fs::write(dir.path().join("outside"), "outside").unwrap();
        symlink("..", dir.path().join("root/up")).unwrap();
        symlink("a", dir.path().join("root/in")).unwrap();
        symlink("../outside", dir.path().join("root/last")).unwrap();
        let root = std::fs::File::open(dir.path().join("root")).unwrap();
        let by_steps = |path: &RelPath| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            open_by_steps(root.as_fd(), path.as_bytes(), flags)
        };
        let at_once = |path: &RelPath| open(root.as_fd(), path, OFlags::RDONLY);
        for opened in [by_steps(&path("a/b/file")), at_once(&path("a/b/file"))] {
            let mut text = String::new();
            std::fs::File::from(opened.unwrap())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "inside");
        }
        for leaving in ["up/outside", "in/b/file", "last", "missing"] {
            assert!(by_steps(&path(leaving)).is_err(), "{leaving}");
            assert!(at_once(&path(leaving)).is_err(), "{leaving}");
        }
    }
}
