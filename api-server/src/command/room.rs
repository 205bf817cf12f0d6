//! What a user may still write beside a file: room of the file system, quotas.

use super::quota::{self, Quota};
use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::limits;

/// Asks how much a user may write below the directory of a file that is to be made.
#[derive(Debug, Clone)]
pub struct AskRoom {
    /// Where the file will be.
    pub target: RemotePath,
    /// What time it is, in seconds since 1970: some limits are of yesterday.
    pub now: u64,
}

/// What a user may write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the file system has free for them. Where it knows quotas of directories
    /// (XFS, Lustre, CephFS), that is what is left of those.
    pub free: u64,
    /// Bytes that an earlier transfer of the same file left: they are taken already.
    pub arrived: u64,
    /// Limits on what they, or the group of the file, may have there.
    pub quotas: Vec<Quota>,
}

impl RemoteCommand for AskRoom {
    type Parsed = Room;

    fn render(&self) -> ShellLine {
        let directory = self.target.parent();
        let seconds = limits::QUOTA_TIMEOUT.as_secs_f64().to_string();
        ShellLine::new("sh")
            .args(["-c", ASK, "sh", directory.as_str()])
            .args([self.target.as_str(), &seconds])
    }

    fn parse(&self, stdout: &str) -> Result<Room, CommandError> {
        let of = |name: &str| {
            let lines = stdout.lines().map(str::split_whitespace);
            let mut bytes = lines.filter_map(|mut words| {
                let is_it = words.next() == Some(name);
                let mut number = || words.next()?.parse::<u64>().ok();
                let (count, size) = (number()?, number()?);
                is_it.then(|| count.saturating_mul(size))
            });
            let first = bytes.next();
            first.map(|first| bytes.fold(first, u64::saturating_add))
        };
        Ok(Room {
            free: of("free").ok_or(CommandError::Unparsable { program: "stat" })?,
            arrived: of("arrived").unwrap_or(0),
            quotas: quota::parse(stdout, self.now),
        })
    }
}

/// `$1` the directory, `$2` the target in it, `$3` the seconds that reading quotas may take.
/// What cannot be told is left out.
///
/// The new file will belong to the group of the directory, if that says so, or to the user's
/// own. `quota` is asked about this one file system: the servers of others may hang.
const ASK: &str = r#"room=$(stat -f -c '%a %S %T' -- "$1") || exit
printf 'free %s\n' "$room"
stat -c 'arrived %b %B' -- "$2.part" "$2.s3-part" 2>/dev/null
case $room in *' lustre') program=lfs;; *) program=quota;; esac
command -v "$program" >/dev/null && place=$(stat -L -c '%g %m' -- "$1") || exit 0
group=${place%% *} mount=${place#* }
[ -g "$1" ] || group=$(id -g)
printf 'group %s\nmount %s\n' "$group" "$mount"
if [ "$program" = lfs ]; then
  timeout -s KILL "$3" lfs quota -u "$(id -u)" "$mount"
  timeout -s KILL "$3" lfs quota -g "$group" "$mount"
else
  timeout -s KILL "$3" quota -u -g -v -w -p -f "$mount"
fi 2>/dev/null
exit 0"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn ask(directory: &std::path::Path) -> (AskRoom, String) {
        let target = directory.join("it's").display().to_string();
        let target = RemotePath::parse(&target).unwrap();
        let command = AskRoom { target, now: 1 };
        let output = std::process::Command::new("sh")
            .args(["-c", command.render().as_str()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        (command, String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_real_programs_are_understood() {
        let directory = tempfile::tempdir().unwrap();
        let (command, text) = ask(directory.path());
        let room = command.parse(&text).unwrap();
        assert!(room.free > 0 && room.arrived == 0, "{text}");
        let mut taken = 0;
        for name in ["it's.part", "it's.s3-part"] {
            let path = directory.path().join(name);
            std::fs::write(&path, [1; 10_000]).unwrap();
            taken += std::fs::metadata(&path).unwrap().blocks() * 512;
        }
        let (_, text) = ask(directory.path());
        assert_eq!(command.parse(&text).unwrap().arrived, taken, "{text}");
        assert!(command.parse("").is_err());
    }

    #[test]
    fn quotas_come_with_the_room() {
        let target = RemotePath::parse("/home/x").unwrap();
        let text = "free 10 4096 xfs\ngroup 100\nmount /home\n\
                    Disk quotas for user fireuser (uid 2101): \n  /dev/sdb1 8 0 10 0 1 0 0 0\n";
        let room = AskRoom { target, now: 1 }.parse(text).unwrap();
        assert_eq!((room.free, room.quotas.len()), (40_960, 1));
    }
}
