//! Transfers through an object store that checks signatures.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::object_store::{
    ACCESS_KEY, Gate, ObjectStore, SECRET_KEY, TENANT, get_to, put_range, send,
};
use streamer_tests::transfer_service::{Service, logs};
use streamer_tests::{file, job};

use crate::slurm_transfers::nobody_sees;

fn service(store: &ObjectStore) -> Service {
    service_with(store, 3600)
}

fn service_with(store: &ObjectStore, ttl_seconds: u64) -> Service {
    Service::start(transfers(store, ttl_seconds))
}

fn transfers(store: &ObjectStore, ttl_seconds: u64) -> Value {
    let mut transfers = store.data_transfers(PART_BYTES);
    transfers[0]["ttl"] = json!(ttl_seconds);
    transfers
}

/// As existing clients do: each part to its URL, then the list of tags to another.
fn upload_parts(directives: &Value, source: &Path, size: u64) {
    upload_parts_of(directives, source, size, PART_BYTES);
}

fn upload_parts_of(directives: &Value, source: &Path, size: u64, part_bytes: u64) {
    assert_eq!(directives["maxPartSize"], part_bytes);
    upload_cut(directives, source, size, part_bytes);
}

fn upload_cut(directives: &Value, source: &Path, size: u64, part_bytes: u64) {
    let urls = directives["partsUploadUrls"].as_array().unwrap();
    assert_eq!(urls.len() as u64, size.div_ceil(part_bytes).max(1));
    let mut list = String::from("<?xml version=\"1.0\"?><CompleteMultipartUpload>");
    for (index, url) in urls.iter().enumerate() {
        let start = index as u64 * part_bytes;
        let length = part_bytes.min(size - start);
        let reply = put_range(url.as_str().unwrap(), source, start, length);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let (number, tag) = (index + 1, reply.header("etag").to_owned());
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        ));
    }
    list.push_str("</CompleteMultipartUpload>");
    let complete = directives["completeUploadUrl"].as_str().unwrap();
    let reply = send("POST", complete, &list);
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[test]
fn files_go_in_and_out_whole_and_so_do_empty_ones() {
    let store = ObjectStore::start();
    let service = service(&store);
    go_in_and_out(&store, &service);
    let left = std::fs::read_dir(service.home().join(".f7t_transfers")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let secret = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("private");
    assert!(!left.iter().any(|name| secret(&name)), "{left:?}");
}

#[test]
fn on_slurm_files_go_in_and_out_whole_and_so_do_empty_ones() {
    let store = ObjectStore::start();
    if let Some(service) = Service::on_cluster(&transfers(&store, 3600)) {
        go_in_and_out(&store, &service);
    }
}

fn go_in_and_out(store: &ObjectStore, service: &Service) {
    let here = file::directory();
    for (name, size) in [("it's $(id)\n&.bin", 300 << 20), ("empty", 0)] {
        let (source, target) = (here.path().join("source"), service.home().join(name));
        let sum = file::random(&source, size);
        // An upload takes the place of what is there, at the end.
        std::fs::write(&target, "old").unwrap();
        service.give(&target);
        let upload = service.transfer(
            "upload",
            &target,
            json!({"transferMethod": "s3", "fileSize": size}),
        );
        service.until(&upload, "listening");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        upload_parts(&upload["transferDirectives"], &source, size);
        service.until(&upload, "done");
        let done = service.ended(&upload);
        assert_eq!(done["jobState"], "COMPLETED", "{}", logs(&upload));
        assert!(
            logs(&upload).contains("File was successfully "),
            "{}",
            logs(&upload)
        );
        assert_eq!(file::sha256(&target), sum);

        let download = service.transfer("download", &target, json!({"transferMethod": "s3"}));
        service.until(&download, "done");
        service.ended(&download);
        assert!(logs(&download).contains("Multipart file upload successfully completed"));
        let url = download["transferDirectives"]["downloadUrl"]
            .as_str()
            .unwrap();
        let copy = here.path().join("copy");
        assert_eq!(get_to(url, &copy).status, 200);
        assert_eq!(file::sha256(&copy), sum);
    }
    let rules = store.rules.lock().unwrap();
    assert_eq!(*rules, [(service.user().to_owned(), Some(4))]);
}

#[test]
fn parts_may_be_smaller_than_they_must_be() {
    let store = ObjectStore::start();
    let service = Service::start(store.data_transfers(10 << 20));
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    let sum = file::random(&source, 12 << 20);
    let directive = json!({"transferMethod": "s3", "fileSize": 12 << 20});
    let upload = service.transfer("upload", &target, directive);
    upload_cut(&upload["transferDirectives"], &source, 12 << 20, 6 << 20);
    service.until(&upload, "done");
    assert_eq!(file::sha256(&target), sum);
}

#[test]
fn an_object_for_which_no_room_was_asked_is_not_fetched() {
    let store = ObjectStore::start();
    let service = Service::start(store.data_transfers(5 << 20));
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    file::random(&source, 6 << 20);
    let directive = json!({"transferMethod": "s3", "fileSize": 10});
    let upload = service.transfer("upload", &target, directive);
    upload_cut(&upload["transferDirectives"], &source, 6 << 20, 6 << 20);
    service.until(&upload, "failed");
    let said = logs(&upload);
    assert!(said.contains("larger than was said"), "{said}");
    assert!(!target.exists());
}

#[test]
fn two_uploads_to_one_target_make_no_mixture() {
    let store = ObjectStore::start();
    let service = service(&store);
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    let size = 12 << 20;
    let directive = json!({"transferMethod": "s3", "fileSize": size});
    let upload = || {
        let upload = service.transfer("upload", &target, directive.clone());
        let sum = file::random(&source, size);
        upload_parts(&upload["transferDirectives"], &source, size);
        (upload, sum)
    };
    store.reads.open_for(0);
    let (first, sum) = upload();
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.reads.come() == 0 {
        assert!(Instant::now() < deadline, "not begun: {}", logs(&first));
        // The store of another thread does not tell of itself.
        std::thread::sleep(Duration::from_millis(20));
    }
    let (second, _) = upload();
    service.until(&second, "failed");
    let said = logs(&second);
    assert!(said.contains("another transfer to "), "{said}");
    store.reads.open_for(usize::MAX);
    service.until(&first, "done");
    assert_eq!(file::sha256(&target), sum);
}

#[test]
fn a_tenant_is_named_in_urls_and_the_store_takes_their_signatures() {
    let store = ObjectStore::start();
    let mut transfers = transfers(&store, 3600);
    transfers[0]["tenant"] = json!(TENANT);
    let service = Service::start(transfers);
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    let sum = file::random(&source, 1 << 20);
    let directive = json!({"transferMethod": "s3", "fileSize": 1 << 20});
    let upload = service.transfer("upload", &target, directive);
    let directives = &upload["transferDirectives"];
    let url = directives["partsUploadUrls"][0].as_str().unwrap();
    let named =
        url.contains(&format!("/{TENANT}:demo/")) || url.contains(&format!("/{TENANT}%3Ademo/"));
    assert!(named, "{url}");
    upload_parts(directives, &source, 1 << 20);
    service.until(&upload, "done");
    assert_eq!(file::sha256(&target), sum);
    let download = service.transfer("download", &target, json!({"transferMethod": "s3"}));
    service.until(&download, "done");
    let url = download["transferDirectives"]["downloadUrl"].as_str();
    let copy = here.path().join("copy");
    assert_eq!(get_to(url.unwrap(), &copy).status, 200);
    assert_eq!(file::sha256(&copy), sum);
}

/// Parts of the files of the tests of killed jobs.
const PARTS: usize = 20;
/// Parts that are through when the job is killed.
const THROUGH: usize = 5;
/// Parts that are on the way then: `parallel_runs`.
const ON_THE_WAY: usize = 3;

/// Kills a job, once parts of it are through and the others are held up, and starts it again.
fn killed_and_started_again(service: &Service, transfer: &Value, gate: &Gate) {
    let job = transfer["transferJob"]["jobId"].as_str().unwrap();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "not {what}: {}", logs(transfer));
            // Neither the scheduler nor the store of another thread tells of itself.
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("held up", &|| gate.come() == THROUGH + ON_THE_WAY);
    service.slurm("scontrol", &["requeue", job]);
    let state = || service.slurm("squeue", &["-h", "-j", job, "-o", "%T"]);
    until("queued again", &|| state().trim() == "PENDING");
    gate.open_for(usize::MAX);
    // Slurm would let it rest for two minutes. A node refuses a job that starts within the
    // second in which it was killed there.
    let job = format!("JobId={job}");
    service.slurm("scontrol", &["update", &job, "StartTime=now+2"]);
    // Until it runs again, accounting may still tell of its first end.
    until("completed", &|| {
        service.state(transfer)["jobState"] == "COMPLETED"
    });
    assert_eq!(gate.come(), PARTS + ON_THE_WAY, "parts were moved again");
}

#[test]
fn on_slurm_a_job_that_was_killed_goes_on_where_it_was() {
    let store = ObjectStore::start();
    let Some(service) = Service::on_cluster(&store.data_transfers(5 << 20)) else {
        return;
    };
    let here = file::directory();
    let source = service.home().join("source");
    let sum = file::random(&source, (5 * PARTS as u64) << 20);
    service.give(&source);
    store.writes.open_for(THROUGH);
    let download = service.transfer("download", &source, json!({"transferMethod": "s3"}));
    killed_and_started_again(&service, &download, &store.writes);
    let url = download["transferDirectives"]["downloadUrl"].as_str();
    let copy = here.path().join("copy");
    assert_eq!(get_to(url.unwrap(), &copy).status, 200);
    assert_eq!(file::sha256(&copy), sum);
}

#[test]
fn on_slurm_a_job_that_was_killed_goes_on_where_it_was_inwards_too() {
    let store = ObjectStore::start();
    let Some(service) = Service::on_cluster(&store.data_transfers(5 << 20)) else {
        return;
    };
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    let size = (5 * PARTS as u64) << 20;
    let sum = file::random(&source, size);
    let directive = json!({"transferMethod": "s3", "fileSize": size});
    let upload = service.transfer("upload", &target, directive);
    store.reads.open_for(THROUGH);
    upload_parts_of(&upload["transferDirectives"], &source, size, 5 << 20);
    killed_and_started_again(&service, &upload, &store.reads);
    assert_eq!(file::sha256(&target), sum);
}

#[test]
fn only_the_urls_that_were_handed_out_open_the_object() {
    let store = ObjectStore::start();
    let service = service(&store);
    let source = service.home().join("source");
    file::random(&source, 6 << 20);
    let download = service.transfer("download", &source, json!({"transferMethod": "s3"}));
    service.until(&download, "done");
    let url = download["transferDirectives"]["downloadUrl"]
        .as_str()
        .unwrap();
    let copy = service.home().join("copy");
    let forged = |from: &str, to: &str| {
        assert!(url.contains(from), "{url}");
        get_to(&url.replacen(from, to, 1), &copy).status
    };
    let (_, signature) = url.split_once("X-Amz-Signature=").unwrap();
    let other = if signature.starts_with('0') { "1" } else { "0" };
    let from = &format!("X-Amz-Signature={}", &signature[..1]);
    assert_eq!(forged(from, &format!("X-Amz-Signature={other}")), 403);
    assert_eq!(forged("/source?", "/other?"), 403);
    assert_eq!(forged("X-Amz-Expires=3600", "X-Amz-Expires=9999"), 403);
    assert_eq!(get_to(url, &copy).status, 200);
}

#[test]
fn urls_expire_and_the_job_that_waited_for_too_long_says_so() {
    let store = ObjectStore::start();
    let service = service_with(&store, 1);
    let target = service.home().join("target");
    let directive = json!({"transferMethod": "s3", "fileSize": 5});
    let upload = service.transfer("upload", &target, directive);
    service.until(&upload, "failed");
    let failed = service.ended(&upload);
    let message = failed["message"].as_str().unwrap();
    let known = [
        "refused to look at the object: 403",
        "not uploaded within 1 s",
    ];
    assert!(known.iter().any(|text| message.contains(text)), "{message}");
    assert_eq!(failed["jobState"], "FAILED");
    let url = upload["transferDirectives"]["partsUploadUrls"][0]
        .as_str()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while send("PUT", url, "12345").status != 403 {
        assert!(Instant::now() < deadline, "the URL is good for ever");
        // It ends with a second of the clock, of which nobody tells.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nobody_sees_a_url_or_a_key_while_the_job_waits() {
    let store = ObjectStore::start();
    let service = service(&store);
    let target = service.home().join("target");
    let upload = service.transfer(
        "upload",
        &target,
        json!({"transferMethod": "s3", "fileSize": 5}),
    );
    service.until(&upload, "listening");
    let secrets = ["X-Amz-Signature", SECRET_KEY];
    let lines = job::command_lines();
    assert!(
        lines
            .iter()
            .any(|(_, line)| line.contains(" s3 --plan-file ")),
        "no job"
    );
    let state = service.state(&upload).to_string();
    let texts =
        lines
            .into_iter()
            .map(|(_, line)| line)
            .chain([logs(&upload), service.log(), state]);
    for text in texts {
        assert!(
            !secrets.iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
    let job = upload["transferJob"]["jobId"].as_str().unwrap();
    let answer = service.call("DELETE", &format!("/compute/demo/jobs/{job}"), Value::Null);
    assert_eq!(answer.status, 204, "{}", answer.text);
    // The endpoint says that it is told to end before the scheduler says why.
    let gone = service.ended(&upload);
    assert_eq!(gone["state"], "cancelled", "{gone}");
    assert!(
        gone["message"].as_str().unwrap().contains("cancelled"),
        "{gone}"
    );
    assert!(!target.exists());
}

#[test]
fn on_slurm_another_user_finds_no_url_and_no_key_while_the_job_waits() {
    let store = ObjectStore::start();
    let Some(service) = Service::on_cluster(&transfers(&store, 3600)) else {
        return;
    };
    let directive = json!({"transferMethod": "s3", "fileSize": 5});
    let upload = service.transfer("upload", &service.home().join("target"), directive);
    service.until(&upload, "listening");
    let needles = ["X-Amz-Signature", ACCESS_KEY, SECRET_KEY];
    nobody_sees(&needles, &service, &upload, "--plan-file");
    service.cancel(&upload);
}

#[test]
fn requests_that_cannot_succeed_are_refused_at_once() {
    let store = ObjectStore::start();
    let service = service(&store);
    let ask = |verb: &str, path: &Path, directive: Value| {
        let body = json!({"path": path, "transferDirectives": directive});
        service.call("POST", &format!("/filesystem/demo/transfer/{verb}"), body)
    };
    let home = service.home();
    let answer = ask("upload", &home.join("x"), json!({"transferMethod": "s3"}));
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.text.contains("fileSize"), "{}", answer.text);
    let answer = ask("download", &home, json!({"transferMethod": "s3"}));
    assert!(
        answer.text.contains("not a regular file"),
        "{}",
        answer.text
    );
    let answer = ask(
        "download",
        &home.join("none"),
        json!({"transferMethod": "s3"}),
    );
    assert_eq!(answer.status, 404, "{}", answer.text);
    let answer = ask(
        "upload",
        &home,
        json!({"transferMethod": "s3", "fileSize": 1}),
    );
    assert_eq!(answer.status, 403, "{}", answer.text);
    let large = json!({"transferMethod": "s3", "fileSize": u64::MAX});
    let answer = ask("upload", &home.join("x"), large);
    assert_eq!(answer.status, 507, "{}", answer.text);
    let answer = ask(
        "upload",
        &home.join("x"),
        json!({"transferMethod": "wormhole", "wormholeCode": "7-a"}),
    );
    assert!(answer.text.contains("not available"), "{}", answer.text);
}

const PART_BYTES: u64 = 64 << 20;
