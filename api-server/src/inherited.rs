//! Files that whoever started this program left open for it.

use std::os::fd::RawFd;

/// Descriptors that were open from the start on, but for the standard ones.
#[derive(Debug)]
pub(crate) struct Inherited(Vec<RawFd>);

impl Inherited {
    /// To be called before this program opens anything.
    pub(crate) fn look() -> Self {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter();
        let names = entries.flatten().flatten().map(|entry| entry.file_name());
        let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
        let open: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
        // By now the directory that was read is closed: its number will be a file's of our own.
        let is_open =
            |number: &RawFd| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
        Self(open.into_iter().filter(is_open).collect())
    }

    /// To be called when the configuration, which may be one of them (`<(…)`), was read, and before
    /// anything runs for users: their programs would have these files too, with the rights with
    /// which they were opened.
    pub(crate) fn close(self) {
        for number in self.0 {
            // Nobody else here knows the number. That it is closed is what was wanted.
            let _ = nix::unistd::close(number);
        }
    }
}
