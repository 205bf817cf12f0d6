//! Network and mount namespaces of a test's own.

use std::path::Path;
use std::process::Command;

use crate::harness::{BINARY, Process, clean, skipped};

/// A namespace that lives as long as this.
pub(crate) struct Namespace {
    holder: Process,
    kind: &'static str,
}

impl Namespace {
    /// A network with a loopback interface; `None`, said on stderr, where that is forbidden.
    pub(crate) fn network() -> Option<Self> {
        Self::new("--net", "ip link set lo up", &[])
    }

    /// A file system in memory of this size, mounted at `at` inside.
    pub(crate) fn memory(size: &str, at: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=\"$1\" none \"$2\"";
        Self::new("--mount", script, &[size.as_ref(), at.as_os_str()])
    }

    fn new(kind: &'static str, script: &str, args: &[&std::ffi::OsStr]) -> Option<Self> {
        let mut command = clean(Command::new("unshare"));
        let script = format!("{script} && echo made || echo forbidden; exec sleep 1000");
        command
            .arg(kind)
            .args(["sh", "-c", &script, "sh"])
            .args(args);
        let probe = Command::new("unshare").args([kind, "true"]).output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            skipped(&format!("needs to make namespaces (unshare {kind})"));
            return None;
        }
        let mut holder = Process::start(command);
        if holder.wait_for(|line| line == "made" || line == "forbidden") == "forbidden" {
            skipped(&format!("cannot prepare a namespace (unshare {kind})"));
            return None;
        }
        Some(Self { holder, kind })
    }

    /// A program inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = clean(Command::new("nsenter"));
        let pid = self.holder.id().to_string();
        command.args([self.kind, "--target", &pid, program]);
        command
    }

    /// Our binary inside.
    pub(crate) fn streamer(&self) -> Command {
        self.command(BINARY)
    }

    /// Runs a script inside, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) {
        assert!(self.try_sh(script), "failed: {script}");
    }

    pub(crate) fn try_sh(&self, script: &str) -> bool {
        let run = self.command("sh").args(["-ec", script]).output().unwrap();
        if !run.status.success() {
            eprintln!("{script}: {}", String::from_utf8_lossy(&run.stderr));
        }
        run.status.success()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }
}

/// Two networks and the cable between them.
pub(crate) struct Cable {
    pub(crate) here: Namespace,
    pub(crate) there: Namespace,
}

/// Where the endpoint is.
pub(crate) const THERE: &str = "10.87.0.1";

impl Cable {
    pub(crate) fn new() -> Option<Self> {
        let (here, there) = (Namespace::network()?, Namespace::network()?);
        let pid = there.pid();
        let made = here.try_sh(&format!(
            "ip link add cable type veth peer name cable netns {pid}; \
             ip addr add 10.87.0.2/24 dev cable; ip link set cable up"
        ));
        if !made {
            skipped("needs veth interfaces");
            return None;
        }
        there.sh(&format!(
            "ip addr add {THERE}/24 dev cable; ip link set cable up"
        ));
        Some(Self { here, there })
    }

    pub(crate) fn pull(&self) {
        self.there.sh("ip link set cable down");
    }

    pub(crate) fn plug_in(&self) {
        self.there.sh("ip link set cable up");
    }

    pub(crate) fn take_packets_of(&self, bytes: u32) {
        for end in [&self.here, &self.there] {
            // Packets are cut to size before they are sent, so that each is looked at.
            end.sh(&format!("ip link set cable mtu {bytes} gso_max_segs 1"));
        }
    }

    /// Packets to the side that receives are dropped from now on when they are larger; nobody
    /// says so.
    pub(crate) fn shrink_towards(&self, verb: &str, bytes: u32) {
        self.receiving(verb)
            .sh(&format!("ip link set cable mtu {bytes}"));
    }

    /// The same, and new connections are told that the side that receives takes larger ones: as
    /// where a router in between drops them.
    pub(crate) fn hide_smaller_path(&self, verb: &str, bytes: u32) {
        self.shrink_towards(verb, bytes);
        let route = "ip route replace 10.87.0.0/24 dev cable advmss 8960";
        self.receiving(verb).sh(route);
    }

    /// Packets that were dropped on the way there.
    #[track_caller]
    pub(crate) fn dropped(&self, verb: &str) -> u64 {
        self.sent(verb, "dropped")
    }

    /// Bytes in an average packet on the way there, until now.
    #[track_caller]
    pub(crate) fn packet_bytes(&self, verb: &str) -> u64 {
        self.sent(verb, "bytes") / self.sent(verb, "packets").max(1)
    }

    /// What the interface of the side that sends has counted.
    #[track_caller]
    fn sent(&self, verb: &str, counter: &str) -> u64 {
        let sending = match verb {
            "receive" => &self.there,
            _ => &self.here,
        };
        let mut ip = sending.command("ip");
        ip.args(["-s", "-j", "link", "show", "cable"]);
        let shown = ip.output().unwrap().stdout;
        let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        shown[0]["stats64"]["tx"][counter].as_u64().unwrap()
    }

    fn receiving(&self, verb: &str) -> &Namespace {
        match verb {
            "receive" => &self.here,
            _ => &self.there,
        }
    }

    /// `udp` or `tcp`; false where the kernel has no rules by protocol.
    pub(crate) fn drop(&self, protocol: &str) -> bool {
        // In front of the table of all other addresses: what arrives is not answered.
        let rule = format!("ip rule add ipproto {protocol} prio 5 blackhole");
        self.there.try_sh(&rule) && self.here.try_sh(&rule)
    }

    /// What was dropped gets through again.
    pub(crate) fn pass(&self, protocol: &str) {
        for end in [&self.here, &self.there] {
            end.sh(&format!("ip rule del ipproto {protocol} prio 5 blackhole"));
        }
    }
}
