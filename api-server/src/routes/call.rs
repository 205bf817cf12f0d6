//! What every route begins with, in the order that clients can observe: JSON syntax, then
//! authentication, then authorisation, then the system. Handlers do validation, then work.
//! Of a large body nothing but its beginning is read before authentication.

use std::sync::Arc;

use axum::extract::{FromRequest, RawPathParams, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value};

use super::body::Incoming;
use super::fields::{MISSING, NOT_AN_OBJECT};
use super::query::Query;
use crate::auth::{AuthError, Caller};
use crate::config::ConnectionMode;
use crate::context;
use crate::error::{ApiError, FieldError, FieldName};
use crate::front::CallerSlot;
use crate::health::Gates;
use crate::limits;
use crate::scheduler::JobId;
use crate::state::{AppState, System};

/// An authenticated request.
pub(crate) struct Call {
    pub(crate) state: AppState,
    pub(crate) caller: Caller,
    pub(crate) query: Query,
    body: Option<Value>,
    params: Vec<(String, String)>,
    system: Option<Arc<System>>,
}

impl FromRequest<AppState> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let params = path_params(&mut parts).await?;
        let mut body = Incoming::new(body);
        let small = match body.read(limits::UNKNOWN_BODY_MAX_BYTES).await? {
            true => Some(parse_json(&parts.method, &parts.headers, body.bytes())?),
            false => None,
        };
        let caller = state.authenticator.authenticate(&parts.headers).await;
        let caller = caller.inspect_err(|error| {
            state.metrics.refused(error.word());
            log_refused(error, &parts);
        })?;
        let body = match small {
            Some(body) => body,
            None if has_no_body(&parts.method) => None,
            None => {
                body.read_all(limits::REQUEST_BODY_MAX_BYTES).await?;
                parse_json(&parts.method, &parts.headers, body.bytes())?
            }
        };
        if let Some(slot) = parts.extensions.get::<CallerSlot>() {
            slot.set(&caller);
        }
        let query = Query::parse(parts.uri.query());
        let mut call = Self {
            state: state.clone(),
            caller,
            query,
            body,
            params,
            system: None,
        };
        if let Some(name) = call.param("system_name").map(str::to_owned) {
            if let Some(authorizer) = &state.authorizer {
                authorizer.check(&call.caller, &name).await?;
            }
            let missing = || ApiError::new(StatusCode::NOT_FOUND, "System not found");
            call.system = Some(state.system(&name).ok_or_else(missing)?);
        }
        Ok(call)
    }
}

impl Call {
    fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The system of the path.
    pub(crate) fn system(&self) -> Result<Arc<System>, ApiError> {
        let missing = || ApiError::new(StatusCode::NOT_FOUND, "System not found");
        self.system.clone().ok_or_else(missing)
    }

    /// The system, when its scheduler and, unless that is spoken to by REST, its login node
    /// are well: for `/compute`.
    pub(crate) fn compute_system(&self) -> Result<Arc<System>, ApiError> {
        let system = self.system()?;
        let view = system.health.view();
        Gates(&view).scheduler()?;
        if view.scheduler.connection_mode != Some(ConnectionMode::Rest) {
            Gates(&view).ssh()?;
        }
        Ok(system)
    }

    /// The system, when its login node is well.
    pub(crate) fn ssh_system(&self) -> Result<Arc<System>, ApiError> {
        let system = self.system()?;
        Gates(&system.health.view()).ssh()?;
        Ok(system)
    }

    /// The system, when its login node is well and the path of the request may be used: for
    /// `/filesystem/…/ops`.
    pub(crate) fn ops_system(&self) -> Result<Arc<System>, ApiError> {
        let system = self.ssh_system()?;
        let (query, body) = (self.query.given("path"), self.body.as_ref());
        Gates(&system.health.view()).filesystem(query, body)?;
        Ok(system)
    }

    /// The system, when its scheduler and login node are well: for transfers of files in and
    /// out.
    pub(crate) fn transfer_system(&self) -> Result<Arc<System>, ApiError> {
        let system = self.system()?;
        let view = system.health.view();
        Gates(&view).scheduler()?;
        Gates(&view).ssh()?;
        Ok(system)
    }

    /// As [`transfer_system`](Self::transfer_system), when the path of the request may be
    /// used too: for transfers inside of the system.
    pub(crate) fn transfer_path_system(&self) -> Result<Arc<System>, ApiError> {
        let system = self.transfer_system()?;
        let (query, body) = (self.query.given("path"), self.body.as_ref());
        Gates(&system.health.view()).filesystem(query, body)?;
        Ok(system)
    }

    /// The job id of the path.
    pub(crate) fn job_id(&self) -> Result<JobId, ApiError> {
        JobId::parse(self.param("job_id").unwrap_or_default()).ok_or_else(|| {
            let message = "String should match pattern '^[a-zA-Z0-9]+$'";
            ApiError::validation(vec![FieldError::named("path", "job_id", message)])
        })
    }

    /// The members of the body.
    pub(crate) fn object(&self) -> Result<&Map<String, Value>, ApiError> {
        let wrong = |message| Err(ApiError::validation(vec![FieldError::whole_body(message)]));
        match &self.body {
            Some(Value::Object(map)) => Ok(map),
            Some(_) => wrong(NOT_AN_OBJECT),
            None => wrong(MISSING),
        }
    }
}

/// Clients are told little of it: an issuer that is not the configured one looks like a forged token.
fn log_refused(error: &AuthError, parts: &axum::http::request::Parts) {
    let context = context::current();
    tracing::info!(
        method = %parts.method,
        path = parts.uri.path(),
        request_id = context.as_ref().map(|context| context.request_id.as_str()),
        refused = error.word(),
        reason = error.reason(),
        "token refused"
    );
}

async fn path_params(
    parts: &mut axum::http::request::Parts,
) -> Result<Vec<(String, String)>, ApiError> {
    use axum::extract::FromRequestParts as _;
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let not_found = || ApiError::new(StatusCode::NOT_FOUND, "Not Found");
    let params = params.map_err(|_| not_found())?;
    // `/compute//jobs` is no route: a parameter has at least one character.
    if params.iter().any(|(_, value)| value.is_empty()) {
        return Err(not_found());
    }
    Ok(params
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// GET and DELETE have none: what is sent with them cannot be wrong.
fn has_no_body(method: &Method) -> bool {
    [Method::GET, Method::DELETE].contains(method)
}

/// The body as JSON: nothing when there is none, a string (which is no object) when it is
/// declared to be something else.
fn parse_json(
    method: &Method,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Option<Value>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    // As Python reads bytes: with or without a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if !is_json(headers) {
        return Ok(Some(Value::String(String::new())));
    }
    if has_no_body(method) {
        return Ok(serde_json::from_slice(bytes).ok());
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| {
        let message = "JSON decode error".to_owned();
        let name = FieldName::Offset(offset(bytes, &error));
        ApiError::validation(vec![FieldError {
            location: "body",
            name,
            message,
        }])
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Where in the text the error is, in characters, as Python says it: a word or number that is none
/// of JSON's is wrong where that shows at first, a string that does not end where it begins, and
/// what is missing at the end.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let at = if error.is_eof() {
        bytes.len()
    } else {
        let lines = bytes.split_inclusive(|b| *b == b'\n');
        let before = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len);
        // Columns count from 1: 0 is the end of the line before.
        let end = before.sum::<usize>() + error.column();
        end.saturating_sub(1).min(bytes.len())
    };
    let at = wrong_string(bytes, at).unwrap_or_else(|| {
        let before = bytes[..at].iter().rev();
        let of_word = |b: &&u8| b.is_ascii_alphabetic() || b".+-".contains(*b);
        let word = at - before.take_while(of_word).count();
        match &bytes[word..at] {
            b"true" | b"false" | b"null" => at,
            _ => word,
        }
    });
    String::from_utf8_lossy(&bytes[..at]).chars().count()
}

/// Where the string is wrong that an error at `end` is in.
fn wrong_string(bytes: &[u8], end: usize) -> Option<usize> {
    let mut at = 0;
    while at < end {
        at = match bytes[at] {
            b'"' => match string_end(bytes, at) {
                Ok(end) => end,
                Err(wrong) => return Some(wrong),
            },
            _ => at + 1,
        };
    }
    None
}

/// What is behind the string that begins here, or where that is wrong.
fn string_end(bytes: &[u8], begin: usize) -> Result<usize, usize> {
    let mut at = begin + 1;
    loop {
        at += match &bytes[at..] {
            [] | [b'\\'] => return Err(begin),
            [b'"', ..] => return Ok(at + 1),
            // Something must follow, too.
            [b'\\', b'u', digits @ ..] => match digits.get(..5) {
                Some([four @ .., _]) if four.iter().all(u8::is_ascii_hexdigit) => 6,
                _ => return Err(at + 1),
            },
            [b'\\', byte, ..] if b"\"\\/bfnrt".contains(byte) => 2,
            [b'\\' | ..=0x1f, ..] => return Err(at),
            _ => 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_json_is_wrong_where_python_says() {
        for (text, expected) in [
            ("{\"\u{fc}\":1,\"b\" 2}", 11),
            ("{\"a\":1,\n \"\u{fc}\" 2}", 13),
            ("{", 1),
            ("{\"job\":", 7),
            ("[1,", 3),
            ("   ", 3),
            ("{\"a\":\"x", 5),
            ("{\"a\\\"\":\"x\\", 7),
            ("[tru", 1),
            ("[no]", 1),
            ("{\"a\":1 \"b\"}", 7),
            ("[1 2]", 3),
            ("{\"a\":1, ", 8),
            ("nul", 0),
            ("{\"a\":tru}", 5),
            ("1 2", 2),
            ("{\"\u{fc}\":nope}", 5),
            ("{\"a\":\"xyz\n\"}", 9),
            ("{\"a\":\"x\ty\"}", 7),
            ("{\"a\":tru\n}", 5),
            ("{\"a\":\"x\\q\"}", 7),
            ("{\"a\":\"x\\\\\\\n\"}", 9),
            ("{\"a\":\"\\u12\"}", 7),
            ("{\"a\":\"\\u12", 7),
            ("{\"a\":\"\\u1234", 7),
            ("{\"a\":\"\\\"\\u00e4\" 1}", 16),
            ("[null\"\"]", 5),
            ("{\"a\":true", 9),
            ("{\"a\":1.}", 6),
            ("{\"a\":1.5e+}", 8),
            ("{\"a\":-}", 5),
            ("[1.", 2),
            ("[1-2]", 2),
        ] {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(offset(text.as_bytes(), &error), expected, "{text}");
        }
    }
}
