//! The real cluster that `tests/run.sh` brings up.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::request;

/// A cluster made by `tests/cluster/cluster.sh`.
#[derive(Debug)]
pub struct Cluster {
    state: PathBuf,
}

impl Cluster {
    /// The one that `STREAMER_TEST_CLUSTER` names. Without one, says that the test is skipped.
    pub fn find() -> Option<Self> {
        let state = std::env::var_os("STREAMER_TEST_CLUSTER");
        if state.is_none() {
            crate::skipped("STREAMER_TEST_CLUSTER names no cluster (tests/cluster/README.md)");
        }
        Some(Self {
            state: state?.into(),
        })
    }

    /// A configuration of firecrest-api for it.
    ///
    /// # Panics
    /// When the cluster is not up.
    pub fn config(&self) -> String {
        let path = self.state.join("firecrest.yaml");
        std::fs::read_to_string(path).expect("a cluster that is up")
    }

    /// Whether it is the Slurm of Debian 12, 22.05.
    pub fn is_slurm_22(&self) -> bool {
        self.config().contains("version: \"22.05\"")
    }

    /// A value of its `env` file, such as `IDP_PORT`.
    ///
    /// # Panics
    /// When there is none.
    pub fn value(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.state.join("env")).expect("a cluster that is up");
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| *key == name);
        found.expect("a value of that name").1.to_owned()
    }

    /// The identity provider of the cluster.
    pub fn provider(&self) -> Provider {
        let url = format!("http://127.0.0.1:{}", self.value("IDP_PORT"));
        Provider { url, process: None }
    }

    /// Another provider, with keys of its own in `keys`, made there unless they are.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_provider(&self, port: u16, keys: &Path) -> Provider {
        let mut command = Command::new("node");
        command.arg(self.state.join("idp/idp.mjs"));
        command.env("PORT", port.to_string()).env("KEYS", keys);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("node starts");
        let provider = Provider {
            url: format!("http://127.0.0.1:{port}"),
            process: Some(process),
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the provider does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        provider
    }
}

/// An OpenID provider.
#[derive(Debug)]
pub struct Provider {
    /// Its issuer.
    pub url: String,
    process: Option<Child>,
}

/// Id and secret of a client of the provider.
pub type Client = (&'static str, &'static str);

/// Tokens of `fireuser`.
pub const FIREUSER: Client = ("firecrest-test-client", "wZVHVIEd9dkJDh9hMKc6DTvkqXxnDttk");
/// Tokens of `fireuser` that live five seconds.
pub const SHORT: Client = ("firecrest-short-client", "short-client-secret-000000000000");
/// Tokens of `another`.
pub const ANOTHER: Client = ("firecrest-other-client", "other-client-secret-000000000000");
/// For people who log in with a browser.
const WEB: Client = ("firecrest-web-ui", "web-ui-secret-00000000000000000");

impl Provider {
    /// A token by client credentials.
    ///
    /// # Panics
    /// When the provider gives none.
    pub fn token(&self, (id, secret): Client) -> String {
        self.ask(&format!(
            "grant_type=client_credentials&client_id={id}&client_secret={secret}"
        ))
    }

    /// A token by authorization code: logs in as a browser would.
    ///
    /// # Panics
    /// When the provider does not let this person in.
    pub fn user_token(&self, person: &str) -> String {
        let (id, secret) = WEB;
        let redirect = "http%3A%2F%2F127.0.0.1%3A9999%2Fcb";
        let mut path = format!(
            "/auth?client_id={id}&response_type=code&redirect_uri={redirect}&scope=openid%20profile&state=s&nonce=n"
        );
        let mut cookies: Vec<(String, String)> = Vec::new();
        let code = loop {
            let jar: Vec<String> = cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let headers = [
                format!("Cookie: {}", jar.join("; ")),
                "Content-Type: application/x-www-form-urlencoded".to_owned(),
            ];
            let login = format!("login={person}&password=password");
            let (method, body) = match path.starts_with("/interaction/") {
                true => ("POST", login.as_str()),
                false => ("GET", ""),
            };
            let answer = request(&self.url, method, &path, &headers, body);
            let header = |name: &str| {
                let lines = answer
                    .text
                    .split("\r\n")
                    .take_while(|line| !line.is_empty());
                let pairs = lines.filter_map(|line| line.split_once(": "));
                let found = pairs.filter(move |(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
            };
            for cookie in header("set-cookie") {
                let pair = cookie
                    .split(';')
                    .next()
                    .and_then(|pair| pair.split_once('='));
                let (key, value) = pair.expect("a cookie");
                cookies.retain(|(known, _)| known != key);
                cookies.push((key.to_owned(), value.to_owned()));
            }
            let to = header("location").pop();
            let to = to.unwrap_or_else(|| panic!("no redirect: {}", answer.text));
            if let Some((_, rest)) = to.split_once("/cb?code=") {
                break rest.split('&').next().unwrap_or_default().to_owned();
            }
            path = to.strip_prefix(&self.url).unwrap_or(&to).to_owned();
        };
        self.ask(&format!(
            "grant_type=authorization_code&code={code}&redirect_uri={redirect}&client_id={id}&client_secret={secret}"
        ))
    }

    fn ask(&self, form: &str) -> String {
        let headers = ["Content-Type: application/x-www-form-urlencoded".to_owned()];
        let answer = request(&self.url, "POST", "/token", &headers, form);
        let token = answer.json["access_token"].as_str();
        token
            .unwrap_or_else(|| panic!("no token: {}", answer.text))
            .to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Nothing is left to do when it is gone.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A program of Slurm, as root, of the release that the cluster in `state` runs: newer.sh keeps
/// another than this machine's below a root of its own.
///
/// # Panics
/// When such a cluster is not up.
pub fn slurm(state: &Path, program: &str) -> Command {
    let read = |name: &str| std::fs::read_to_string(state.join(name));
    let mut command = match read("newer-root") {
        Err(_) => Command::new(program),
        Ok(root) => {
            let controller = read("pids/slurmctld.pid").expect("a cluster that is up");
            let mut command = Command::new("nsenter");
            command.arg(format!("--mount=/proc/{}/ns/mnt", controller.trim()));
            command.args(["chroot", root.trim(), program]);
            command
        }
    };
    command.env("SLURM_CONF", state.join("etc/slurm.conf"));
    command
}
