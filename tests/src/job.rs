//! A running endpoint, seen from the outside: by the kernel's tables.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The `streamer server` process that serves `path`, once it listens on TCP.
///
/// # Panics
/// When it does not come up in time.
pub fn endpoint(path: &Path) -> (u32, SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = process_of(path);
        if let Some((id, address)) = found.and_then(|id| Some((id, listening(id)?))) {
            return (id, address);
        }
        assert!(
            Instant::now() < deadline,
            "no endpoint for {}",
            path.display()
        );
        // The kernel's tables can only be polled.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Command lines of every process that can be seen.
pub fn command_lines() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        // One that ended meanwhile has none.
        let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        Some((id, String::from_utf8_lossy(&line).replace('\0', " ")))
    })
    .collect()
}

fn process_of(path: &Path) -> Option<u32> {
    let path = path.display().to_string();
    let serves = |line: &str| line.contains(" server ") && line.contains(&path);
    let mut lines = command_lines().into_iter();
    // The job's shell replaces itself by `exec`: there is one process, or none yet.
    lines.find(|(_, line)| serves(line)).map(|(id, _)| id)
}

fn listening(id: u32) -> Option<SocketAddr> {
    let own = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?;
    let own: Vec<PathBuf> = own
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let socket = PathBuf::from(format!("socket:[{}]", fields.get(9)?));
        if fields.get(3) != Some(&LISTEN) || !own.contains(&socket) {
            return None;
        }
        let (_, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
