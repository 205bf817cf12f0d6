//! Bodies of `/filesystem/{system_name}/transfer`.

use serde::Serialize;
use utoipa::ToSchema;

/// `POST …/transfer/upload`. The path may be spelled `sourcePath`, `source_path` or `path`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostFileUploadRequest {
    /// The file to create on the system.
    pub path: Option<String>,
    /// What is charged for the job.
    pub account: Option<String>,
    /// How the file travels.
    pub transfer_directives: TransferDirectiveRequest,
}

/// `POST …/transfer/download`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostFileDownloadRequest {
    /// The file on the system.
    pub path: Option<String>,
    /// What is charged for the job.
    pub account: Option<String>,
    /// How the file travels.
    pub transfer_directives: TransferDirectiveRequest,
}

/// `POST …/transfer/mv`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostMoveRequest {
    /// What is moved.
    pub path: Option<String>,
    /// Its new name, or a directory to move it into.
    pub target_path: String,
    /// What is charged for the job.
    pub account: Option<String>,
}

/// `POST …/transfer/cp`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostCopyRequest {
    /// What is copied.
    pub path: Option<String>,
    /// Its new name, or a directory to copy it into.
    pub target_path: String,
    /// Copy what symbolic links point to instead of the links.
    pub dereference: bool,
    /// What is charged for the job.
    pub account: Option<String>,
}

/// Answer to a request for a job that works on files where they are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferJobResponse {
    /// The job.
    pub transfer_job: TransferJob,
}

/// How a file should travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferDirectiveRequest {
    /// Which way.
    pub transfer_method: TransferMethodName,
    /// For S3 uploads, the size in bytes.
    pub file_size: Option<u64>,
    /// For wormhole uploads, the sender's code.
    pub wormhole_code: Option<String>,
}

/// Names of the transfer methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the API's own names")]
pub enum TransferMethodName {
    S3,
    Wormhole,
    Streamer,
}

/// Answer to an upload request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadFileResponse {
    /// The job that takes the file in.
    pub transfer_job: TransferJob,
    /// What the client does now.
    pub transfer_directives: TransferDirective,
}

/// Answer to a download request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadFileResponse {
    /// The job that gives the file out.
    pub transfer_job: TransferJob,
    /// What the client does now.
    pub transfer_directives: TransferDirective,
}

/// A job that moves data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferJob {
    /// Its id.
    pub job_id: String,
    /// Where it runs.
    pub system: String,
    /// Its directory.
    pub working_directory: String,
    /// Its output.
    pub logs: TransferJobLogs,
}

/// Where a transfer job writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferJobLogs {
    /// Standard output.
    pub output_log: String,
    /// Standard error.
    pub error_log: String,
}

/// What the client needs; members that do not apply are left out.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferDirective {
    /// Which way.
    pub transfer_method: TransferMethodName,
    /// For `streamer`: where the endpoint is and the secret that opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<String>,
}

/// The coordinates are a secret.
impl std::fmt::Debug for TransferDirective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            transfer_method,
            coordinates: _,
        } = self;
        f.debug_struct("TransferDirective")
            .field("transfer_method", transfer_method)
            .finish_non_exhaustive()
    }
}
