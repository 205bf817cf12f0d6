//! Whether `syncfs(2)` can be believed.

use std::os::fd::AsFd;

/// Whether `syncfs` on this file system makes all durable and says what could not be written. Linux
/// before 5.8 reports success whatever happened (syncfs(2), "Versions"). Those of other machines (NFS,
/// Lustre, BeeGFS, SMB, FUSE) only begin to write, or do not ask their server, or know of a full
/// quota only where it wrote: there each file and directory has to be asked, as anywhere that
/// is not known to be better.
pub(crate) fn tells_of_losses(directory: impl AsFd) -> bool {
    let uname = rustix::system::uname();
    let is_recent = uname.release().to_str().is_ok_and(is_recent);
    is_recent && rustix::fs::fstatfs(directory).is_ok_and(|stat| LOCAL.contains(&stat.f_type))
}

fn is_recent(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
        _ => false,
    }
}

/// ext2 to ext4, XFS, Btrfs, F2FS and tmpfs, by their numbers in `statfs(2)`.
const LOCAL: [rustix::fs::FsWord; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_5_8_on_tell() {
        for release in ["5.8.0", "5.14.0-427.el9.x86_64", "6.18.44-fc", "10.0"] {
            assert!(is_recent(release), "{release}");
        }
        for release in [
            "4.18.0-553.el8_10.x86_64",
            "5.7.19",
            "3.10.0",
            "",
            "linux",
            "6",
        ] {
            assert!(!is_recent(release), "{release}");
        }
    }
}
