//! Whole small files, out and in.

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use multer::{Field, Multipart};

use super::super::body::in_time;
use super::super::call::Call;
use super::super::fields::MISSING;
use super::{change, executor, path_of, query_path};
use crate::command::{self, Download, RemotePath, Upload};
use crate::error::{ApiError, ApiResponseError, FieldError};
use crate::limits;
use crate::model::files::UploadForm;
use crate::state::AppState;

/// Answers with the bytes of a file.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/download", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn download(mut call: Call) -> Result<Response, ApiError> {
    let (system, path) = query_path(&mut call)?;
    let limits = system.command_limits;
    let max_bytes = limits.output_bytes;
    let download = Download { path, max_bytes };
    let executor = executor(&system)?;
    let content = command::bytes_within(executor, &call.caller, limits, &download).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, content).into_response())
}

/// Takes a file in; one of the same name is replaced.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/ops/upload", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "The directory it goes to"),
    ),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 204, description = "The file is there, whole"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn upload(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    // The caller is known before anything of the file is read.
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let request = Request::from_parts(parts, Body::empty());
    let mut call = Call::from_request(request, &state).await?;
    let (system, directory) = query_path(&mut call)?;
    let max_bytes = system.command_limits.output_bytes;
    let read = read_file(&headers, body, max_bytes);
    let (name, content) = in_time(max_bytes, read).await?;
    let directory = directory.as_str().trim_end_matches('/');
    let target: RemotePath = path_of(&system, &format!("{directory}/{name}"))?;
    change(&call, system, Upload { target, content }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Name and content of the part `file` of a form.
async fn read_file(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<(String, Bytes), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(kind) else {
        return Err(wrong_file(MISSING));
    };
    let stream = body.into_data_stream();
    let mut form = Multipart::with_constraints(stream, boundary, constraints(max_bytes));
    loop {
        match form.next_field().await.map_err(form_error)? {
            None => return Err(wrong_file(MISSING)),
            Some(field) if field.name() == Some("file") => {
                let name = file_name(&field)?;
                return Ok((name, content(field, max_bytes).await?));
            }
            Some(_) => {}
        }
    }
}

/// Around the file there is room for headers and small fields, no more.
fn constraints(max_bytes: usize) -> multer::Constraints {
    let whole = max_bytes.saturating_add(limits::FORM_OVERHEAD_MAX_BYTES);
    let whole = u64::try_from(whole).unwrap_or(u64::MAX);
    multer::Constraints::new().size_limit(multer::SizeLimit::new().whole_stream(whole))
}

/// The name that the file will have: one component of a path.
fn file_name(field: &Field<'_>) -> Result<String, ApiError> {
    let disposition = field.headers().get(header::CONTENT_DISPOSITION);
    let name = disposition.and_then(|value| file_name_in(value.as_bytes()));
    let name = String::from_utf8(name.unwrap_or_default());
    let name = name.map_err(|_| wrong_file("File name is not UTF-8"))?;
    match &*name {
        "" => Err(wrong_file("File name required")),
        "." | ".." => Err(wrong_file(NOT_A_NAME)),
        text if text.contains(['/', '\0']) => Err(wrong_file(NOT_A_NAME)),
        _ => Ok(name),
    }
}

/// The parameter `filename` of a Content-Disposition, the last one. In quotes, `\\` and `\"` stand for
/// their second character, as the reference reads them; the library that reads forms knows the latter
/// only. As there, of a path of Windows, which old browsers send, it is the name.
fn file_name_in(disposition: &[u8]) -> Option<Vec<u8>> {
    let mut rest = after(disposition, b';')?;
    let mut name = None;
    while let Some(end) = rest.iter().position(|b| matches!(b, b'=' | b';')) {
        let (key, marked) = rest.split_at(end);
        rest = &marked[1..];
        if marked[0] == b';' {
            continue;
        }
        let Some((value, next)) = parameter(rest.trim_ascii_start()) else {
            break;
        };
        if key.trim_ascii().eq_ignore_ascii_case(b"filename") {
            name = Some(value);
        }
        rest = next;
    }
    let name = name?;
    Some(match &*name {
        [_, b':', b'\\', ..] | [b'\\', b'\\', ..] => {
            let behind = name.rsplit(|b| *b == b'\\').next();
            behind.unwrap_or_default().to_vec()
        }
        _ => name,
    })
}

/// The value at the beginning, and what is behind its semicolon.
fn parameter(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|b| *b == b';').unwrap_or(text.len());
        let next = text.get(end + 1..).unwrap_or_default();
        return Some((text[..end].trim_ascii().to_vec(), next));
    };
    let (mut value, mut rest) = (Vec::new(), quoted);
    loop {
        rest = match rest {
            [b'\\', byte @ (b'\\' | b'"'), rest @ ..] => {
                value.push(*byte);
                rest
            }
            [b'"', rest @ ..] => return Some((value, after(rest, b';').unwrap_or_default())),
            [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

fn after(text: &[u8], mark: u8) -> Option<&[u8]> {
    let at = text.iter().position(|b| *b == mark)?;
    Some(&text[at + 1..])
}

const NOT_A_NAME: &str = "File name should be a name without a path";

async fn content(mut field: Field<'_>, max_bytes: usize) -> Result<Bytes, ApiError> {
    let mut content = BytesMut::new();
    while let Some(chunk) = field.chunk().await.map_err(form_error)? {
        if content.len() + chunk.len() > max_bytes {
            return Err(too_large());
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}

fn form_error(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamSizeExceeded { .. } | multer::Error::FieldSizeExceeded { .. } => {
            too_large()
        }
        error => ApiError::bad_request(format!("The form could not be read: {error}.")),
    }
}

fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "File to upload is too large.",
    )
}

fn wrong_file(message: &str) -> ApiError {
    ApiError::validation(vec![FieldError::body("file", message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_as_clients_escape_them() {
        for (disposition, name) in [
            (
                r#"form-data; name="file"; filename="a b.txt""#,
                Some("a b.txt"),
            ),
            (
                r#"form-data; filename="a\\b\"c" ; name="file""#,
                Some(r#"a\b"c"#),
            ),
            (
                r#"form-data; filename="ends\\"; name="file""#,
                Some(r"ends\"),
            ),
            (r#"form-data; filename="C:\dir\x""#, Some("x")),
            (r#"form-data; filename="C:\\dir\\x""#, Some("x")),
            (r"form-data; filename=C:\x", Some("x")),
            (r#"form-data; filename="\\\\host\\share\\x""#, Some("x")),
            (r#"form-data; filename="\\x""#, Some(r"\x")),
            (r#"form-data; filename="C:\""#, None),
            (r#"form-data; filename="C:\\""#, Some("")),
            (r#"form-data; filename="a"; filename="b""#, Some("b")),
            (r#"form-data; filename="a"; x="open"#, Some("a")),
            ("form-data; FileName = plain ; name=file", Some("plain")),
            (r#"form-data; x="; filename=no"; filename=yes"#, Some("yes")),
            (r#"form-data; flag; filename="""#, Some("")),
            (r#"form-data; name="file""#, None),
            (r#"form-data; filename="open"#, None),
            ("form-data", None),
        ] {
            let read = file_name_in(disposition.as_bytes());
            let expected = name.map(|name| name.as_bytes().to_vec());
            assert_eq!(read, expected, "{disposition}");
        }
    }
}
