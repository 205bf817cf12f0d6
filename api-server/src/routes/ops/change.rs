//! The operations that change a path.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::call::Call;
use super::super::fields::Fields;
use super::{body_path, change, checked, path_of, query_path};
use crate::command::{Chmod, Chown, Mkdir, Remove, Symlink};
use crate::error::{ApiError, ApiResponseError, json};
use crate::model::files::{
    PostFileSymlinkRequest, PostFileSymlinkResponse, PostMakeDirRequest, PostMkdirResponse,
    PutFileChmodRequest, PutFileChmodResponse, PutFileChownRequest, PutFileChownResponse,
};

/// Changes the permissions of a path.
#[utoipa::path(
    put, path = "/filesystem/{system_name}/ops/chmod", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PutFileChmodRequest,
    responses(
        (status = 200, description = "The path as it is now", body = PutFileChmodResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn chmod(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let mode = fields.required_text(&["mode"]);
    let mode = fields.argument("mode", mode);
    let (path, mode) = checked(fields, path.zip(mode))?;
    let path = path_of(&system, &path)?;
    let output = change(&call, system, Chmod { path, mode }).await?;
    Ok(json(StatusCode::OK, &PutFileChmodResponse { output }))
}

/// Changes the owner or the group of a path.
#[utoipa::path(
    put, path = "/filesystem/{system_name}/ops/chown", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PutFileChownRequest,
    responses(
        (status = 200, description = "The path as it is now", body = PutFileChownResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn chown(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let given = |text: &String| !text.is_empty();
    let owner = fields.nullable_text(&["owner"]).filter(given);
    let owner = fields.argument("owner", owner);
    let group = fields.nullable_text(&["group"]).filter(given);
    let group = fields.argument("group", group);
    let path = path_of(&system, &checked(fields, path)?)?;
    let chown = Chown { path, owner, group };
    let output = change(&call, system, chown).await?;
    Ok(json(StatusCode::OK, &PutFileChownResponse { output }))
}

/// Makes a directory.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/ops/mkdir", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostMakeDirRequest,
    responses(
        (status = 201, description = "The new directory", body = PostMkdirResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn mkdir(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let parent = fields.boolean(&["parent"]);
    let path = path_of(&system, &checked(fields, path)?)?;
    let output = change(&call, system, Mkdir { path, parent }).await?;
    Ok(json(StatusCode::CREATED, &PostMkdirResponse { output }))
}

/// Makes a symbolic link.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/ops/symlink", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostFileSymlinkRequest,
    responses(
        (status = 201, description = "The new link", body = PostFileSymlinkResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn symlink(call: Call) -> Result<Response, ApiError> {
    let system = call.ops_system()?;
    let mut fields = Fields::new(call.object()?);
    let path = body_path(&mut fields);
    let link = fields.required_text(&["linkPath", "link_path"]);
    let (path, link) = checked(fields, path.zip(link))?;
    let path = path_of(&system, &path)?;
    let link = path_of(&system, &link)?;
    let output = change(&call, system, Symlink { path, link }).await?;
    Ok(json(
        StatusCode::CREATED,
        &PostFileSymlinkResponse { output },
    ))
}

/// Deletes a path with everything below it.
#[utoipa::path(
    delete, path = "/filesystem/{system_name}/ops/rm", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "What to delete"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn rm(mut call: Call) -> Result<Response, ApiError> {
    let (system, path) = query_path(&mut call)?;
    change(&call, system, Remove { path }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
