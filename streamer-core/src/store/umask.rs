//! The mode of a new file whose mode nobody said.

/// What `open(2)` with 0666 would give: read and write, less this process's umask. Where that
/// cannot be told, only the owner's: reading it with `umask(2)` would change it for a moment,
/// for every thread.
pub fn new_file_mode() -> u32 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| umask_of(&status))
        .map_or(0o600, |umask| 0o666 & !umask)
}

fn umask_of(status: &str) -> Option<u32> {
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(digits.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_new_file_gets_the_mode_that_the_system_would_give_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        std::fs::write(&path, "").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(new_file_mode(), mode & 0o777);
    }

    #[test]
    fn the_umask_is_found_among_the_other_lines() {
        assert_eq!(umask_of("Name:\tx\nUmask:\t0027\nState:\tR\n"), Some(0o27));
        assert_eq!(umask_of("Name:\tx\n"), None);
    }
}
