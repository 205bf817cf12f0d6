//! What happens to every request before and after routing: paths are normalised, ids taken
//! over or made, errors rendered, headers added, one line logged.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::auth::{Caller, UserName};
use crate::error::Pending;
use crate::limits;
use crate::openapi::API_VERSION;
use crate::state::AppState;

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
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let first = |text: &str| text.split(',').next().unwrap_or_default().trim().to_owned();
        let scheme = text("x-forwarded-proto")
            .map(first)
            .filter(|s| s == "https");
        let host = text("x-forwarded-host").or_else(|| text("host")).map(first);
        let plain = |host: &String| {
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        };
        Self {
            scheme: scheme.unwrap_or_else(|| "http".to_owned()),
            authority: host.filter(plain).unwrap_or_default(),
            root: root.to_owned(),
        }
    }
}

/// The middleware around everything.
pub(crate) async fn front(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let Some(ids) = RequestIds::read(request.headers()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
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
    let response = next.run(request).await;
    let response = finish(response, &ids, slot.name());
    tracing::info!(
        target: "api_server::access",
        %method, path, status = response.status().as_u16(), user = slot.name(),
        request_id = ids.request.as_str(), correlation_id = ids.correlation.as_str(),
        elapsed_ms = started.elapsed().as_millis(), "request"
    );
    response
}

fn finish(mut response: Response, ids: &RequestIds, user: Option<&str>) -> Response {
    let allow = response.headers().get(header::ALLOW).cloned();
    let pending = response.extensions_mut().remove::<Pending>();
    let error = pending.and_then(|pending| pending.take());
    if let Some(error) = error {
        let chain = error.chain();
        if error.status().is_server_error() {
            tracing::error!(
                request_id = ids.request.as_str(),
                chain,
                ?error,
                "request failed"
            );
        }
        response = error.render(user);
        if let Some(value) = user.and_then(|user| HeaderValue::from_bytes(user.as_bytes()).ok()) {
            response.headers_mut().insert(AUTH_USER, value);
        }
    }
    let headers = response.headers_mut();
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, without_head(&allow));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    let texts = [
        (TIMESTAMP, format!("{now:.6}")),
        (APP_VERSION, API_VERSION.to_owned()),
        (REQUEST_ID, ids.request.clone()),
        (CORRELATION_ID, ids.correlation.clone()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    response
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

struct RequestIds {
    request: String,
    correlation: String,
}

impl RequestIds {
    /// Takes over or makes both ids; `None` when one was sent that cannot be taken over.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let fresh = || uuid::Uuid::new_v4().simple().to_string();
        let request = match text(headers, REQUEST_ID)? {
            "" => fresh(),
            id if uuid::Uuid::try_parse(id).is_ok() => id.to_owned(),
            _ => return None,
        };
        let correlation = match text(headers, CORRELATION_ID)? {
            "" => fresh(),
            id if id.len() <= limits::CORRELATION_ID_MAX_BYTES => id.to_owned(),
            _ => return None,
        };
        Some(Self {
            request,
            correlation,
        })
    }
}

/// A header's printable text, empty when absent; `None` when it is not printable.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .map_or(Some(""), |value| value.to_str().ok())
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
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            RequestIds::read(&headers)
        };
        let fresh = RequestIds::read(&HeaderMap::new()).unwrap();
        assert_eq!((fresh.request.len(), fresh.correlation.len()), (32, 32));
        let id = "3b6b2b1e-7a1c-4c56-9c0f-1f2e3d4c5b6a";
        assert_eq!(read("x-request-id", id).unwrap().request, id);
        assert!(read("x-request-id", "not a uuid").is_none());
        assert_eq!(
            read("x-correlation-id", "my-workflow-1234")
                .unwrap()
                .correlation,
            "my-workflow-1234"
        );
        assert!(read("x-correlation-id", &"x".repeat(129)).is_none());
    }
}
