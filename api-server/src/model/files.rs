//! Bodies of `/filesystem/{system_name}/ops`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::command::StatOutput;

/// One entry of a listing, or one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Bare in a directory, relative to it below, and as it was asked for when it is the path
    /// itself.
    pub name: String,
    /// `-` file, `d` directory, `l` link, `p` pipe, `s` socket, `b` or `c` device.
    #[serde(rename = "type")]
    pub file_type: String,
    /// Where a symbolic link points to.
    pub link_target: Option<String>,
    /// Owner.
    pub user: String,
    /// Group.
    pub group: String,
    /// As `rwxr-xr-x`.
    pub permissions: String,
    /// In the time of the login node, without a zone.
    pub last_modified: String,
    /// In bytes, as text.
    pub size: String,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileContent {
    /// The text.
    pub content: String,
    /// What the positions count.
    pub content_type: ContentUnit,
    /// Where it begins; negative from the end.
    pub start_position: i64,
    /// Where it ends; negative from the end.
    pub end_position: i64,
}

/// What a file is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the API's own names")]
pub enum ContentUnit {
    Lines,
    Bytes,
}

/// Checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileChecksum {
    /// Its name.
    pub algorithm: String,
    /// In hexadecimal digits.
    pub checksum: String,
}

/// `GET …/ops/ls`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetDirectoryLsResponse {
    /// The entries.
    pub output: Vec<File>,
}

/// `GET …/ops/head`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetFileHeadResponse {
    /// The beginning.
    pub output: FileContent,
}

/// `GET …/ops/tail`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetFileTailResponse {
    /// The end.
    pub output: FileContent,
}

/// `GET …/ops/view`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetViewFileResponse {
    /// The text.
    pub output: String,
}

/// `GET …/ops/checksum`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetFileChecksumResponse {
    /// The checksum.
    pub output: FileChecksum,
}

/// `GET …/ops/file`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetFileTypeResponse {
    /// The description.
    pub output: String,
}

/// `GET …/ops/stat`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetFileStatResponse {
    /// The metadata.
    pub output: StatOutput,
}
