//! The router, in process: status, headers, bodies and the order of checks.

use crate::support::{Answer, Service};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn systems_are_shown_as_the_reference_shows_them() {
    let service = Service::new().await;
    let answer = service.get("/status/systems").await;
    assert_eq!(answer.status, StatusCode::OK);
    let local = &answer.json["systems"][0];
    assert_eq!(local["name"], "here");
    assert_eq!(local["scheduler"]["type"], "local");
    assert_eq!(local["ssh"], Value::Null);
    assert_eq!(local["fileSystems"][0]["defaultWorkDir"], true);
    let operation = &local["dataOperation"];
    assert_eq!(operation["max_ops_file_size"], 5_242_880);
    assert_eq!(operation["data_transfer"]["serviceType"], "streamer");
    assert_eq!(operation["data_transfer"]["portRange"], json!([5665, 5675]));
    let slurm = &answer.json["systems"][1];
    assert_eq!(slurm["ssh"]["timeout"]["commandExecution"], 5);
    assert_eq!(
        slurm["probing"],
        json!({"services": {"s3": {"timeout": 20}}, "intervalCheck": 120})
    );
    assert_eq!(
        slurm["dataOperation"]["data_transfer"]["secretAccessKey"],
        "**********"
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("f7t-authusername"), "");
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let service = Service::new().await;
    for (path, status) in [
        ("/status/liveness/", 200),
        ("/nowhere", 404),
        ("/status/liveness", 307),
    ] {
        let answer = service.anonymous(Method::GET, path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.header("f7t-timestamp").parse::<f64>().unwrap() > 1.7e9);
        assert_eq!(answer.header("f7t-appversion"), "2.6.0");
        assert_eq!(answer.header("x-request-id").len(), 32);
        assert_eq!(answer.header("x-correlation-id").len(), 32);
    }
}

#[tokio::test]
async fn ids_are_taken_over_or_refused() {
    let service = Service::new().await;
    let ask = |name: &'static str, value: &'static str| {
        let request = Request::get("/status/liveness/").header(name, value);
        service.send(request.body(Body::empty()).unwrap())
    };
    for name in ["x-request-id", "x-correlation-id"] {
        for id in ["3b6b2b1e-7a1c-4c56-9c0f-1f2e3d4c5b6a", "my-workflow-1234"] {
            assert_eq!(ask(name, id).await.header(name), id);
        }
    }
    let bare = ask("x-request-id", "not a uuid").await;
    assert_eq!(
        (bare.status, bare.bytes.len()),
        (StatusCode::BAD_REQUEST, 0)
    );
    assert_eq!(bare.header("f7t-appversion"), "");
}

#[tokio::test]
async fn paths_are_lower_cased_redirected_and_optionally_prefixed() {
    let service = Service::new().await;
    for path in [
        "/STATUS/Systems",
        "/f7t/v2/status/systems",
        "/status%2Fsystems",
    ] {
        assert_eq!(service.get(path).await.status, StatusCode::OK, "{path}");
    }
    for (path, to) in [
        (
            "/status/systems/?a=B",
            "http://api.example:81/status/systems?a=B",
        ),
        (
            "/f7t/v2/status/liveness",
            "http://api.example:81/f7t/v2/status/liveness/",
        ),
        (
            "/compute/here/jobs/1/",
            "http://api.example:81/compute/here/jobs/1",
        ),
    ] {
        let request = Request::get(path).header("host", "api.example:81");
        let answer = service.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT, "{path}");
        assert_eq!(answer.header("location"), to);
        assert!(answer.bytes.is_empty());
    }
    for path in ["//status/systems", "/", "/status", "/compute//jobs"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json, error_body("Not Found", Value::Null));
    }
}

/// A redirect of a request with these headers.
async fn redirected(service: &Service, headers: &[(&str, &[u8])]) -> String {
    let mut request = Request::get("/f7t/v2/status/systems/?a=b").header("host", "inside:5000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = service.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT, "{headers:?}");
    answer.header("location").to_owned()
}

#[tokio::test]
async fn redirects_lead_to_where_the_client_came_from() {
    let service = Service::new().await;
    let (proto, host) = ("x-forwarded-proto", "x-forwarded-host");
    for (headers, base) in [
        (vec![], "http://inside:5000"),
        (vec![(proto, &b"https"[..])], "https://inside:5000"),
        (vec![(proto, b"HTTPS")], "https://inside:5000"),
        (
            vec![(host, b"api.example"), (proto, b"http")],
            "http://api.example",
        ),
        // The first of several is the proxy that the client spoke to.
        (
            vec![(proto, b"https, http"), (host, b"api.example:8443 ,inner")],
            "https://api.example:8443",
        ),
        (
            vec![
                (proto, b"https"),
                (proto, b"http"),
                (host, b"one.example"),
                (host, b"two.example"),
            ],
            "https://one.example",
        ),
        (vec![(host, b"[2001:db8::1]:80")], "http://[2001:db8::1]:80"),
        // What is no scheme, and what is no host, lead nowhere else.
        (vec![(proto, b"javascript")], "http://inside:5000"),
        (vec![(proto, b"")], "http://inside:5000"),
        (vec![(host, b"")], ""),
        (vec![(host, b", api.example")], ""),
        (vec![(host, b"good.example@evil.example")], ""),
        (vec![(host, b"evil.example/?")], ""),
        (vec![(host, b"evil.example#")], ""),
        (vec![(host, b"evil.example\\")], ""),
        (vec![(host, b"a b")], ""),
        (vec![(host, b"a\tb")], ""),
        (vec![(host, b"\xc3\xa9vil.example")], ""),
        (vec![("host", b"evil\"><script>")], "http://inside:5000"),
    ] {
        let location = redirected(&service, &headers).await;
        let expected = format!("{base}/f7t/v2/status/systems?a=b");
        assert_eq!(location, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn the_description_names_the_root_path_and_no_host_of_a_request() {
    let service = Service::new().await;
    let plain = service.anonymous(Method::GET, "/openapi.json").await.json;
    assert_eq!(plain["servers"], json!([{"url": "/f7t/v2"}]));
    let request = Request::get("/f7t/v2/openapi.json")
        .header("host", "inside:5000")
        .header("x-forwarded-proto", "https, javascript")
        .header("x-forwarded-host", "evil.example, other");
    let forwarded = service.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(forwarded.json, plain);
}

#[tokio::test]
async fn other_methods_are_refused_with_those_allowed() {
    let service = Service::new().await;
    for (method, path, allow) in [
        (Method::POST, "/status/systems", "GET"),
        (Method::OPTIONS, "/status/systems", "GET"),
        (Method::HEAD, "/status/systems", "GET"),
        (Method::PUT, "/filesystem/here/transfer/upload", "POST"),
    ] {
        let answer = service.anonymous(method.clone(), path).await;
        assert_eq!(
            answer.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
        assert_eq!(answer.header("allow"), allow);
        assert_eq!(answer.json, error_body("Method Not Allowed", Value::Null));
    }
}

fn error_body(message: &str, user: Value) -> Value {
    json!({"errorType": "error", "message": message, "causedBy": null, "data": null, "user": user})
}

#[tokio::test]
async fn every_described_route_needs_a_token_but_liveness() {
    let service = Service::new().await;
    let description = service.anonymous(Method::GET, "/openapi.json").await.json;
    let mut checked = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{system_name}", "here")
            .replace("{job_id}", "1");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = service.anonymous(method, &concrete).await;
            if path == "/status/liveness/" {
                assert_eq!(answer.status, StatusCode::OK);
                continue;
            }
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert_eq!(answer.json, error_body("Not authenticated", Value::Null));
            checked += 1;
        }
    }
    assert!(checked >= 7, "only {checked} routes were checked");
}

#[tokio::test]
async fn a_refused_token_is_never_repeated() {
    let service = Service::new().await;
    let token = service.token(json!({"exp": 1000}));
    let answer = service
        .with_token(Method::GET, "/status/systems", &token, None)
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json, error_body("Access token expired", Value::Null));
    assert!(!format!("{:?}", answer.headers).contains(&token[..20]));
    let nobody = service.token(json!({"preferred_username": null}));
    let answer = service
        .with_token(Method::GET, "/status/systems", &nobody, None)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_order_of_checks() {
    let service = Service::new().await;
    let upload = |system: &str| format!("/filesystem/{system}/transfer/upload");
    // Broken JSON before authentication.
    let answer = service.raw(&upload("here"), None, "{not json").await;
    assert_eq!(
        (answer.status, &answer.json["errorType"]),
        (StatusCode::BAD_REQUEST, &json!("validation"))
    );
    let field = json!({"location": "body", "name": 1, "message": "JSON decode error"});
    assert_eq!(answer.json["data"]["fields"], json!([field]));
    // No GET has a body that could be broken.
    let request = Request::get("/status/systems").header("content-type", "application/json");
    let request = request.body(Body::from("{not json")).unwrap();
    assert_eq!(service.send(request).await.status, StatusCode::UNAUTHORIZED);
    // Authentication before the system.
    assert_eq!(
        service.raw(&upload("nowhere"), None, "{}").await.status,
        StatusCode::UNAUTHORIZED
    );
    // The system before validation.
    let answer = service.post(&upload("nowhere"), json!({})).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        answer.json,
        error_body("System not found", json!("fireuser"))
    );
    assert_eq!(answer.header("f7t-authusername"), "fireuser");
    // Validation before work.
    let answer = service.post(&upload("here"), json!({})).await;
    assert_eq!(
        fields(&answer),
        [
            ("sourcePath".into(), "Field required".into()),
            ("transferDirectives".into(), "Field required".into()),
        ]
    );
}

fn fields(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
    let list = answer.json["data"]["fields"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    list.iter()
        .map(|field| (text(&field["name"]), text(&field["message"])))
        .collect()
}

#[tokio::test]
async fn wrong_bodies_and_parameters_name_their_fields() {
    let service = Service::new().await;
    let jobs = "/compute/here/jobs";
    let object = "Input should be a valid dictionary or object to extract fields from";
    for (body, expected) in [
        (json!([]), vec![("null", object)]),
        (json!({}), vec![("job", "Field required")]),
        (json!({"job": null}), vec![("job", object)]),
        (
            json!({"job": {"currentWorkingDirectory": "/"}}),
            vec![("job", "Field required")],
        ),
        (
            json!({"job": {"name": 5, "workingDirectory": [], "env": {"A": 1}}}),
            vec![
                ("job", "Input should be a valid string"),
                ("job", "Input should be a valid string"),
                ("job", "Input should be a valid string"),
                ("job", "Input should be a valid list"),
            ],
        ),
    ] {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(a, b)| (a.into(), b.into()))
            .collect();
        assert_eq!(
            fields(&service.post(jobs, body.clone()).await),
            expected,
            "{body}"
        );
    }
    for (member, value, message) in [
        (
            "name",
            "n".repeat(1025),
            "name: String should have at most 1024 bytes",
        ),
        (
            "account",
            "a".repeat(1025),
            "account: String should have at most 1024 bytes",
        ),
        (
            "workingDirectory",
            "/".repeat(4097),
            "workingDirectory: String should have at most 4096 bytes",
        ),
        (
            "standardOutput",
            "o".repeat(4097),
            "standardOutput: String should have at most 4096 bytes",
        ),
        (
            "scriptPath",
            "s".repeat(4097),
            "scriptPath: String should have at most 4096 bytes",
        ),
        (
            "script",
            "\0".into(),
            "String should not contain a NUL character",
        ),
    ] {
        let mut job = json!({"workingDirectory": "/", "script": "#!/bin/sh"});
        job[member] = value.into();
        let answer = service.post(jobs, json!({"job": job})).await;
        assert_eq!(fields(&answer), [("job".into(), message.into())]);
    }
    let variables = |count: usize, bytes: usize| {
        let all = (0..count).map(|n| (format!("V{n}"), "x".repeat(bytes).into()));
        let env = serde_json::Map::from_iter(all);
        json!({"job": {"workingDirectory": "/", "script": "no script", "env": env}})
    };
    for (count, bytes, message) in [
        (
            1,
            131_070,
            "env: A variable should have at most 131070 bytes",
        ),
        (
            11,
            100_000,
            "env: The variables should have at most 1048576 bytes",
        ),
    ] {
        let answer = service.post(jobs, variables(count, bytes)).await;
        assert_eq!(fields(&answer), [("job".into(), message.into())]);
    }
    // Any text is one; it is the local system that takes absolute ones only.
    for directory in ["tmp", ""] {
        let job = json!({"job": {"workingDirectory": directory, "script": "#!/bin/sh\n"}});
        let answer = service.post(jobs, job).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
        let message = answer.json["message"].as_str().unwrap_or_default();
        assert!(message.contains("absolute path"), "{}", answer.json);
    }
    // A byte order mark is no part of the text.
    let token = service.token(json!({}));
    for (text, name) in [
        ("\u{feff}{\"job\": null}", "job"),
        ("\u{feff}{\"\u{fc}\" 1}", "5"),
    ] {
        let answer = service.raw(jobs, Some(&token), text).await;
        let named = &answer.json["data"]["fields"][0]["name"];
        assert_eq!(
            named
                .as_str()
                .map_or_else(|| named.to_string(), str::to_owned),
            name
        );
    }
    let boolean = "Input should be a valid boolean, unable to interpret input";
    let window = "Input should be '1h', '8h', '24h', '3d' or '7d'";
    let answer = service
        .get("/compute/here/jobs?allusers=perhaps&time_window=2h")
        .await;
    assert_eq!(
        fields(&answer),
        [
            ("allusers".into(), boolean.into()),
            ("time_window".into(), window.into()),
        ]
    );
    let answer = service.get("/compute/here/jobs/12_3").await;
    let pattern = "String should match pattern '^[a-zA-Z0-9]+$'";
    assert_eq!(fields(&answer), [("job_id".into(), pattern.into())]);
}

#[tokio::test]
async fn a_job_from_submission_to_cancel() {
    let service = Service::new().await;
    let job = json!({"job": {
        "working_directory": service.directory(), "name": "sleeper", "account": "",
        "script": "#!/bin/sh\nexec sleep 600\n", "bogus": 1,
    }});
    let answer = service.post("/compute/here/jobs", job).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    let path = format!(
        "/compute/here/jobs/{}",
        answer.json["jobId"].as_str().unwrap()
    );
    let view = service.until(&path, "RUNNING").await;
    assert_eq!(view["name"], "sleeper");
    assert_eq!(view["user"], "fireuser");
    let listed = service
        .get("/compute/here/jobs?allusers=false&account=")
        .await;
    assert_eq!(listed.json["jobs"].as_array().unwrap().len(), 1);
    let answer = service.call(Method::DELETE, &path, None).await;
    assert_eq!(
        (answer.status, answer.bytes.len()),
        (StatusCode::NO_CONTENT, 0)
    );
    service.until(&path, "CANCELLED").await;
    assert_eq!(
        service.call(Method::DELETE, &path, None).await.status,
        StatusCode::CONFLICT
    );
    let answer = service.get("/compute/here/jobs/999999").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json, error_body("Job not found.", json!("fireuser")));
}

#[tokio::test]
async fn transfers_are_checked_before_they_are_queued() {
    let service = Service::new().await;
    let (upload, download) = (
        "/filesystem/here/transfer/upload",
        "/filesystem/here/transfer/download",
    );
    let body = |path: &str, method: &str| json!({"source_path": path, "transfer_directives": {"transfer_method": method, "file_size": 1}});
    let missing = service
        .post(download, body("/no/such/file", "streamer"))
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let message = missing.json["message"].as_str().unwrap();
    assert!(message.starts_with(
        "Remote process failed with exit status:1 and error message:stat: cannot stat"
    ));
    assert!(message.ends_with("No such file or directory"), "{message}");
    let exists = service.post(upload, body("/etc/passwd", "streamer")).await;
    assert_eq!(exists.status, StatusCode::FORBIDDEN);
    assert_eq!(
        exists.json["message"],
        "Target file '/etc/passwd' already exists."
    );
    let other = service.post(upload, body("/tmp/x", "s3")).await;
    assert_eq!(other.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        other.json["message"],
        "Requested transfer method is not available."
    );
    let pigeon = service
        .post(download, body("/etc/passwd", "carrier-pigeon"))
        .await;
    assert_eq!(fields(&pigeon).len(), 3);
    assert_eq!(fields(&pigeon)[0].0, "transfer_directives");
    let queued = service
        .post(download, body("/etc/passwd", "streamer"))
        .await;
    assert_eq!(queued.status, StatusCode::CREATED, "{}", queued.json);
    let job = &queued.json["transferJob"];
    assert_eq!(job["system"], "here");
    assert!(
        job["logs"]["errorLog"]
            .as_str()
            .unwrap()
            .contains("/.f7t_file_handling_job_error_")
    );
    assert_eq!(
        queued.json["transferDirectives"].as_object().unwrap().len(),
        2
    );
    streamer_core::Coordinates::parse(
        queued.json["transferDirectives"]["coordinates"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
}

#[tokio::test]
async fn a_system_that_cannot_be_reached_is_an_error_of_that_request_only() {
    let service = Service::new().await;
    // Nobody issues keys for its login node.
    let answer = service.get("/compute/slurm/jobs").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.json["message"].is_string(), "{}", answer.json);
    let answer = service.get("/compute/here/jobs").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
}

#[tokio::test]
async fn a_scheduler_by_rest_that_does_not_answer_says_what_failed_and_why() {
    let service = Service::with_config(|directory| {
        format!(
            r#"
auth:
  authentication:
    token_url: http://localhost/token
    public_certs: ["file://{directory}/jwks.json"]
ssh_credentials: {{type: SSHService, url: "http://localhost"}}
clusters:
- name: rest
  ssh: {{host: login, port: 22}}
  scheduler:
    {{type: slurm, version: "24.11.5", connection_mode: rest, api_url: "http://127.0.0.1:1", api_version: 0.0.41}}
  service_account: {{client_id: x, secret: y}}
  probing: {{}}
"#
        )
    })
    .await;
    let list = service.get("/compute/rest/jobs").await;
    assert_eq!(list.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(list.json["message"], "Error fetching Slurm API data.");
    let causes = list.json["causedBy"].as_array().unwrap();
    assert!(!causes.is_empty() && causes[0].is_string(), "{}", list.json);
    for path in ["/compute/rest/jobs/7", "/status/rest/nodes"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
}

#[tokio::test]
async fn documentation_needs_nothing_from_elsewhere() {
    let service = Service::new().await;
    for path in [
        "/docs",
        "/redoc",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/docs/oauth2-redirect",
    ] {
        let answer = service.anonymous(Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.bytes.is_empty());
    }
    let page = service.anonymous(Method::GET, "/docs").await;
    assert!(
        !String::from_utf8(page.bytes.to_vec())
            .unwrap()
            .contains("//"),
        "links elsewhere"
    );
    assert_eq!(
        service
            .anonymous(Method::GET, "/docs/nothing.js")
            .await
            .status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn files_are_moved_copied_and_deleted_by_jobs() {
    let service = Service::new().await;
    let home = format!("{}/fireuser", service.directory());
    std::fs::create_dir(format!("{home}/a $(id)")).unwrap();
    std::fs::write(format!("{home}/a $(id)/f"), "x").unwrap();
    let at = |name: &str| format!("{home}/{name}");
    for (verb, body, words) in [
        (
            "cp",
            json!({"sourcePath": at("a $(id)"), "targetPath": at("b\n'c"), "dereference": "no"}),
            "Files were successfully copied.",
        ),
        (
            "mv",
            json!({"source_path": at("b\n'c"), "target_path": at("d"), "account": null}),
            "Files were successfully moved.",
        ),
        (
            "compress",
            json!({"path": at("d"), "targetPath": at("d.tar.xz"), "compression": "xz"}),
            "Files were successfully compressed.",
        ),
        (
            "extract",
            json!({"path": at("d.tar.xz"), "targetPath": at("a $(id)"), "compression": "xz"}),
            "Files were successfully extracted.",
        ),
    ] {
        let path = format!("/filesystem/here/transfer/{verb}");
        let answer = service.post(&path, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
        finished(&service, &answer, words).await;
    }
    assert_eq!(std::fs::read_to_string(at("d/f")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(at("a $(id)/d/f")).unwrap(), "x");
    assert!(!std::fs::exists(at("b\n'c")).unwrap());
    let path = format!("/filesystem/here/transfer/rm?path={home}/d&account=");
    let answer = service.call(Method::DELETE, &path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    finished(&service, &answer, "Files were successfully deleted.").await;
    assert!(!std::fs::exists(at("d")).unwrap());
}

/// Waits for the job of an answer; its output says `words`, its error output nothing.
async fn finished(service: &Service, answer: &Answer, words: &str) {
    let job = &answer.json["transferJob"];
    let path = format!("/compute/here/jobs/{}", job["jobId"].as_str().unwrap());
    service.until(&path, "COMPLETED").await;
    let log = |name: &str| std::fs::read_to_string(job["logs"][name].as_str().unwrap()).unwrap();
    assert!(log("outputLog").contains(words), "{}", log("outputLog"));
    assert_eq!(log("errorLog"), "");
}

#[tokio::test]
async fn file_jobs_are_not_queued_when_they_cannot_succeed() {
    let service = Service::new().await;
    let home = format!("{}/fireuser", service.directory());
    std::fs::write(format!("{home}/f"), "x").unwrap();
    let ask = |verb: &str, body: Value| {
        let path = format!("/filesystem/here/transfer/{verb}");
        let service = &service;
        async move { service.post(&path, body).await }
    };
    let body = json!({"path": format!("{home}/none"), "targetPath": format!("{home}/x")});
    let answer = ask("mv", body).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let message = answer.json["message"].as_str().unwrap();
    assert!(message.contains("No such file or directory"), "{message}");
    let body = json!({"path": format!("{home}/f"), "targetPath": format!("{home}/no/x")});
    assert_eq!(ask("cp", body).await.status, StatusCode::NOT_FOUND);
    let body = json!({"path": format!("{home}/f"), "targetPath": format!("{home}/f/x")});
    assert_eq!(ask("mv", body).await.status, StatusCode::BAD_REQUEST);
    let answer = ask("mv", json!({"path": 1, "dereference": "x"})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let names: Vec<&Value> = answer.json["data"]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| &field["name"])
        .collect();
    assert_eq!(names, ["path", "targetPath"]);
    let answer = service
        .call(Method::DELETE, "/filesystem/here/transfer/rm", None)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json["data"]["fields"][0]["location"], "query");
}

#[tokio::test]
async fn the_gate_asks_about_each_path_that_a_job_uses() {
    let service = Service::new().await;
    let home = format!("{}/fireuser", service.directory());
    let inside = format!("{home}/f");
    std::fs::write(&inside, "x").unwrap();
    for verb in ["mv", "cp", "compress", "extract"] {
        let path = format!("/filesystem/gated/transfer/{verb}");
        let through_the_query = format!("{path}?path={inside}");
        for (path, source, target) in [
            (&through_the_query, "/etc/passwd", "x"),
            (&through_the_query, "../../../etc/passwd", "x"),
            (&path, &*inside, "/etc/x"),
        ] {
            let body = json!({"path": source, "targetPath": target});
            let answer = service.post(path, body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
            let message = answer.json["message"].as_str().unwrap();
            assert!(message.contains("does not match any"), "{message}");
        }
    }
    // Validation is before it.
    let body = json!({"path": "/etc/passwd"});
    let path = format!("/filesystem/gated/transfer/mv?path={inside}");
    let answer = service.post(&path, body).await;
    assert_eq!(answer.json["data"]["fields"][0]["name"], "targetPath");
    let body = json!({"path": inside, "targetPath": "g"});
    let answer = service.post("/filesystem/gated/transfer/cp", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
}
