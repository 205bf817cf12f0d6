//! Small files of a job that nobody but its user can read, and where they are.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::Secret;

/// Makes a file with mode 0600 from standard input, in a directory with mode 0700, which must be
/// the user's own. An existing file is not touched. Forgotten files there are swept away.
#[derive(Debug, Clone)]
pub struct WritePrivate {
    /// Where.
    pub directory: String,
    /// What it is called there.
    pub name: String,
    /// What it holds.
    pub content: Secret,
}

impl RemoteCommand for WritePrivate {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let script = with_private(WRITE);
        ShellLine::new("sh").args(["-c", &script, "sh", &self.directory, &self.name])
    }

    fn input(&self) -> &[u8] {
        self.content.expose().as_bytes()
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Looks whether jobs can write in a directory.
#[derive(Debug, Clone)]
pub struct WritableDirectory {
    /// Which.
    pub path: String,
}

impl RemoteCommand for WritableDirectory {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("sh").args(["-c", WRITABLE, "sh", &self.path])
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Looks whether the user may read something: a file, or what is in a directory.
#[derive(Debug, Clone)]
pub struct Readable {
    /// What.
    pub path: RemotePath,
    /// Also where a symbolic link leads; a link itself anybody may read.
    pub dereference: bool,
}

impl RemoteCommand for Readable {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let links = if self.dereference { "follow" } else { "" };
        ShellLine::new("sh").args(["-c", READABLE, "sh", self.path.as_str(), links])
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Reads a small file.
#[derive(Debug, Clone)]
pub struct ReadPrivate {
    /// Which.
    pub path: String,
}

impl RemoteCommand for ReadPrivate {
    type Parsed = String;

    fn render(&self) -> ShellLine {
        ShellLine::new("cat").args(["--", &self.path])
    }

    fn parse(&self, stdout: &str) -> Result<String, CommandError> {
        Ok(stdout.to_owned())
    }
}

/// Removes a file, if it is there.
#[derive(Debug, Clone)]
pub struct RemovePrivate {
    /// Which.
    pub path: String,
}

impl RemoteCommand for RemovePrivate {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("rm").args(["-f", "--", &self.path])
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// A script that can call `private DIRECTORY` for one that there is.
pub(super) fn with_private(script: &str) -> String {
    format!("{PRIVATE}{script}")
}

/// Only its owner has been able to put files into a directory that passes: one that was open to
/// others is closed, and programs that they may have left there are swept away.
const PRIVATE: &str = r#"private() {
  if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -O "$1" ]; then
    echo "$1: Permission denied: it must be a directory of the user's own" >&2; exit 1
  fi
  case $(stat -c %a -- "$1") in
    *700) ;;
    *) chmod 700 -- "$1" && rm -rf -- "$1"/streamer-* "$1"/venv-* || exit ;;
  esac
}
"#;

/// A job may wait for weeks; what is older than a month belongs to none.
const WRITE: &str = r#"umask 077
mkdir -p -- "$1" || exit
private "$1"
find "$1" -maxdepth 1 -type f -mtime +31 -delete 2>/dev/null
set -C
: >"$1/$2" || exit
set +C
# Where the directory has a default access list, the mask does not count.
chmod 600 -- "$1/$2" || exit
exec cat >"$1/$2""#;

/// The words are those by which failures are sorted.
const WRITABLE: &str = r#"[ -d "$1" ] || { echo "$1: No such file or directory" >&2; exit 1; }
[ -w "$1" ] && [ -x "$1" ] || { echo "$1: Permission denied" >&2; exit 1; }"#;

/// Likewise.
const READABLE: &str = r#"[ -n "$2" ] || [ ! -L "$1" ] || exit 0
[ -r "$1" ] && { [ ! -d "$1" ] || [ -x "$1" ]; } ||
  { echo "$1: Permission denied: it cannot be read" >&2; exit 1; }"#;

#[cfg(test)]
mod tests {
    use super::super::{InstallProgram, UseProgram};
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// What it printed, or complained.
    fn run<C: RemoteCommand>(command: &C) -> Result<C::Parsed, String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command.render().as_str()]);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // What refuses does not read.
        let _ = child.stdin.take().unwrap().write_all(command.input());
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(command
                .parse(&String::from_utf8(output.stdout).unwrap())
                .unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn write(directory: &Path) -> Result<(), String> {
        run(&WritePrivate {
            directory: directory.display().to_string(),
            name: "private".into(),
            content: Secret::new("open sesame"),
        })
    }

    fn program(directory: &Path) -> String {
        directory.join("streamer-0").display().to_string()
    }

    fn is_there(directory: &Path) -> Result<bool, String> {
        let path = program(directory);
        let directory = directory.display().to_string();
        run(&UseProgram { path, directory })
    }

    fn install(directory: &Path) -> Result<(), String> {
        run(&InstallProgram {
            path: program(directory),
            directory: directory.display().to_string(),
            bytes: b"#!/bin/sh\n".to_vec(),
            sha256: "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf".into(),
        })
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_written_is_for_its_user_only() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("it's");
        assert_eq!(is_there(&directory), Ok(false));
        assert!(!directory.exists());
        write(&directory).unwrap();
        assert_eq!(
            (mode(&directory), mode(&directory.join("private"))),
            (0o700, 0o600)
        );
        assert!(write(&directory).unwrap_err().contains("exist"));
        install(&directory).unwrap();
        assert_eq!(is_there(&directory), Ok(true));
    }

    #[test]
    fn a_default_access_list_of_the_directory_opens_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mut acl = Command::new("setfacl");
        acl.args(["-m", "d:u:4242:rwx,d:g::rwx,d:m:rwx"])
            .arg(place.path());
        match acl.status() {
            Ok(status) if status.success() => {}
            _ => return eprintln!("skipped: no access control lists here"),
        }
        let directory = place.path().join("private");
        write(&directory).unwrap();
        let modes = (mode(&directory), mode(&directory.join("private")));
        assert_eq!(modes, (0o700, 0o600));
        let content = std::fs::read(directory.join("private")).unwrap();
        assert_eq!(content, b"open sesame");
    }

    #[test]
    fn a_directory_that_was_open_is_closed_and_no_program_in_it_is_trusted() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("open");
        for closing in [
            is_there,
            |d: &Path| install(d).map(|()| true),
            |d: &Path| write(d).map(|()| false),
        ] {
            std::fs::create_dir(&directory).unwrap();
            std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o2775)).unwrap();
            let planted = directory.join("streamer-0");
            std::fs::write(&planted, "evil").unwrap();
            let environment = directory.join("venv-cluster");
            std::fs::create_dir(&environment).unwrap();
            std::fs::set_permissions(&planted, PermissionsExt::from_mode(0o755)).unwrap();
            let installed = closing(&directory).unwrap();
            assert_eq!(mode(&directory) & 0o777, 0o700);
            assert_eq!(planted.exists(), installed);
            assert!(!environment.exists());
            assert!(std::fs::read(&planted).is_ok_and(|text| text != b"evil") == installed);
            std::fs::remove_dir_all(&directory).unwrap();
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (own, link) = (place.path().join("own"), place.path().join("link"));
        std::fs::create_dir(&own).unwrap();
        symlink(&own, &link).unwrap();
        let foreign = place.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::set_permissions(&foreign, PermissionsExt::from_mode(0o777)).unwrap();
        // Only root can give a directory away.
        let given = chown(&foreign, Some(4242), None).is_ok();
        for directory in [Some(&link), given.then_some(&foreign)]
            .into_iter()
            .flatten()
        {
            for error in [
                write(directory).unwrap_err(),
                install(directory).unwrap_err(),
                is_there(directory).unwrap_err(),
            ] {
                assert!(error.contains("Permission denied: it must be"), "{error}");
            }
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_may_be_read_is_told_without_reading_it() {
        let place = tempfile::tempdir().unwrap();
        // Root reads everything.
        let root = rustix::process::getuid().is_root();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let nobodys = |name: &str, dereference| {
            let path = RemotePath::parse(place.path().join(name).to_str().unwrap()).unwrap();
            let line = Readable { path, dereference }.render();
            let mut command = Command::new(if root { "setpriv" } else { "sh" });
            if root {
                let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh"];
                command.args(nobody);
            }
            let output = command.args(["-c", line.as_str()]).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.success() || error.contains(": Permission denied"),
                "{error}"
            );
            output.status.success()
        };
        for (name, mode) in [("open", 0o644), ("closed", 0)] {
            std::fs::write(place.path().join(name), "").unwrap();
            let mode = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(place.path().join(name), mode).unwrap();
        }
        std::fs::create_dir(place.path().join("names only")).unwrap();
        let mode = PermissionsExt::from_mode(0o444);
        std::fs::set_permissions(place.path().join("names only"), mode).unwrap();
        symlink("closed", place.path().join("link")).unwrap();
        assert!(nobodys("open", true) && nobodys(".", true) && nobodys("link", false));
        for name in ["closed", "names only", "link"] {
            assert!(!nobodys(name, true), "{name}");
        }
    }
}
