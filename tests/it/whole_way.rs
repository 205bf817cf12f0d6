//! Token, request, job, endpoint, client: the whole way of a file, both directions.

use streamer_tests::demo::{Demo, Transfer};
use streamer_tests::file;
use streamer_tests::program::Client;

#[test]
fn a_file_of_one_gibibyte_goes_out_and_comes_back() {
    goes_out_and_comes_back(1 << 30);
}

#[test]
fn a_file_of_no_bytes_goes_out_and_comes_back() {
    goes_out_and_comes_back(0);
}

fn goes_out_and_comes_back(size: u64) {
    let demo = Demo::start();
    let here = file::directory();
    let (remote, local) = (demo.home().join("source.bin"), here.path().join("copy.bin"));
    let sum = file::random(&remote, size);

    let transfer = demo.transfer("download", &remote);
    moved(
        &demo,
        &transfer,
        Client::start("receive", &transfer.coordinates, &local, &[]),
    );
    assert_eq!(file::sha256(&local), sum);
    // Room for one copy more only.
    std::fs::remove_file(&remote).unwrap();

    let back = demo.home().join("back.bin");
    let transfer = demo.transfer("upload", &back);
    moved(
        &demo,
        &transfer,
        Client::start("send", &transfer.coordinates, &local, &[]),
    );
    assert_eq!(file::sha256(&back), sum);
    assert_eq!(std::fs::metadata(&back).unwrap().len(), size);
}

/// The client is content, and so is the job; its logs are where the answer said.
fn moved(demo: &Demo, transfer: &Transfer, client: Client) {
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(ended.last["message_type"], "summary", "{}", ended.text);
    // On one machine TLS is as near as QUIC; either is proven and encrypted.
    let transport = ended.last["transport"].as_str();
    assert!(matches!(transport, Some("quic" | "tls")), "{}", ended.text);
    let job = demo.ended(&transfer.job);
    assert_eq!(job["status"]["state"], "COMPLETED", "{job}");
    assert_eq!(job["status"]["exitCode"], 0, "{job}");
    let log = |name| std::fs::read_to_string(transfer.log_path(name)).unwrap();
    // What it did, and no word about the way in.
    assert!(
        !log("outputLog").is_empty(),
        "the endpoint printed no summary"
    );
    assert!(log("outputLog").contains("serving 127.0.0.1"));
    assert_eq!(log("errorLog"), "");
    for text in [log("outputLog"), log("errorLog")] {
        assert!(
            !text.contains(&transfer.coordinates) && !text.contains("Use these"),
            "{text}"
        );
    }
}
