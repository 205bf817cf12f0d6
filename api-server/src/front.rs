//! What happens to every request before and after routing: paths are normalised, ids taken
//! over or made, errors rendered, headers added, one line logged.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio_util::sync::CancellationToken;

use crate::auth::{Caller, UserName};
use crate::context::{self, RequestContext};
use crate::error::{ApiError, Pending};
use crate::limits;
use crate::openapi::API_VERSION;
use crate::state::AppState;
use crate::tracing_log::{Traced, TracingLog};

/// Filled in by authentication, read when the answer is rendered and logged.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallerSlot(Arc<OnceLock<UserName>>);

impl CallerSlot {
    pub(crate) fn set(&self, caller: &Caller) {
        // Set once a request.
        let _ = self.0.set(caller.name().clone());
    }

    fn name(&self) -> Option<&str> {
        self.0.get().map(UserName::as_str)
    }
}

/// How the client addressed us: for absolute URLs in answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct External {
    scheme: String,
    authority: String,
    root: String,
}

impl External {
    /// Scheme, host and root path, as the client used them.
    pub(crate) fn base(&self) -> String {
        if self.authority.is_empty() {
            return self.root.clone();
        }
        format!("{}://{}{}", self.scheme, self.authority, self.root)
    }

    fn new(headers: &HeaderMap, root: &str) -> Self {
        let first = |text: &str| text.split(',').next().unwrap_or_default().trim().to_owned();
        let text = |value: &HeaderValue| value.to_str().ok().map(first);
        let scheme = headers.get("x-forwarded-proto").and_then(text);
        let scheme = scheme.map(|scheme| scheme.to_ascii_lowercase());
        let host = headers.get("x-forwarded-host");
        // Where a proxy says something else than a host, what it sent the request to is none of
        // the client's either.
        let host = host.or_else(|| headers.get("host")).and_then(text);
        let plain = |host: &String| {
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        };
        Self {
            scheme: scheme
                .filter(|scheme| scheme == "https")
                .unwrap_or_else(|| "http".to_owned()),
            authority: host.filter(plain).unwrap_or_default(),
            root: root.to_owned(),
        }
    }
}

/// The pattern that a request matched, left in its answer for the metrics.
#[derive(Debug, Clone)]
struct Route(MatchedPath);

/// Inside of the router: remembers the route of a request.
pub(crate) async fn remember_route(path: MatchedPath, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Route(path));
    response
}

/// The middleware around everything.
pub(crate) async fn front(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let in_flight = state.metrics.request();
    let Some(context) = request_context(request.headers()) else {
        state
            .metrics
            .answered("other", NO_ROUTE, 400, started.elapsed());
        return StatusCode::BAD_REQUEST.into_response();
    };
    let context = Arc::new(context);
    let method = request.method().clone();
    let (path, root) = normal_path(request.uri().path(), &state.config.apis_root_path);
    rewrite(&mut request, &path);
    let external = External::new(request.headers(), root);
    let slot = CallerSlot::default();
    request.extensions_mut().insert(external);
    request.extensions_mut().insert(slot.clone());
    if method == Method::HEAD {
        // axum would answer HEAD with GET's handler; the API refuses it like any other
        // method, and TRACE is one that no route has.
        *request.method_mut() = Method::TRACE;
    }
    let log = state.tracing_log.as_ref();
    let log = log.filter(|_| TracingLog::covers(&path));
    let traced = log.map(|log| {
        let headers = log.headers(request.headers());
        let (path, method) = (path.as_str(), method.as_str());
        let traced = Traced {
            path,
            method,
            headers,
        };
        log.requesting(&traced, &context);
        (log, traced)
    });
    let answer = caught(next.run(request), &state.closing);
    let response = context::scope(Arc::clone(&context), answer).await;
    let route = response.extensions().get::<Route>().cloned();
    let about = About {
        method: &method,
        path: &path,
        context: &context,
        user: slot.name(),
    };
    let response = finish(response, &about);
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    if let Some((log, traced)) = traced {
        log.responding(&traced, &context, slot.name(), status);
    }
    let route = route.as_ref().map_or(NO_ROUTE, |Route(path)| path.as_str());
    state
        .metrics
        .answered(method.as_str(), route, status, elapsed);
    drop(in_flight);
    tracing::info!(
        target: "api_server::access",
        %method, path, status, user = slot.name(),
        request_id = context.request_id, correlation_id = context.correlation_id,
        elapsed_ms = elapsed.as_millis(), "request"
    );
    response
}

/// The answer; or 500 when its handler panicked, or 503 when the service stops and waits no
/// longer: then the handler is dropped. What the panic said is printed to the log by the
/// runtime, with its place, and told to nobody.
///
/// Unwind safety: nothing of the request is used afterwards, and what requests share holds its
/// locks for single assignments.
async fn caught(answer: impl Future<Output = Response>, closing: &CancellationToken) -> Response {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let Some(answer) = closing.run_until_cancelled(answer).await else {
        let message = "The service is stopping, and this took too long.";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    answer.unwrap_or_else(|_| {
        let message = "Internal Server Error";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
    })
}

/// Route of requests that match none.
const NO_ROUTE: &str = "(none)";

/// The request that is answered.
struct About<'a> {
    method: &'a Method,
    path: &'a str,
    context: &'a RequestContext,
    user: Option<&'a str>,
}

fn finish(mut response: Response, about: &About<'_>) -> Response {
    let context = about.context;
    let allow = response.headers().get(header::ALLOW).cloned();
    let pending = response.extensions_mut().remove::<Pending>();
    let error = pending.and_then(|pending| pending.take());
    if let Some(error) = error {
        log_failure(&error, about);
        let user = about.user.filter(|_| !error.is_anonymous());
        response = error.render(user);
        if let Some(value) = user.and_then(|user| HeaderValue::from_bytes(user.as_bytes()).ok()) {
            response.headers_mut().insert(AUTH_USER, value);
        }
    }
    let empty = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if empty {
        // The Python service names a type even where there is nothing.
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, without_head(&allow));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    let now = format!("{now:.6}");
    let texts = [
        (TIMESTAMP, now.as_str()),
        (APP_VERSION, API_VERSION),
        (REQUEST_ID, context.request_id.as_str()),
        (CORRELATION_ID, context.correlation_id.as_str()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    response
}

/// Clients show the message; the causes are for operators only.
fn log_failure(error: &ApiError, about: &About<'_>) {
    let About { method, path, .. } = about;
    let (request_id, user) = (&about.context.request_id, about.user);
    let (status, chain) = (error.status(), error.chain());
    let error = error.message();
    if status.is_server_error() {
        tracing::error!(%method, path, user, request_id, error, chain, "request failed");
    } else if status == StatusCode::FAILED_DEPENDENCY {
        tracing::warn!(%method, path, user, request_id, error, chain, "request failed");
    }
}

fn without_head(allow: &HeaderValue) -> HeaderValue {
    let text = allow.to_str().unwrap_or_default();
    let methods = text
        .split(',')
        .map(str::trim)
        .filter(|m| !m.is_empty() && *m != "HEAD");
    let text = methods.collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&text).unwrap_or_else(|_| allow.clone())
}

/// Decoded, lower-cased, without the root path; and that root path when it was there.
fn normal_path<'a>(raw: &str, root: &'a str) -> (String, &'a str) {
    let decoded = percent_decode_str(raw).decode_utf8_lossy().to_lowercase();
    match decoded.strip_prefix(root) {
        Some(rest) if !root.is_empty() && rest.starts_with('/') => (rest.to_owned(), root),
        _ => (decoded, ""),
    }
}

fn rewrite(request: &mut Request, path: &str) {
    let path = utf8_percent_encode(path, NOT_IN_PATHS).to_string();
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    // Local invariant: an encoded path and the query of a valid URI make a valid URI.
    if let Ok(uri) = format!("{path}{query}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
}

const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The ids of a request, taken over or made; `None` when one was sent that is not safe to
/// repeat in headers and logs.
fn request_context(headers: &HeaderMap) -> Option<RequestContext> {
    let request = id(headers, REQUEST_ID)?;
    Some(RequestContext::new(request, id(headers, CORRELATION_ID)?))
}

fn id(headers: &HeaderMap, name: &str) -> Option<String> {
    let sent = headers.get(name).map(HeaderValue::as_bytes);
    let Some(sent) = sent.filter(|sent| !sent.is_empty()) else {
        return Some(uuid::Uuid::new_v4().simple().to_string());
    };
    let safe = sent.len() <= limits::REQUEST_ID_MAX_BYTES && sent.iter().all(u8::is_ascii_graphic);
    safe.then(|| String::from_utf8_lossy(sent).into_owned())
}

const TIMESTAMP: &str = "f7t-timestamp";
const APP_VERSION: &str = "f7t-appversion";
const AUTH_USER: &str = "f7t-authusername";
const REQUEST_ID: &str = "x-request-id";
const CORRELATION_ID: &str = "x-correlation-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |raw, root| normal_path(raw, root);
        assert_eq!(check("/STATUS/Systems", ""), ("/status/systems".into(), ""));
        assert_eq!(check("/f7t/v2/x", "/f7t/v2"), ("/x".into(), "/f7t/v2"));
        assert_eq!(check("/x", "/f7t/v2"), ("/x".into(), ""));
        assert_eq!(check("/f7t/v2x", "/f7t/v2"), ("/f7t/v2x".into(), ""));
        assert_eq!(check("/a%3Bb%2Fc", ""), ("/a;b/c".into(), ""));
        assert_eq!(check("/%ff", ""), ("/\u{fffd}".into(), ""));
    }

    #[test]
    fn ids() {
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            request_context(&headers)
        };
        let fresh = request_context(&HeaderMap::new()).unwrap();
        assert_eq!(
            (fresh.request_id.len(), fresh.correlation_id.len()),
            (32, 32)
        );
        for id in ["3b6b2b1e-7a1c-4c56-9c0f-1f2e3d4c5b6a", "my-workflow-1234"] {
            assert_eq!(read(REQUEST_ID, id).unwrap().request_id, id);
            assert_eq!(read(CORRELATION_ID, id).unwrap().correlation_id, id);
        }
        for bad in ["not a uuid", "tab\there", "\u{fc}", &"x".repeat(129)] {
            assert!(read(REQUEST_ID, bad).is_none(), "{bad:?}");
            assert!(read(CORRELATION_ID, bad).is_none(), "{bad:?}");
        }
        assert_eq!(read(REQUEST_ID, "").unwrap().request_id.len(), 32);
    }
}
