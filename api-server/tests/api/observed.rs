//! What operators see of requests: the tracing log, metrics, and the health of systems.

use api_server::health;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Log, Service};

/// A local system that is probed with tokens from `token_url`.
fn probed(directory: &str, token_url: &str) -> String {
    format!(
        r#"
auth:
  authentication:
    token_url: {token_url}
    token_endpoint_auth_method: client_secret_post
    public_certs: ["file://{directory}/jwks.json"]
clusters:
- name: here
  scheduler: {{type: local, dangerous_everybody_as_service: true}}
  service_account: {{client_id: checker, secret: s3cret}}
  probing: {{interval_check: 60, services: {{scheduler: {{}}, ssh: {{}}, filesystem: {{timeout: 9}}, s3: {{}}}}}}
  file_systems:
  - {{path: "{directory}", data_type: users, default_work_dir: true}}
  - {{path: "{directory}-away", data_type: scratch}}
  data_operation:
    data_transfer: {{service_type: streamer}}
logger:
  enable_tracing_log: true
  loggable_request_headers: [{{input: User-Agent, output: user_agent}}]
"#
    )
}

/// Token endpoints that give what `answer` says, until the test is over.
async fn token_endpoint(answer: impl Fn() -> String + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let handler = move |body: String| {
        assert!(body.contains("grant_type=client_credentials"), "{body}");
        assert!(
            body.contains("client_id=checker&client_secret=s3cret"),
            "{body}"
        );
        let answer = answer();
        async move { answer }
    };
    let router = axum::Router::new().route("/token", axum::routing::post(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn check(service: &Service) {
    let config = &service.state.config.clusters[0];
    let system = service.state.system(&config.name).unwrap();
    health::check(&service.state, &system, config).await;
}

#[tokio::test]
async fn a_check_is_shown_counted_and_closes_the_gate_of_what_is_ill() {
    let token = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let given = std::sync::Arc::clone(&token);
    let url = token_endpoint(move || json!({"access_token": given.get()}).to_string()).await;
    let service = Service::with_config(|directory| probed(directory, &url)).await;
    token.set(service.token(json!({}))).unwrap();
    let before = service.anonymous(Method::GET, "/status/liveness/").await;
    assert_eq!(before.json, json!({"healthcheckRuns": {}, "lastUpdate": 0}));
    check(&service).await;

    let view = service.get("/status/systems").await.json["systems"][0].take();
    let report = view["servicesHealth"].as_array().unwrap();
    let summary: Vec<_> = report
        .iter()
        .map(|entry| {
            (
                entry["serviceType"].as_str().unwrap(),
                entry["healthy"] == true,
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("scheduler", true),
            ("ssh", true),
            ("filesystem", true),
            ("filesystem", false)
        ]
    );
    let ping = report[0]["message"].as_str().unwrap();
    assert!(
        ping.starts_with("[{'mode': 'primary', 'hostname': '"),
        "{ping}"
    );
    assert_eq!(report[1]["message"], Value::Null);
    assert_eq!(report[1].get("path"), None);
    assert!(report[1]["latency"].as_f64().unwrap() > 0.0);
    let away = format!("{}-away", service.directory());
    assert_eq!(report[3]["path"], away.as_str());
    let message = report[3]["message"].as_str().unwrap();
    let expected =
        "404: Remote process failed with exit status:2 and error message:ls: cannot access";
    assert!(message.starts_with(expected), "{message}");

    let alive = service
        .anonymous(Method::GET, "/status/liveness/")
        .await
        .json;
    assert_eq!(alive["healthcheckRuns"]["here"], view["lastHealthCheck"]);
    assert!(alive["lastUpdate"].as_u64().unwrap() <= 60);
    let metrics = service.anonymous(Method::GET, "/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    let ill = format!(
        r#"firecrest_service_healthy{{system="here",service="filesystem",path="{away}"}} 0"#
    );
    assert!(text.lines().any(|line| line == ill), "{text}");
    assert!(text.contains(
        r#"firecrest_http_requests_total{method="GET",route="/status/systems",status="200"} 1"#
    ));
}

#[tokio::test]
async fn an_ill_service_answers_503_and_others_go_on() {
    let url = token_endpoint(|| "{}".to_owned()).await;
    let service = Service::with_config(|directory| probed(directory, &url)).await;
    let system = service.state.system("here").unwrap();
    let entry = |kind| api_server::model::systems::ServiceHealth {
        service_type: kind,
        last_checked: None,
        latency: None,
        healthy: false,
        message: Some("down".to_owned()),
        path: None,
    };
    use api_server::model::systems::BackendServiceType as Kind;
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    system.health.publish(vec![entry(Kind::Scheduler)], now);
    let jobs = service.get("/compute/here/jobs").await;
    assert_eq!(jobs.status, StatusCode::SERVICE_UNAVAILABLE);
    let text = "The scheduler service for the requested system (here) is unhealthy.";
    assert_eq!(jobs.json["message"], text);
    assert_eq!(jobs.json["user"], "fireuser");
    // Gates come before validation, and /status has none.
    let upload = service
        .post("/filesystem/here/transfer/upload", json!({}))
        .await;
    assert_eq!(upload.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        service.get("/status/here/nodes").await.status,
        StatusCode::OK
    );
    system.health.publish(vec![entry(Kind::Ssh)], now);
    for path in ["/compute/here/jobs", "/status/here/userinfo"] {
        let answer = service.get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let text = "The ssh service for the requested system (here) is unhealthy.";
        assert_eq!(answer.json["message"], text);
    }
    system.health.publish(Vec::new(), now);
    assert_eq!(
        service.get("/compute/here/jobs").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_check_without_a_token_says_so_and_keeps_the_gates_open() {
    let url = token_endpoint(|| r#"{"access_token": "not a token"}"#.to_owned()).await;
    let service = Service::with_config(|directory| probed(directory, &url)).await;
    check(&service).await;
    let view = service.get("/status/systems").await.json["systems"][0].take();
    let report = &view["servicesHealth"];
    assert_eq!(report.as_array().unwrap().len(), 1);
    assert_eq!(report[0]["serviceType"], "exception");
    assert_eq!(
        report[0]["message"],
        "Cluster HealthChecker execution failed with error: AuthError - Access token is invalid."
    );
    assert_eq!(view["lastHealthCheck"], Value::Null);
    assert_eq!(
        service.get("/compute/here/jobs").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn both_records_of_a_request_are_in_the_tracing_log() {
    let service = Service::with_config(|directory| probed(directory, "http://localhost:1/")).await;
    service.anonymous(Method::GET, "/status/liveness/").await;
    service.anonymous(Method::GET, "/metrics").await;
    let request = axum::http::Request::get("/STATUS/Here/userinfo")
        .header(
            "authorization",
            format!("Bearer {}", service.token(json!({}))),
        )
        .header("user-agent", "tester/1")
        .header("x-request-id", "my-workflow-1234")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(service.send(request).await.status, StatusCode::OK);
    service.state.tracing_log.as_ref().unwrap().flush();
    let records = service.log.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[0]["message"], "Requesting: /status/here/userinfo");
    assert_eq!(records[0]["username"], Value::Null);
    let last = &records[1];
    assert_eq!(last["message"], "Responding: /status/here/userinfo");
    for (field, value) in [
        ("username", json!("fireuser")),
        ("system_name", json!("here")),
        ("resource", json!("status")),
        ("http_request_method", json!("GET")),
        ("http_response_status_code", json!(200)),
        ("request_id", json!("my-workflow-1234")),
        ("user_agent", json!("tester/1")),
        ("backend", json!({"command": "id", "exit_status": "0"})),
    ] {
        assert_eq!(last[field], value, "{field}");
    }
}

#[tokio::test]
async fn the_status_of_a_system() {
    let service = Service::with_config(|directory| probed(directory, "http://localhost:1/")).await;
    let node = service.get("/status/here/nodes").await.json["nodes"][0].take();
    assert_eq!(node["state"], json!(["IDLE"]));
    assert!(node["cpus"].as_u64().unwrap() > 0);
    assert_eq!(node["allocMemory"], Value::Null);
    let partitions = service
        .get("/status/here/partitions?show_hidden=true")
        .await;
    assert_eq!(partitions.json["partitions"][0]["partition"], "UP");
    let wrong = service
        .get("/status/here/partitions?show_hidden=maybe")
        .await;
    assert_eq!(wrong.json["data"]["fields"][0]["name"], "show_hidden");
    let reservations = service.get("/status/here/reservations").await;
    assert_eq!(reservations.json, json!({"reservations": []}));
    let info = service.get("/status/here/userinfo").await.json;
    assert!(info["user"]["id"].is_string());
    assert_eq!(info["groups"][0]["default"], true);
    assert_eq!(info["accounts"], Value::Null);
    assert_eq!(
        service.get("/status/away/nodes").await.status,
        StatusCode::NOT_FOUND
    );
}

/// What is logged while it is held, of this thread.
fn captured() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn the_log_says_why_a_token_was_refused_and_what_failed() {
    let service = Service::with_config(|directory| {
        format!(
            r#"
auth:
  authentication:
    token_url: http://localhost/
    public_certs: ["file://{directory}/jwks.json"]
    iss: https://id.example.org
clusters: [{{name: here, scheduler: {{type: local, dangerous_everybody_as_service: true}}}}]
"#
        )
    })
    .await;
    let (log, _guard) = captured();
    let other = service.token(json!({"iss": "https://other"}));
    let answer = service.with_token(Method::GET, "/status/systems", &other, None);
    assert_eq!(answer.await.status, StatusCode::UNAUTHORIZED);
    let good = service.token(json!({"iss": "https://id.example.org"}));
    // There is no default_work_dir.
    let path = "/filesystem/here/transfer/rm?path=/etc";
    let answer = service.with_token(Method::DELETE, path, &good, None).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let text = log.text();
    let line = |words: &str| text.lines().find(|line| line.contains(words)).unwrap();
    let refused = line("token refused");
    assert!(
        refused.contains(r#"issuer is \"https://other\", and"#)
            && refused.contains("path=\"/status"),
        "{refused}"
    );
    let failed = line("request failed");
    for part in [
        "method=DELETE path=\"/filesystem/here/transfer/rm\"",
        "default_work_dir",
        "error=",
    ] {
        assert!(failed.contains(part), "{failed}");
    }
    assert!(!failed.contains("ApiError"), "{failed}");
    for token in [&other, &good] {
        assert!(!text.contains(token.as_str()), "a token is in the log");
    }
}
