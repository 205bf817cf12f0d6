//! SIGINT and SIGTERM: gigabytes on memory-backed storage are not left behind.

use std::io;
use std::path::PathBuf;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// Exit code of an interrupted command.
const INTERRUPTED: i32 = 130;

/// Removes `dir` and leaves when the first of these signals comes. To be called before any
/// other thread starts. Programs being measured end by themselves: see [`crate::measure`].
///
/// # Errors
/// If the signals cannot be held back.
pub fn remove_on_interrupt(dir: PathBuf) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            // Programs that still write may bring a file back; the next call finds it gone
            // or the system says why.
            let _ = std::fs::remove_dir_all(&dir).or_else(|_| std::fs::remove_dir_all(&dir));
            #[expect(clippy::exit, reason = "the main thread is waiting for a program")]
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}
