//! The routes: parse, call a service, shape the answer.

mod body;
mod call;
pub(crate) mod compute;
mod directives;
mod fields;
pub(crate) mod ops;
mod query;
pub(crate) mod status;
pub(crate) mod transfer;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::front::External;

/// Answers a path that exists only with, or only without, its final slash.
pub(crate) async fn redirect(request: Request) -> Response {
    let external = request
        .extensions()
        .get::<External>()
        .cloned()
        .unwrap_or_default();
    let path = request.uri().path();
    let path = path
        .strip_suffix('/')
        .map_or_else(|| format!("{path}/"), str::to_owned);
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("{}{path}{query}", external.base());
    (
        StatusCode::TEMPORARY_REDIRECT,
        [(header::LOCATION, location)],
    )
        .into_response()
}

/// Answers a path that does not exist.
pub(crate) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "Not Found")
}

/// Answers a method that a path does not have; axum adds `Allow`.
pub(crate) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
