//! `ls`: what is in a directory, or what one path is.

use super::c_quoted::take_literal;
use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::model::files::File;

/// Lists a directory, or shows a path that is none.
#[derive(Debug, Clone)]
pub struct Ls {
    /// Which path.
    pub path: RemotePath,
    /// What to list and how.
    pub options: LsOptions,
}

/// What to list and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct LsOptions {
    /// Names that begin with a dot too.
    pub show_hidden: bool,
    /// Owners and groups as numbers.
    pub numeric_uid: bool,
    /// Directories below too.
    pub recursive: bool,
    /// What a symbolic link points to, not the link.
    pub dereference: bool,
}

/// Shows one path itself, also when it is a directory.
#[derive(Debug, Clone)]
pub struct ShowPath {
    /// Which path.
    pub path: RemotePath,
}

impl RemoteCommand for Ls {
    type Parsed = Vec<File>;

    fn render(&self) -> ShellLine {
        let options = [
            (self.options.show_hidden, "-A"),
            (self.options.numeric_uid, "--numeric-uid-gid"),
            (self.options.recursive, "-R"),
            (self.options.dereference, "-L"),
        ];
        let given = options
            .into_iter()
            .filter_map(|(given, word)| given.then_some(word));
        long_listing().args(given).args(["--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<Vec<File>, CommandError> {
        parse_listing(stdout).ok_or(UNPARSABLE)
    }
}

impl RemoteCommand for ShowPath {
    type Parsed = File;

    fn render(&self) -> ShellLine {
        long_listing().args(["-d", "--", self.path.as_str()])
    }

    /// Reads the last line: other programs may have run, and printed, before `ls`.
    fn parse(&self, stdout: &str) -> Result<File, CommandError> {
        let last = stdout.lines().next_back();
        last.and_then(parse_entry).ok_or(UNPARSABLE)
    }
}

const UNPARSABLE: CommandError = CommandError::Unparsable { program: "ls" };

fn long_listing() -> ShellLine {
    ShellLine::new("ls").args(["-l", "--quoting-style=c", "--time-style=+%Y-%m-%dT%H:%M:%S"])
}

/// Reads a listing; names in directories below the first are relative to it.
fn parse_listing(stdout: &str) -> Option<Vec<File>> {
    let mut files = Vec::new();
    let mut top: Option<String> = None;
    let mut prefix = String::new();
    for line in stdout.lines() {
        if line.is_empty() || is_total(line) {
            continue;
        }
        if line.starts_with('"') {
            let directory = parse_header(line)?;
            let top = top.get_or_insert_with(|| directory.trim_end_matches('/').to_owned());
            let below = directory.strip_prefix(top.as_str())?.trim_matches('/');
            prefix = match below {
                "" => String::new(),
                below => format!("{below}/"),
            };
            continue;
        }
        let mut file = parse_entry(line)?;
        file.name.insert_str(0, &prefix);
        files.push(file);
    }
    Some(files)
}

/// `total 8`: how many blocks a directory has.
fn is_total(line: &str) -> bool {
    let blocks = line.strip_prefix("total ");
    blocks.is_some_and(|blocks| blocks.bytes().all(|b| b.is_ascii_digit()))
}

/// `"/a/b":` before the entries of that directory.
fn parse_header(line: &str) -> Option<String> {
    let (name, rest) = take_literal(line)?;
    (rest == ":").then(|| text(&name))
}

/// `-rw-r--r-- 1 user group 12 2024-01-02T03:04:05 "name"`, links with `-> "target"`.
fn parse_entry(line: &str) -> Option<File> {
    let quote = line.find('"')?;
    let (name, rest) = take_literal(&line[quote..])?;
    let link_target = match rest.strip_prefix(" -> ") {
        Some(target) => Some(text(&take_literal(target)?.0)),
        None => None,
    };
    let words: Vec<&str> = line[..quote].split_whitespace().collect();
    // Between the link count and the size; a group of a directory service may have blanks.
    let [mode, _links, user, middle @ .., size, time] = words.as_slice() else {
        return None;
    };
    // Devices have `MAJOR, MINOR` where others have a size; theirs is 0, as in stat(2).
    let (group, size) = match middle {
        [group @ .., major] if major.ends_with(',') => (group, "0"),
        group => (group, *size),
    };
    if group.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(File {
        name: text(&name),
        file_type: mode.get(..1)?.to_owned(),
        link_target,
        user: (*user).to_owned(),
        group: group.join(" "),
        // Behind the nine there may be a mark for an access list or a security context.
        permissions: mode.get(1..10)?.to_owned(),
        last_modified: (*time).to_owned(),
        size: size.to_owned(),
    })
}

/// JSON has no other text than Unicode: what is none becomes U+FFFD.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = include_str!("../../testdata/ls/directory.txt");
    const RECURSIVE: &str = include_str!("../../testdata/ls/recursive.txt");
    const SPECIAL: &str = include_str!("../../testdata/ls/special.txt");

    fn names(stdout: &str) -> Vec<String> {
        let files = parse_listing(stdout).unwrap();
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn options_are_rendered_and_the_path_is_no_option() {
        let path = RemotePath::parse("/home/a b").unwrap();
        let options = LsOptions {
            show_hidden: true,
            numeric_uid: true,
            recursive: true,
            dereference: true,
        };
        let ls = Ls { path, options };
        assert_eq!(
            ls.render().as_str(),
            "ls -l --quoting-style=c --time-style=+%Y-%m-%dT%H:%M:%S \
             -A --numeric-uid-gid -R -L -- '/home/a b'"
        );
        assert!(
            ShowPath { path: ls.path }
                .render()
                .as_str()
                .ends_with(" -d -- '/home/a b'")
        );
    }

    #[test]
    fn names_of_any_bytes_are_read() {
        assert_eq!(
            names(PLAIN),
            [
                "-d",
                "a b",
                "back\\slash",
                "caf\u{fffd}",
                "dq\"d",
                "ff",
                "gr\u{fc}\u{df}e",
                "it's",
                "li -> nk",
                "new\nline",
                "sub",
            ]
        );
        let files = parse_listing(PLAIN).unwrap();
        let link = &files[8];
        assert_eq!(
            (link.file_type.as_str(), link.link_target.as_deref()),
            ("l", Some("tar get -> x"))
        );
        assert_eq!(
            (link.permissions.as_str(), link.size.as_str()),
            ("rwxrwxrwx", "12")
        );
        assert_eq!(files[0].file_type, "d");
        assert_eq!(files[5].file_type, "p");
        assert_eq!(files[0].last_modified, "2026-11-25T08:18:27");
    }

    #[test]
    fn names_below_are_relative_to_the_directory_asked_for() {
        assert_eq!(
            names(RECURSIVE),
            ["a b", "sub", "a b/deep", "a b/deep/z", "sub/x"]
        );
    }

    #[test]
    fn directories_of_any_name_are_read_as_the_real_program_lists_them() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("to:p");
        for name in ["a:b", "x\ny:", "it's \"q\" \\"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
            std::fs::write(top.join(name).join("f:1"), "").unwrap();
        }
        let path = RemotePath::parse(top.to_str().unwrap()).unwrap();
        let options = LsOptions {
            recursive: true,
            ..LsOptions::default()
        };
        let line = Ls { path, options }.render();
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", line.as_str()]).env("LC_ALL", "C");
        let output = String::from_utf8(output.output().unwrap().stdout).unwrap();
        let expected = ["a:b", "it's \"q\" \\", "x\ny:"];
        let below = expected.map(|name| format!("{name}/f:1"));
        let expected: Vec<&str> = expected
            .into_iter()
            .chain(below.iter().map(String::as_str))
            .collect();
        assert_eq!(names(&output), expected);
    }

    #[test]
    fn devices_marks_and_groups_with_blanks() {
        let files = parse_listing(SPECIAL).unwrap();
        assert_eq!(
            (files[0].file_type.as_str(), files[0].size.as_str()),
            ("c", "0")
        );
        assert_eq!(files[0].group, "root");
        assert_eq!(files[1].permissions, "rw-r-----");
        assert_eq!(
            (files[1].user.as_str(), files[1].group.as_str()),
            ("alice", "domain users")
        );
        assert_eq!(files[2].permissions, "rwsr-xr-x");
    }

    #[test]
    fn other_output_is_refused() {
        for line in [
            "hello",
            "\"/a\"",
            "-rw-r--r-- 1 root root 0 2026-11-25T08:18:27 plain",
            "-rw-r--r-- 1 root 0 2026-11-25T08:18:27 \"x\"",
            "-????????? ? ? ? ? ? \"x\"",
        ] {
            assert_eq!(parse_listing(line), None, "{line}");
        }
        assert_eq!(parse_listing("total 0\n"), Some(Vec::new()));
    }

    #[test]
    fn one_path_is_the_last_line() {
        let show = ShowPath {
            path: RemotePath::parse("/x").unwrap(),
        };
        let line = "drwxr-xr-x 2 u g 4096 2026-11-25T08:18:27 \"/x\"\n";
        let file = show
            .parse(&format!("mode of '/x' changed\n{line}"))
            .unwrap();
        assert_eq!(file.name, "/x");
        assert!(show.parse("").is_err());
    }
}
