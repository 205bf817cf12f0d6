//! Asks slurmrestd as the caller, and tells a failure from nothing found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::auth::Caller;
use crate::context::{self, BackendCall};
use crate::http_client::{FetchError, HttpClient};
use crate::limits;
use crate::metrics::{Backend, Metrics};
use crate::scheduler::value::{Number, Text};
use crate::scheduler::{JobId, SchedulerError, answer};

/// Which half of the service: the controller's or the accounting's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Service {
    Controller,
    Database,
}

/// Speaks one version of the service at one address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) base: String,
    /// `XX` of version `0.0.XX`.
    pub(super) version: u32,
    pub(super) timeout: Duration,
    pub(super) system: String,
    pub(super) http: Arc<HttpClient>,
    pub(super) metrics: Arc<Metrics>,
}

/// An error as slurmrestd lists them, in all its answers, whatever their status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    error_number: Number,
    /// Of submissions in old versions.
    error_code: Number,
    error: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Faults {
    errors: Vec<Fault>,
    /// What became of each job of a cancellation, since version 0.0.40.
    status: Vec<Outcome>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    error: OutcomeFault,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutcomeFault {
    code: Number,
}

/// `slurm_errno.h`: no such job, nothing found in the database.
const INVALID_JOB: u64 = 2017;
const NOTHING_FOUND: u64 = 9003;
const ACCESS_DENIED: u64 = 2002;
const ALREADY_DONE: u64 = 2021;
const ACCOUNTING_POLICY: u64 = 2050;

impl Client {
    /// The answer to a question.
    pub(super) async fn get(
        &self,
        caller: &Caller,
        service: Service,
        path: &str,
    ) -> Result<Answer, SchedulerError> {
        let (status, body) = self
            .send(caller, Method::GET, service, path, Bytes::new())
            .await?;
        Ok(Answer { status, body })
    }

    /// Submits; the answer is read whatever its status is.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        job: &serde_json::Value,
    ) -> Result<JobId, SchedulerError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Submitted {
            job_id: Number,
        }
        let body = Bytes::from(job.to_string());
        let (status, body) = self
            .send(
                caller,
                Method::POST,
                Service::Controller,
                "job/submit",
                body,
            )
            .await?;
        if fault_numbers(&body).contains(&ACCOUNTING_POLICY) {
            let reason = faults(&body).into_iter().filter_map(|fault| fault.error.0);
            let reason = reason.collect::<Vec<_>>().join("; ");
            return Err(SchedulerError::Quota { reason });
        }
        if status != StatusCode::OK {
            return Err(unexpected(status, &body));
        }
        let submitted: Submitted = serde_json::from_slice(&body).unwrap_or_default();
        let id = submitted.job_id.whole().filter(|id| *id > 0);
        let id = id.and_then(|id| JobId::parse(&id.to_string()));
        id.ok_or_else(|| SchedulerError::Failed {
            message: "Unable to submit new job".to_owned(),
            causes: vec![unexpected(status, &body).to_string()],
        })
    }

    /// Ends a job. From version 0.0.40 on the status is 200 also when that failed.
    pub(super) async fn cancel(&self, caller: &Caller, id: &JobId) -> Result<(), SchedulerError> {
        let path = format!("job/{}", id.as_str());
        let sent = self.send(
            caller,
            Method::DELETE,
            Service::Controller,
            &path,
            Bytes::new(),
        );
        let (status, body) = sent.await?;
        let id = || id.as_str().to_owned();
        for number in fault_numbers(&body) {
            match number {
                INVALID_JOB => return Err(SchedulerError::NotFound),
                ALREADY_DONE => return Err(SchedulerError::AlreadyEnded { id: id() }),
                ACCESS_DENIED => return Err(SchedulerError::NotOwner { id: id() }),
                0 => {}
                _ => return Err(unexpected(status, &body)),
            }
        }
        if status != StatusCode::OK {
            return Err(unexpected(status, &body));
        }
        Ok(())
    }

    async fn send(
        &self,
        caller: &Caller,
        method: Method,
        service: Service,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), SchedulerError> {
        let service = match service {
            Service::Controller => "slurm",
            Service::Database => "slurmdb",
        };
        let url = format!("{}/{service}/v0.0.{}/{path}", self.base, self.version);
        let token = caller.token().expose();
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-slurm-user-name", caller.name().as_str())
            .header("x-slurm-user-token", token)
            .body(Full::from(body));
        let started = Instant::now();
        let max_bytes = limits::SCHEDULER_ANSWER_MAX_BYTES;
        let result = match request {
            Ok(request) => {
                self.http
                    .exchange_up_to(request, self.timeout, max_bytes)
                    .await
            }
            Err(_) => Err(FetchError::Malformed),
        };
        let outcome = match &result {
            Ok((status, _)) if status.is_success() => "ok",
            Ok(_) => "failed",
            Err(FetchError::Timeout(_)) => "timeout",
            Err(FetchError::Body) => "too_large",
            Err(_) => "unreachable",
        };
        let took = started.elapsed();
        self.metrics
            .backend_call(&self.system, Backend::Http, outcome, took);
        let status = result.as_ref().ok().map(|(status, _)| status.as_u16());
        context::record(BackendCall::Http {
            url: url.clone(),
            status,
        });
        result.map_err(|error| SchedulerError::Failed {
            message: format!("The Slurm API at {} could not be asked: {error}", self.base),
            causes: Vec::new(),
        })
    }
}

/// What a question was answered with, which takes its time to read if it is a list.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The default when Slurm says that there is nothing of that kind.
    pub(super) fn read<T: DeserializeOwned + Default>(&self) -> Result<T, SchedulerError> {
        let (status, body) = (self.status, &self.body);
        // A status 404 alone says nothing of jobs: a version that is no longer served answers so
        // too. Faults stand behind the list, which is skipped to find them.
        let nothing = |number| [INVALID_JOB, NOTHING_FOUND].contains(number);
        if fault_numbers(body).iter().any(nothing) {
            return Ok(T::default());
        }
        if status != StatusCode::OK {
            return Err(unexpected(status, body));
        }
        serde_json::from_slice(body).map_err(|_| unexpected(status, body))
    }

    /// What is shown of it.
    pub(super) async fn view<T: DeserializeOwned + Default, V: Send + 'static>(
        self,
        view: impl FnOnce(T) -> V + Send + 'static,
    ) -> Result<V, SchedulerError> {
        answer::read(self.body.len(), move || self.read().map(view)).await
    }
}

fn faults(body: &[u8]) -> Vec<Fault> {
    serde_json::from_slice::<Faults>(body)
        .unwrap_or_default()
        .errors
}

fn fault_numbers(body: &[u8]) -> Vec<u64> {
    let faults: Faults = serde_json::from_slice(body).unwrap_or_default();
    let listed = faults.errors.iter();
    let listed = listed.flat_map(|fault| [fault.error_number.whole(), fault.error_code.whole()]);
    let outcomes = faults
        .status
        .iter()
        .map(|outcome| outcome.error.code.whole());
    listed.chain(outcomes).flatten().collect()
}

/// The reference's words; of the body as much as helps.
fn unexpected(status: StatusCode, body: &[u8]) -> SchedulerError {
    let body = &body[..body.len().min(limits::QUOTED_ANSWER_MAX_BYTES)];
    let text = String::from_utf8_lossy(body);
    SchedulerError::Failed {
        message: format!(
            "Unexpected Slurm API response. status:{} message:{text}",
            status.as_u16()
        ),
        causes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slurm_itself_says_that_there_is_nothing() {
        type Jobs = Option<serde_json::Value>;
        let read = |status, body: &str| {
            let body = Bytes::copy_from_slice(body.as_bytes());
            Answer { status, body }.read::<Jobs>()
        };
        for number in [INVALID_JOB, NOTHING_FOUND] {
            let body = format!(r#"{{"jobs":[],"errors":[{{"error_number":{number}}}]}}"#);
            for status in [StatusCode::NOT_FOUND, StatusCode::OK] {
                assert!(matches!(read(status, &body), Ok(None)));
            }
        }
        for body in [
            "Unable find requested URL",
            r#"{"errors":[{"error_number":9001}]}"#,
            "",
        ] {
            let error = read(StatusCode::NOT_FOUND, body).unwrap_err().to_string();
            let expected = format!("Unexpected Slurm API response. status:404 message:{body}");
            assert_eq!(error, expected);
        }
        assert!(matches!(read(StatusCode::OK, "{}"), Ok(Some(_))));
    }

    #[test]
    fn faults_are_found_wherever_a_version_puts_them() {
        for (body, expected) in [
            (
                &br#"{"errors":[{"error_number":2017,"error":"x"}]}"#[..],
                vec![2017],
            ),
            (
                br#"{"errors":[{"error_code":2000,"error":"x"}]}"#,
                vec![2000],
            ),
            (
                br#"{"status":[{"error":{"code":2017}}],"errors":[]}"#,
                vec![2017],
            ),
            (br#"{"jobs":[]}"#, vec![]),
            (b"Authentication failure", vec![]),
        ] {
            assert_eq!(fault_numbers(body), expected);
        }
    }
}
