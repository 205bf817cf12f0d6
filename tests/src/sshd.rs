//! An sshd of a test's own, for the users of the cluster.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Cluster;

/// A running sshd; killed, with the sessions it serves, when dropped.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    _directory: tempfile::TempDir,
    /// Port of loopback that it listens on.
    pub port: u16,
}

impl Sshd {
    /// With the configuration of the cluster's own one, changed like this, on another port.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(cluster: &Cluster, change: impl FnOnce(String) -> String) -> Self {
        Self::start_on(free_port(), cluster, change)
    }

    /// As [`start`](Self::start), on this port.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_on(port: u16, cluster: &Cluster, change: impl FnOnce(String) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let own = format!("{}/sshd/sshd.conf", cluster.value("STATE"));
        let own = std::fs::read_to_string(own).expect("a cluster that is up");
        let known = format!("Port {}", cluster.value("SSH_PORT"));
        let config = change(own.replace(&known, &format!("Port {port}")));
        let file = directory.path().join("sshd.conf");
        std::fs::write(&file, config).expect("a file can be written");
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&file);
        command.stdin(Stdio::null());
        command.stderr(std::fs::File::create(directory.path().join("log")).expect("a file"));
        let process = command.spawn().expect("sshd starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            process,
            _directory: directory,
            port,
        }
    }

    /// Process ids of the sessions it serves: its children and theirs.
    pub fn sessions(&self) -> Vec<u32> {
        let parents = parents();
        let mut found = vec![self.process.id()];
        let mut at = 0;
        while let Some(&parent) = found.get(at) {
            let children = parents.iter().filter(|(_, of)| *of == parent);
            found.extend(children.map(|(id, _)| *id));
            at += 1;
        }
        found.split_off(1)
    }

    /// Stops the sessions where they are: their connections stay open and silent.
    pub fn freeze(&self) {
        signal(&self.sessions(), Signal::STOP);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        signal(&self.sessions(), Signal::KILL);
        // Has ended already, unless the test does not end it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(ids: &[u32], signal: Signal) {
    let ids = ids
        .iter()
        .filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?));
    for id in ids {
        // Some end while others are signalled.
        let _ = kill_process(id, signal);
    }
}

/// Every process that can be seen, and its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in parentheses, can hold anything; state and parent come after it.
        let (_, rest) = stat.rsplit_once(')')?;
        Some((id, rest.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

/// A port of loopback that nobody listens on.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
