//! Jobs that work on files where they are: move, copy, delete, compress, extract.

use crate::command::{Compress, Extract, RemoteCommand as _, RemotePath, ShellLine};

/// One command that may take longer than a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileJob {
    /// Name of the job.
    pub name: &'static str,
    /// The words in its output by which clients recognise success.
    pub done: &'static str,
    /// What it runs.
    pub command: ShellLine,
    /// What is looked at before it is queued.
    pub checks: Vec<Check>,
}

/// Something that must be so before a job is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// There is something, be it a symbolic link to nowhere.
    Exists(RemotePath),
    /// As `Exists`, and the user may read it.
    Readable {
        /// What.
        path: RemotePath,
        /// What a symbolic link leads to, not the link.
        dereference: bool,
    },
    /// Something can be put under this path: what holds it is there and can be written.
    Place(RemotePath, Put),
    /// There is a directory. Whether it can be written is not asked: what an archive holds may belong
    /// into directories in it that can.
    Directory(RemotePath),
}

/// How something comes to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// By `mv`: into a directory that is there, else in place of what is.
    Move,
    /// By `cp`: into a directory that is there, else over what is.
    Copy,
    /// As a new file, in place of what is there or what a link there leads to.
    Replace,
}

impl FileJob {
    /// Gives a file or directory another name, or moves it into a directory.
    pub fn move_files(source: RemotePath, target: RemotePath) -> Self {
        let command = ShellLine::new("mv").args(["--", source.as_str(), target.as_str()]);
        Self {
            name: MOVE,
            done: "Files were successfully moved.",
            command,
            checks: vec![Check::Exists(source), Check::Place(target, Put::Move)],
        }
    }

    /// Copies a file or a tree with everything that can be kept.
    pub fn copy_files(source: RemotePath, target: RemotePath, dereference: bool) -> Self {
        let links = if dereference {
            "--dereference"
        } else {
            "--no-dereference"
        };
        let command = ShellLine::new("cp")
            .args(["--force", links, "--preserve=all", "--recursive", "--"])
            .args([source.as_str(), target.as_str()]);
        Self {
            name: COPY,
            done: "Files were successfully copied.",
            command,
            checks: vec![
                Check::Readable {
                    path: source,
                    dereference,
                },
                Check::Place(target, Put::Copy),
            ],
        }
    }

    /// Deletes a file or a tree.
    pub fn delete_files(path: RemotePath) -> Self {
        // Without a terminal `rm` asks nothing but about write-protected files: never wait.
        let command =
            ShellLine::new("rm").args(["--recursive", "--interactive=never", "--", path.as_str()]);
        Self {
            name: DELETE,
            done: "Files were successfully deleted.",
            command,
            checks: vec![Check::Exists(path)],
        }
    }

    /// Packs a file or a tree.
    pub fn compress_files(compress: &Compress) -> Self {
        let (source, target) = (compress.path.clone(), compress.target.clone());
        Self {
            name: COMPRESS,
            done: "Files were successfully compressed.",
            command: compress.render(),
            checks: vec![
                Check::Readable {
                    path: source,
                    dereference: compress.dereference,
                },
                Check::Place(target, Put::Replace),
            ],
        }
    }

    /// Unpacks an archive into a directory.
    pub fn extract_files(extract: &Extract) -> Self {
        let (source, target) = (extract.path.clone(), extract.target.clone());
        Self {
            name: COMPRESS,
            done: "Files were successfully extracted.",
            command: extract.render(),
            checks: vec![
                Check::Readable {
                    path: source,
                    dereference: true,
                },
                Check::Directory(target),
            ],
        }
    }
}

/// Whether a job is, by its name, one of these. They keep no state of their own.
pub(super) fn is_named(name: &str) -> bool {
    [MOVE, COPY, DELETE, COMPRESS].contains(&name)
}

const MOVE: &str = "MoveFiles";
const COPY: &str = "CopyFiles";
const DELETE: &str = "DeleteFiles";
/// The Python service names those that extract so too.
const COMPRESS: &str = "CompressFiles";
