//! The one place where shell text is built. Every argument is quoted here, whatever it holds.

use std::fmt;
use std::time::Duration;

use super::RemotePath;
use crate::limits;

/// One shell word that the shell reads back as exactly `text`.
///
/// Single quotes protect every byte but the single quote itself, in every POSIX shell.
/// A NUL cannot be in an argument of any program; callers refuse it before
/// ([`RemotePath`]), and here it is left out.
pub fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str(r"'\''"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A command line under construction: one program and its arguments, each a quoted word.
#[derive(Clone, PartialEq, Eq)]
pub struct ShellLine {
    text: String,
    /// As logs may show it, where that is something else.
    shown: Option<String>,
}

/// As logs may show it.
impl fmt::Debug for ShellLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShellLine").field(&self.shown()).finish()
    }
}

impl ShellLine {
    /// Starts with the program.
    pub fn new(program: &str) -> Self {
        Self {
            text: quote(program),
            shown: None,
        }
    }

    /// Starts for a program, still to be added, whose environment goes along to a job: the language
    /// that this service reads is not the user's.
    pub fn for_a_job() -> Self {
        Self::new("env").args(["-u", "LC_ALL"])
    }

    /// Starts for a program, still to be added, that sees these variables only, where they are set.
    pub fn with_only(names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut line = Self::new("env").arg("-i");
        for name in names {
            line.push(&format!(" ${{{name}+\"{name}=${name}\"}}"));
        }
        line
    }

    /// Adds the program as the shell finds it that reads the line: variables that the line sets
    /// before it, as `PATH`, decide nothing.
    #[must_use]
    pub fn found(mut self, program: &'static str) -> Self {
        let name = quote(program);
        // Without such a program the name is kept, for the words of the failure.
        self.push(&format!(" \"$(command -v {name} || echo {name})\""));
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        self.push(&format!(" {}", quote(argument.as_ref())));
        self
    }

    /// Adds one argument that belongs to the user, in place of which logs show another.
    #[must_use]
    pub fn arg_shown_as(mut self, argument: &str, shown: &str) -> Self {
        if argument == shown {
            return self.arg(argument);
        }
        let shown = format!("{} {}", self.shown(), quote(shown));
        self.push(&format!(" {}", quote(argument)));
        self.shown = Some(shown);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<T: AsRef<str>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// This program, and after it, if it succeeds, another.
    #[must_use]
    pub fn and(self, next: &Self) -> Self {
        let both = |first: &str, next: &str| format!("{first} && {next}");
        let line = both(&self.text, &next.text);
        let shown = both(self.shown(), next.shown());
        Self::new("sh").arg("-c").arg_shown_as(&line, &shown)
    }

    /// The program under `timeout`: ended after this time with all it started, with exit status
    /// 124, also when nobody waits for it any more. What ignores SIGTERM is killed
    /// [a little later](limits::TIMEOUT_KILL_GRACE), and so is what ignores one that `timeout` was
    /// sent; the exit status is 137 then. `timeout` makes a process group of its own unless it
    /// leads one: who starts the line has to signal that one.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        let grace = limits::TIMEOUT_KILL_GRACE.as_secs();
        let within = |line: &str| format!("timeout -k {grace} {} {line}", time.as_secs_f64());
        Self {
            text: within(&self.text),
            shown: self.shown.as_deref().map(within),
        }
    }

    /// Adds the argument `<prefix><id of the job>.json`, for a line that a job runs.
    #[must_use]
    pub fn job_arg(mut self, prefix: &str) -> Self {
        // PBS adds the name of its server to the number.
        let id = r#""${SLURM_JOB_ID:-${PBS_JOBID%%.*}}""#;
        self.push(&format!(" {}{id}.json", quote(prefix)));
        self
    }

    /// The line as the last one of a script: signals of the scheduler reach the program, and
    /// its exit status is the job's.
    pub fn replacing_the_shell(&self) -> String {
        format!("exec {}", self.text)
    }

    /// The line for a shell that begins elsewhere: in the user's home, where that can be entered, as
    /// over SSH.
    pub fn from_home(&self) -> String {
        format!("cd -- \"$HOME\" 2>/dev/null; exec {}", self.text)
    }

    /// What the program prints, as a file. It gets its name when the program has succeeded
    /// and, where `bytes` says how many there must be, printed them all; until then a file
    /// that was there under the name stays, and after a failure nothing else is left. The new
    /// file has the old one's permissions, with its access control list, but none for a group
    /// that the user cannot give it to; where there was none, those that any new file has there. A
    /// symbolic link stays, and what it points to is replaced.
    #[must_use]
    pub fn into_file(self, target: &RemotePath, bytes: Option<usize>) -> Self {
        let bytes = bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        Self::new("sh")
            .args(["-c", INTO_FILE, "sh", target.as_str(), &bytes])
            .arg_shown_as(&self.text, self.shown())
    }

    /// Adds the argument `<prefix><what a variable holds>`: one of the script around this line, as
    /// `part_name`, the name of the unfinished file, of [a file](Self::into_file).
    #[must_use]
    pub fn variable_arg(mut self, prefix: &str, variable: &'static str) -> Self {
        self.push(&format!(" {}\"${variable}\"", quote(prefix)));
        self
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if let Some(shown) = &mut self.shown {
            shown.push_str(text);
        }
    }

    /// The line, for `sh -c`, an SSH channel or a job script.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The line, for a login shell, which may be any: a POSIX shell reads it in its place. csh ends
    /// quotes at the end of a line and replaces `!` within them, fish reads `\\'` there; so neither
    /// sees any of these.
    pub fn for_any_shell(&self) -> String {
        let mut line = String::with_capacity(self.text.len() + 64);
        for byte in self.text.bytes() {
            match byte {
                b'\'' | b'\\' | b'!' => line.push_str(&octal(byte)),
                b' '..=b'~' => line.push(char::from(byte)),
                _ => line.push_str(&octal(byte)),
            }
        }
        // In place of the shell: `timeout` then leads the group that is signalled.
        format!("exec env LC_ALL=C /bin/sh -c 'eval \"exec $(printf %b \"$1\")\"' sh '{line}'")
    }

    /// The line as logs may show it: without values of users' variables.
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.text)
    }
}

/// As `printf %b` reads it.
fn octal(byte: u8) -> String {
    format!("\\0{byte:03o}")
}

/// `$1` the target, `$2` its size if known, `$3` a quoted command line.
const INTO_FILE: &str = r#"target=$1
refuse() { printf '%s: %s\n' "$1" "$2" >&2; exit 1; }
if [ -L "$target" ]; then
  target=$(readlink -fn -- "$1" && echo .) || refuse "$1" 'the link leads nowhere'
  target=${target%.}
fi
[ ! -d "$target" ] || refuse "$1" 'Is a directory'
[ ! -e "$target" ] || [ -f "$target" ] || refuse "$1" 'not a regular file'
[ ! -e "$target" ] || [ -w "$target" ] || refuse "$1" 'Permission denied'
case $target in */*) ;; *) target=./$target ;; esac
if [ -e "$target" ]; then
  fresh= part=$(mktemp -- "${target%/*}/.part-XXXXXXXXXX") || exit
else
  # `mktemp` makes what is closed, also where the directory's default access list opens new files.
  # So it gives a name only, which nobody knows before the file is made and open.
  stat -- "${target%/*}/." >/dev/null || exit
  fresh=yes part=$(mktemp -u -- "${target%/*}/.part-XXXXXXXXXX") || exit
fi
part_name=${part##*/}
export part_name
# `timeout` passes on a signal that this group had already: the second must not end `rm`.
deaf() { trap '' HUP INT TERM PIPE; }
trap 'deaf; rm -f -- "$part"' EXIT
trap 'deaf; exit 143' HUP INT TERM
# Where nobody reads any more, a shell that says how a program ended dies of it, without EXIT.
trap 'deaf; exit 141' PIPE
# Opened once: what an access list or a mask makes of it may be closed to its owner too.
if [ -n "$fresh" ]; then set -C; elif [ ! -w "$part" ]; then chmod u+w -- "$part" || exit; fi
exec 3>"$part" || exit
set +C
eval "$3" >&3 3>&- || exit
exec 3>&-
if [ -n "$2" ] && [ "$(stat -c %s -- "$part")" != "$2" ]; then
  refuse "$1" 'only a part of it arrived'
fi
if [ -e "$target" ]; then
  if chgrp --reference="$target" -- "$part" 2>/dev/null; then
    cp --attributes-only --preserve=mode -- "$target" "$part" 2>/dev/null ||
      chmod --reference="$target" -- "$part" || exit
    chmod ug-s -- "$part" || exit
  else
    mode=0$(stat -c %a -- "$target") || exit
    # Who was of its group is one of the others now.
    chmod "$(printf %o "$((mode & 0700 | mode & mode >> 3 & 07))")" -- "$part" || exit
  fi
elif [ -z "$fresh" ]; then
  chmod =rw -- "$part" || exit
fi
mv -f -T -- "$part" "$target""#;

/// What logs show in place of something of the user's.
pub const HIDDEN: &str = "***";

/// Lines that set variables for what a shell starts afterwards.
pub(crate) fn exports<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    // With `command`, a name that the shell keeps for itself is left out instead of ending it.
    let set = |(name, value)| format!("command export {}\n", quote(&format!("{name}={value}")));
    variables.map(set).collect()
}

/// Lines of a job that runs one command and says, each line dated, how it went. Its exit
/// status is the command's.
///
/// Clients recognise success by the words of `done` in the output; what fails is said on
/// the error output only.
pub fn reported(command: &ShellLine, title: &str, done: &str) -> String {
    let (title, done) = (quote(title), quote(done));
    let command = command.as_str();
    format!(
        "say() {{ printf '%s %s\\n' \"$(date -u)\" \"$1\"; }}\n\
         say {title}\n\
         if {command}; then\n\
         \x20 say {done}\n\
         else\n\
         \x20 status=$?\n\
         \x20 say \"The command failed with exit status $status.\" >&2\n\
         \x20 exit \"$status\"\n\
         fi"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    fn through_sh(words: &[String]) -> Vec<u8> {
        let line = ShellLine::new("printf").arg("%s\\0").args(words);
        Command::new("sh")
            .arg("-c")
            .arg(line.as_str())
            .output()
            .unwrap()
            .stdout
    }

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(quote("--port-range"), "--port-range");
        assert_eq!(quote("/home/a b"), "'/home/a b'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn hostile_words_arrive_unchanged() {
        let words: Vec<String> = [
            "$(id)",
            "`id`",
            "a\nb",
            "-rf",
            "~",
            "*",
            "'; id; '",
            "\\",
            "\"",
            "!!",
            "é\u{200b}",
            "",
        ]
        .map(String::from)
        .to_vec();
        assert_eq!(through_sh(&words), (words.join("\0") + "\0").into_bytes());
    }

    #[test]
    fn variables_of_a_line_do_not_choose_its_program() {
        let run = |line: &ShellLine| {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(line.for_any_shell());
            shell
                .env("HOME", "/a 'b  $c")
                .env("OTHER", "x")
                .env_remove("MAIL");
            shell.output().unwrap()
        };
        let only = || ShellLine::with_only(["HOME", "MAIL"]);
        let line = only().arg("PATH=/no,where").found("env");
        let output = run(&line);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "HOME=/a 'b  $c\nPATH=/no,where\n");
        let missing = run(&only().found("no-such-program"));
        assert_eq!(missing.status.code(), Some(127));
        let error = String::from_utf8(missing.stderr).unwrap();
        assert!(error.contains("no-such-program"), "{error}");
    }

    #[test]
    fn a_reported_command_keeps_its_exit_status_and_the_words_clients_look_for() {
        let run = |script: &str| {
            let line = ShellLine::new("sh").args(["-c", script]);
            let text = reported(&line, "it's a job", "Files were successfully moved.");
            Command::new("sh").args(["-c", &text]).output().unwrap()
        };
        let good = run("true");
        let text = String::from_utf8(good.stdout).unwrap();
        assert!(good.status.success() && good.stderr.is_empty());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" it's a job"), "{text}");
        assert!(
            lines[1].ends_with(" Files were successfully moved."),
            "{text}"
        );
        assert!(lines.iter().all(|line| line.contains(" UTC ")), "{text}");
        let bad = run("echo no >&2; exit 7");
        assert_eq!(bad.status.code(), Some(7));
        assert!(!String::from_utf8(bad.stdout).unwrap().contains("success"));
        let error = String::from_utf8(bad.stderr).unwrap();
        assert!(error.contains("failed with exit status 7."), "{error}");
    }

    #[test]
    fn output_becomes_a_file_whole_or_not_at_all() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str, script: &str, bytes| {
            let target = RemotePath::parse(at(name).to_str().unwrap()).unwrap();
            let line = ShellLine::new("sh").args(["-c", script]);
            let line = line.into_file(&target, bytes);
            let output = Command::new("sh").args(["-c", line.as_str()]).output();
            let output = output.unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            (output.status.code(), error)
        };
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            write("it's", "printf new", Some(3)),
            (Some(0), String::new())
        );
        assert_eq!((read("it's").as_str(), mode("it's")), ("new", 0o644));
        std::fs::set_permissions(at("it's"), PermissionsExt::from_mode(0o2640)).unwrap();
        std::os::unix::fs::symlink("it's", at("link")).unwrap();
        assert_eq!(write("link", "printf more", None).0, Some(0));
        assert_eq!((read("it's").as_str(), mode("it's")), ("more", 0o640));
        assert!(at("link").is_symlink());
        for (script, bytes, status) in [
            ("printf half; exit 7", None, 7),
            ("printf half", Some(5), 1),
            ("kill -TERM $PPID", None, 143),
        ] {
            assert_eq!(write("it's", script, bytes).0, Some(status), "{script}");
            assert_eq!(write("new", script, bytes).0, Some(status), "{script}");
            assert_eq!(read("it's"), "more");
        }
        let fifo = Command::new("mkfifo").arg(at("fifo")).status();
        assert!(fifo.unwrap().success());
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        for (name, words) in [
            ("directory", "Is a directory"),
            ("fifo", "not a regular file"),
            ("it's/x", "Not a directory"),
            ("missing/x", "No such file or directory"),
            ("loop", "leads nowhere"),
        ] {
            let (status, error) = write(name, "printf new", None);
            assert!(status == Some(1) && error.contains(words), "{error}");
        }
        let mut left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.drain(..).count(), 5);
    }

    #[test]
    fn nothing_is_left_when_the_time_is_over_and_nobody_reads_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let target = RemotePath::parse(target.to_str().unwrap()).unwrap();
        let line = ShellLine::new("sleep").arg("60").into_file(&target, None);
        let line = line.within(Duration::from_millis(300));
        let mut command = Command::new("sh");
        command.args(["-c", line.as_str()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(124));
        // The shell below `timeout` may end after it.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_dir(&directory).unwrap().count() > 0 {
            assert!(std::time::Instant::now() < deadline, "a part stays");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_new_file_is_as_open_as_its_directory_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("shared")).unwrap();
        let mut acl = Command::new("setfacl");
        acl.args(["-m", "d:g::rwx,d:u:4242:rwx,d:m:rwx,d:o::---"])
            .arg(at("shared"));
        match acl.status() {
            Ok(status) if status.success() => {}
            _ => return eprintln!("skipped: no access control lists here"),
        }
        let shown = |name: &str| {
            let output = Command::new("getfacl")
                .args(["-cpn"])
                .arg(at(name))
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        std::fs::write(at("shared/plain"), "").unwrap();
        let target = RemotePath::parse(at("shared/new").to_str().unwrap()).unwrap();
        // The second one replaces the first.
        for _ in 0..2 {
            let line = ShellLine::new("printf").arg("x").into_file(&target, None);
            let status = Command::new("sh").args(["-c", line.as_str()]).status();
            assert!(status.unwrap().success());
            assert_eq!(shown("shared/new"), shown("shared/plain"));
        }
        assert!(shown("shared/new").contains("mask::rw-"));
    }

    /// Who may write the directory too could put a pipe under a name that is known and free.
    #[test]
    fn a_name_is_never_free_once_it_can_be_known() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let programs = tempfile::tempdir().unwrap();
        let rm = programs.path().join("rm");
        let script = "#!/bin/sh\n/bin/rm \"$@\"\nfor name; do :; done\nmkfifo -- \"$name\"\n";
        std::fs::write(&rm, script).unwrap();
        std::fs::set_permissions(&rm, PermissionsExt::from_mode(0o755)).unwrap();
        let target = directory.path().join("new");
        let line = ShellLine::new("printf").arg("x");
        let line = line.into_file(&RemotePath::parse(target.to_str().unwrap()).unwrap(), None);
        // Nobody reads from the pipe: without an end, to open it would last for ever.
        let line = line.within(Duration::from_secs(5));
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", line.as_str()]);
        shell.env("PATH", format!("{}:{path}", programs.path().display()));
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read(&target).unwrap(), b"x");
    }

    /// By root each file can be written: as somebody else then.
    #[test]
    fn a_new_file_that_is_closed_to_its_owner_is_written_all_the_same() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let line = ShellLine::new("printf").arg("x");
        let line = line.into_file(&RemotePath::parse(target.to_str().unwrap()).unwrap(), None);
        let script = format!("umask 0333; {}", line.as_str());
        for _ in 0..2 {
            let mut shell = match rustix::process::getuid().is_root() {
                false => Command::new("sh"),
                true => {
                    chown(directory.path(), Some(65534), Some(65534)).unwrap();
                    let mut shell = Command::new("setpriv");
                    shell.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh"]);
                    shell
                }
            };
            let output = shell.args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(std::fs::read(&target).unwrap(), b"x");
            // Else it could not be replaced, as the second time.
            std::fs::set_permissions(&target, PermissionsExt::from_mode(0o644)).unwrap();
        }
    }

    #[test]
    fn a_name_without_a_directory_is_one_of_where_the_shell_is() {
        let directory = tempfile::tempdir().unwrap();
        let target = RemotePath::parse("-n").unwrap();
        for _ in 0..2 {
            let line = ShellLine::new("printf").arg("x").into_file(&target, None);
            let mut shell = Command::new("sh");
            shell.args(["-c", line.as_str()]).current_dir(&directory);
            assert!(shell.status().unwrap().success());
        }
        let names: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read(directory.path().join("-n")).unwrap(), b"x");
    }

    /// As root only: another's file, whose group the user cannot give to anything.
    #[test]
    fn a_new_file_is_open_to_nobody_to_whom_the_old_one_was_not() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: needs root, to become another user");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        chown(directory.path(), Some(65534), Some(65534)).unwrap();
        let target = directory.path().join("target");
        let line = ShellLine::new("printf").arg("new");
        let line = line.into_file(&RemotePath::parse(target.to_str().unwrap()).unwrap(), None);
        let mut own = Command::new("sh");
        own.args(["-c", line.as_str()]);
        let mut nobodys = Command::new("setpriv");
        nobodys.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
        ]);
        nobodys.arg(line.as_str());
        for (is_own, before, mode) in [
            (true, 0o661, 0o661),
            (false, 0o664, 0o604),
            (false, 0o604, 0o600),
        ] {
            let command = if is_own { &mut own } else { &mut nobodys };
            std::fs::write(&target, "old").unwrap();
            chown(&target, Some(65534), Some(1)).unwrap();
            std::fs::set_permissions(&target, PermissionsExt::from_mode(before)).unwrap();
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let now = std::fs::metadata(&target).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"new");
            assert_eq!(now.mode() & 0o7777, mode, "{:o}", now.mode());
            assert_eq!(now.gid() == 1, is_own);
            std::fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn what_is_hidden_from_logs_is_in_the_line_only() {
        let base = ShellLine::new("env")
            .arg_shown_as("A=se sam", "A=***")
            .arg("sbatch");
        assert_eq!(base.as_str(), "env 'A=se sam' sbatch");
        assert_eq!(base.shown(), "env 'A=***' sbatch");
        let first = ShellLine::new("cd").arg("/");
        let target = RemotePath::parse("/x").unwrap();
        for line in [
            base.clone().within(Duration::from_secs(5)).arg("b"),
            first.clone().and(&base),
            base.clone().and(&first),
            base.clone().into_file(&target, None),
            base.clone().job_arg("j"),
        ] {
            let (shown, debug) = (line.shown(), format!("{line:?}"));
            assert!(
                line.as_str().contains("sam") && shown.contains("A=***"),
                "{shown}"
            );
            assert!(
                !shown.contains("sam") && !debug.contains("sam"),
                "{shown} {debug}"
            );
        }
        let both = first.clone().and(&first);
        assert_eq!(both.shown(), both.as_str());
    }

    #[test]
    fn programs_in_a_row_and_in_time() {
        let run = |line: &ShellLine| Command::new("sh").args(["-c", line.as_str()]).output();
        let echo = |word: &str| ShellLine::new("echo").arg(word);
        let both = echo("it's").and(&echo("$2")).within(Duration::from_secs(5));
        assert!(both.as_str().starts_with("timeout -k 3 5 sh -c 'echo "));
        assert_eq!(run(&both).unwrap().stdout, b"it's\n$2\n");
        let first = ShellLine::new("false").and(&echo("no"));
        assert!(run(&first).unwrap().stdout.is_empty());
        let slow = ShellLine::new("sleep").arg("60");
        let slow = slow.within(Duration::from_millis(50));
        assert_eq!(run(&slow).unwrap().status.code(), Some(124));
    }

    #[test]
    fn what_ignores_the_end_of_its_time_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let script = format!(
            "trap '' TERM; sleep 600 & echo $! $$ >{}; wait; sleep 600",
            file.display()
        );
        let line = ShellLine::new("sh").args(["-c", &script]);
        let line = line
            .within(Duration::from_millis(300))
            .replacing_the_shell();
        let mut command = Command::new("sh");
        command
            .args(["-c", &line])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        crate::test_support::until_gone(&crate::test_support::line_of(&file));
        // `timeout` is of the group that it kills.
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
    }

    #[test]
    fn every_login_shell_leaves_a_line_alone() {
        let words = [
            "a\ntouch PWNED\nb",
            "it's",
            r"\'",
            r"\",
            "!!",
            "a!b",
            "$HOME",
            "`id`",
            "%b%s",
            r"\0041",
            "é",
            "^",
            "",
        ];
        let line = ShellLine::new("printf").arg("%s\\0").args(words);
        let mut tried = 0;
        for shell in ["sh", "bash", "tcsh", "fish"] {
            let directory = tempfile::tempdir().unwrap();
            let mut command = Command::new(shell);
            command.args(["-c", &line.for_any_shell()]);
            match command.current_dir(&directory).output() {
                Ok(output) => {
                    let expected = (words.join("\0") + "\0").into_bytes();
                    assert_eq!(output.stdout, expected, "{shell}: {output:?}");
                    let left = std::fs::read_dir(&directory).unwrap().count();
                    assert_eq!(left, 0, "{shell}");
                    tried += 1;
                }
                Err(error) => eprintln!("skipped: {shell}: {error}"),
            }
        }
        assert!(tried > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_word_arrives_unchanged(words in proptest::collection::vec("[^\0]{0,40}", 1..8)) {
            prop_assert_eq!(through_sh(&words), (words.join("\0") + "\0").into_bytes());
        }
    }
}
