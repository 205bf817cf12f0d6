//! Who takes part, in the order of the table.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::peers::cp::Cp;
use crate::peers::curl::Curl;
use crate::peers::mixed::{Mixed, Ours};
use crate::peers::python::{Compression, Python};
use crate::peers::rsync::Rsync;
use crate::peers::scp::Scp;
use crate::peers::streamer::Streamer;
use crate::peers::tar::Tar;
use crate::peers::{Direction, Missing, Peer};

/// A tool, or what it lacks to take part.
pub struct Candidate {
    /// The tool.
    pub tool: Tool,
    /// How to run it.
    pub peer: Result<Box<dyn Peer>, Missing>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = self.peer.as_ref().err();
        f.debug_struct("Candidate")
            .field("tool", &self.tool)
            .field("missing", &missing)
            .finish()
    }
}

/// A tool and what it is asked to do: one line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented by its name and its peer")]
pub enum Tool {
    Cp,
    Tar,
    Rsync,
    Scp(Direction),
    Curl,
    Python(Direction),
    PythonUncompressed(Direction),
    OurClient(Direction),
    OurEndpoint(Direction),
    Streamer(Direction),
}

impl Tool {
    /// The name in the table, in JSON and for `--only`.
    pub fn name(self) -> String {
        match self {
            Self::Cp => "cp".to_owned(),
            Self::Tar => "tar-ssh".to_owned(),
            Self::Rsync => "rsync".to_owned(),
            Self::Scp(direction) => format!("scp-{direction}"),
            Self::Curl => "curl-tls".to_owned(),
            Self::Python(direction) => format!("python-{direction}"),
            Self::PythonUncompressed(direction) => format!("python-no-deflate-{direction}"),
            Self::OurClient(direction) => format!("our-client-{direction}"),
            Self::OurEndpoint(direction) => format!("our-endpoint-{direction}"),
            Self::Streamer(direction) => format!("streamer-{direction}"),
        }
    }

    /// Whether `wanted` names it: its whole name, or the part before the dash.
    pub fn is_named(self, wanted: &str) -> bool {
        let name = self.name();
        name == wanted || name.split('-').next() == Some(wanted)
    }
}

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Set {
    /// One large file.
    #[default]
    OneFile,
    /// The same between two network namespaces, in packets of at most 1500 bytes.
    Ethernet,
    /// One large file over the WebSocket protocol, with and without compression, between the
    /// Python tool and ours.
    WebSocket,
    /// The same over a long link that an emulator has made; see the program `wan`.
    Wan,
    /// A tree of 10,000 files of 10 KiB.
    SmallFiles,
}

impl Set {
    /// The tools that a user would consider for it.
    pub fn tools(self) -> &'static [Tool] {
        use Direction::{Download, Upload};
        match self {
            Self::OneFile => &[
                Tool::Cp,
                Tool::Scp(Download),
                Tool::Scp(Upload),
                Tool::Curl,
                Tool::Python(Download),
                Tool::Python(Upload),
                Tool::Streamer(Download),
                Tool::Streamer(Upload),
            ],
            Self::Ethernet => &[
                Tool::Cp,
                Tool::Scp(Download),
                Tool::Scp(Upload),
                Tool::Streamer(Download),
                Tool::Streamer(Upload),
            ],
            Self::WebSocket => &[
                Tool::Cp,
                Tool::Python(Download),
                Tool::Python(Upload),
                Tool::PythonUncompressed(Download),
                Tool::PythonUncompressed(Upload),
                Tool::OurClient(Download),
                Tool::OurClient(Upload),
                Tool::OurEndpoint(Download),
                Tool::OurEndpoint(Upload),
                Tool::Streamer(Download),
                Tool::Streamer(Upload),
            ],
            Self::Wan => &[Tool::Curl, Tool::Streamer(Download), Tool::Streamer(Upload)],
            Self::SmallFiles => &[
                Tool::Cp,
                Tool::Tar,
                Tool::Rsync,
                Tool::Streamer(Download),
                Tool::Streamer(Upload),
            ],
        }
    }
}

/// Where to find what is not in `PATH`.
#[derive(Debug)]
pub struct Places {
    /// Our binary.
    pub streamer: PathBuf,
    /// Environment added at both ends of ours.
    pub streamer_environment: Vec<(OsString, OsString)>,
    /// Virtual environment of the Python tool.
    pub venv: PathBuf,
}

impl Places {
    /// Looks for everything that `tool` needs.
    pub fn candidate(&self, tool: Tool) -> Candidate {
        fn boxed<P: Peer + 'static>(peer: P) -> Box<dyn Peer> {
            Box::new(peer)
        }
        let peer = match tool {
            Tool::Cp => Cp::find().map(boxed),
            Tool::Tar => Tar::find().map(boxed),
            Tool::Rsync => Rsync::find().map(boxed),
            Tool::Scp(direction) => Scp::find(direction).map(boxed),
            Tool::Curl => Curl::find().map(boxed),
            Tool::Python(direction) => self.python(direction, Compression::On).map(boxed),
            Tool::PythonUncompressed(direction) => {
                self.python(direction, Compression::Off).map(boxed)
            }
            Tool::OurClient(direction) => self.mixed(direction, Ours::Client).map(boxed),
            Tool::OurEndpoint(direction) => self.mixed(direction, Ours::Endpoint).map(boxed),
            Tool::Streamer(direction) => self.ours(direction).map(boxed),
        };
        Candidate { tool, peer }
    }

    fn ours(&self, direction: Direction) -> Result<Streamer, Missing> {
        Streamer::find(&self.streamer, direction, &self.streamer_environment)
    }

    fn python(&self, direction: Direction, compression: Compression) -> Result<Python, Missing> {
        Python::find(&self.venv, direction, compression)
    }

    fn mixed(&self, direction: Direction, ours: Ours) -> Result<Mixed, Missing> {
        Ok(Mixed {
            streamer: self.ours(direction)?,
            python: self.python(direction, Compression::On)?,
            ours,
            direction,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_whole_or_by_tool() {
        let wan = [Set::Ethernet, Set::Wan];
        for set in [Set::OneFile, Set::WebSocket, Set::SmallFiles]
            .into_iter()
            .chain(wan)
        {
            let mut names: Vec<_> = set.tools().iter().map(|tool| tool.name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), set.tools().len());
        }
        let scp = Tool::Scp(Direction::Upload);
        assert!(scp.is_named("scp") && scp.is_named("scp-upload"));
        assert!(!scp.is_named("scp-download") && !scp.is_named("cp"));
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let places = Places {
            streamer: "/nonexistent/streamer".into(),
            streamer_environment: Vec::new(),
            venv: "/nonexistent/venv".into(),
        };
        for tool in [
            Tool::Python(Direction::Upload),
            Tool::Streamer(Direction::Download),
        ] {
            let missing = places.candidate(tool).peer.err().unwrap().to_string();
            assert!(missing.contains("/nonexistent"), "{missing}");
            assert!(
                missing.contains("setup.sh") || missing.contains("cargo build"),
                "{missing}"
            );
        }
    }
}
