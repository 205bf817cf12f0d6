//! `curl` over TLS 1.3 from an nginx of its own, with a self-signed certificate that only
//! this run trusts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User};

use super::{Cost, Job, Missing, Peer, PeerError, SERVER_LIMIT, find, free_port, help};
use crate::measure::Program;

/// `curl --tlsv1.3` from nginx.
#[derive(Debug)]
pub struct Curl {
    curl: PathBuf,
    nginx: PathBuf,
    openssl: PathBuf,
}

impl Curl {
    /// Looks for the programs.
    ///
    /// # Errors
    /// Names the first that is not here.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self {
            curl: find("curl", "curl")?,
            nginx: find("nginx", "nginx-light")?,
            openssl: find("openssl", "openssl")?,
        })
    }

    fn make_certificate(&self, dir: &Path) -> Result<(), PeerError> {
        help(
            Command::new(&self.openssl)
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ])
                .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
                .args([
                    "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout",
                ])
                .arg(dir.join("key.pem"))
                .arg("-out")
                .arg(dir.join("cert.pem")),
        )
    }
}

impl Peer for Curl {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let dir = job.scratch;
        let port = free_port().map_err(PeerError::prepare("a free port"))?;
        self.make_certificate(dir)?;
        fs::write(dir.join("nginx.conf"), configuration(job, port))
            .map_err(PeerError::prepare("nginx.conf"))?;
        // `-e`: before it has read its configuration it logs to a path compiled in.
        let nginx = Program::new(&self.nginx)
            .args(["-e", "stderr", "-p"])
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"));
        let address = job.network.server_address();
        let mut server = job.start_server("nginx", nginx)?;
        server.wait_until("listening", SERVER_LIMIT, |it| {
            it.printed("start worker process ")
        })?;
        let name = job.source.file_name().unwrap_or_default().display();
        let curl = Program::new(&self.curl)
            .args([
                "--disable",
                "--noproxy",
                "*",
                "--silent",
                "--show-error",
                "--fail",
            ])
            .args(["--tlsv1.3", "--http1.1", "--cacert"])
            .arg(dir.join("cert.pem"))
            .arg("--output")
            .arg(job.target)
            .arg(format!("https://localhost:{port}/{name}"))
            .args(["--resolve", &format!("localhost:{port}:{address}")]);
        let client = job.start_client("curl", curl)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.stop()?),
        })
    }
}

/// One worker, `sendfile` as Debian sets it, TLS 1.3 with AES-128-GCM, all paths in `dir`.
fn configuration(job: &Job<'_>, port: u16) -> String {
    let address = job.network.server_address();
    let d = job.scratch.display();
    let root = job
        .source
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .display();
    // A worker gives up root for an account that could not read the source.
    let user = match User::from_uid(Uid::current()).ok().flatten() {
        Some(user) if Uid::effective().is_root() => format!("user {};\n", user.name),
        _ => String::new(),
    };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {d}/nginx.pid;\nerror_log stderr notice;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n access_log off;\n sendfile on;\n tcp_nopush on;\n \
         client_body_temp_path {d}/body;\n proxy_temp_path {d}/proxy;\n \
         fastcgi_temp_path {d}/fastcgi;\n uwsgi_temp_path {d}/uwsgi;\n \
         scgi_temp_path {d}/scgi;\n \
         server {{\n  listen {address}:{port} ssl;\n  server_name localhost;\n  root {root};\n  \
         ssl_certificate {d}/cert.pem;\n  ssl_certificate_key {d}/key.pem;\n  \
         ssl_protocols TLSv1.3;\n  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n }}\n}}\n"
    )
}
