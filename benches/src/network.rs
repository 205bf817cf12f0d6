//! Where the two ends of a run are: on the loopback address, or on two machines as far as
//! the network can tell.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use crate::measure::Program;
use crate::peers::{Missing, find};

/// Between the two ends.
#[derive(Debug)]
pub enum Network {
    /// One machine; packets as large as the loopback interface takes.
    Loopback,
    /// Two network namespaces and an Ethernet cable: packets of at most 1500 bytes.
    Ethernet(Ethernet),
    /// Two network namespaces that a link emulator has made around this process.
    Wan(Wan),
}

impl Network {
    /// Two new namespaces, which go with this value. Needs root.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn ethernet() -> Result<Self, Missing> {
        Ethernet::new().map(Self::Ethernet)
    }

    /// The namespaces of the `wanem run` that this process runs in.
    ///
    /// # Errors
    /// When it runs in none.
    pub fn wan() -> Result<Self, Missing> {
        Wan::new().map(Self::Wan).ok_or_else(|| Missing {
            what: "the namespaces of a link emulator".to_owned(),
            install: "use the program wan, which starts one".to_owned(),
        })
    }

    /// Where servers listen.
    pub fn server_address(&self) -> IpAddr {
        IpAddr::V4(match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Ethernet(_) => SERVER,
            Self::Wan(wan) => wan.server_address,
        })
    }

    /// The same program, run where the server is.
    #[must_use]
    pub fn at_server(&self, program: Program) -> Program {
        match self {
            Self::Loopback => program,
            Self::Ethernet(ethernet) => ethernet.server.within(&ethernet.nsenter, program),
            Self::Wan(wan) => Wan::within(&wan.server, program),
        }
    }

    /// The same program, run where the client is.
    #[must_use]
    pub fn at_client(&self, program: Program) -> Program {
        match self {
            Self::Loopback => program,
            Self::Ethernet(ethernet) => ethernet.client.within(&ethernet.nsenter, program),
            Self::Wan(wan) => Wan::within(&wan.client, program),
        }
    }
}

/// The namespaces.
#[derive(Debug)]
pub struct Ethernet {
    nsenter: std::path::PathBuf,
    client: Namespace,
    server: Namespace,
}

impl Ethernet {
    fn new() -> Result<Self, Missing> {
        find("ip", "iproute2")?;
        let nsenter = find("nsenter", "util-linux")?;
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        let other = server.holder.id();
        client.run(&format!(
            "ip link add bench mtu 1500 type veth peer name bench mtu 1500 netns {other} && \
             ip addr add {CLIENT}/24 dev bench && ip link set bench up"
        ))?;
        server.run(&format!(
            "ip addr add {SERVER}/24 dev bench && ip link set bench up"
        ))?;
        Ok(Self {
            nsenter,
            client,
            server,
        })
    }
}

/// Named namespaces, as the emulator tells them in the environment.
#[derive(Debug)]
pub struct Wan {
    client: OsString,
    server: OsString,
    server_address: Ipv4Addr,
}

impl Wan {
    fn new() -> Option<Self> {
        let address = std::env::var("WANEM_SERVER_IP").ok()?;
        Some(Self {
            client: std::env::var_os("WANEM_CLIENT_NS")?,
            server: std::env::var_os("WANEM_SERVER_NS")?,
            server_address: address.parse().ok()?,
        })
    }

    fn within(namespace: &OsString, program: Program) -> Program {
        let ip = Program::new("ip").args(["netns", "exec"]).arg(namespace);
        program.by(ip)
    }
}

/// A network namespace, held by a process that ends with this one, however that ends.
#[derive(Debug)]
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Result<Self, Missing> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo made && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| forbidden(&error.to_string()))?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            // An error reads as nothing.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let namespace = Self { holder };
        match line.trim() {
            "made" => Ok(namespace),
            _ => Err(forbidden("unshare --net failed")),
        }
    }

    fn run(&self, script: &str) -> Result<(), Missing> {
        let output = Command::new("nsenter")
            .arg(self.option())
            .args(["sh", "-c", script])
            .output()
            .map_err(|error| forbidden(&error.to_string()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(forbidden(String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    fn option(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    fn within(&self, nsenter: &std::path::Path, program: Program) -> Program {
        program.by(Program::new(nsenter).arg(self.option()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its standard input ends, so it does too.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn forbidden(why: &str) -> Missing {
    Missing {
        what: format!("two network namespaces ({why})"),
        install: "run as root, on a kernel with veth interfaces".to_owned(),
    }
}

/// Private to the namespaces: these are seen nowhere else.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
