//! The filesystem operations that change something, over real programs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use form_urlencoded::Serializer;
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::Answer;
use crate::support::files::Files;

impl Files {
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    async fn call(&self, method: Method, operation: &str, body: Value) -> Answer {
        let url = format!("/filesystem/gated/ops/{operation}");
        self.service.call(method, &url, Some(body)).await
    }

    async fn upload(&self, to: &str, name: &str, content: &[u8]) -> Answer {
        let part = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
        self.form(to, &part, content).await
    }

    async fn form(&self, to: &str, part: impl AsRef<[u8]>, content: &[u8]) -> Answer {
        let token = self.service.token(json!({}));
        let query = Serializer::new(String::new())
            .append_pair("path", to)
            .finish();
        let head =
            "--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b\r\n".as_bytes();
        let body = [head, part.as_ref(), b"\r\n\r\n", content, b"\r\n--b--\r\n"].concat();
        let request = Request::post(format!("/filesystem/gated/ops/upload?{query}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Body::from(body));
        self.service.send(request.unwrap()).await
    }

    async fn download(&self, name: &str) -> Answer {
        let query = Serializer::new(String::new())
            .append_pair("path", &self.path(name))
            .finish();
        let url = format!("/filesystem/gated/ops/download?{query}");
        self.service.get(&url).await
    }
}

fn is_refused(answer: &Answer, status: StatusCode, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.json);
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

fn wrong_field(answer: &Answer) -> (&str, &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
    assert_eq!(answer.json["errorType"], "validation");
    let field = &answer.json["data"]["fields"][0];
    assert_eq!(field["location"], "body");
    (
        field["name"].as_str().unwrap(),
        field["message"].as_str().unwrap(),
    )
}

#[tokio::test]
async fn modes_are_changed_and_never_become_options() {
    let files = Files::new().await;
    let path = files.write("it's", "x");
    let mode = || std::fs::metadata(&path).unwrap().mode() & 0o7777;
    for (spelling, word, expected) in [
        ("path", "600", 0o600),
        ("sourcePath", "u+x,g=r", 0o740),
        ("source_path", "-x", 0o640),
    ] {
        let answer = files
            .call(Method::PUT, "chmod", json!({spelling: path, "mode": word}))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        assert_eq!(answer.json["output"]["name"], path);
        assert_eq!(mode(), expected);
    }
    assert_eq!(mode(), 0o640);
    for word in ["999", "", "--reference=/etc/passwd", "644' x '", "$(id)"] {
        let answer = files
            .call(Method::PUT, "chmod", json!({"path": path, "mode": word}))
            .await;
        is_refused(&answer, StatusCode::INTERNAL_SERVER_ERROR, "invalid mode");
        assert_eq!(mode(), 0o640);
    }
    let long = "0".repeat(5000);
    let limit = "mode: String should have at most 4096 bytes";
    let nul = "String should not contain a NUL character";
    for (word, message) in [("777\0", nul), (long.as_str(), limit)] {
        let answer = files
            .call(Method::PUT, "chmod", json!({"path": path, "mode": word}))
            .await;
        assert_eq!(wrong_field(&answer), ("mode", message));
        assert_eq!(mode(), 0o640);
    }
    for name in ["owner", "group"] {
        let body = json!({"path": path, name: "0\0"});
        let answer = files.call(Method::PUT, "chown", body).await;
        assert_eq!(wrong_field(&answer), (name, nul));
    }
    let body = json!({"path": path, "targetPath": files.path("t"), "matchPattern": "x\0"});
    let answer = files.call(Method::POST, "compress", body).await;
    assert_eq!(wrong_field(&answer), ("matchPattern", nul));
    let answer = files
        .call(Method::PUT, "chmod", json!({"path": path}))
        .await;
    assert_eq!(wrong_field(&answer), ("mode", "Field required"));
    let answer = files
        .call(Method::PUT, "chmod", json!({"path": path, "mode": 600}))
        .await;
    assert_eq!(
        wrong_field(&answer),
        ("mode", "Input should be a valid string")
    );
}

#[tokio::test]
async fn owners_may_be_null_and_unknown_ones_are_refused() {
    let files = Files::new().await;
    let path = files.write("f", "x");
    let me = std::fs::metadata(&path).unwrap();
    for body in [
        json!({"path": path}),
        json!({"path": path, "owner": null, "group": null}),
        json!({"path": path, "owner": "", "group": me.gid().to_string()}),
        json!({"path": path, "owner": me.uid().to_string(), "group": null}),
    ] {
        let answer = files.call(Method::PUT, "chown", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    }
    let chown = async |owner: &str| {
        files
            .call(Method::PUT, "chown", json!({"path": path, "owner": owner}))
            .await
    };
    is_refused(
        &chown("no-such-user").await,
        StatusCode::BAD_REQUEST,
        "invalid user",
    );
    is_refused(
        &chown("--help").await,
        StatusCode::BAD_REQUEST,
        "invalid user",
    );
}

#[tokio::test]
async fn directories_and_links_are_made_where_they_may_be() {
    let files = Files::new().await;
    let mkdir = async |name: &str, parent: Value| {
        let body = json!({"sourcePath": files.path(name), "parent": parent});
        files.call(Method::POST, "mkdir", body).await
    };
    let answer = mkdir("-d $(id)", json!(false)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    assert_eq!(answer.json["output"]["type"], "d");
    assert_eq!(answer.json["output"]["name"], files.path("-d $(id)"));
    is_refused(
        &mkdir("-d $(id)", json!(false)).await,
        StatusCode::BAD_REQUEST,
        "File exists",
    );
    is_refused(
        &mkdir("p/q", json!("no")).await,
        StatusCode::NOT_FOUND,
        "No such file",
    );
    assert_eq!(
        mkdir("p/q", json!("true")).await.status,
        StatusCode::CREATED
    );
    assert_eq!(mkdir("p/q", json!(1)).await.status, StatusCode::CREATED);
    assert_eq!(
        wrong_field(&mkdir("x", Value::Null).await),
        ("parent", "Input should be a valid boolean")
    );
    let target = files.write("file", "x");
    let link = async |to: &str| {
        let body = json!({"path": target, "link_path": to});
        files.call(Method::POST, "symlink", body).await
    };
    let answer = link(&files.path("it's")).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    assert_eq!(answer.json["output"]["linkTarget"], target);
    is_refused(
        &link(&files.path("it's")).await,
        StatusCode::BAD_REQUEST,
        "File exists",
    );
    is_refused(
        &link("/etc/link").await,
        StatusCode::BAD_REQUEST,
        "does not match any",
    );
    is_refused(
        &link("link").await,
        StatusCode::BAD_REQUEST,
        "not an absolute path",
    );
    let body = json!({"path": target});
    let answer = files.call(Method::POST, "symlink", body).await;
    assert_eq!(wrong_field(&answer), ("linkPath", "Field required"));
}

#[tokio::test]
async fn a_path_in_the_query_opens_no_gate_for_one_in_the_body() {
    let files = Files::new().await;
    let inside = Serializer::new(String::new())
        .append_pair("path", &files.path(""))
        .finish();
    let operation = format!("mkdir?{inside}");
    let body = json!({"path": "/tmp/../etc/no"});
    let answer = files.call(Method::POST, &operation, body).await;
    is_refused(&answer, StatusCode::BAD_REQUEST, "does not match any");
}

#[tokio::test]
async fn what_is_removed_is_what_was_named() {
    let files = Files::new().await;
    std::fs::create_dir_all(files.path("d/sub")).unwrap();
    files.write("*", "star");
    files.write("kept", "x");
    symlink("d", files.path("link")).unwrap();
    let rm = async |name: &str| {
        let query = Serializer::new(String::new())
            .append_pair("path", &files.path(name))
            .finish();
        let url = format!("/filesystem/gated/ops/rm?{query}");
        files.service.call(Method::DELETE, &url, None).await
    };
    for name in ["*", "link"] {
        let answer = rm(name).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
        assert!(answer.bytes.is_empty());
    }
    assert_eq!(files.names(), ["d", "kept"]);
    assert_eq!(rm("d").await.status, StatusCode::NO_CONTENT);
    is_refused(
        &rm("d").await,
        StatusCode::NOT_FOUND,
        "No such file or directory",
    );
    assert_eq!(files.names(), ["kept"]);
}

#[tokio::test]
async fn files_of_any_bytes_up_to_the_limit_go_in_and_come_out() {
    let files = Files::new().await;
    let all: Vec<u8> = (0..1000_u16).map(|n| n.to_le_bytes()[0]).collect();
    for (name, content) in [
        ("empty", &[][..]),
        ("one", b"\0"),
        ("full", &all),
        ("it's $(id).txt", b"\r\n--x"),
        ("gr\u{fc}\u{df}e", b"x"),
    ] {
        let answer = files.upload(&files.path(""), name, content).await;
        assert_eq!(
            answer.status,
            StatusCode::NO_CONTENT,
            "{name}: {}",
            answer.json
        );
        assert_eq!(std::fs::read(files.path(name)).unwrap(), content, "{name}");
        let answer = files.download(name).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(&answer.bytes[..], content, "{name}");
    }
    let over = vec![0; 1001];
    let answer = files.upload(&files.path(""), "over", &over).await;
    is_refused(
        &answer,
        StatusCode::PAYLOAD_TOO_LARGE,
        "File to upload is too large.",
    );
    std::fs::write(files.path("over"), over).unwrap();
    let answer = files.download("over").await;
    is_refused(
        &answer,
        StatusCode::PAYLOAD_TOO_LARGE,
        "Command output exceeded buffer limit.",
    );
    is_refused(
        &files.download("nope").await,
        StatusCode::NOT_FOUND,
        "No such file",
    );
}

#[tokio::test]
async fn names_of_uploads_are_those_of_the_client() {
    let files = Files::new().await;
    let to = files.path("");
    // As httpx and requests write them.
    for (escaped, name) in [(r"a\\b", r"a\b"), (r#"q\"q"#, "q\"q"), (r"end\\", r"end\")] {
        let answer = files.upload(&to, escaped, b"x").await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
        assert_eq!(files.names(), [name]);
        std::fs::remove_file(files.path(name)).unwrap();
    }
    let latin: &[u8] = b"Content-Disposition: form-data; name=\"file\"; filename=\"\xe9\"";
    let answer = files.form(&to, latin, b"x").await;
    assert_eq!(wrong_field(&answer), ("file", "File name is not UTF-8"));
}

#[tokio::test]
async fn an_upload_replaces_a_file_and_leaves_its_permissions() {
    let files = Files::new().await;
    let path = files.write("script", "old");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
    symlink("script", files.path("link")).unwrap();
    let answer = files.upload(&files.path(""), "link", b"new").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(files.names(), ["link", "script"]);
}

#[tokio::test]
async fn an_upload_goes_nowhere_but_into_its_directory() {
    let files = Files::new().await;
    std::fs::create_dir(files.path("d")).unwrap();
    for name in ["../x", "..", ".", "a/b", "/etc/x"] {
        let answer = files.upload(&files.path("d"), name, b"x").await;
        assert_eq!(
            wrong_field(&answer),
            ("file", "File name should be a name without a path"),
            "{name}"
        );
    }
    let part = |text: &'static str| files.form("/", text, b"x");
    is_refused(
        &part("Content-Disposition: form-data; name=\"file\"; filename=\"x\"").await,
        StatusCode::BAD_REQUEST,
        "does not match any",
    );
    let to = files.path("d");
    let answer = files
        .form(&to, "Content-Disposition: form-data; name=\"file\"", b"x")
        .await;
    assert_eq!(wrong_field(&answer), ("file", "File name required"));
    let other = "Content-Disposition: form-data; name=\"data\"; filename=\"x\"";
    assert_eq!(
        wrong_field(&files.form(&to, other, b"x").await),
        ("file", "Field required")
    );
    let query = Serializer::new(String::new())
        .append_pair("path", &to)
        .finish();
    let answer = files
        .call(
            Method::POST,
            &format!("upload?{query}"),
            json!({"file": "x"}),
        )
        .await;
    assert_eq!(wrong_field(&answer), ("file", "Field required"));
    is_refused(
        &files.upload(&files.path("nope"), "x", b"x").await,
        StatusCode::NOT_FOUND,
        "No such file or directory",
    );
    assert_eq!(files.names(), ["d"]);
    assert_eq!(std::fs::read_dir(files.path("d")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_file_is_read() {
    let files = Files::new().await;
    let body = Body::new(Unread);
    let request = Request::post("/filesystem/gated/ops/upload?path=/")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body);
    let answer = files.service.send(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

/// A body that nobody may ask for.
struct Unread;

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        panic!("the body was read")
    }
}

#[tokio::test]
async fn archives_go_in_and_out_with_every_spelling() {
    let files = Files::new().await;
    std::fs::create_dir_all(files.path("d/sub")).unwrap();
    files.write("d/a.txt", "a");
    files.write("d/sub/b.log", "b");
    std::fs::create_dir(files.path("out")).unwrap();
    let archive = files.path("it's: a.tar");
    for compression in ["none", "bzip2", "gzip", "xz"] {
        let body = json!({"sourcePath": files.path("d/"), "targetPath": archive,
            "compression": compression, "dereference": "false", "matchPattern": null});
        let answer = files.call(Method::POST, "compress", body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
        let body = json!({"source_path": archive, "target_path": files.path("out"),
            "compression": compression});
        let answer = files.call(Method::POST, "extract", body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
        assert_eq!(std::fs::read(files.path("out/d/sub/b.log")).unwrap(), b"b");
        std::fs::remove_dir_all(files.path("out/d")).unwrap();
    }
    let body = json!({"path": files.path("d"), "target_path": archive,
        "match_pattern": ".*\\.txt"});
    let answer = files.call(Method::POST, "compress", body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.json);
    let body = json!({"path": archive, "targetPath": files.path("out")});
    files.call(Method::POST, "extract", body).await;
    assert!(Path::new(&files.path("out/d/a.txt")).exists());
    assert!(!Path::new(&files.path("out/d/sub")).exists());
}

#[tokio::test]
async fn archives_stay_inside_and_failures_leave_none() {
    let files = Files::new().await;
    files.write("a", "no archive at all");
    let ask = async |operation: &str, path: &str, target: &str| {
        let body = json!({"path": path, "targetPath": target});
        files.call(Method::POST, operation, body).await
    };
    let (file, archive) = (files.path("a"), files.path("x.tgz"));
    for operation in ["compress", "extract"] {
        is_refused(
            &ask(operation, &file, "/opt/x").await,
            StatusCode::BAD_REQUEST,
            "does not match any",
        );
        is_refused(
            &ask(operation, &files.path("nope"), &archive).await,
            StatusCode::NOT_FOUND,
            "No such file or directory",
        );
        let body = json!({"path": file, "targetPath": archive, "compression": "zip"});
        assert_eq!(
            wrong_field(&files.call(Method::POST, operation, body).await),
            (
                "compression",
                "Input should be 'none', 'bzip2', 'gzip' or 'xz'"
            )
        );
        let answer = files
            .call(Method::POST, operation, json!({"path": file}))
            .await;
        assert_eq!(wrong_field(&answer), ("targetPath", "Field required"));
    }
    is_refused(
        &ask("extract", &file, &files.path("")).await,
        StatusCode::INTERNAL_SERVER_ERROR,
        "not in gzip format",
    );
    assert_eq!(files.names(), ["a"]);
}
