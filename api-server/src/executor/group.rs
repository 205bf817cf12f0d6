//! A program with all that it starts: signalled together, and not once its number may be somebody
//! else's.

use std::collections::HashSet;
use std::process::ExitStatus;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

/// A program that [`command_as`](super::command_as) started, and the session that it leads.
/// Dropping it kills them all, unless the program was waited for.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
}

impl Group {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// The program itself, for its pipes and its end.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// `None` once the program was reaped: from then on the number may be another group's.
    fn id(&self) -> Option<Pid> {
        let id = self.child.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Signals every process of the session: `timeout`, and shells with job control, make groups of
    /// their own.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(id) = self.id() else { return };
        for group in other_groups(id) {
            // That it is gone is what was wanted.
            let _ = kill_process_group(group, signal);
        }
        self.signal_own(signal);
    }

    /// Signals every process of the group that the program leads.
    fn signal_own(&self, signal: Signal) {
        let Some(id) = self.id() else { return };
        if kill_process_group(id, signal).is_err() {
            // It has not led a group yet; or it began to just now, with others in it.
            // That they are gone is what was wanted.
            let _ = kill_process(id, signal);
            let _ = kill_process_group(id, signal);
        }
    }

    /// Waits until the program has ended, and leaves it unreaped: its number stays its own.
    /// Cancel-safe.
    pub(crate) async fn ended(&self) -> std::io::Result<()> {
        // From before the first look on, so that no end comes between looking and waiting.
        let mut ends = signal(SignalKind::child())?;
        while !self.has_ended()? {
            let none = || std::io::Error::other("ends of programs are not reported any more");
            ends.recv().await.ok_or_else(none)?;
        }
        Ok(())
    }

    fn has_ended(&self) -> std::io::Result<bool> {
        let Some(id) = self.id() else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(id), options)?.is_some())
    }

    /// Kills what is left of its group, and tells how the program ended. Cancel-safe.
    pub(crate) async fn end(&mut self) -> std::io::Result<ExitStatus> {
        self.signal_own(Signal::KILL);
        self.child.wait().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Before the child is dropped, which reaps it.
        self.signal(Signal::KILL);
    }
}

/// The groups of a session but the one of its leader. While that is not reaped the number of the
/// session is nobody else's.
fn other_groups(session: Pid) -> HashSet<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let groups = processes.filter_map(|process| {
        let name = process.file_name();
        // Threads and what is no process have no such file, or are gone by now.
        name.to_str()?.parse::<u32>().ok()?;
        let stat = std::fs::read(process.path().join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // Behind the name, which may hold anything: state, parent, group, session.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(2);
        let [group, of] = [fields.next()?, fields.next()?].map(|field| field.parse().ok());
        (Pid::from_raw(of?)? == session).then_some(Pid::from_raw(group?)?)
    });
    groups.filter(|group| *group != session).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Account, RunAs, command_as};
    use super::*;
    use std::process::Stdio;

    fn start(script: &str) -> Group {
        let service = RunAs::Service(Account {
            name: "me".into(),
            uid: 0,
            gid: 0,
            home: "/".into(),
            shell: "/bin/sh".into(),
        });
        let mut command = command_as(&service, "/bin/sh");
        command.args(["-c", script]).stdout(Stdio::null());
        Group::new(command.spawn().unwrap())
    }

    fn state(id: Pid) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[tokio::test]
    async fn a_program_that_ended_keeps_its_number_until_it_is_asked_for() {
        let mut group = start("exit 3");
        let id = group.id().unwrap();
        group.ended().await.unwrap();
        assert_eq!((group.id(), state(id)), (Some(id), Some('Z')));
        // Also for somebody who comes late.
        group.ended().await.unwrap();
        assert_eq!(group.end().await.unwrap().code(), Some(3));
        assert_eq!((group.id(), state(id)), (None, None));
        group.ended().await.unwrap();
    }

    #[tokio::test]
    async fn what_made_a_group_of_its_own_is_signalled_too() {
        let dir = tempfile::tempdir().unwrap();
        let said = dir.path().join("pid");
        let script = format!(
            "timeout 600 sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600'",
            said.display()
        );
        for drops in [false, true] {
            let mut group = start(&script);
            let pid = loop {
                match std::fs::read_to_string(&said) {
                    Ok(text) => break Pid::from_raw(text.trim().parse().unwrap()).unwrap(),
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            };
            assert!(matches!(state(pid), Some('S' | 'R')));
            match drops {
                true => drop(group),
                false => {
                    group.signal(Signal::KILL);
                    group.end().await.unwrap();
                }
            }
            // Whoever adopts it reaps it.
            while !matches!(state(pid), None | Some('Z')) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            std::fs::remove_file(&said).unwrap();
        }
    }

    #[tokio::test]
    async fn a_program_that_has_just_been_started_is_ended_too() {
        for _ in 0..20 {
            let mut group = start("sleep 600");
            let id = group.id().unwrap();
            group.signal(Signal::TERM);
            group.ended().await.unwrap();
            group.end().await.unwrap();
            assert_eq!(state(id), None);
        }
    }
}
