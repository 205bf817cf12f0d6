//! A login node with the programs of a PBS on its `PATH`.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use streamer_tests::cluster::Cluster;
use streamer_tests::sshd::Sshd;

/// The node; it lives as long as this.
pub(super) struct Node {
    pub(super) sshd: Sshd,
    _directory: tempfile::TempDir,
}

/// Whether the server tells of jobs that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    Kept,
    /// As real ones do unless they are told otherwise.
    NotKept,
}

/// Programs, samples and an empty spool, where every user reaches them.
pub(super) fn start(cluster: &Cluster, history: History) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = directory.path();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(place, 0o755);
    for (name, bits) in [("bin", 0o755), ("samples", 0o755), ("spool", 0o1777)] {
        std::fs::create_dir(place.join(name)).unwrap();
        mode(&place.join(name), bits);
    }
    let program = place.join("pbs.py");
    std::fs::copy(own.join("pbs/pbs.py"), &program).unwrap();
    mode(&program, 0o755);
    if history == History::NotKept {
        std::fs::write(place.join("no-history"), "").unwrap();
    }
    for name in ["qsub", "qselect", "qstat", "qdel", "pbsnodes", "pbs_rstat"] {
        symlink(&program, place.join("bin").join(name)).unwrap();
    }
    for name in [
        "nodes.json",
        "queues.json",
        "server.json",
        "reservations.txt",
    ] {
        let from = own.join("../api-server/testdata/pbs").join(name);
        let to = place.join("samples").join(name);
        std::fs::copy(from, &to).unwrap();
        mode(&to, 0o644);
    }
    let place = place.display();
    // The first `SetEnv` of a name counts, and only one line is read.
    let variables = format!("SetEnv PATH={place}/bin:/usr/bin:/bin");
    let sshd = Sshd::start(cluster, |own| {
        let lines = own.lines().filter(|line| !line.starts_with("SetEnv"));
        let lines: Vec<_> = lines.chain([variables.as_str()]).collect();
        lines.join("\n") + "\n"
    });
    Node {
        sshd,
        _directory: directory,
    }
}
