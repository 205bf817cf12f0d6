//! Transfers by streamer on a real Slurm, as real users.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use streamer_core::Coordinates;
use streamer_tests::file;
use streamer_tests::program::Client;
use streamer_tests::transfer_service::{Service, logs};

fn request(service: &Service, verb: &str, path: &Path) -> (Value, String) {
    let transfer = service.transfer(verb, path, json!({"transferMethod": "streamer"}));
    let coordinates = transfer["transferDirectives"]["coordinates"].as_str();
    let coordinates = coordinates.unwrap().to_owned();
    (transfer, coordinates)
}

#[test]
fn on_slurm_streamer_moves_files_both_ways_and_the_job_ends_as_they_do() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let here = file::directory();
    for (name, size) in [("it's $(id) \"q\"\n&é.bin", 64 << 20), ("empty", 0)] {
        let (source, target) = (here.path().join("source"), service.home().join(name));
        let sum = file::random(&source, size);
        let (upload, coordinates) = request(&service, "upload", &target);
        let client = Client::start("send", &coordinates, &source, &[]).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        let ended = service.ended(&upload);
        assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&upload));
        assert_eq!(ended["state"], "done");
        assert_eq!(file::sha256(&target), sum);

        let (download, coordinates) = request(&service, "download", &target);
        let copy = here.path().join(format!("copy of {size}"));
        let client = Client::start("receive", &coordinates, &copy, &[]).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        assert_eq!(service.ended(&download)["jobState"], "COMPLETED");
        assert_eq!(file::sha256(&copy), sum);
    }
}

#[test]
fn on_slurm_streamer_moves_trees_with_names_of_any_bytes_both_ways() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let here = file::directory();
    let [source, copy] = ["source", "copy"].map(|name| here.path().join(name));
    let names: [&[u8]; 4] = [b"a 'b' \"c\" $(id)", b"new\nline", b"\xff\xfe", b"-rf *"];
    let below = |tree: &Path| names.map(|name| tree.join("d").join(OsStr::from_bytes(name)));
    std::fs::create_dir_all(source.join("d")).unwrap();
    for (number, path) in below(&source).iter().enumerate() {
        file::random(path, (number as u64) << 20);
    }
    let target = service.home().join("a 'tree'\n$(id)");
    for (verb, command, tree) in [("upload", "send", &source), ("download", "receive", &copy)] {
        let (transfer, coordinates) = request(&service, verb, &target);
        let client = Client::start(command, &coordinates, tree, &[]).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        let ended = service.ended(&transfer);
        assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&transfer));
    }
    for tree in [&target, &copy] {
        let pairs = below(&source).into_iter().zip(below(tree));
        for (sent, arrived) in pairs {
            assert!(file::same(&sent, &arrived), "{}", arrived.display());
        }
    }
}

/// Also the most that an endpoint takes in unless told otherwise.
const LARGE_BYTES: u64 = 5 << 30;

#[test]
fn on_slurm_streamer_moves_five_gibibytes_both_ways() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    // Two files at a time, and no test that runs meanwhile is to be left without room.
    let here = file::directory_for(2 * LARGE_BYTES + (4 << 30));
    service.give(here.path());
    let [source, copy, back] = ["source", "copy", "back"].map(|name| here.path().join(name));
    file::varied(&source, LARGE_BYTES);
    service.give(&source);
    let (download, coordinates) = request(&service, "download", &source);
    let client = Client::start("receive", &coordinates, &copy, &[]).end();
    assert_eq!(client.code, Some(0), "{}", client.text);
    assert_eq!(service.ended(&download)["jobState"], "COMPLETED");
    assert!(file::same(&source, &copy));
    std::fs::remove_file(&source).unwrap();
    let (upload, coordinates) = request(&service, "upload", &back);
    let client = Client::start("send", &coordinates, &copy, &[]).end();
    assert_eq!(client.code, Some(0), "{}", client.text);
    let ended = service.ended(&upload);
    assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&upload));
    assert_eq!(ended["movedBytes"], LARGE_BYTES, "{ended}");
    assert!(file::same(&copy, &back));
}

#[test]
fn on_slurm_another_user_finds_no_secret_while_a_transfer_waits_and_runs_until_it_is_cancelled() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let target = service.home().join("target");
    let (upload, coordinates) = request(&service, "upload", &target);
    let listening = service.until(&upload, "listening");
    assert!(
        listening["port"].is_u64() && listening["node"].is_string(),
        "{listening}"
    );
    let secret = Coordinates::parse(&coordinates).unwrap().secret;
    let needles = [&*secret.expose_text(), &*coordinates];
    nobody_sees(&needles, &service, &upload, "--secret-file");
    let here = file::directory();
    let source = here.path().join("source");
    file::random(&source, 64 << 20);
    let client = Client::start("send", &coordinates, &source, &["--limit-rate", "4MiB"]);
    service.until(&upload, "active");
    nobody_sees(&needles, &service, &upload, "--secret-file");
    service.cancel(&upload);
    assert_eq!(client.end().code, Some(10));
    let ended = service.ended(&upload);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(
        ended["message"].as_str().unwrap().contains("cancelled"),
        "{ended}"
    );
}

#[test]
fn on_slurm_files_are_moved_copied_packed_and_deleted_by_jobs_that_end_as_their_commands() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let home = service.home();
    let source = home.join("a 'b'\n$(id)");
    std::fs::create_dir(&source).unwrap();
    // A name that is no text, which no request could spell, goes along.
    let odd = OsStr::from_bytes(b"\xff\xfe");
    std::fs::write(source.join(odd), "x").unwrap();
    for path in [&source, &source.join(odd)] {
        service.give(path);
    }
    let run = |verb: &str, body: Value| {
        let route = format!("/filesystem/{}/transfer/{verb}", service.system());
        let answer = service.call("POST", &route, body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        (service.ended(&answer.json), answer.json)
    };
    let (packed, out) = (home.join("p.tgz"), home.join("out"));
    std::fs::create_dir(&out).unwrap();
    service.give(&out);
    let [moved, copied] = ["moved", "copied"].map(|name| home.join(name));
    for (verb, body, words) in [
        ("mv", json!({"path": source, "targetPath": moved}), "moved"),
        ("cp", json!({"path": moved, "targetPath": copied}), "copied"),
        (
            "compress",
            json!({"path": moved, "targetPath": packed}),
            "compressed",
        ),
        (
            "extract",
            json!({"path": packed, "targetPath": out}),
            "extracted",
        ),
    ] {
        let (ended, job) = run(verb, body);
        assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&job));
        assert!(
            logs(&job).contains(&format!("Files were successfully {words}.")),
            "{}",
            logs(&job)
        );
    }
    assert!(!source.exists());
    for tree in [&moved, &copied, &out.join("moved")] {
        assert_eq!(std::fs::read(tree.join(odd)).unwrap(), b"x");
    }
    let route = format!(
        "/filesystem/{}/transfer/rm?path={}",
        service.system(),
        moved.display()
    );
    let answer = service.call("DELETE", &route, Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(service.ended(&answer.json)["jobState"], "COMPLETED");
    assert!(logs(&answer.json).contains("Files were successfully deleted."));
    assert!(!moved.exists());
    // Nobody may write there, which is known at once.
    let locked = home.join("locked");
    std::fs::create_dir(&locked).unwrap();
    let body = json!({"path": packed, "targetPath": locked.join("x")});
    let route = format!("/filesystem/{}/transfer/cp", service.system());
    let answer = service.call("POST", &route, body);
    assert_eq!(answer.status, 403, "{}", answer.text);
    // What is in it may not be read, which the checks do not know.
    let mixed = home.join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    service.give(&mixed);
    let closed = mixed.join("closed");
    std::fs::write(&closed, "x").unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o600)).unwrap();
    let body = json!({"path": mixed, "targetPath": home.join("copy")});
    let (ended, job) = run("cp", body);
    assert_eq!(
        (&ended["jobState"], &ended["state"]),
        (&json!("FAILED"), &json!("failed"))
    );
    assert!(logs(&job).contains("Permission denied"), "{}", logs(&job));
    assert!(
        ended["message"].as_str().unwrap().contains("exit status 1"),
        "{ended}"
    );
}

/// Neither another user nor the places where their own jobs are shown have any of `needles`,
/// while the job of `transfer` runs, in whose process and script `trace` is found.
pub(crate) fn nobody_sees(needles: &[&str], service: &Service, transfer: &Value, trace: &str) {
    let job = transfer["transferJob"]["jobId"].as_str().unwrap();
    let private = service.work_directory().join(".f7t_transfers");
    let look = format!(
        "ps -eo args; cat /proc/[0-9]*/environ; squeue -o %all; scontrol show job {job}; \
         sacct -a -P --format=all; cat {}/* {}",
        private.display(),
        transfer["transferJob"]["logs"]["errorLog"]
            .as_str()
            .unwrap(),
    );
    let seen = as_user("another", &look);
    assert!(
        seen.contains(trace) && seen.contains("FileTransfer"),
        "{seen}"
    );
    let own = format!("scontrol write batch_script {job} -; sacct -a -P --format=all");
    let own = as_user("fireuser", &own);
    assert!(own.contains(trace), "{own}");
    let state = service.state(transfer).to_string();
    for text in [seen, own, logs(transfer), service.log(), state] {
        for needle in needles {
            assert!(!text.contains(needle), "{needle}: {text}");
        }
    }
}

/// What a user of the cluster sees.
fn as_user(user: &str, script: &str) -> String {
    let state = std::env::var("STREAMER_TEST_CLUSTER").unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={user}"),
        "--regid=users".into(),
        "--init-groups".into(),
    ]);
    command.args(["sh", "-c", script]);
    command.env("SLURM_CONF", format!("{state}/etc/slurm.conf"));
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
