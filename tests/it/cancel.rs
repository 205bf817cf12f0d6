//! A transfer job that is deleted while it serves.

use serde_json::json;
use streamer_tests::demo::Demo;
use streamer_tests::file;
use streamer_tests::program::Client;

#[test]
fn deleting_the_job_ends_the_transfer_and_the_client_says_so() {
    let demo = Demo::start();
    let here = file::directory();
    let source = here.path().join("zeros.bin");
    file::zeros(&source, 1 << 30);
    let target = demo.home().join("target.bin");
    let transfer = demo.transfer("upload", &target);

    let options = ["--wait", "5s"];
    let client = Client::start("send", &transfer.coordinates, &source, &options);
    transfer.wait_until_serving();
    client.hold();
    let answer = demo.call(
        "DELETE",
        &format!("/compute/demo/jobs/{}", transfer.job),
        "",
    );
    assert_eq!((answer.status, answer.json), (204, json!(null)));
    assert_eq!(demo.ended(&transfer.job)["status"]["state"], "CANCELLED");

    client.release();
    let client = client.end();
    assert_eq!(client.code, Some(10), "{}", client.text);
    assert_eq!(client.last["message_type"], "error");
    assert!(client.last["hint"].is_string(), "{}", client.text);
    assert!(
        !target.exists(),
        "a file that is not whole has its final name"
    );
}
