//! A node of a real Slurm with nothing but a work directory: no internet, Python or home to
//! write in.

use std::path::{Path, PathBuf};

use serde_json::json;
use streamer_tests::bare_node::BareNode;
use streamer_tests::program::{self, Client};
use streamer_tests::transfer_service::{Service, logs};
use streamer_tests::{bare_node, file};

#[test]
fn on_slurm_a_node_without_internet_python_or_home_moves_files_both_ways() {
    let Some(node) = BareNode::start() else {
        return;
    };
    let work = WorkDirectory::new();
    let change = |config: String| jobs_on(&node, &work, &config);
    let Some(service) = Service::on_cluster_with(&json!([]), change) else {
        return;
    };
    service.give(&work.of_user());
    is_bare(&service, &work);

    let here = file::directory();
    let [source, copy] = ["source", "copy"].map(|name| here.path().join(name));
    let sum = file::random(&source, 64 << 20);
    let target = work.of_user().join("target");
    for (verb, command, local) in [("upload", "send", &source), ("download", "receive", &copy)] {
        let transfer = service.transfer(verb, &target, json!({"transferMethod": "streamer"}));
        let coordinates = transfer["transferDirectives"]["coordinates"].as_str();
        let listening = service.until(&transfer, "listening");
        assert_eq!(listening["node"], bare_node::NAME, "{listening}");
        let client = Client::start(command, coordinates.unwrap(), local, &[]).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        let ended = service.ended(&transfer);
        assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&transfer));
    }
    assert_eq!(file::sha256(&target), sum);
    assert_eq!(file::sha256(&copy), sum);
    let installed = work.programs();
    assert_eq!(installed.len(), 1, "{installed:?}");
    assert!(file::same(&installed[0], &program_of_jobs()));
}

/// What jobs run: of this build, or what `STREAMER_TEST_PROGRAM` names, such as the static one.
fn program_of_jobs() -> PathBuf {
    let named = std::env::var_os("STREAMER_TEST_PROGRAM").map(PathBuf::from);
    named.unwrap_or_else(|| program::path("streamer"))
}

/// The configuration of the cluster with transfers on the bare node, below `work`.
fn jobs_on(node: &BareNode, work: &WorkDirectory, config: &str) -> String {
    let (program, address) = (program_of_jobs(), &node.address);
    let mut changed = config.to_owned();
    for (old, new) in [
        (", default_work_dir: true", String::new()),
        (
            "{path: /scratch, data_type: scratch}",
            format!(
                "{{path: {}, data_type: scratch, default_work_dir: true}}",
                work.0.path().display()
            ),
        ),
        (
            "--partition=xfer",
            format!("--partition={}", bare_node::NAME),
        ),
        (
            "        host: 127.0.0.1",
            format!("        host: {address}"),
        ),
        (
            "public_ips: [127.0.0.1]",
            format!("public_ips: [{address}]"),
        ),
        (
            "      data_transfer:\n",
            format!(
                "      streamer_binary_source: {}\n      data_transfer:\n",
                program.display()
            ),
        ),
    ] {
        assert!(changed.contains(old), "{old}: {config}");
        changed = changed.replace(old, &new);
    }
    changed
}

/// A job sees there what this is about, and on another node the contrary: it can see.
fn is_bare(service: &Service, work: &WorkDirectory) {
    let [bare, other] = [bare_node::NAME, "xfer"].map(|partition| look(service, work, partition));
    for found in [
        "runs python3",
        "runs curl",
        "writes /home/fireuser",
        "writes /tmp",
    ] {
        assert!(other.contains(found), "{other}");
        assert!(!bare.contains(found), "{bare}");
    }
    let writes: Vec<&str> = lines(&bare, "writes ");
    assert_eq!(writes, [work.of_user().to_str().unwrap()], "{bare}");
    assert_eq!(lines(&bare, "runs "), [""; 0], "{bare}");
    // One route, to the other end of its line, and none for everything else.
    let routes = lines(&bare, "route ");
    assert!(
        matches!(routes[..], [one] if !one.starts_with("00000000")),
        "{bare}"
    );
    assert_eq!(lines(&bare, "reaches "), [""; 0], "{bare}");
    assert!(bare.contains("connect: Network is unreachable"), "{bare}");
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(start))
        .collect()
}

/// What a job of the user finds on a node of this partition.
fn look(service: &Service, work: &WorkDirectory, partition: &str) -> String {
    let output = work.of_user().join(partition);
    let script = format!("#!/bin/bash\n#SBATCH --partition={partition}\n{LOOK}");
    let job = json!({
        "name": "look", "script": script, "workingDirectory": work.of_user(),
        "standardOutput": output, "standardError": output,
    });
    let route = format!("/compute/{}/jobs", service.system());
    let answer = service.call("POST", &route, json!({"job": job}));
    assert_eq!(answer.status, 201, "{}", answer.text);
    let ended = service.ended(&json!({"transferJob": {"jobId": answer.json["jobId"]}}));
    let text = std::fs::read_to_string(&output).unwrap();
    assert_eq!(ended["jobState"], "COMPLETED", "{text}");
    text
}

/// The addresses are of documentation: nobody has them.
const LOOK: &str = r#"
for program in python3 python pip3 pip perl curl wget; do
  "$program" --version >/dev/null 2>&1 && echo "runs $program"
done
for place in "$PWD" "$HOME" / /home /tmp /var/tmp /dev/shm /run; do
  probe=$place/look-$SLURM_JOB_ID
  (: >"$probe") 2>/dev/null && echo "writes $place" && rm "$probe"
done
while read -r interface destination gateway rest; do
  [ "$interface" = Iface ] || echo "route $destination $gateway"
done </proc/net/route
if [ "$SLURM_JOB_PARTITION" = bare ]; then
  for address in 192.0.2.1 2001:db8::1; do
    timeout 5 bash -c "exec 3<>/dev/tcp/$address/80" && echo "reaches $address"
  done
fi
exit 0
"#;

/// On the file system that the nodes share.
struct WorkDirectory(tempfile::TempDir);

impl WorkDirectory {
    fn new() -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let mut builder = tempfile::Builder::new();
        let directory = builder
            .prefix("it-")
            .permissions(mode)
            .tempdir_in("/scratch");
        let directory = Self(directory.unwrap());
        std::fs::create_dir(directory.of_user()).unwrap();
        directory
    }

    fn of_user(&self) -> PathBuf {
        self.0.path().join("fireuser")
    }

    /// What the service installed there.
    fn programs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.of_user().join(".f7t_transfers")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_program = |path: &Path| path.to_str().unwrap().contains("/streamer-");
        paths.filter(|path| is_program(path)).collect()
    }
}
