//! Bodies of `/compute`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// `GET /compute/{system_name}/jobs` and `…/jobs/{job_id}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetJobResponse {
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names; units below")]
pub struct Job {
    pub job_id: String,
    pub name: String,
    pub status: JobStatus,
    pub tasks: Option<Vec<JobTask>>,
    pub time: JobTime,
    pub account: Option<String>,
    pub allocation_nodes: u32,
    pub cluster: String,
    pub group: Option<String>,
    pub nodes: String,
    pub partition: String,
    pub kill_request_user: Option<String>,
    pub user: String,
    pub working_directory: String,
    pub priority: Option<u64>,
}

/// How a job or task stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// The scheduler's own word.
    pub state: String,
    /// Why it is in that state.
    pub state_reason: Option<String>,
    /// Exit status, once it has one.
    pub exit_code: Option<i32>,
    /// Signal that ended it; 0: none.
    pub interrupt_signal: Option<i32>,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "as in a job")]
pub struct JobTask {
    pub id: String,
    pub name: String,
    pub status: JobStatus,
    pub time: JobTime,
}

/// Durations in seconds, moments in unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct JobTime {
    /// Time it has run.
    pub elapsed: Option<u64>,
    /// When it started.
    pub start: Option<u64>,
    /// When it ended.
    pub end: Option<u64>,
    /// Time it was suspended.
    pub suspended: Option<u64>,
    /// Time it may run.
    pub limit: Option<u64>,
}

/// `POST /compute/{system_name}/jobs`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostJobSubmitRequest {
    /// What to run.
    pub job: JobDescriptionModel,
}

/// What to run. Every field may be spelled in camel case or snake case.
#[derive(Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDescriptionModel {
    /// Name of the job.
    pub name: Option<String>,
    /// What is charged.
    pub account: Option<String>,
    /// Directory the job starts in.
    pub working_directory: String,
    /// File for standard input.
    pub standard_input: Option<String>,
    /// File for standard output.
    pub standard_output: Option<String>,
    /// File for standard error.
    pub standard_error: Option<String>,
    /// Variables, as an object or a list of `K=V`.
    pub env: BTreeMap<String, String>,
    /// Node features required.
    pub constraints: Option<String>,
    /// Partition or queue.
    pub partition: Option<String>,
    /// Reservation.
    pub reservation: Option<String>,
    /// Text of the script.
    pub script: Option<String>,
    /// A script on the system; wins over `script`.
    pub script_path: Option<String>,
}

/// Without what users may have put passwords into: values of variables, and the script.
impl fmt::Debug for JobDescriptionModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDescriptionModel")
            .field("name", &self.name)
            .field("working_directory", &self.working_directory)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// Answer to a submission.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostJobSubmissionResponse {
    /// Id of the new job.
    pub job_id: Option<String>,
}

/// `GET /compute/{system_name}/jobs/{job_id}/metadata`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetJobMetadataResponse {
    /// One entry for each job of that id.
    pub jobs: Vec<JobMetadataModel>,
}

/// What a job was submitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobMetadataModel {
    /// Which job.
    pub job_id: String,
    /// Text of its script.
    pub script: Option<String>,
    /// File for standard input.
    pub standard_input: Option<String>,
    /// File for standard output.
    pub standard_output: Option<String>,
    /// File for standard error.
    pub standard_error: Option<String>,
}

/// `PUT /compute/{system_name}/jobs/{job_id}/attach`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostJobAttachRequest {
    /// What to run inside of the job.
    pub command: String,
}
