//! Uploads that a quota has no room for are refused before a job is queued.
//!
//! Few kernels of test machines know quotas: `quota` on this login node is a program of the
//! test's own, with the output of quota-tools 4.06. How it is asked and read is tested; what a
//! kernel says to it is not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use streamer_tests::cluster::Cluster;
use streamer_tests::http::Answer;
use streamer_tests::sshd::Sshd;
use streamer_tests::transfer_service::Service;

/// A login node with a `quota` program.
struct LoginNode {
    programs: tempfile::TempDir,
    _sshd: Sshd,
    service: Service,
}

impl LoginNode {
    fn start() -> Option<Self> {
        let cluster = Cluster::find()?;
        let mode = std::fs::Permissions::from_mode(0o755);
        let mut builder = tempfile::Builder::new();
        let programs = builder.permissions(mode).tempdir().unwrap();
        let sshd = Sshd::start(&cluster, |config| {
            let path = format!("PATH={}:/usr/bin:/bin", programs.path().display());
            config.replace("SetEnv ", &format!("SetEnv {path} "))
        });
        let own = format!("port: {}\n", cluster.value("SSH_PORT"));
        let known = format!(
            "      known_hosts: {}/known_hosts\n",
            cluster.value("STATE")
        );
        let change = |config: String| {
            // Its port is another, and known hosts are known with theirs.
            let config = config.replace(&known, "");
            config.replace(&own, &format!("port: {}\n", sshd.port))
        };
        Some(Self {
            service: Service::on_cluster_with(&json!([]), change)?,
            programs,
            _sshd: sshd,
        })
    }

    /// From now on `quota` does this.
    fn quota(&self, script: &str) {
        let program = self.programs.path().join("new");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&program, self.programs.path().join("quota")).unwrap();
    }

    fn upload(&self, target: &Path, size: Option<u64>) -> Answer {
        let mut directive = json!({"transferMethod": "streamer"});
        if let Some(size) = size {
            directive["fileSize"] = json!(size);
        }
        let body = json!({"path": target, "transferDirectives": directive});
        let route = format!("/filesystem/{}/transfer/upload", self.service.system());
        self.service.call("POST", &route, body)
    }

    /// It is taken; its job is not needed.
    fn taken(&self, target: &Path, size: Option<u64>) {
        let answer = self.upload(target, size);
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.service.cancel(&answer.json);
    }

    fn refused(&self, target: &Path, size: Option<u64>, words: &str) {
        let answer = self.upload(target, size);
        assert_eq!(answer.status, 507, "{}", answer.text);
        let message = answer.json["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

/// For somebody who has 900 KiB of 1000, in the week in which they may pass 800.
const NEARLY_FULL: &str = r#"
[ "$*" = "-u -g -v -w -p -f $(stat -c %m /home)" ] || exit 1
cat <<TEXT
Disk quotas for user fireuser (uid 2101): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
       /dev/vda     900*    800    1000 9000000000      12       0       0       0
Disk quotas for group users (gid 100): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
       /dev/vda    1900       0       0       0     112       0       0       0
TEXT
exit 1"#;

#[test]
fn on_slurm_an_upload_over_the_quota_is_refused_and_one_within_it_is_taken() {
    let Some(node) = LoginNode::start() else {
        return;
    };
    let target = node.service.home().join("target");
    let [fits, too_large] = [100 << 10, (100 << 10) + 1].map(Some);
    node.quota(NEARLY_FULL);
    node.refused(
        &target,
        too_large,
        "user fireuser has 921600 of the 1024000 bytes that the quota on",
    );
    node.taken(&target, fits);
    node.taken(&target, None);
    // What arrived before needs no room again.
    std::fs::write(node.service.home().join("target.part"), [1; 8192]).unwrap();
    node.taken(&target, too_large);
    std::fs::remove_file(node.service.home().join("target.part")).unwrap();
    node.quota(&NEARLY_FULL.replace("900* ", "1000* "));
    node.refused(
        &target,
        None,
        "The file does not fit: user fireuser has 1024000 of",
    );
    // Without an answer, or one that makes sense, nobody is refused.
    for script in [
        "echo 'quota: Cannot connect to RPC quota service' >&2; exit 1",
        "cat /dev/urandom | head -c 10000",
        "exec sleep 600",
    ] {
        node.quota(script);
        node.taken(&target, too_large);
    }
}
