//! `/compute`.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::call::Call;
use super::fields::{Fields, MISSING, NOT_AN_OBJECT, NUL};
use super::transfer::on_system;
use crate::error::{ApiError, ApiResponseError, FieldError, json};
use crate::limits;
use crate::model::jobs::{
    GetJobMetadataResponse, GetJobResponse, JobDescriptionModel, PostJobAttachRequest,
    PostJobSubmissionResponse, PostJobSubmitRequest,
};
use crate::scheduler::{JobDescription, JobFilter, Script};

/// Submits a job.
#[utoipa::path(
    post, path = "/compute/{system_name}/jobs", tag = "compute",
    params(("system_name" = String, Path)), request_body = PostJobSubmitRequest,
    responses(
        (status = 201, description = "The job is queued", body = PostJobSubmissionResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn submit(call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let job = job_description(read_job(&call)?)?;
    job.check()?;
    let caller = call.caller.clone();
    let work = async move { system.scheduler.submit(&caller, job).await };
    let id = call.state.detached(work).await.ok_or_else(interrupted)??;
    let job_id = Some(id.as_str().to_owned());
    Ok(json(
        StatusCode::CREATED,
        &PostJobSubmissionResponse { job_id },
    ))
}

/// Lists jobs.
#[utoipa::path(
    get, path = "/compute/{system_name}/jobs", tag = "compute",
    params(
        ("system_name" = String, Path),
        ("allusers" = Option<bool>, Query, description = "Everybody's jobs, not only one's own"),
        ("account" = Option<String>, Query, description = "Only jobs of this account"),
        ("name" = Option<String>, Query, description = "Only jobs of this name"),
        ("time_window" = Option<String>, Query, description = "How far to look back for ended jobs: 1h, 8h, 24h, 3d or 7d"),
    ),
    responses(
        (status = 200, description = "The jobs", body = GetJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn list(mut call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let query = &mut call.query;
    let filter = JobFilter {
        all_users: query.boolean("allusers"),
        account: query.text("account"),
        name: query.text_up_to("name", 235),
        history_seconds: query.choice("time_window", TIME_WINDOWS, 2),
    };
    let errors = query.take_errors();
    if !errors.is_empty() {
        return Err(ApiError::validation(errors));
    }
    let jobs = system.scheduler.jobs(&call.caller, filter).await?;
    Ok(json(StatusCode::OK, &GetJobResponse { jobs }))
}

/// Shows one job.
#[utoipa::path(
    get, path = "/compute/{system_name}/jobs/{job_id}", tag = "compute",
    params(("system_name" = String, Path), ("job_id" = String, Path, description = "Job id")),
    responses(
        (status = 200, description = "The job", body = GetJobResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn show(call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let id = call.job_id()?;
    let jobs = system.scheduler.job(&call.caller, &id).await?;
    if let ([job], Ok(on)) = (&*jobs, on_system(&system, &call.caller)) {
        system.transfers.let_listen(on, job).await;
    }
    Ok(json(StatusCode::OK, &GetJobResponse { jobs }))
}

/// Cancels a job.
#[utoipa::path(
    delete, path = "/compute/{system_name}/jobs/{job_id}", tag = "compute",
    params(("system_name" = String, Path), ("job_id" = String, Path, description = "Job id")),
    responses(
        (status = 204, description = "The job is told to end"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn cancel(call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let id = call.job_id()?;
    let caller = call.caller.clone();
    let work = async move {
        match on_system(&system, &caller) {
            Ok(on) => system.transfers.cancel(on, &id).await,
            Err(_) => system.scheduler.cancel(&caller, &id).await,
        }
    };
    call.state.detached(work).await.ok_or_else(interrupted)??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Shows what a job was submitted with.
#[utoipa::path(
    get, path = "/compute/{system_name}/jobs/{job_id}/metadata", tag = "compute",
    params(("system_name" = String, Path), ("job_id" = String, Path, description = "Job id")),
    responses(
        (status = 200, description = "Script and files of the job", body = GetJobMetadataResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn metadata(call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let id = call.job_id()?;
    let jobs = system.scheduler.metadata(&call.caller, &id).await?;
    Ok(json(StatusCode::OK, &GetJobMetadataResponse { jobs }))
}

/// Runs a command inside of a running job.
#[utoipa::path(
    put, path = "/compute/{system_name}/jobs/{job_id}/attach", tag = "compute",
    params(("system_name" = String, Path), ("job_id" = String, Path, description = "Job id")),
    request_body = PostJobAttachRequest,
    responses(
        (status = 204, description = "The command has run"),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn attach(call: Call) -> Result<Response, ApiError> {
    let system = call.compute_system()?;
    let id = call.job_id()?;
    let mut fields = Fields::new(call.object()?);
    let command = fields.required_text(&["command"]).unwrap_or_default();
    if command.contains('\0') {
        fields.error("command", NUL);
    }
    let errors = fields.into_errors();
    if !errors.is_empty() {
        return Err(ApiError::validation(errors));
    }
    let caller = call.caller.clone();
    let work = async move { system.scheduler.attach(&caller, &id, &command).await };
    call.state.detached(work).await.ok_or_else(interrupted)??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Words for how far back, in seconds.
const TIME_WINDOWS: &[(&str, u64)] = &[
    ("1h", 3600),
    ("8h", 8 * 3600),
    ("24h", 86_400),
    ("3d", 3 * 86_400),
    ("7d", 7 * 86_400),
];

/// The owned task of a change did not come to its end.
pub(super) fn interrupted() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The operation was interrupted.",
    )
}

fn read_job(call: &Call) -> Result<JobDescriptionModel, ApiError> {
    let wrong = |message| Err(ApiError::validation(vec![FieldError::body("job", message)]));
    let map = match call.object()?.get("job") {
        None => return wrong(MISSING),
        Some(Value::Object(map)) => map,
        Some(_) => return wrong(NOT_AN_OBJECT),
    };
    let mut fields = Fields::inside(map, "job");
    // Schedulers keep them, and give them to programs.
    let text = |fields: &mut Fields<'_>, names: &[&'static str], max_bytes| {
        let text = fields.nullable_text(names);
        fields.up_to(max_bytes, names[0], text)
    };
    let argument = limits::ARGUMENT_MAX_BYTES;
    let path = limits::PATH_MAX_BYTES;
    let name = text(&mut fields, &["name"], limits::JOB_NAME_MAX_BYTES);
    let account = text(&mut fields, &["account"], limits::JOB_NAME_MAX_BYTES);
    let working_directory = fields.required_text(&[
        "workingDirectory",
        "working_directory",
        "current_working_directory",
    ]);
    let working_directory = fields.up_to(path, "workingDirectory", working_directory);
    let job = JobDescriptionModel {
        name,
        account,
        working_directory: working_directory.unwrap_or_default(),
        standard_input: text(&mut fields, &["standardInput", "standard_input"], path),
        standard_output: text(&mut fields, &["standardOutput", "standard_output"], path),
        standard_error: text(&mut fields, &["standardError", "standard_error"], path),
        env: fields
            .variables(&["env", "environment"])
            .unwrap_or_else(default_variables),
        constraints: text(&mut fields, &["constraints"], argument),
        partition: text(&mut fields, &["partition"], argument),
        reservation: text(&mut fields, &["reservation"], argument),
        script: fields.optional_text(&["script"]),
        script_path: fields.optional_text(&["scriptPath", "script_path"]),
    };
    let script_path = fields.up_to(path, "scriptPath", job.script_path);
    let job = JobDescriptionModel { script_path, ..job };
    fields.check_variables("env", &job.env);
    if job.script.as_ref().is_some_and(|text| text.contains('\0')) {
        fields.error("script", NUL);
    }
    match fields.into_errors() {
        errors if errors.is_empty() => Ok(job),
        errors => Err(ApiError::validation(errors)),
    }
}

/// What a job finds in its environment when the request says nothing.
fn default_variables() -> BTreeMap<String, String> {
    BTreeMap::from([("F7T_version".to_owned(), "v2.0.0".to_owned())])
}

fn job_description(job: JobDescriptionModel) -> Result<JobDescription, ApiError> {
    let script = match (job.script_path, job.script) {
        (Some(path), _) => Script::Path(path),
        (None, Some(text)) => Script::Text(text),
        (None, None) => {
            return Err(ApiError::bad_request(
                "Either script or scriptPath is required.",
            ));
        }
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(JobDescription {
        name: given(job.name),
        working_directory: job.working_directory,
        standard_input: given(job.standard_input),
        standard_output: given(job.standard_output),
        standard_error: given(job.standard_error),
        environment: job.env,
        account: given(job.account),
        partition: given(job.partition),
        reservation: given(job.reservation),
        constraints: given(job.constraints),
        script,
    })
}
