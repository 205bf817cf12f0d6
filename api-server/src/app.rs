//! Every route on one screen.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, delete, get, post, put};

use crate::docs;
use crate::front::{front, remember_route};
use crate::routes::{self, compute, ops, status, transfer};
use crate::state::AppState;

/// The service. Serve it, or call it in tests with `tower::ServiceExt::oneshot`.
pub fn app(state: AppState) -> Router {
    let mut router = Router::new();
    for (path, methods) in table() {
        // The reference answers the form with, or without, a final slash by redirecting.
        let other = path
            .strip_suffix('/')
            .map_or_else(|| format!("{path}/"), str::to_owned);
        router = router
            .route(path, methods)
            .route(&other, any(routes::redirect));
    }
    around(router, state)
}

/// What every request passes on its way to these routes.
fn around(routes: Router<AppState>, state: AppState) -> Router {
    let router = routes
        .route("/docs/{file}", get(docs::file))
        .route("/metrics", get(docs::metrics))
        .route_layer(from_fn(remember_route))
        .fallback(routes::not_found)
        // Concerns the routes above it only.
        .method_not_allowed_fallback(routes::method_not_allowed)
        .with_state(state.clone());
    // Around the router, not in it: paths are rewritten before they are matched.
    Router::new()
        .fallback_service(router)
        .layer(from_fn_with_state(state, front))
}

fn table() -> Vec<(&'static str, MethodRouter<AppState>)> {
    vec![
        ("/status/systems", get(status::systems)),
        ("/status/liveness/", get(status::liveness)),
        ("/status/{system_name}/nodes", get(status::nodes)),
        (
            "/status/{system_name}/reservations",
            get(status::reservations),
        ),
        ("/status/{system_name}/partitions", get(status::partitions)),
        ("/status/{system_name}/userinfo", get(status::userinfo)),
        (
            "/compute/{system_name}/jobs",
            post(compute::submit).get(compute::list),
        ),
        (
            "/compute/{system_name}/jobs/{job_id}",
            get(compute::show).delete(compute::cancel),
        ),
        (
            "/compute/{system_name}/jobs/{job_id}/metadata",
            get(compute::metadata),
        ),
        (
            "/compute/{system_name}/jobs/{job_id}/attach",
            put(compute::attach),
        ),
        ("/filesystem/{system_name}/ops/ls", get(ops::read::ls)),
        ("/filesystem/{system_name}/ops/head", get(ops::read::head)),
        ("/filesystem/{system_name}/ops/tail", get(ops::read::tail)),
        ("/filesystem/{system_name}/ops/view", get(ops::read::view)),
        (
            "/filesystem/{system_name}/ops/checksum",
            get(ops::read::checksum),
        ),
        ("/filesystem/{system_name}/ops/file", get(ops::read::file)),
        ("/filesystem/{system_name}/ops/stat", get(ops::read::stat)),
        (
            "/filesystem/{system_name}/ops/chmod",
            put(ops::change::chmod),
        ),
        (
            "/filesystem/{system_name}/ops/chown",
            put(ops::change::chown),
        ),
        (
            "/filesystem/{system_name}/ops/mkdir",
            post(ops::change::mkdir),
        ),
        (
            "/filesystem/{system_name}/ops/symlink",
            post(ops::change::symlink),
        ),
        ("/filesystem/{system_name}/ops/rm", delete(ops::change::rm)),
        (
            "/filesystem/{system_name}/ops/download",
            get(ops::bytes::download),
        ),
        (
            "/filesystem/{system_name}/ops/upload",
            post(ops::bytes::upload),
        ),
        (
            "/filesystem/{system_name}/ops/compress",
            post(ops::archive::compress),
        ),
        (
            "/filesystem/{system_name}/ops/extract",
            post(ops::archive::extract),
        ),
        (
            "/filesystem/{system_name}/transfer/upload",
            post(transfer::upload),
        ),
        (
            "/filesystem/{system_name}/transfer/download",
            post(transfer::download),
        ),
        (
            "/filesystem/{system_name}/transfer/{job_id}",
            get(transfer::show),
        ),
        (
            "/filesystem/{system_name}/transfer/compress",
            post(transfer::compress),
        ),
        (
            "/filesystem/{system_name}/transfer/extract",
            post(transfer::extract),
        ),
        ("/filesystem/{system_name}/transfer/mv", post(transfer::mv)),
        ("/filesystem/{system_name}/transfer/cp", post(transfer::cp)),
        (
            "/filesystem/{system_name}/transfer/rm",
            delete(transfer::rm),
        ),
        ("/docs", get(docs::page)),
        ("/redoc", get(docs::page)),
        ("/openapi.json", get(docs::openapi)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode, header};
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    async fn state() -> AppState {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        let text = "auth: {authentication: {token_url: 'http://localhost/token'}}\n\
                    ssh_credentials: {type: SSHService, url: 'http://localhost'}\n";
        std::fs::write(&file, text).unwrap();
        let sources = crate::config::Sources {
            file: Some(file),
            ..Default::default()
        };
        AppState::new(sources.load().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for_as_any_other_failure() {
        let panics = async || -> StatusCode { panic!("a word of the user's") };
        let routes = Router::new().route("/panics", get(panics));
        let service = around(routes, state().await);
        let ask = || {
            let request = Request::get("/panics").header("x-request-id", "mine");
            service
                .clone()
                .oneshot(request.body(Body::empty()).unwrap())
        };
        for _ in 0..2 {
            let answer = ask().await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let headers = answer.headers();
            assert_eq!(headers["x-request-id"], "mine");
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            assert!(headers.contains_key("f7t-timestamp"));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let expected = json!({
                "errorType": "error", "message": "Internal Server Error",
                "causedBy": null, "data": null, "user": null,
            });
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
    }

    /// What is described is tested without a token; this makes sure that all is described.
    #[test]
    fn every_route_but_the_documentation_is_described() {
        let described = crate::openapi::description().paths.paths;
        let undescribed = ["/docs", "/redoc", "/openapi.json"];
        for (path, _) in table() {
            let known = described.contains_key(path) || undescribed.contains(&path);
            assert!(known, "{path} is not in the description");
        }
    }
}
