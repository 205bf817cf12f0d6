//! A node of the cluster on which little is to be had: `tests/cluster/bare-node.sh`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::process::Process;

/// Its name, and that of its partition. Other tests that list either do not expect it.
pub const NAME: &str = "bare";

/// The node while it is up.
#[derive(Debug)]
pub struct BareNode {
    cluster: Cluster,
    /// Its address, on a line of its own to this machine.
    pub address: String,
    slurmd: Option<Process>,
}

impl BareNode {
    /// Starts it, with a partition that has no other. Without a cluster, says that the test is
    /// skipped.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Self> {
        let cluster = Cluster::find()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/bare-node.sh");
        // Killed with this thread, however that ends: then nothing of the node is left.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(script);
        command.arg(cluster.value("STATE"));
        let mut node = Self {
            address: cluster.value("BARE_NODE"),
            cluster,
            slurmd: Some(Process::start(&mut command)),
        };
        if let Some(slurmd) = &mut node.slurmd {
            slurmd.wait_for("slurmd started on");
        }
        node.until("idle", |node| {
            let (_, said) = node.scontrol(&["show", "node", NAME]);
            said.contains("State=IDLE ")
        });
        // Of a test that was killed.
        node.scontrol(&["delete", "PartitionName=bare"]);
        let partition = ["create", "PartitionName=bare", "Nodes=bare", "Hidden=YES"];
        let (made, said) = node.scontrol(&partition);
        assert!(made, "{said}");
        Some(node)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "the bare node is not {what}");
            // Slurm can only be asked.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn scontrol(&self, arguments: &[&str]) -> (bool, String) {
        self.slurm("scontrol", arguments)
    }

    fn slurm(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(program);
        command.args(arguments);
        command.env("SLURM_CONF", self.cluster.value("SLURM_CONF"));
        let output = command.output().expect("Slurm is installed");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }
}

impl Drop for BareNode {
    fn drop(&mut self) {
        // Of a test that failed a job may be left, with which no partition goes.
        self.slurm("scancel", &["--partition=bare"]);
        let deadline = Instant::now() + PATIENCE;
        while !self.scontrol(&["delete", "PartitionName=bare"]).0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.slurmd.take());
        // Nobody sees it any more.
        self.scontrol(&["update", "NodeName=bare", "State=FUTURE"]);
    }
}

/// More than Slurm takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
