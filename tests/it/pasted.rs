//! The commands that the demo prints, pasted into a shell one after another.

use std::process::Command;

use streamer_tests::demo::Demo;
use streamer_tests::file;

#[test]
fn the_printed_commands_move_the_sample() {
    let demo = Demo::start();
    let here = file::directory();
    let steps = demo.text.split("1. Get a token:").nth(1).unwrap();
    let commands = steps.split("Stop with").next().unwrap();
    // Everything that is indented is a command; the rest are headings.
    let script: Vec<&str> = commands.lines().filter(|l| l.starts_with("  ")).collect();
    let output = Command::new("sh")
        .args(["-e", "-c", &script.join("\n")])
        .current_dir(here.path())
        .output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{stderr}; is curl installed?\n{commands}"
    );
    let name = "sample.txt";
    assert_eq!(
        file::sha256(&here.path().join(name)),
        file::sha256(&demo.home().join(name))
    );
}
