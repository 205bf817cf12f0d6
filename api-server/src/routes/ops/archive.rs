//! Archives.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::call::Call;
use super::super::fields::Fields;
use super::{body_path, change, checked, path_of};
use crate::command::{Compress, Extract};
use crate::error::{ApiError, ApiResponseError};
use crate::model::files::{CompressionType, PostCompressRequest, PostExtractRequest};

/// Puts a file or a directory into an archive.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/ops/compress", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostCompressRequest,
    responses(
        (status = 204, description = "The archive is there"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn compress(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let target = fields.required_text(&["targetPath", "target_path"]);
    let match_pattern = fields.nullable_text(&["matchPattern", "match_pattern"]);
    let match_pattern = fields.argument("matchPattern", match_pattern);
    let dereference = fields.boolean(&["dereference"]);
    let compression = compression(&mut fields);
    let (path, target) = checked(fields, path.zip(target))?;
    let compress = Compress {
        path: path_of(&system, &path)?,
        target: path_of(&system, &target)?,
        match_pattern: match_pattern.filter(|pattern| !pattern.is_empty()),
        dereference,
        compression,
    };
    change(&call, system, compress).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes everything out of an archive.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/ops/extract", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostExtractRequest,
    responses(
        (status = 204, description = "All is out"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn extract(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let target = fields.required_text(&["targetPath", "target_path"]);
    let compression = compression(&mut fields);
    let (path, target) = checked(fields, path.zip(target))?;
    let extract = Extract {
        path: path_of(&system, &path)?,
        target: path_of(&system, &target)?,
        compression,
    };
    change(&call, system, extract).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The field `compression`: gzip unless told otherwise.
pub(in crate::routes) fn compression(fields: &mut Fields<'_>) -> CompressionType {
    use CompressionType::{Bzip2, Gzip, None, Xz};
    let words = [("none", None), ("bzip2", Bzip2), ("gzip", Gzip), ("xz", Xz)];
    fields.choice(&["compression"], &words, Gzip)
}
