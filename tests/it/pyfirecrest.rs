//! pyfirecrest as its users write it: with the streamer it comes with, and with ours.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use streamer_tests::demo::Demo;
use streamer_tests::file;
use streamer_tests::program::Client;
use streamer_tests::python::Environment;

#[test]
fn pyfirecrest_moves_files_over_the_plaintext_protocol_where_it_is_allowed() {
    goes_out_and_comes_back(&Demo::start_with(&["--allow-websocket"]), Environment::PyPi);
}

#[test]
fn pyfirecrest_moves_files_over_quic_with_our_package_and_no_change() {
    // Nothing else than QUIC and TLS is answered here.
    goes_out_and_comes_back(&Demo::start(), Environment::Ours);
}

/// Several times: the client connects once, as soon as the job is RUNNING.
const TIMES: usize = 4;

fn goes_out_and_comes_back(demo: &Demo, environment: Environment) {
    let here = file::directory();
    let source = demo.home().join("source.bin");
    // Smaller ones go through the API.
    let sum = hex(&file::random(&source, (7 << 20) + 1));
    let (copy, target) = (here.path().join("copy"), demo.home().join("back"));
    let credentials = demo.credentials();
    let mut python = environment.program("python");
    python.arg(script("pyfirecrest_both_ways.py"));
    python.args([&demo.api, &credentials.token_url, &credentials.id]);
    python
        .args([&source, &copy, &target])
        .arg(TIMES.to_string());
    let output = fed(&mut python, &credentials.secret);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches(&sum).count(), TIMES, "{said}");
    for number in 0..TIMES {
        let target = demo.home().join(format!("back{number}"));
        assert_eq!(hex(&file::sha256(&target)), sum);
    }
}

#[test]
fn our_package_raises_what_failed_and_returns_what_was_verified() {
    let demo = Demo::start();
    let here = file::directory();
    let source = demo.home().join("source.bin");
    file::random(&source, (3 << 20) + 1);
    let transfer = demo.transfer("download", &source);
    let receive = |target: &Path, coordinates: &str| {
        let mut python = Environment::Ours.program("python");
        python.arg(script("our_package.py")).arg(target);
        text(&fed(&mut python, coordinates))
    };
    let taken = here.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let said = receive(&taken, &transfer.coordinates);
    assert!(said.contains("raised: StreamerError 13 "), "{said}");
    assert!(said.contains("the target already exists"), "{said}");
    let said = receive(&taken, "nonsense");
    assert!(said.contains("raised: CoordinatesError 11 "), "{said}");

    let copy = here.path().join("copy");
    let said = receive(&copy, &transfer.coordinates);
    assert!(said.contains("done: 3145729 quic "), "{said}");
    assert_eq!(file::sha256(&copy), file::sha256(&source));
    assert_eq!(demo.ended(&transfer.job)["status"]["state"], "COMPLETED");
}

#[test]
fn our_package_installs_our_command() {
    let output = |args: &[&str]| {
        let mut command = Environment::Ours.program("streamer");
        command.args(args).output().unwrap()
    };
    let version = output(&["--version"]);
    assert!(version.status.success(), "{}", text(&version));
    assert!(text(&version).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(output(&["fly"]).status.code(), Some(2));
    let here = file::directory();
    let missing = here.path().join("none");
    let mut command = Environment::Ours.program("streamer");
    command.args(["send", "--path"]).arg(&missing);
    assert_eq!(command.output().unwrap().status.code(), Some(13));
    // The same code that cargo built, so the same answers.
    let ended = Client::start("send", "", &missing, &[]).end();
    assert_eq!(ended.code, Some(13));
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name)
}

/// Runs it with a secret on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{input}").unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
