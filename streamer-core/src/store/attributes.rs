//! Mode and time of what is received: set, and compared with what is there.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::wire::message::{Entry, Timestamp};

/// Mode and time, as offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    mode: u32,
    modified: Timestamp,
    pub(crate) has_holes: bool,
}

impl Attributes {
    pub(crate) fn of(offered: &Entry) -> Self {
        Self {
            mode: offered.mode,
            modified: offered.modified,
            has_holes: offered.has_holes,
        }
    }

    /// The time of the last access stays: many centres remove what was not used for long, and a
    /// file that has just arrived was.
    pub(crate) fn times(self) -> Timestamps {
        Timestamps {
            last_access: UNCHANGED,
            last_modification: Timespec {
                tv_sec: self.modified.seconds,
                tv_nsec: i64::from(self.modified.nanos),
            },
        }
    }

    /// Gives a file that is there its mode, where it has another one.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn correct_mode(
        self,
        file: impl AsFd,
        shown: impl Fn() -> PathBuf,
    ) -> Result<(), Errno> {
        tolerate(rustix::fs::fchmod(&file, self.mode()), "mode", &shown)
    }

    /// Gives them to a file or directory, `shown` so in the log. Setgid and sticky are for directories
    /// only, where they say whose the files in it are; a directory also keeps the setgid that it was
    /// made with, so that the files of a project get its group. Setuid is for none.
    ///
    /// What the file system or its owner does not allow is no reason to give up bytes that have
    /// arrived: the log tells.
    ///
    /// # Errors
    /// As the operating system says otherwise.
    pub(crate) fn apply(self, file: impl AsFd, shown: impl Fn() -> PathBuf) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&file)?;
        let kept = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => stat.st_mode & SETGID | self.mode & (SETGID | STICKY),
            _ => 0,
        };
        let mode = rustix::fs::fchmod(&file, Mode::from_raw_mode(self.mode & 0o777 | kept));
        tolerate(mode, "mode", &shown)?;
        tolerate(rustix::fs::futimens(&file, &self.times()), "time", &shown)
    }

    /// As a file gets it.
    pub(crate) fn mode(self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }
}

/// Of a directory that belongs to somebody else, and of file systems that know no modes.
pub(crate) fn tolerate(
    result: Result<(), Errno>,
    what: &str,
    shown: impl Fn() -> PathBuf,
) -> Result<(), Errno> {
    match result {
        Err(error @ (Errno::PERM | Errno::NOTSUP | Errno::NOSYS)) => {
            tracing::warn!(path = %shown().display(), %error, "the {what} is not kept");
            Ok(())
        }
        other => other,
    }
}

/// What is ours must be open to us until it gets its own mode.
pub(crate) fn make_writable(directory: impl AsFd) {
    if let Ok(stat) = rustix::fs::fstat(&directory)
        && stat.st_mode & 0o700 != 0o700
    {
        let mode = stat.st_mode & (0o777 | SETGID | STICKY) | 0o700;
        // Where it is not ours, what is created in it will say so.
        let _ = rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode));
    }
}

/// Whether a file has the time that was set, as its file system keeps times: to the nanosecond, or
/// cut to coarser steps.
pub(crate) fn is_same_time(stat: &Stat, modified: Timestamp) -> bool {
    let nanos = u64::from(modified.nanos);
    let is_cut = |step| stat.st_mtime_nsec == nanos - nanos % step;
    stat.st_mtime == modified.seconds && STEPS.into_iter().any(is_cut)
}

/// A time that is left alone.
pub(crate) const UNCHANGED: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_OMIT,
};

const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// In nanoseconds: most file systems, NTFS and SMB, microseconds, milliseconds, exFAT, and seconds,
/// as small inodes of ext4 and many old servers of NFS.
const STEPS: [u64; 6] = [1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn attributes(mode: u32) -> Attributes {
        Attributes {
            mode,
            modified: Timestamp {
                seconds: 5,
                nanos: 123_456_789,
            },
            has_holes: false,
        }
    }

    #[test]
    fn a_directory_keeps_the_setgid_that_it_has_and_gets_setgid_and_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for (before, offered, after) in [
            (0o2700, 0o755, 0o2755),
            (0o700, 0o2755, 0o2755),
            (0o700, 0o5777, 0o1777),
            (0o2770, 0o6750, 0o2750),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(before)).unwrap();
            let open = std::fs::File::open(path).unwrap();
            attributes(offered).apply(&open, || path.into()).unwrap();
            let found = open.metadata().unwrap();
            assert_eq!(found.mode() & 0o7777, after, "{before:o} {offered:o}");
            assert_eq!((found.mtime(), found.mtime_nsec()), (5, 123_456_789));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o2550)).unwrap();
        make_writable(std::fs::File::open(path).unwrap());
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o2750);
    }

    #[test]
    fn a_time_that_the_file_system_cut_is_the_same_and_no_other_is() {
        let mut stat = rustix::fs::fstat(tempfile::tempfile().unwrap()).unwrap();
        stat.st_mtime = 5;
        let modified = attributes(0).modified;
        for nanos in [
            123_456_789,
            123_456_700,
            123_456_000,
            123_000_000,
            120_000_000,
            0,
        ] {
            stat.st_mtime_nsec = nanos;
            assert!(is_same_time(&stat, modified), "{nanos}");
        }
        for nanos in [123_456_788, 123_456_001, 100_000_000, 999_999_999] {
            stat.st_mtime_nsec = nanos;
            assert!(!is_same_time(&stat, modified), "{nanos}");
        }
        stat.st_mtime = 6;
        stat.st_mtime_nsec = 0;
        assert!(!is_same_time(&stat, modified));
    }

    #[test]
    fn what_is_not_allowed_is_told_and_other_errors_count() {
        let path = || PathBuf::from("x");
        assert_eq!(tolerate(Err(Errno::PERM), "mode", path), Ok(()));
        assert_eq!(tolerate(Err(Errno::NOTSUP), "time", path), Ok(()));
        assert_eq!(tolerate(Err(Errno::IO), "time", path), Err(Errno::IO));
    }
}
