//! A second client while one is served.

use streamer_tests::demo::Demo;
use streamer_tests::file;
use streamer_tests::program::Client;

#[test]
fn a_second_client_is_told_so_and_the_first_is_unharmed() {
    let demo = Demo::start();
    let here = file::directory();
    let source = demo.home().join("zeros.bin");
    file::zeros(&source, 1 << 30);
    let transfer = demo.transfer("download", &source);

    let target = here.path().join("first.bin");
    // Over TCP the kernel answers for a client that is held; over QUIC it would count as gone,
    // and the second would rightly take its place.
    let options = ["--transport", "tls"];
    let first = Client::start("receive", &transfer.coordinates, &target, &options);
    transfer.wait_until_serving();
    first.hold();
    assert!(!target.exists(), "the first was done before it was held");

    let other = here.path().join("second.bin");
    let second = Client::start("receive", &transfer.coordinates, &other, &["--wait", "5s"]).end();
    assert_eq!(second.code, Some(11), "{}", second.text);
    assert_eq!(second.last["message_type"], "error");
    assert!(second.last["hint"].is_string(), "{}", second.text);
    assert!(!other.exists());

    first.release();
    let first = first.end();
    assert_eq!(first.code, Some(0), "{}", first.text);
    assert_eq!(first.last["retries"], 0, "{}", first.text);
    assert_eq!(file::sha256(&target), file::sha256(&source));
    assert_eq!(demo.ended(&transfer.job)["status"]["state"], "COMPLETED");
}
