//! `/filesystem/{system_name}/transfer`.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use streamer_core::Operation;

use super::call::Call;
use super::compute::interrupted;
use super::directives;
use super::fields::{Fields, MISSING};
use super::ops::archive::compression;
use crate::auth::Caller;
use crate::command::{Compress, Extract, RemotePath};
use crate::error::{ApiError, ApiResponseError, FieldError, json};
use crate::health::{GateError, Gates};
use crate::model::systems::System as Described;
use crate::model::transfer::{
    DownloadFileResponse, GetTransferResponse, PostCompressJobRequest, PostCopyRequest,
    PostExtractJobRequest, PostFileDownloadRequest, PostFileUploadRequest, PostMoveRequest,
    TransferDirective, TransferJob, TransferJobResponse, UploadFileResponse,
};
use crate::scheduler::SchedulerError;
use crate::state::System;
use crate::transfer::{FileJob, OnSystem, TransferError, TransferRequest};

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

/// Queues a job that moves or renames.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/mv", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostMoveRequest,
    responses(
        (status = 201, description = "The job is queued", body = TransferJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn mv(call: Call) -> Result<Response, ApiError> {
    let read = |fields: &mut Fields<'_>, at: &mut Base| {
        let (source, target) = (at.source(fields), at.target(fields));
        Some(FileJob::move_files(source?, target?))
    };
    start_file_job(call, StatusCode::CREATED, read).await
}

/// Queues a job that copies.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/cp", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostCopyRequest,
    responses(
        (status = 201, description = "The job is queued", body = TransferJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn cp(call: Call) -> Result<Response, ApiError> {
    let read = |fields: &mut Fields<'_>, at: &mut Base| {
        let (source, target) = (at.source(fields), at.target(fields));
        let dereference = fields.boolean(&["dereference"]);
        Some(FileJob::copy_files(source?, target?, dereference))
    };
    start_file_job(call, StatusCode::CREATED, read).await
}

/// Queues a job that deletes.
#[utoipa::path(
    delete, path = "/filesystem/{system_name}/transfer/rm", tag = "filesystem",
    params(
        ("system_name" = String, Path),
        ("path" = String, Query, description = "What is deleted"),
        ("account" = Option<String>, Query, description = "What is charged for the job"),
    ),
    responses(
        (status = 200, description = "The job is queued", body = TransferJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn rm(call: Call) -> Result<Response, ApiError> {
    let Some(path) = call.query.text("path") else {
        return Err(ApiError::validation(vec![FieldError::query(
            "path", MISSING,
        )]));
    };
    let account = call.query.text("account");
    let path = RemotePath::parse(&path).map_err(TransferError::from)?;
    let base = Base::of(&call)?;
    let job = FileJob::delete_files(path.under(&base.directory));
    queue(call, StatusCode::OK, job, account).await
}

/// Queues a job that packs.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/compress", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostCompressJobRequest,
    responses(
        (status = 201, description = "The job is queued", body = TransferJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn compress(call: Call) -> Result<Response, ApiError> {
    let read = |fields: &mut Fields<'_>, at: &mut Base| {
        let (path, target) = (at.source(fields), at.target(fields));
        let pattern = fields.nullable_text(&["matchPattern", "match_pattern"]);
        let pattern = fields.argument("matchPattern", pattern);
        let dereference = fields.boolean(&["dereference"]);
        let compression = compression(fields);
        Some(FileJob::compress_files(&Compress {
            path: path?,
            target: target?,
            match_pattern: pattern.filter(|pattern| !pattern.is_empty()),
            dereference,
            compression,
        }))
    };
    start_file_job(call, StatusCode::CREATED, read).await
}

/// Queues a job that unpacks.
#[utoipa::path(
    post, path = "/filesystem/{system_name}/transfer/extract", tag = "filesystem",
    params(("system_name" = String, Path)), request_body = PostExtractJobRequest,
    responses(
        (status = 201, description = "The job is queued", body = TransferJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn extract(call: Call) -> Result<Response, ApiError> {
    let read = |fields: &mut Fields<'_>, at: &mut Base| {
        let (path, target) = (at.source(fields), at.target(fields));
        let compression = compression(fields);
        Some(FileJob::extract_files(&Extract {
            path: path?,
            target: target?,
            compression,
        }))
    };
    start_file_job(call, StatusCode::CREATED, read).await
}

/// Shows how a transfer stands: extension.
#[utoipa::path(
    get, path = "/filesystem/{system_name}/transfer/{job_id}", tag = "filesystem",
    params(("system_name" = String, Path), ("job_id" = String, Path, description = "Job id")),
    responses(
        (status = 200, description = "How it stands", body = GetTransferResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn show(call: Call) -> Result<Response, ApiError> {
    let (system, id) = (call.system()?, call.job_id()?);
    let on = on_system(&system, &call.caller)?;
    let transfer = system.transfers.state(on, &id).await?;
    Ok(json(StatusCode::OK, &GetTransferResponse { transfer }))
}

/// Where relative paths of a request begin, which is where its job will run, and whether the
/// paths read so far may be used.
struct Base {
    directory: String,
    view: Arc<Described>,
    refused: Option<GateError>,
}

impl Base {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let system = call.transfer_path_system()?;
        Ok(Self {
            directory: system.transfers.work_directory_of(&call.caller)?,
            view: system.health.view(),
            refused: None,
        })
    }

    fn source(&mut self, fields: &mut Fields<'_>) -> Option<RemotePath> {
        self.path(fields, SOURCE)
    }

    fn target(&mut self, fields: &mut Fields<'_>) -> Option<RemotePath> {
        self.path(fields, &["targetPath", "target_path"])
    }

    /// The gate before validation asks about one path, and about that of the query if there is
    /// one: here it asks about each that the job will use.
    fn path(&mut self, fields: &mut Fields<'_>, names: &[&'static str]) -> Option<RemotePath> {
        let text = fields.required_text(names)?;
        match RemotePath::parse(&text) {
            Ok(path) => {
                let path = path.under(&self.directory);
                let refused = Gates(&self.view).path(path.as_str()).err();
                self.refused = self.refused.take().or(refused);
                Some(path)
            }
            Err(error) => {
                fields.error(names[0], &format!("Value error, {error}"));
                None
            }
        }
    }
}

const SOURCE: &[&str] = &["sourcePath", "source_path", "path"];

async fn start_file_job(
    call: Call,
    status: StatusCode,
    read: impl FnOnce(&mut Fields<'_>, &mut Base) -> Option<FileJob>,
) -> Result<Response, ApiError> {
    let mut base = Base::of(&call)?;
    let mut fields = Fields::new(call.object()?);
    let job = read(&mut fields, &mut base);
    let account = fields.nullable_text(&["account"]);
    let account = fields.argument("account", account);
    let errors = fields.into_errors();
    match (job, base.refused) {
        (Some(_), Some(refused)) if errors.is_empty() => Err(refused.into()),
        (Some(job), None) if errors.is_empty() => queue(call, status, job, account).await,
        _ => Err(ApiError::validation(errors)),
    }
}

async fn queue(
    call: Call,
    status: StatusCode,
    job: FileJob,
    account: Option<String>,
) -> Result<Response, ApiError> {
    let (system, caller) = (call.system()?, call.caller.clone());
    let work = async move {
        let on = on_system(&system, &caller)?;
        system.transfers.start_file_job(on, job, account).await
    };
    let transfer_job = call.state.detached(work).await.ok_or_else(interrupted)??;
    Ok(json(status, &TransferJobResponse { transfer_job }))
}

async fn start(
    call: Call,
    operation: Operation,
) -> Result<(TransferJob, TransferDirective), ApiError> {
    let system = call.transfer_system()?;
    let request = read_request(&call, operation)?;
    let caller = call.caller.clone();
    let work = async move {
        let on = on_system(&system, &caller)?;
        system.transfers.start(on, request).await
    };
    Ok(call.state.detached(work).await.ok_or_else(interrupted)??)
}

pub(crate) fn on_system<'a>(
    system: &'a System,
    caller: &'a Caller,
) -> Result<OnSystem<'a>, TransferError> {
    let Some(executor) = &system.executor else {
        let scheduler = system.scheduler_word();
        return Err(SchedulerError::NotDriven { scheduler }.into());
    };
    Ok(OnSystem {
        caller,
        executor: &**executor,
        scheduler: &*system.scheduler,
    })
}

fn read_request(call: &Call, operation: Operation) -> Result<TransferRequest, ApiError> {
    let mut fields = Fields::new(call.object()?);
    let path = fields.required_text(SOURCE);
    let account = fields.nullable_text(&["account"]);
    let account = fields.argument("account", account);
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
        user: call.caller.name().to_string(),
        source: None,
    })
}
