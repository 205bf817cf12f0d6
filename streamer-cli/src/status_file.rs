//! The file in which a job says how its transfer stands, for whoever asks the API. It holds
//! no secret, and only its user can read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// How a transfer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Where it is between start and end.
    pub(crate) state: State,
    /// The port the endpoint listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// Why, where there is a reason to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// Words of the state; the API passes them on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The program runs.
    #[default]
    Starting,
    /// Waiting for the other side.
    Listening,
    /// Bytes move.
    Active,
    /// Moved and verified.
    Done,
    /// Ended without that.
    Failed,
}

/// Bytes that moved, and bytes there are.
pub(crate) type Counters = Box<dyn Fn() -> (u64, u64) + Send>;

/// Keeps the file current, in a thread of its own: a file system that hangs holds up
/// nothing but the file.
#[derive(Debug)]
pub(crate) struct StatusFile {
    updates: Option<SyncSender<Status>>,
    ended: Receiver<()>,
}

impl StatusFile {
    /// Starts with [`State::Starting`]. Without a path, nothing is ever written.
    pub(crate) fn start(path: Option<&Path>, counters: Counters) -> Self {
        let (updates, inbox) = sync_channel(QUEUE);
        let (end, ended) = channel();
        let Some(path) = path.map(Path::to_owned) else {
            return Self {
                updates: None,
                ended,
            };
        };
        let name = "status-file".to_owned();
        let keeper = Keeper { path, counters };
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            keeper.run(&inbox);
            drop(end);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no status will be written");
        }
        Self {
            updates: Some(updates),
            ended,
        }
    }

    /// Says how it stands now. Never waits: of a file system that hangs, states are left out.
    pub(crate) fn set(&self, state: State, port: Option<u16>, message: Option<String>) {
        if let Some(updates) = &self.updates {
            let _ = updates.try_send(Status {
                state,
                port,
                message,
            });
        }
    }

    /// Says how it ended, and waits a little until that is written.
    pub(crate) fn finish(mut self, state: State, message: Option<String>) {
        self.set(state, None, message);
        if self.updates.take().is_some() {
            // An error means that the thread is through.
            let _ = self.ended.recv_timeout(LAST_WRITE);
        }
    }
}

struct Keeper {
    path: PathBuf,
    counters: Counters,
}

impl Keeper {
    fn run(&self, inbox: &Receiver<Status>) {
        let mut status = Status::default();
        let mut complained = false;
        loop {
            if let Err(error) = self.write(&status)
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(path = %self.path.display(), %error, "the status cannot be written");
            }
            let idle = loop {
                match inbox.recv_timeout(PERIOD) {
                    Ok(next) => break Some(next),
                    Err(RecvTimeoutError::Timeout) if status.state == State::Active => break None,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            status = idle.unwrap_or(status);
        }
    }

    /// Readers see the old or the new one, never half of one.
    fn write(&self, status: &Status) -> io::Result<()> {
        let (moved_bytes, total_bytes) = (self.counters)();
        let line = Line {
            status,
            host: rustix::system::uname().nodename().to_string_lossy().into(),
            moved_bytes,
            total_bytes,
            updated: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let new = self.beside();
        // Of one that was killed: in a container processes have the same numbers again.
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let written = file
            .write_all(&text)
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// A name that nobody else has: of this file, and of this process.
    fn beside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.new", std::process::id()));
        name.into()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(flatten)]
    status: &'a Status,
    host: String,
    moved_bytes: u64,
    total_bytes: u64,
    updated: u64,
}

/// States between two writes: more than a transfer has in that time.
const QUEUE: usize = 16;
/// How often counters are written while bytes move.
const PERIOD: Duration = Duration::from_secs(2);
/// How long the end may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_last_state_is_there_when_it_has_finished_and_nobody_else_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("job-7.json");
        let file = StatusFile::start(Some(&path), Box::new(|| (3, 9)));
        file.set(State::Listening, Some(5665), None);
        file.set(State::Active, None, None);
        file.finish(State::Failed, Some("no space left".into()));
        let text = fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["state"], "failed");
        assert_eq!(value["message"], "no space left");
        assert_eq!(
            (&value["movedBytes"], &value["totalBytes"]),
            (&3.into(), &9.into())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_with_like_names_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let neighbour = directory.path().join("run42.new");
        fs::write(&neighbour, "of the user").unwrap();
        let path = directory.path().join("run42.json");
        let killed = format!("run42.json.{}.new", std::process::id());
        fs::write(directory.path().join(killed), "half").unwrap();
        StatusFile::start(Some(&path), Box::new(|| (0, 0))).finish(State::Done, None);
        assert!(fs::read_to_string(&path).unwrap().contains("done"));
        assert_eq!(fs::read_to_string(&neighbour).unwrap(), "of the user");
    }

    #[test]
    fn a_place_that_cannot_be_written_holds_nothing_up() {
        let file = StatusFile::start(Some(Path::new("/nonexistent/x")), Box::new(|| (0, 0)));
        file.finish(State::Done, None);
        StatusFile::start(None, Box::new(|| (0, 0))).finish(State::Done, None);
    }
}
