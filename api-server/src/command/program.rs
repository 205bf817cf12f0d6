//! The program of transfer jobs in a user's directory: looked for, installed.

use super::private_file::with_private;
use super::{CommandError, RemoteCommand, ShellLine};

/// Tells whether a program is there, and notes that it is used.
#[derive(Debug, Clone)]
pub struct UseProgram {
    /// Where.
    pub path: String,
    /// The directory of it, which must be the user's own.
    pub directory: String,
}

impl RemoteCommand for UseProgram {
    type Parsed = bool;

    fn render(&self) -> ShellLine {
        let script = with_private(USE);
        ShellLine::new("sh").args(["-c", &script, "sh", &self.directory, &self.path])
    }

    fn parse(&self, stdout: &str) -> Result<bool, CommandError> {
        match stdout.trim() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(CommandError::Unparsable { program: "sh" }),
        }
    }
}

/// Writes a program from standard input; it gets its name when its checksum is right.
#[derive(Debug, Clone)]
pub struct InstallProgram {
    /// Where.
    pub path: String,
    /// The directory of it, made when it is missing, else it must be the user's own.
    pub directory: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The checksum of that.
    pub sha256: String,
}

impl RemoteCommand for InstallProgram {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let arguments = [&self.directory, &self.path, &self.sha256];
        ShellLine::new("sh")
            .args(["-c", &with_private(INSTALL), "sh"])
            .args(arguments)
    }

    fn input(&self) -> &[u8] {
        &self.bytes
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// The content is not looked at again: it was right when the program got its name, and since
/// then only the user themself could change it.
const USE: &str = r#"if [ -e "$1" ] || [ -L "$1" ]; then private "$1"; fi
if [ -x "$2" ]; then touch -c -- "$2"; echo yes; else echo no; fi"#;

/// `$$` makes the name of this run's own; it is swept away should the run be killed.
const INSTALL: &str = r#"umask 077
mkdir -p -- "$1" || exit
private "$1"
new="$1/new-program-$$"
trap 'rm -f -- "$new"' EXIT
cat >"$new" || exit
printf '%s  %s\n' "$3" "$new" | sha256sum -c --status - ||
  { echo "$2: the program did not arrive whole" >&2; exit 1; }
chmod 700 -- "$new" && mv -f -- "$new" "$2""#;
