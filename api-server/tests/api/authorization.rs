//! Who may use which system, asked of a service that speaks OpenFGA's `check`.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{Html, IntoResponse as _};
use serde_json::{Value, json};

use crate::support::Service;

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A service that lets `fireuser` into `here`, fails about `broken` and is hidden by a proxy about
/// `hidden`.
async fn authorization_service() -> (String, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let handler = move |headers: HeaderMap, body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let token = headers["authorization"].to_str().unwrap().to_owned();
        let object = body["object"].as_str().unwrap().to_owned();
        let user = body["user"].clone();
        seen.lock().unwrap().push((token, body));
        async move {
            match object.as_str() {
                "vcluster:silent" => Ok(String::new().into_response()),
                "vcluster:hidden" => Ok(Html("Please log in").into_response()),
                "vcluster:broken" => Err(StatusCode::INTERNAL_SERVER_ERROR),
                object => {
                    let allowed = object == "vcluster:here" && user == "user:fireuser";
                    let answer = json!({"allowed": allowed, "resolution": ""});
                    Ok(answer.to_string().into_response())
                }
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/stores/s/check", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/stores/s/check", axum::routing::post(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

async fn service(url: &str) -> Service {
    Service::with_config(|directory| {
        format!(
            r#"
auth:
  authentication: {{token_url: "http://localhost/", public_certs: ["file://{directory}/jwks.json"]}}
  authorization: {{url: "{url}", timeout: 5}}
clusters:
- {{name: here, scheduler: {{type: local, dangerous_everybody_as_service: true}}}}
- {{name: there, scheduler: {{type: local, dangerous_everybody_as_service: true}}}}
- {{name: silent, scheduler: {{type: local, dangerous_everybody_as_service: true}}}}
- {{name: broken, scheduler: {{type: local, dangerous_everybody_as_service: true}}}}
"#
        )
    })
    .await
}

#[tokio::test]
async fn the_answer_decides() {
    let (url, asked) = authorization_service().await;
    let service = service(&url).await;
    let token = service.token(json!({}));
    let ask = |path: &'static str| service.with_token(Method::GET, path, &token, None);
    assert_eq!(ask("/compute/here/jobs").await.status, StatusCode::OK);
    let question =
        json!({"user": "user:fireuser", "relation": "member", "object": "vcluster:here"});
    assert_eq!(
        asked.lock().unwrap()[0],
        (format!("Bearer {token}"), question)
    );

    // Its status alone is an answer too.
    assert_eq!(ask("/compute/silent/jobs").await.status, StatusCode::OK);

    let denied = ask("/compute/there/jobs").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert_eq!(denied.json["message"], "Not authorized to access system");
    assert_eq!(denied.json["user"], "fireuser");
    let text = "Unable to verify system access authorization";
    for path in ["/compute/broken/jobs", "/compute/hidden/jobs"] {
        let unknown = ask(path).await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(unknown.json["message"], text);
        assert!(unknown.json["user"].is_null());
    }
    // It is asked before it is known whether the system exists, so that nobody learns that.
    assert_eq!(
        ask("/compute/nowhere/jobs").await.status,
        StatusCode::FORBIDDEN
    );

    let count = asked.lock().unwrap().len();
    assert_eq!(ask("/status/systems").await.status, StatusCode::OK);
    assert_eq!(ask("/status/liveness/").await.status, StatusCode::OK);
    let expired = service.token(json!({"exp": 1}));
    let refused = service
        .with_token(Method::GET, "/compute/here/jobs", &expired, None)
        .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(asked.lock().unwrap().len(), count, "asked without need");
}

#[tokio::test]
async fn nobody_is_let_in_while_the_service_is_away() {
    let service = service("http://127.0.0.1:1/check").await;
    let answer = service.get("/compute/here/jobs").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let text = "Unable to verify system access authorization";
    assert_eq!(answer.json["message"], text);
}
