//! The virtual environments that `tests/python.sh` makes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which packages are in an environment.
#[derive(Debug, Clone, Copy)]
pub enum Environment {
    /// `firecrest-streamer` and pyfirecrest from PyPI.
    PyPi,
    /// pyfirecrest from PyPI, and our package in the place of `firecrest-streamer`.
    Ours,
}

impl Environment {
    /// A program of the environment.
    ///
    /// # Panics
    /// When the environment was not made.
    pub fn program(self, name: &str) -> Command {
        let directory = match self {
            Self::PyPi => "pypi",
            Self::Ours => "ours",
        };
        let test = std::env::current_exe().expect("this program has a path");
        let target = test.ancestors().nth(3).map(Path::to_owned);
        let program: PathBuf = target
            .expect("TARGET/PROFILE/deps/TEST")
            .join("python")
            .join(directory)
            .join("bin")
            .join(name);
        assert!(
            program.is_file(),
            "{} is missing; make it first: tests/python.sh",
            program.display()
        );
        Command::new(program)
    }
}
