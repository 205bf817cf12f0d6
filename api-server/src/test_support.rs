//! What tests of several modules need.

use std::time::{Duration, Instant};

/// Waits until none of these processes runs any more.
pub(crate) fn until_gone(pids: &str) {
    let gone = |pid: &str| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        state.map_or(true, |text| text.contains(") Z "))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pids.split_whitespace().all(gone) {
        assert!(Instant::now() < deadline, "one of these lives: {pids}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of a file once it ends with a line feed.
pub(crate) fn line_of(path: &std::path::Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(Instant::now() < deadline, "{} stays empty", path.display());
    }
}
