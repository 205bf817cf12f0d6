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

/// How an archive is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of programs")]
pub enum CompressionType {
    None,
    Bzip2,
    Gzip,
    Xz,
}

/// `PUT …/ops/chmod`. In these bodies the path may be spelled `sourcePath`, `source_path` or
/// `path`, and every other field `likeThis` or `like_this`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PutFileChmodRequest {
    /// Which path.
    pub source_path: Option<String>,
    /// Octal, or symbolic as `u+x`.
    pub mode: String,
}

/// Answer to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PutFileChmodResponse {
    /// The path as it is now.
    pub output: File,
}

/// `PUT …/ops/chown`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PutFileChownRequest {
    /// Which path.
    pub source_path: Option<String>,
    /// Name or number of the new owner.
    pub owner: Option<String>,
    /// Name or number of the new group.
    pub group: Option<String>,
}

/// Answer to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PutFileChownResponse {
    /// The path as it is now.
    pub output: File,
}

/// `POST …/ops/mkdir`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostMakeDirRequest {
    /// Which directory.
    pub source_path: Option<String>,
    /// Make those above it too.
    pub parent: Option<bool>,
}

/// Answer to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostMkdirResponse {
    /// The new directory.
    pub output: File,
}

/// `POST …/ops/symlink`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostFileSymlinkRequest {
    /// What the link points to.
    pub source_path: Option<String>,
    /// The new link.
    pub link_path: String,
}

/// Answer to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostFileSymlinkResponse {
    /// The new link.
    pub output: File,
}

/// `POST …/ops/compress`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostCompressRequest {
    /// What to put in.
    pub source_path: Option<String>,
    /// The new archive.
    pub target_path: String,
    /// Only files that match this regular expression of `find`.
    pub match_pattern: Option<String>,
    /// What symbolic links point to, not the links.
    pub dereference: Option<bool>,
    /// gzip unless told otherwise.
    pub compression: Option<CompressionType>,
}

/// `POST …/ops/extract`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostExtractRequest {
    /// The archive.
    pub source_path: Option<String>,
    /// The directory it is taken out to.
    pub target_path: String,
    /// gzip unless told otherwise.
    pub compression: Option<CompressionType>,
}

/// `POST …/ops/upload`.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadForm {
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
}
