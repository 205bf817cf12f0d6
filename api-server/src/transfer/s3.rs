//! `s3`: the user and the job meet at an object. Each gets URLs for what they do, no more.

use std::sync::Arc;

use serde_json::{Value, json};
use streamer_core::Operation;
use streamer_core::limits::S3_PLAN_MAX_BYTES;

use super::{JobFiles, TransferError, TransferMethod, TransferPlan, TransferRequest};
use crate::Secret;
use crate::command::{ShellLine, StatOutput, reported};
use crate::executor::BoxFuture;
use crate::model::transfer::{TransferDirective, TransferMethodName};
use crate::storage::{ObjectStore, Parts, Upload, secret_json};

/// Plans transfers through an object store.
#[derive(Debug)]
pub struct S3Method {
    store: Arc<ObjectStore>,
}

impl S3Method {
    /// A method for one system.
    pub fn new(store: Arc<ObjectStore>) -> Self {
        Self { store }
    }

    async fn plan_upload(
        &self,
        request: &TransferRequest,
        job: &JobFiles,
    ) -> Result<TransferPlan, TransferError> {
        let size = request
            .directive
            .file_size
            .ok_or(TransferError::NoFileSize)?;
        let parts = Parts::of(size, self.store.config().multipart.max_part_size)?;
        let upload = self.begin(request).await?;
        let store = &self.store;
        let private = json!({
            "head": store.private_head_url(&upload)?,
            "get": store.private_get_url(&upload)?,
            "partBytes": parts.part_bytes,
            "mostBytes": parts.part_bytes.saturating_mul(parts.count.into()),
        });
        let mut directive = TransferDirective::new(TransferMethodName::S3);
        directive.parts_upload_urls = Some(store.public_part_urls(&upload, parts.count)?);
        directive.complete_upload_url = Some(store.public_complete_url(&upload)?);
        directive.max_part_size = Some(parts.part_bytes);
        // A job waits for its object as long as its URLs are good.
        let wait = self.store.config().ttl.to_string();
        let line = self
            .mover(job)
            .args(["--wait", &wait, "get", "--path", request.path.as_str()]);
        Ok(TransferPlan {
            body: reported(&line, "Waiting for the object to be uploaded.", FETCHED),
            private: plan_text(&private)?,
            directive,
            coordinates: None,
        })
    }

    async fn plan_download(
        &self,
        request: &TransferRequest,
        job: &JobFiles,
    ) -> Result<TransferPlan, TransferError> {
        let source = request.source.filter(|source| source.is_regular());
        let source = source.ok_or_else(|| TransferError::NotAFile {
            path: request.path.as_str().to_owned(),
        })?;
        let part_bytes = self.store.config().multipart.max_part_size;
        let parts = Parts::of(source.size, part_bytes.min(JOB_PART_BYTES))?;
        let upload = self.begin(request).await?;
        let store = &self.store;
        let private = json!({
            "parts": store.private_part_urls(&upload, parts.count)?,
            "complete": store.private_complete_url(&upload)?,
            "abort": store.private_abort_url(&upload)?,
            "head": store.private_head_url(&upload)?,
            "partBytes": parts.part_bytes,
        });
        let mut directive = TransferDirective::new(TransferMethodName::S3);
        directive.download_url = Some(store.public_get_url(&upload)?);
        let line = self
            .mover(job)
            .args(["put", "--path", request.path.as_str()]);
        Ok(TransferPlan {
            body: reported(&line, "Uploading the file to the object store.", SENT),
            private: plan_text(&private)?,
            directive,
            coordinates: None,
        })
    }

    async fn begin(&self, request: &TransferRequest) -> Result<Upload, TransferError> {
        let path = request.path.as_str().trim_end_matches('/');
        let name = path.rsplit('/').next().unwrap_or_default();
        // They would be read as steps of the URL's path.
        if ["", ".", ".."].contains(&name) {
            return Err(TransferError::NotAFile {
                path: request.path.as_str().to_owned(),
            });
        }
        Ok(self.store.begin(&request.user, name).await?)
    }

    fn mover(&self, job: &JobFiles) -> ShellLine {
        let parallel = self.store.config().multipart.parallel_runs;
        ShellLine::new(&job.program)
            .args([
                "s3",
                "--plan-file",
                &job.private_path(),
                "--remove-plan-file",
            ])
            .arg("--status-file")
            .job_arg(&job.state_prefix())
            .args(["--parallel", &parallel.max(1).to_string()])
    }
}

/// What a job reads, unless it would not for its length.
fn plan_text(plan: &Value) -> Result<Secret, TransferError> {
    let text = secret_json(plan);
    let (bytes, limit) = (text.expose().len(), S3_PLAN_MAX_BYTES);
    match bytes > limit {
        true => Err(TransferError::PlanTooLong { bytes, limit }),
        false => Ok(text),
    }
}

impl TransferMethod for S3Method {
    fn name(&self) -> TransferMethodName {
        TransferMethodName::S3
    }

    fn takes_existing(&self, _: &TransferRequest, found: &StatOutput) -> bool {
        found.is_regular()
    }

    fn plan<'a>(
        &'a self,
        request: &'a TransferRequest,
        job: &'a JobFiles,
    ) -> BoxFuture<'a, Result<TransferPlan, TransferError>> {
        Box::pin(async move {
            match request.operation {
                Operation::Receive => self.plan_upload(request, job).await,
                Operation::Send => self.plan_download(request, job).await,
            }
        })
    }
}

/// The words by which clients recognise success.
const FETCHED: &str = "File was successfully downloaded from the object store.";
const SENT: &str = "Multipart file upload successfully completed.";
/// A job's own parts are not larger, so that several travel at once and a retry costs little.
const JOB_PART_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_no_job_would_read_is_refused() {
        let plan = |bytes| plan_text(&Value::String("x".repeat(bytes - 2)));
        assert!(plan(S3_PLAN_MAX_BYTES).is_ok());
        let error = plan(S3_PLAN_MAX_BYTES + 1).unwrap_err();
        let (bytes, limit) = (33_554_433, 33_554_432);
        let expected = TransferError::PlanTooLong { bytes, limit };
        assert_eq!(error.to_string(), expected.to_string());
    }
}
