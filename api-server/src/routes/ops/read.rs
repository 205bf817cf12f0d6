//! The operations that change nothing.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::call::Call;
use super::super::query::Query;
use super::{look, query_path};
use crate::command::{Amount, Checksum, FileType, Head, Ls, LsOptions, Stat, Tail, View};
use crate::error::{ApiError, ApiResponseError, json};
use crate::limits;
use crate::model::files::{
    GetDirectoryLsResponse, GetFileChecksumResponse, GetFileHeadResponse, GetFileStatResponse,
    GetFileTailResponse, GetFileTypeResponse, GetViewFileResponse,
};

/// Lists a directory, or shows one path.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/ls", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "What to list"),
        ("showHidden" = Option<bool>, Query, description = "Names that begin with a dot too"),
        ("numericUid" = Option<bool>, Query, description = "Owners and groups as numbers"),
        ("recursive" = Option<bool>, Query, description = "Directories below too"),
        ("dereference" = Option<bool>, Query, description = "What links point to"),
    ),
    responses(
        (status = 200, description = "The entries", body = GetDirectoryLsResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn ls(mut call: Call) -> Result<Response, ApiError> {
    let options = LsOptions {
        show_hidden: call.query.boolean("showHidden"),
        numeric_uid: call.query.boolean("numericUid"),
        recursive: call.query.boolean("recursive"),
        dereference: call.query.boolean("dereference"),
    };
    let (system, path) = query_path(&mut call)?;
    let output = look(&call, &system, &Ls { path, options }).await?;
    Ok(json(StatusCode::OK, &GetDirectoryLsResponse { output }))
}

/// Shows the beginning of a file.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/head", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file"),
        ("bytes" = Option<i64>, Query, description = "So many bytes"),
        ("lines" = Option<i64>, Query, description = "So many lines; 10 unless told otherwise"),
        ("skipTrailing" = Option<bool>, Query, description = "The file without its last so many bytes or lines"),
    ),
    responses(
        (status = 200, description = "The text", body = GetFileHeadResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn head(mut call: Call) -> Result<Response, ApiError> {
    let amount = amount(&mut call.query, "skipTrailing");
    let (system, path) = query_path(&mut call)?;
    let (amount, skip_trailing) = amount?;
    let head = Head {
        path,
        amount,
        skip_trailing,
    };
    let output = look(&call, &system, &head).await?;
    Ok(json(StatusCode::OK, &GetFileHeadResponse { output }))
}

/// Shows the end of a file.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/tail", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file"),
        ("bytes" = Option<i64>, Query, description = "So many bytes"),
        ("lines" = Option<i64>, Query, description = "So many lines; 10 unless told otherwise"),
        ("skipHeading" = Option<bool>, Query, description = "The file from its so-manieth byte or line on"),
    ),
    responses(
        (status = 200, description = "The text", body = GetFileTailResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn tail(mut call: Call) -> Result<Response, ApiError> {
    let amount = amount(&mut call.query, "skipHeading");
    let (system, path) = query_path(&mut call)?;
    let (amount, skip_heading) = amount?;
    let tail = Tail {
        path,
        amount,
        skip_heading,
    };
    let output = look(&call, &system, &tail).await?;
    Ok(json(StatusCode::OK, &GetFileTailResponse { output }))
}

/// How much of a file, and whether it is what is left out.
fn amount(query: &mut Query, skip: &str) -> Result<(Amount, bool), ApiError> {
    let (bytes, lines) = (query.integer("bytes"), query.integer("lines"));
    let skip_given = query.boolean(skip);
    let amount = match (bytes.unwrap_or(0), lines.unwrap_or(0)) {
        (0, 0) => Amount::Default(bytes.or(lines)),
        (n, 0) => Amount::Bytes(n),
        (0, n) => Amount::Lines(n),
        _ => {
            let message = "Only one of `bytes` or `lines` can be specified.";
            return Err(ApiError::bad_request(message));
        }
    };
    match amount {
        Amount::Bytes(n) | Amount::Lines(n) if n < 0 && skip_given => Err(ApiError::bad_request(
            format!("`bytes` and `lines` must not be negative with `{skip}`."),
        )),
        amount => Ok((amount, skip_given)),
    }
}

/// Shows a window of a file.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/view", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file"),
        ("size" = Option<i64>, Query, description = "Bytes in the window, at most"),
        ("offset" = Option<i64>, Query, description = "Bytes before it"),
    ),
    responses(
        (status = 200, description = "The text", body = GetViewFileResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn view(mut call: Call) -> Result<Response, ApiError> {
    let (size, offset) = (call.query.integer("size"), call.query.integer("offset"));
    let (system, path) = query_path(&mut call)?;
    let max = u64::try_from(system.command_limits.output_bytes).unwrap_or(u64::MAX);
    let offset = u64::try_from(offset.unwrap_or(0)).map_err(|_| {
        ApiError::bad_request("`offset` value must be an integer value equal or greater than 0")
    })?;
    let size = match size {
        None => limits::VIEW_DEFAULT_BYTES.min(max),
        Some(size) => u64::try_from(size).unwrap_or(0),
    };
    if size == 0 {
        let message = "`size` value must be an integer value greater than 0";
        return Err(ApiError::bad_request(message));
    }
    if size > max {
        let message = format!("`size` value must be less than {max} bytes");
        return Err(ApiError::bad_request(message));
    }
    let output = look(&call, &system, &View { path, offset, size }).await?;
    Ok(json(StatusCode::OK, &GetViewFileResponse { output }))
}

/// Adds up a file.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/checksum", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file"),
    ),
    responses(
        (status = 200, description = "Its SHA-256", body = GetFileChecksumResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn checksum(mut call: Call) -> Result<Response, ApiError> {
    let (system, path) = query_path(&mut call)?;
    let output = look(&call, &system, &Checksum { path }).await?;
    Ok(json(StatusCode::OK, &GetFileChecksumResponse { output }))
}

/// Says what kind of data a path holds.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/file", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file or directory"),
    ),
    responses(
        (status = 200, description = "A description, also of what is missing", body = GetFileTypeResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn file(mut call: Call) -> Result<Response, ApiError> {
    let (system, path) = query_path(&mut call)?;
    let output = look(&call, &system, &FileType { path }).await?;
    Ok(json(StatusCode::OK, &GetFileTypeResponse { output }))
}

/// Shows the metadata of a path.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/ops/stat", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "Which file or directory"),
        ("dereference" = Option<bool>, Query, description = "What a link points to"),
    ),
    responses(
        (status = 200, description = "The metadata", body = GetFileStatResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn stat(mut call: Call) -> Result<Response, ApiError> {
    let dereference = call.query.boolean("dereference");
    let (system, path) = query_path(&mut call)?;
    let output = look(&call, &system, &Stat { path, dereference }).await?;
    Ok(json(StatusCode::OK, &GetFileStatResponse { output }))
}
