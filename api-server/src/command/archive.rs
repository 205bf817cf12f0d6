//! `tar`: archives, in and out. Whoever runs these, an operation or a job, gets an archive
//! under its name only when it is whole.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::model::files::CompressionType;

/// Puts a file or a directory into a new archive.
#[derive(Debug, Clone)]
pub struct Compress {
    /// What to put in. Names in the archive begin with its last component.
    pub path: RemotePath,
    /// The archive, replaced when it is there.
    pub target: RemotePath,
    /// Only regular files whose name in the archive, with `./` before it, matches this regular
    /// expression of `find`, whole.
    pub match_pattern: Option<String>,
    /// What symbolic links point to, not the links.
    pub dereference: bool,
    /// How to make it smaller.
    pub compression: CompressionType,
}

/// Takes everything out of an archive.
#[derive(Debug, Clone)]
pub struct Extract {
    /// The archive.
    pub path: RemotePath,
    /// The directory to put it into.
    pub target: RemotePath,
    /// How it was made smaller.
    pub compression: CompressionType,
}

impl RemoteCommand for Compress {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let (directory, name) = split(self.path.as_str());
        let tar = ShellLine::new("tar")
            .arg("--create")
            .args(option(self.compression))
            .args(self.dereference.then_some("--dereference"))
            .arg("--file=-");
        // What is being made is no part of itself, nor is what it replaces.
        let tar = tar
            .args(["--no-wildcards", "--anchored"])
            .variable_arg("--exclude=", "linked")
            .variable_arg("--exclude=", "replaced")
            .arg("--no-anchored")
            .variable_arg("--exclude=", "part_name");
        let (root, archive) = match &self.match_pattern {
            None => (
                name.to_owned(),
                tar.arg(format!("--directory={directory}"))
                    .args(["--", name]),
            ),
            Some(pattern) => {
                let root = if name == "." {
                    name.to_owned()
                } else {
                    format!("./{name}")
                };
                let links = if self.dereference { "-L" } else { "-P" };
                let tar = tar.args(["--null", "--verbatim-files-from", "--files-from=-"]);
                let line = ShellLine::new("sh")
                    .args(["-c", MATCHING, "sh", directory, links, &root, pattern])
                    .arg(tar.as_str());
                (root, line)
            }
        };
        ShellLine::new("sh")
            .args(["-c", WITHOUT_ITSELF, "sh", self.path.as_str()])
            .args([self.target.as_str(), &root, archive.as_str()])
            .into_file(&self.target, None)
    }

    fn parse(&self, _stdout: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

impl RemoteCommand for Extract {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("tar")
            .arg("--extract")
            .args(option(self.compression))
            // Otherwise a colon in the name would mean another host.
            .arg("--force-local")
            .arg(format!("--file={}", self.path.as_str()))
            .arg(format!("--directory={}", self.target.as_str()))
    }

    fn parse(&self, _stdout: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// `$1` what is packed, `$2` the archive, `$3` the former's name there, `$4` a quoted command line.
///
/// Sets `replaced` to the name that a file under the archive's name would have in it, and `linked`
/// to that of a symbolic link there, else to the name of the unfinished file, which is left out
/// anyhow. Paths are compared without links, `..` and doubled slashes; what is behind the names
/// keeps their newlines.
const WITHOUT_ITSELF: &str = r#"real() { readlink -fn -- "$1"; echo .; }
below() {
  case $1 in
    "$source"/*) printf %s "$root${1#"$source"}" ;;
    *) printf %s "$part_name" ;;
  esac
  echo .
}
source=$(real "$1") root=$3
source=${source%.}
source=${source%/}
target=$(real "$2")
target=${target%.}
replaced=$(below "$target")
replaced=${replaced%.}
case $2 in
  */*) place=${2%/*}/ name=${2##*/} ;;
  *) place=. name=$2 ;;
esac
place=$(real "$place")
place=${place%.}
linked=$(below "${place%/}/$name")
linked=${linked%.}
export replaced linked
eval "$4""#;

/// Finds first and packs then: a failure of `find` must not be lost in a pipe.
const MATCHING: &str = r#"cd -- "$1" || exit
list=$(mktemp) || exit
deaf() { trap '' HUP INT TERM PIPE; }
trap 'deaf; rm -f -- "$list"' EXIT
trap 'deaf; exit 143' HUP INT TERM
trap 'deaf; exit 141' PIPE
find "$2" "$3" -type f -regex "$4" -print0 >"$list" || exit
eval "$5" <"$list""#;

fn option(compression: CompressionType) -> Option<&'static str> {
    match compression {
        CompressionType::None => None,
        CompressionType::Bzip2 => Some("--bzip2"),
        CompressionType::Gzip => Some("--gzip"),
        CompressionType::Xz => Some("--xz"),
    }
}

/// The directory of a path and its last component.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        None if path.is_empty() => ("/", "."),
        None => (".", path),
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::{Command, Output};

    fn path(directory: &Path, name: &str) -> RemotePath {
        RemotePath::parse(&format!("{}/{name}", directory.display())).unwrap()
    }

    fn run(line: &ShellLine) -> Output {
        Command::new("sh")
            .args(["-c", line.as_str()])
            .output()
            .unwrap()
    }

    fn good(line: &ShellLine) {
        let output = run(line);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {error}", line.as_str());
    }

    fn members(directory: &Path, archive: &str) -> Vec<String> {
        let tar = ShellLine::new("tar").args(["-tf", path(directory, archive).as_str()]);
        let output = run(&tar.arg("--force-local"));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    fn fixture() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("-d/sub")).unwrap();
        for name in ["-d/a.txt", "-d/b.log", "-d/sub/c.txt", "beside.txt"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        directory
    }

    #[test]
    fn paths_are_split_as_names_in_the_archive_need_it() {
        for (text, parts) in [
            ("/a/b", ("/a", "b")),
            ("/a/b//", ("/a", "b")),
            ("/a", ("/", "a")),
            ("/", ("/", ".")),
            ("/a/.", ("/a", ".")),
            ("a", (".", "a")),
        ] {
            assert_eq!(split(text), parts, "{text}");
        }
    }

    #[test]
    fn every_compression_goes_in_and_comes_out() {
        use CompressionType::{Bzip2, Gzip, None, Xz};
        let directory = fixture();
        let at = directory.path();
        for compression in [None, Bzip2, Gzip, Xz] {
            let name = format!("it's: {compression:?}.tar");
            let compress = Compress {
                path: path(at, "-d/"),
                target: path(at, &name),
                match_pattern: Option::None,
                dereference: false,
                compression,
            };
            good(&compress.render());
            assert_eq!(
                members(at, &name),
                ["-d/", "-d/a.txt", "-d/b.log", "-d/sub/", "-d/sub/c.txt"]
            );
            let target = format!("out {compression:?}");
            std::fs::create_dir(at.join(&target)).unwrap();
            let extract = Extract {
                path: path(at, &name),
                target: path(at, &target),
                compression,
            };
            good(&extract.render());
            let file = at.join(&target).join("-d/sub/c.txt");
            assert_eq!(std::fs::read_to_string(file).unwrap(), "-d/sub/c.txt");
        }
    }

    #[test]
    fn a_pattern_chooses_among_what_is_below_the_path() {
        let directory = fixture();
        let at = directory.path();
        let compress = |from: &str, pattern: &str| {
            let compress = Compress {
                path: path(at, from),
                target: path(at, "m.tgz"),
                match_pattern: Some(pattern.to_owned()),
                dereference: false,
                compression: CompressionType::Gzip,
            };
            good(&compress.render());
            members(at, "m.tgz")
        };
        assert_eq!(compress("-d", r".*\.txt"), ["./-d/a.txt", "./-d/sub/c.txt"]);
        assert_eq!(compress("-d", r"\./-d/a.*"), ["./-d/a.txt"]);
        assert_eq!(compress("-d/.", r".*\.txt"), ["./a.txt", "./sub/c.txt"]);
        assert!(compress("-d", "' ; touch pwned ; '").is_empty());
        assert!(!at.join("pwned").exists());
    }

    #[test]
    fn an_archive_that_lies_in_what_is_packed_is_no_part_of_itself() {
        let directory = fixture();
        let at = directory.path();
        for from in ["-d", "-d/", "-d/."] {
            for (match_pattern, compression) in [
                (None, CompressionType::Gzip),
                (None, CompressionType::Xz),
                (Some(".*".to_owned()), CompressionType::None),
            ] {
                let compress = Compress {
                    path: path(at, from),
                    target: path(at, "-d/sub/[m].tgz"),
                    match_pattern,
                    dereference: false,
                    compression,
                };
                // The second one replaces the first.
                for _ in 0..2 {
                    good(&compress.render());
                    let members = members(at, "-d/sub/[m].tgz");
                    assert!(
                        !members.iter().any(|name| name.contains("part")),
                        "{members:?}"
                    );
                    assert!(
                        !members.iter().any(|name| name.contains("tgz")),
                        "{members:?}"
                    );
                    assert!(members.iter().any(|name| name.ends_with("sub/c.txt")));
                }
            }
        }
    }

    #[test]
    fn nor_where_the_archive_lies_in_it_under_another_spelling() {
        let directory = fixture();
        let at = directory.path();
        std::os::unix::fs::symlink("-d", at.join("alias")).unwrap();
        std::os::unix::fs::symlink("sub/real\n", at.join("-d/link.tgz")).unwrap();
        for (from, to, members_of) in [
            ("-d", "alias/m.tgz", "-d/m.tgz"),
            ("-d", "-d//sub/../m.tgz", "-d/m.tgz"),
            ("-d/sub/..", "-d/m.tgz", "-d/m.tgz"),
            ("alias/.", "-d/m.tgz", "-d/m.tgz"),
            ("-d", "alias/link.tgz", "-d/sub/real\n"),
        ] {
            for match_pattern in [None, Some(".*".to_owned())] {
                let compress = Compress {
                    path: path(at, from),
                    target: path(at, to),
                    match_pattern,
                    dereference: false,
                    compression: CompressionType::Gzip,
                };
                // The second one replaces the first.
                for _ in 0..2 {
                    good(&compress.render());
                    let members = members(at, members_of);
                    let itself = ["part", "m.tgz", "real"];
                    assert!(
                        !members
                            .iter()
                            .any(|name| itself.iter().any(|part| name.contains(part))),
                        "{from} {to} {members:?}"
                    );
                    let packed = members.iter().any(|name| name.ends_with("sub/c.txt"));
                    assert!(packed, "{from} {to} {members:?}");
                }
            }
            std::fs::remove_file(at.join(members_of)).unwrap();
        }
    }

    #[test]
    fn a_failure_leaves_no_archive() {
        let directory = fixture();
        let at = directory.path();
        for match_pattern in [None, Some(".*".to_owned())] {
            let compress = Compress {
                path: path(at, "nope"),
                target: path(at, "n.tgz"),
                match_pattern,
                dereference: false,
                compression: CompressionType::Gzip,
            };
            let output = run(&compress.render());
            assert!(!output.status.success());
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(error.contains("No such file or directory"), "{error}");
        }
        let mut left: Vec<_> = std::fs::read_dir(at)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["-d", "beside.txt"]);
    }

    #[test]
    fn no_list_of_names_stays_when_the_time_is_over_and_nobody_reads_any_more() {
        use std::os::unix::fs::PermissionsExt as _;
        use std::process::Stdio;
        let directory = fixture();
        let at = directory.path();
        std::fs::create_dir(at.join("bin")).unwrap();
        std::fs::write(at.join("bin/find"), "#!/bin/sh\nexec sleep 60\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(at.join("bin/find"), mode).unwrap();
        std::fs::create_dir(at.join("tmp")).unwrap();
        let compress = Compress {
            path: path(at, "-d"),
            target: path(at, "m.tgz"),
            match_pattern: Some(".*".to_owned()),
            dereference: false,
            compression: CompressionType::None,
        };
        let line = compress
            .render()
            .within(std::time::Duration::from_millis(500));
        let mut command = Command::new("sh");
        command.args(["-c", line.as_str()]);
        let search = format!("{}/bin:{}", at.display(), std::env::var("PATH").unwrap());
        command.env("PATH", search).env("TMPDIR", at.join("tmp"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(124));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // The fixture's two, and the two made here.
        while std::fs::read_dir(at).unwrap().count() > 4
            || std::fs::read_dir(at.join("tmp")).unwrap().count() > 0
        {
            assert!(std::time::Instant::now() < deadline, "something stays");
            std::thread::yield_now();
        }
    }
}
