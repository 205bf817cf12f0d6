//! `/filesystem/{system_name}/transfer`.

use axum::http::StatusCode;
use axum::response::Response;
use streamer_core::Operation;

use super::call::Call;
use super::compute::interrupted;
use super::directives;
use super::fields::{Fields, MISSING};
use crate::command::RemotePath;
use crate::error::{ApiError, ApiResponseError, json};
use crate::model::transfer::{
    DownloadFileResponse, PostFileDownloadRequest, PostFileUploadRequest, TransferDirective,
    TransferJob, UploadFileResponse,
};
use crate::scheduler::SchedulerError;
use crate::transfer::{TransferError, TransferRequest};

/// Queues a job that takes a file in.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/upload", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostFileUploadRequest,
    responses(
        (status = 201, description = "The job is queued", body = UploadFileResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn upload(call: Call) -> Result<Response, ApiError> {
    let (transfer_job, transfer_directives) = start(call, Operation::Receive).await?;
    Ok(json(
        StatusCode::CREATED,
        &UploadFileResponse {
            transfer_job,
            transfer_directives,
        },
    ))
}

/// Queues a job that gives a file out.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/download", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostFileDownloadRequest,
    responses(
        (status = 201, description = "The job is queued", body = DownloadFileResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn download(call: Call) -> Result<Response, ApiError> {
    let (transfer_job, transfer_directives) = start(call, Operation::Send).await?;
    Ok(json(
        StatusCode::CREATED,
        &DownloadFileResponse {
            transfer_job,
            transfer_directives,
        },
    ))
}

async fn start(
    call: Call,
    operation: Operation,
) -> Result<(TransferJob, TransferDirective), ApiError> {
    let system = call.transfer_system()?;
    let request = read_request(&call, operation)?;
    let caller = call.caller.clone();
    let work = async move {
        let transfers = system
            .transfers
            .as_ref()
            .ok_or(TransferError::MethodNotAvailable)?;
        let Some(executor) = &system.executor else {
            let scheduler = system.scheduler_word();
            return Err(TransferError::from(SchedulerError::NotDriven { scheduler }));
        };
        transfers
            .start(&caller, &**executor, &*system.scheduler, request)
            .await
    };
    Ok(call.state.detached(work).await.ok_or_else(interrupted)??)
}

fn read_request(call: &Call, operation: Operation) -> Result<TransferRequest, ApiError> {
    let mut fields = Fields::new(call.object()?);
    let path = fields.required_text(&["sourcePath", "source_path", "path"]);
    let account = fields.nullable_text(&["account"]);
    let mut wrong_directive = Vec::new();
    let directive = match fields.find(&["transferDirectives", "transfer_directives"]) {
        None => {
            fields.error("transferDirectives", MISSING);
            None
        }
        Some((name, value)) => match directives::parse(name, value, operation) {
            Ok(directive) => Some(directive),
            Err(errors) => {
                wrong_directive = errors;
                None
            }
        },
    };
    let mut errors = fields.into_errors();
    errors.append(&mut wrong_directive);
    let (Some(path), Some(directive), true) = (path, directive, errors.is_empty()) else {
        return Err(ApiError::validation(errors));
    };
    let path = RemotePath::parse(&path).map_err(TransferError::from)?;
    Ok(TransferRequest {
        operation,
        path,
        account,
        directive,
    })
}
