//! An OpenSSH server of our own for one run, and how its clients reach it.
//!
//! It runs as the current user on a free port, with keys and configuration in the run's
//! directory; the machine's own ssh configuration is neither read nor changed. No PAM.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

use super::{Job, Missing, PeerError, SERVER_LIMIT, find, free_port, help};
use crate::measure::{Program, Running, Usage};

/// The cipher that is fastest where the processor has AES instructions.
pub const CIPHER: &str = "aes128-gcm@openssh.com";

/// The name by which clients call the server.
pub const HOST: &str = "bench";

/// Where sshd insists on an empty directory when it runs as root.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// The programs needed.
#[derive(Debug)]
pub struct Openssh {
    sshd: PathBuf,
    keygen: PathBuf,
    user: String,
}

impl Openssh {
    /// Looks for them.
    ///
    /// # Errors
    /// Names the first that is not here.
    pub fn find() -> Result<Self, Missing> {
        let sshd = find("sshd", "openssh-server")?;
        let keygen = find("ssh-keygen", "openssh-client")?;
        let user = User::from_uid(Uid::current())
            .ok()
            .flatten()
            .ok_or_else(|| Missing {
                what: format!("the account of user id {}", Uid::current()),
                install: "run as a user that the system knows".to_owned(),
            })?;
        Ok(Self {
            sshd,
            keygen,
            user: user.name,
        })
    }

    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// If keys cannot be made or the server does not come up.
    pub fn serve(&self, job: &Job<'_>) -> Result<Sshd, PeerError> {
        let dir = job.scratch;
        let port = free_port().map_err(PeerError::prepare("a free port"))?;
        self.make_keys(dir)?;
        self.write_configuration(dir, job.network.server_address(), port)?;
        if Uid::effective().is_root() {
            fs::create_dir_all(PRIVILEGE_SEPARATION)
                .map_err(PeerError::prepare(PRIVILEGE_SEPARATION))?;
        }
        // sshd re-executes itself, hence the absolute path that `find` gives.
        let program = Program::new(&self.sshd)
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"));
        let mut running = job.start_server("sshd", program)?;
        running.wait_until("listening", SERVER_LIMIT, |sshd| {
            sshd.printed("Server listening on")
        })?;
        Ok(Sshd {
            running,
            dir: dir.to_owned(),
        })
    }

    fn make_keys(&self, dir: &Path) -> Result<(), PeerError> {
        for key in ["host_key", "user_key"] {
            help(
                Command::new(&self.keygen)
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f"])
                    .arg(dir.join(key)),
            )?;
        }
        let host_key = fs::read_to_string(dir.join("host_key.pub"))
            .map_err(PeerError::prepare("the host key"))?;
        fs::write(dir.join("known_hosts"), format!("{HOST} {host_key}"))
            .map_err(PeerError::prepare("known_hosts"))
    }

    fn write_configuration(&self, dir: &Path, address: IpAddr, port: u16) -> Result<(), PeerError> {
        let (d, user) = (dir.display(), &self.user);
        // StrictModes would refuse keys below a directory that all may write, as /dev/shm is.
        let server = format!(
            "Port {port}\nListenAddress {address}\nHostKey {d}/host_key\nPidFile {d}/sshd.pid\n\
             AuthorizedKeysFile {d}/user_key.pub\nStrictModes no\nUsePAM no\nUseDNS no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\n\
             AllowUsers {user}\nCiphers {CIPHER}\nSubsystem sftp internal-sftp\n"
        );
        let client = format!(
            "Host {HOST}\n HostName {address}\n HostKeyAlias {HOST}\n Port {port}\n User {user}\n \
             IdentityFile {d}/user_key\n IdentitiesOnly yes\n IdentityAgent none\n \
             UserKnownHostsFile {d}/known_hosts\n GlobalKnownHostsFile /dev/null\n \
             StrictHostKeyChecking yes\n BatchMode yes\n Ciphers {CIPHER}\n Compression no\n"
        );
        fs::write(dir.join("sshd_config"), server).map_err(PeerError::prepare("sshd_config"))?;
        fs::write(dir.join("ssh_config"), client).map_err(PeerError::prepare("ssh_config"))
    }
}

/// A server that runs until [`Sshd::stop`].
#[derive(Debug)]
pub struct Sshd {
    running: Running,
    dir: PathBuf,
}

impl Sshd {
    /// The configuration for `ssh -F` under which [`HOST`] is this server.
    pub fn client_configuration(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    /// Waits until the sessions are gone, so that their figures count, and ends the server.
    ///
    /// # Errors
    /// If there are no figures.
    pub fn stop(self) -> Result<Usage, PeerError> {
        let deadline = Instant::now() + SERVER_LIMIT;
        let pid = fs::read_to_string(self.dir.join("sshd.pid"))
            .map_err(PeerError::prepare("sshd.pid"))?;
        let pid = pid.trim();
        let children = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
        loop {
            let sessions =
                fs::read_to_string(&children).map_err(PeerError::prepare(children.display()))?;
            if sessions.trim().is_empty() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(self.running.stop()?)
    }
}
