//! Bodies of `/filesystem/{system_name}/transfer`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::files::CompressionType;

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

/// `POST …/transfer/compress`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostCompressJobRequest {
    /// What to put in.
    pub path: Option<String>,
    /// The new archive.
    pub target_path: String,
    /// Only files that match this regular expression of `find`.
    pub match_pattern: Option<String>,
    /// What symbolic links point to, not the links.
    pub dereference: Option<bool>,
    /// gzip unless told otherwise.
    pub compression: Option<CompressionType>,
    /// What is charged for the job.
    pub account: Option<String>,
}

/// `POST …/transfer/extract`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostExtractJobRequest {
    /// The archive.
    pub path: Option<String>,
    /// The directory it is taken out to.
    pub target_path: String,
    /// gzip unless told otherwise.
    pub compression: Option<CompressionType>,
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

/// `GET …/transfer/{job_id}`: extension.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetTransferResponse {
    /// How it stands.
    pub transfer: TransferState,
}

/// How a transfer stands. Members that are not known are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferState {
    /// Id of its job.
    pub job_id: String,
    /// Where that runs.
    pub system: String,
    /// Where it is between request and end.
    pub state: TransferStateName,
    /// The scheduler's own word for the job.
    pub job_state: String,
    /// While queued: why, in the scheduler's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// While queued: when the scheduler means to start the job, in unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_start: Option<u64>,
    /// Where the job runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// While listening: on which port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_bytes: Option<u64>,
    /// Bytes there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Why it failed, was cancelled or waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Words for how a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferStateName {
    /// The job waits for its turn.
    Queued,
    /// The job runs and is not ready yet.
    Starting,
    /// The other side can come.
    Listening,
    /// Bytes move.
    Active,
    /// The file is there, verified.
    Done,
    /// It ended without that.
    Failed,
    /// Somebody cancelled the job.
    Cancelled,
}

/// How a file should travel.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferDirectiveRequest {
    /// Which way.
    pub transfer_method: TransferMethodName,
    /// Of an upload, the size in bytes: whether it fits is looked at. S3 needs it.
    pub file_size: Option<u64>,
    /// For wormhole uploads, the sender's code.
    pub wormhole_code: Option<String>,
    /// For uploads by `streamer`: what becomes of a target that exists. Not in FirecREST.
    #[serde(default)]
    pub existing: ExistingTarget,
}

/// What becomes of the target of an upload that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExistingTarget {
    /// The upload is refused.
    #[default]
    Refuse,
    /// It is replaced, of a directory the files that differ in size or time.
    Overwrite,
    /// It is kept, of a directory the files that are there.
    Skip,
}

/// The code is a secret.
impl std::fmt::Debug for TransferDirectiveRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            transfer_method,
            file_size,
            wormhole_code: _,
            existing,
        } = self;
        f.debug_struct("TransferDirectiveRequest")
            .field("transfer_method", transfer_method)
            .field("file_size", file_size)
            .field("existing", existing)
            .finish_non_exhaustive()
    }
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
    /// For `s3` uploads: URLs that take the parts, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts_upload_urls: Option<Vec<String>>,
    /// For `s3` uploads: the URL that takes the list of parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_upload_url: Option<String>,
    /// For `s3` uploads: size of every part but the last, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_part_size: Option<u64>,
    /// For `s3` downloads: the URL that gives the file once the job has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_url: Option<String>,
    /// For `wormhole` downloads: what the receiver types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wormhole_code: Option<String>,
}

impl TransferDirective {
    /// Only says which way.
    pub fn new(transfer_method: TransferMethodName) -> Self {
        Self {
            transfer_method,
            coordinates: None,
            parts_upload_urls: None,
            complete_upload_url: None,
            max_part_size: None,
            download_url: None,
            wormhole_code: None,
        }
    }
}

/// Coordinates, URLs and codes are secrets.
impl std::fmt::Debug for TransferDirective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            transfer_method,
            coordinates: _,
            parts_upload_urls: _,
            complete_upload_url: _,
            max_part_size: _,
            download_url: _,
            wormhole_code: _,
        } = self;
        f.debug_struct("TransferDirective")
            .field("transfer_method", transfer_method)
            .finish_non_exhaustive()
    }
}
