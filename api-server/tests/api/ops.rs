//! `/filesystem/{system}/ops` over real programs, in process: what is answered and what is
//! done. Systems: `here` without probes, `gated` with one and a limit of 1000 bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use crate::support::Answer;
use crate::support::files::{Files, url};
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Names that a shell, `ls` or JSON could trip over.
const ODD: &[&str] = &[
    "with space.txt",
    "quote'd.txt",
    "dq\"d.txt",
    "new\nline.txt",
    "-dash.txt",
    "$(touch pwned).txt",
    "back\\slash.txt",
    "semi;colon.txt",
    "grüße 日本.txt",
    "tab\there.txt",
    "star*.txt",
    "`id`.txt",
];

impl Files {
    async fn get(&self, operation: &str, query: &[(&str, &str)]) -> Answer {
        self.service.get(&url("here", operation, query)).await
    }

    async fn output(&self, operation: &str, query: &[(&str, &str)]) -> Value {
        let mut answer = self.get(operation, query).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json["output"].take()
    }
}

fn names(output: &Value) -> Vec<&str> {
    let files = output.as_array().unwrap().iter();
    files.map(|file| file["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_listing_has_every_name_as_it_is() {
    let files = Files::new().await;
    std::fs::create_dir(files.path("odd")).unwrap();
    for name in ODD {
        files.write(&format!("odd/{name}"), "odd\n");
    }
    let not_text = files
        .directory
        .join("odd")
        .join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(not_text, "").unwrap();
    let output = files.output("ls", &[("path", &files.path("odd"))]).await;
    let mut expected = ODD.to_vec();
    expected.push("caf\u{fffd}");
    expected.sort_unstable_by_key(|name| name.replace('\u{fffd}', "\u{e9}"));
    let mut found = names(&output);
    found.sort_unstable_by_key(|name| name.replace('\u{fffd}', "\u{e9}"));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_reading_operation_takes_every_name() {
    let files = Files::new().await;
    for name in ODD {
        let path = files.write(name, "odd\n");
        let query = [("path", path.as_str())];
        assert_eq!(names(&files.output("ls", &query).await), [&path]);
        assert_eq!(files.output("head", &query).await["content"], "odd\n");
        assert_eq!(files.output("tail", &query).await["content"], "odd\n");
        assert_eq!(files.output("view", &query).await, "odd\n");
        assert_eq!(files.output("file", &query).await, "ASCII text");
        assert_eq!(files.output("stat", &query).await["size"], 4);
        assert_eq!(
            files.output("checksum", &query).await,
            json!({"algorithm": "SHA256",
                "checksum": "80a3ef2f5539b0a6b5ee045e2a1de83bfb38550da54aa4d60dc1b9526b4b0805"})
        );
    }
    assert!(!files.directory.join("pwned").exists());
}

#[tokio::test]
async fn listings_show_what_the_options_say() {
    let files = Files::new().await;
    std::fs::create_dir_all(files.path("d/sub")).unwrap();
    files.write("d/a", "aaa\n");
    files.write("d/.hidden", "h");
    files.write("d/sub/x", "");
    symlink("d", files.path("link")).unwrap();
    let path = files.path("d");
    let list = async |options: &[(&str, &str)]| {
        let query = [&[("path", path.as_str())], options].concat();
        files.output("ls", &query).await
    };
    assert_eq!(names(&list(&[]).await), ["a", "sub"]);
    assert_eq!(
        names(&list(&[("showHidden", "1")]).await),
        [".hidden", "a", "sub"]
    );
    assert_eq!(
        names(&list(&[("recursive", "yes")]).await),
        ["a", "sub", "sub/x"]
    );
    let file = &list(&[("numericUid", "true")]).await[0];
    assert!(file["user"].as_str().unwrap().parse::<u32>().is_ok());
    assert_eq!((&file["type"], &file["size"]), (&json!("-"), &json!("4")));
    assert_eq!(file["linkTarget"], Value::Null);
    let link = files.path("link");
    let shown = files.output("ls", &[("path", &link)]).await;
    assert_eq!(
        (&shown[0]["name"], &shown[0]["linkTarget"]),
        (&json!(link), &json!("d"))
    );
    let followed = files
        .output("ls", &[("path", &link), ("dereference", "true")])
        .await;
    assert_eq!(names(&followed), ["a", "sub"]);
    let answer = files
        .get("ls", &[("path", &path), ("recursive", "perhaps")])
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.json["data"]["fields"],
        json!([{"location": "query", "name": "recursive",
            "message": "Input should be a valid boolean, unable to interpret input"}])
    );
}

#[tokio::test]
async fn ends_of_files_have_their_positions() {
    let files = Files::new().await;
    let lines: String = (1..=100).map(|n| format!("line {n}\n")).collect();
    let path = files.write("lines", lines);
    for (operation, options, content, unit, start, end) in [
        (
            "head",
            &[("lines", "2")][..],
            "line 1\nline 2\n",
            "lines",
            0,
            2,
        ),
        ("head", &[("bytes", "7")], "line 1\n", "bytes", 0, 7),
        ("head", &[("lines", "-99")], "line 1\n", "lines", 0, -99),
        (
            "head",
            &[("lines", "99"), ("skipTrailing", "on")],
            "line 1\n",
            "lines",
            0,
            -99,
        ),
        ("tail", &[("lines", "1")], "line 100\n", "lines", -1, -1),
        ("tail", &[("bytes", "4")], "100\n", "bytes", -4, -1),
        (
            "tail",
            &[("lines", "100"), ("skipHeading", "on")],
            "line 100\n",
            "lines",
            100,
            -1,
        ),
    ] {
        let query = [&[("path", path.as_str())], options].concat();
        assert_eq!(
            files.output(operation, &query).await,
            json!({"content": content, "contentType": unit,
                "startPosition": start, "endPosition": end}),
            "{operation} {options:?}"
        );
    }
    let positions = async |operation: &str, options: &[(&str, &str)]| {
        let query = [&[("path", path.as_str())], options].concat();
        let output = files.output(operation, &query).await;
        (
            output["startPosition"].clone(),
            output["endPosition"].clone(),
        )
    };
    assert_eq!(positions("head", &[]).await, (json!(0), json!(10)));
    assert_eq!(positions("tail", &[]).await, (json!(10), json!(-1)));
    assert_eq!(
        positions("tail", &[("bytes", "0")]).await,
        (json!(0), json!(-1))
    );
    for (options, message) in [
        (
            &[("lines", "1"), ("bytes", "1")][..],
            "Only one of `bytes` or `lines` can be specified.",
        ),
        (
            &[("lines", "-1"), ("skipTrailing", "1")],
            "`bytes` and `lines` must not be negative with `skipTrailing`.",
        ),
    ] {
        let query = [&[("path", path.as_str())], options].concat();
        let answer = files.get("head", &query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json["message"], message);
    }
}

#[tokio::test]
async fn a_window_counts_bytes_and_replaces_cut_characters() {
    let files = Files::new().await;
    let path = files.write("utf8", "grüße 日本\nzweite\n");
    let big = files.write("big", [b'a'; 2500]);
    let view = async |size: &str, offset: &str| {
        let query = [("path", path.as_str()), ("size", size), ("offset", offset)];
        files.output("view", &query).await
    };
    assert_eq!(view("4", "0").await, "grü");
    assert_eq!(view("3", "0").await, "gr\u{fffd}");
    assert_eq!(view("4", "1").await, "rü\u{fffd}");
    assert_eq!(view("2", "3").await, "\u{fffd}\u{fffd}");
    assert_eq!(view("100", "8").await, "日本\nzweite\n");
    assert_eq!(view("5", "100000").await, "");
    let refused = async |query: &[(&str, &str)]| {
        let query = [&[("path", big.as_str())], query].concat();
        let answer = files.service.get(&url("gated", "view", &query)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
        answer.json["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        refused(&[("offset", "-1")]).await,
        "`offset` value must be an integer value equal or greater than 0"
    );
    for size in ["0", "-1"] {
        assert_eq!(
            refused(&[("size", size)]).await,
            "`size` value must be an integer value greater than 0"
        );
    }
    assert_eq!(
        refused(&[("size", "1001")]).await,
        "`size` value must be less than 1000 bytes"
    );
    assert!(refused(&[("size", "x")]).await.contains("valid integer"));
    // With a limit below the usual size, the limit is what is shown.
    let answer = files
        .service
        .get(&url("gated", "view", &[("path", &big)]))
        .await;
    assert_eq!(answer.json["output"].as_str().unwrap().len(), 1000);
    let end = [("path", big.as_str()), ("size", "1000"), ("offset", "2000")];
    let answer = files.service.get(&url("gated", "view", &end)).await;
    assert_eq!(answer.json["output"].as_str().unwrap().len(), 500);
}

#[tokio::test]
async fn failures_have_the_status_and_the_words_of_the_program() {
    let files = Files::new().await;
    let missing = files.path("nope");
    for operation in ["ls", "head", "tail", "view", "checksum", "stat"] {
        let answer = files.get(operation, &[("path", &missing)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{operation}");
        let message = answer.json["message"].as_str().unwrap();
        assert!(
            message.starts_with("Remote process failed with exit status:"),
            "{message}"
        );
        assert!(message.ends_with("No such file or directory"), "{message}");
        assert_eq!(answer.json["user"], "fireuser");
    }
    let answer = files.get("stat", &[("path", &missing)]).await;
    assert!(
        answer.json["message"]
            .as_str()
            .unwrap()
            .contains("cannot statx")
    );
    let described = files.output("file", &[("path", &missing)]).await;
    assert!(
        described
            .as_str()
            .unwrap()
            .contains("No such file or directory")
    );
    let answer = files.get("checksum", &[("path", &files.path(""))]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let answer = files.get("stat", &[("path", "/a\0b")]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
}

#[tokio::test]
async fn more_output_than_the_limit_is_refused() {
    let files = Files::new().await;
    let ask = async |size: usize| {
        let path = files.write("big", vec![b'a'; size]);
        files
            .service
            .get(&url("gated", "head", &[("path", &path)]))
            .await
    };
    assert_eq!(ask(1000).await.status, StatusCode::OK);
    let answer = ask(1001).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        answer.json["message"],
        "Command output exceeded buffer limit."
    );
}

#[tokio::test]
async fn the_gate_is_before_validation_and_needs_a_path_inside() {
    let files = Files::new().await;
    let directory = files.service.directory();
    for (query, message) in [
        (
            &[][..],
            "Unable to decode request and retreive the required path or source_path parameter."
                .to_owned(),
        ),
        (
            &[("path", "x"), ("recursive", "perhaps")],
            "The provided path (x) is not an absolute path.".to_owned(),
        ),
        (
            &[("path", &*format!("{directory}/../../etc/passwd"))],
            "The provided path (/etc/passwd) does not match any of the defined filesystem paths \
             for the requested system (gated)."
                .to_owned(),
        ),
    ] {
        let answer = files.service.get(&url("gated", "ls", query)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json["message"], message);
    }
    let answer = files.get("ls", &[]).await;
    assert_eq!(
        answer.json["data"]["fields"],
        json!([{"location": "query", "name": "path", "message": "Field required"}])
    );
}
