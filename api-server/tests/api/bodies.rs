//! Bodies that come slowly, broken, or without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, request::Builder};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::support::{Answer, Service};

const UPLOAD: &str = "/filesystem/here/transfer/upload";
const FORM: &str = "/filesystem/here/ops/upload?path=/";

fn request(method: Method, path: &str, token: Option<&str>) -> Builder {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

type Piece = Result<Bytes, std::io::Error>;

/// These bytes, and then nothing for ever.
fn stalled(text: &'static str) -> Body {
    let first = stream::iter([Piece::Ok(Bytes::from(text))]);
    Body::from_stream(first.chain(stream::pending()))
}

/// Zeros without end, counted by the KiB.
fn endless() -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let pieces = std::iter::repeat_with(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Piece::Ok(Bytes::from_static(&[b'0'; 1024]))
    });
    (Body::from_stream(stream::iter(pieces)), taken)
}

async fn send(service: &Service, request: Builder, body: Body) -> Answer {
    service.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for_without_end() {
    let service = Service::new().await;
    let token = service.token(json!({}));
    let form = Request::post(FORM).header("authorization", format!("Bearer {token}"));
    let form = form.header("content-type", "multipart/form-data; boundary=b");
    tokio::time::pause();
    for (request, begun) in [
        (request(Method::POST, UPLOAD, None), "{"),
        (request(Method::POST, UPLOAD, Some(&token)), "{"),
        (request(Method::GET, "/status/systems", Some(&token)), "{"),
        (form, "--b\r\n"),
    ] {
        let answer = send(&service, request, stalled(begun));
        // By the clock of the test.
        let answer = tokio::time::timeout(Duration::from_secs(600), answer);
        let answer = answer.await.unwrap();
        assert_eq!(
            answer.status,
            StatusCode::REQUEST_TIMEOUT,
            "{}",
            answer.json
        );
        let message = "The request body did not arrive in time.";
        assert_eq!(answer.json["message"], message);
    }
}

#[tokio::test]
async fn strangers_are_answered_after_the_beginning_of_a_large_body() {
    let service = Service::new().await;
    let expired = service.token(json!({"exp": 1}));
    for token in [None, Some("x.y.z"), Some(&*expired)] {
        let (body, taken) = endless();
        let answer = send(&service, request(Method::POST, UPLOAD, token), body).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let taken = taken.load(Ordering::Relaxed);
        assert!((64..=66).contains(&taken), "{taken} KiB");
    }
    // Of a small one the syntax is looked at first.
    let broken = request(Method::POST, UPLOAD, None);
    let answer = send(&service, broken, Body::from("{".repeat(60 << 10))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_large_body_is_taken_from_those_who_are_known() {
    let service = Service::new().await;
    let token = service.token(json!({}));
    let long = json!({"sourcePath": "x".repeat(1 << 20)}).to_string();
    let answer = send(
        &service,
        request(Method::POST, UPLOAD, Some(&token)),
        long.into(),
    )
    .await;
    assert_eq!(answer.json["errorType"], "validation", "{}", answer.json);
    let (body, taken) = endless();
    let answer = send(&service, request(Method::POST, UPLOAD, Some(&token)), body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(taken.load(Ordering::Relaxed) < 9 << 10);
    let broken = stream::iter([
        Piece::Ok(Bytes::from("{")),
        Err(std::io::Error::other("cut")),
    ]);
    let broken = Body::from_stream(broken);
    let answer = send(
        &service,
        request(Method::POST, UPLOAD, Some(&token)),
        broken,
    )
    .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.json["message"],
        "The request body could not be read."
    );
}

#[tokio::test]
async fn what_is_sent_with_get_cannot_be_wrong_and_is_not_kept() {
    let service = Service::new().await;
    let token = service.token(json!({}));
    let ask = || request(Method::GET, "/status/systems", Some(&token));
    for text in ["{not json", "{}", "\u{0}"] {
        let answer = send(&service, ask(), Body::from(text)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let (body, taken) = endless();
    assert_eq!(send(&service, ask(), body).await.status, StatusCode::OK);
    assert!(taken.load(Ordering::Relaxed) <= 66);
}
