//! Files that whoever started this program left open for it.

use std::os::fd::RawFd;

/// Descriptors that were open from the start on, but for the standard ones.
#[derive(Debug)]
pub(crate) struct Inherited(std::io::Result<Vec<RawFd>>);

impl Inherited {
    /// To be called before this program opens anything.
    pub(crate) fn look() -> Self {
        Self(open_files())
    }

    /// To be called when the configuration, which may be one of them (`<(…)`), was read, and before
    /// anything runs for users: their programs would have these files too, with the rights with
    /// which they were opened.
    pub(crate) fn close(self) {
        let open = self.0.unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                "/proc/self/fd cannot be read: files that were left open are open for jobs too"
            );
            Vec::new()
        });
        for number in open {
            // Nobody else here knows the number. That it is closed is what was wanted.
            let _ = nix::unistd::close(number);
        }
    }
}

fn open_files() -> std::io::Result<Vec<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    let open: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    // By now the directory that was read is closed: its number will be a file's of our own.
    let is_open = |number: &RawFd| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    Ok(open.into_iter().filter(is_open).collect())
}
