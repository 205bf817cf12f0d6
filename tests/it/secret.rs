//! Where the secret of a transfer is, and where it is not, while its job runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use streamer_core::Coordinates;
use streamer_tests::demo::Demo;
use streamer_tests::{file, job};

#[test]
fn the_secret_is_in_a_file_of_the_user_and_nowhere_else() {
    let demo = Demo::start();
    let source = demo.home().join("secret-test.bin");
    file::random(&source, 1000);
    let transfer = demo.transfer("download", &source);
    let (id, _) = job::endpoint(&source);

    let secret = Coordinates::parse(&transfer.coordinates).unwrap().secret;
    let needles = [
        secret.expose_text().to_string(),
        transfer.coordinates.clone(),
    ];
    let private = demo.home().join(".f7t_transfers");
    let files: Vec<PathBuf> = std::fs::read_dir(&private)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let holds = |path: &&PathBuf| has(&std::fs::read_to_string(path).unwrap(), &needles);
    let holders: Vec<&PathBuf> = files.iter().filter(holds).collect();
    assert_eq!(holders.len(), 1, "{files:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(holders[0]), mode(&private)), (0o600, 0o700));
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!has(&environment, &needles), "the environment shows it");
    for (id, line) in job::command_lines() {
        assert!(!has(&line, &needles), "process {id} shows it");
    }
    let script = demo.script(&transfer.job);
    assert!(script.contains("streamer server "), "no script: {script}");
    assert!(!has(&script, &needles), "the script of the job shows it");
    let state = demo.call("GET", &format!("/compute/demo/jobs/{}", transfer.job), "");
    assert!(!has(&state.text, &needles), "the job shows it");
    for name in ["outputLog", "errorLog"] {
        let log = std::fs::read_to_string(transfer.log_path(name)).unwrap();
        assert!(!has(&log, &needles), "{name} shows it");
    }
    let log = demo.log();
    assert!(
        log.contains("/filesystem/demo/transfer/download"),
        "no log: {log}"
    );
    assert!(!has(&log, &needles), "the log of the service shows it");
}

fn has(text: &str, needles: &[String]) -> bool {
    needles.iter().any(|needle| text.contains(needle))
}
