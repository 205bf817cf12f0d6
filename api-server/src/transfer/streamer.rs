//! `streamer`: the job hosts an endpoint, the client reaches it by coordinates minted here.
//!
//! The secret reaches the job in a file that only its user can read: never argv, script,
//! environment (which schedulers store), log or URL.

use streamer_core::{Coordinates, Operation, TransferSecret, Transport};

use super::{JobFiles, TransferError, TransferMethod, TransferPlan, TransferRequest};
use crate::Secret;
use crate::command::{ShellLine, StatOutput};
use crate::config::StreamerConfig;
use crate::executor::BoxFuture;
use crate::model::transfer::{ExistingTarget, TransferDirective, TransferMethodName};

/// Plans endpoints as configured.
#[derive(Debug)]
pub struct StreamerMethod {
    config: StreamerConfig,
}

impl StreamerMethod {
    /// A method for one system.
    pub fn new(config: StreamerConfig) -> Self {
        Self { config }
    }

    fn addresses(&self) -> Vec<String> {
        match &self.config.public_ips {
            Some(ips) if !ips.is_empty() => ips.clone(),
            _ => vec!["localhost".to_owned()],
        }
    }

    fn transports(&self) -> Vec<Transport> {
        let mut transports = vec![Transport::Quic, Transport::Tls];
        if self.config.allow_websocket {
            transports.push(Transport::Ws);
        }
        transports
    }

    /// The command of the job; everything but the secret.
    fn endpoint(&self, request: &TransferRequest, job: &JobFiles) -> ShellLine {
        let config = &self.config;
        let mut line = ShellLine::new(&job.program).arg("server");
        if let Some(host) = &config.host {
            line = line.args(["--host", host]);
        }
        for address in self.addresses() {
            line = line.arg("--public-ips").arg(address);
        }
        let ports = [config.port_range.first(), config.port_range.last()].map(|p| p.to_string());
        if config.allow_websocket {
            line = line.arg("--allow-websocket");
        }
        line.arg("--port-range")
            .args(ports)
            .arg("--wait-timeout")
            .arg(config.wait_timeout.to_string())
            .arg("--inbound-transfer-limit")
            .arg(config.inbound_transfer_limit.to_string())
            .args(["--secret-file", &job.private_path(), "--remove-secret-file"])
            .arg("--status-file")
            .job_arg(&job.state_prefix())
            .args([
                "--no-announce",
                request.operation.as_str(),
                "--path",
                request.path.as_str(),
            ])
            .args(match (request.operation, request.directive.existing) {
                (Operation::Send, _) | (_, ExistingTarget::Refuse) => None,
                (_, ExistingTarget::Overwrite) => Some("--overwrite"),
                (_, ExistingTarget::Skip) => Some("--skip-existing"),
            })
    }
}

impl TransferMethod for StreamerMethod {
    fn name(&self) -> TransferMethodName {
        TransferMethodName::Streamer
    }

    fn takes_existing(&self, request: &TransferRequest, found: &StatOutput) -> bool {
        request.directive.existing != ExistingTarget::Refuse
            && (found.is_regular() || found.is_directory())
    }

    fn clients_try_once(&self) -> bool {
        self.config.allow_websocket
    }

    /// Endpoints are told the limit and hold to it: their jobs would fail at the first contact.
    fn check(&self, request: &TransferRequest) -> Result<(), TransferError> {
        let limit = self.config.inbound_transfer_limit;
        match (request.operation, request.directive.file_size) {
            (Operation::Receive, Some(size)) if size > limit => {
                Err(TransferError::OverInboundLimit { size, limit })
            }
            _ => Ok(()),
        }
    }

    fn plan<'a>(
        &'a self,
        request: &'a TransferRequest,
        job: &'a JobFiles,
    ) -> BoxFuture<'a, Result<TransferPlan, TransferError>> {
        let plan = self.plan_now(request, job);
        Box::pin(async move { plan })
    }
}

impl StreamerMethod {
    fn plan_now(
        &self,
        request: &TransferRequest,
        job: &JobFiles,
    ) -> Result<TransferPlan, TransferError> {
        let secret = TransferSecret::generate().map_err(|_| TransferError::NoRandomness)?;
        let text = Secret::new(secret.expose_text().as_str());
        let coordinates = Coordinates {
            ports: self.config.port_range,
            ips: self.addresses(),
            secret,
            operation: Some(request.operation),
            transports: self.transports(),
            job: None,
        };
        Ok(TransferPlan {
            body: self.endpoint(request, job).replacing_the_shell(),
            private: text,
            directive: TransferDirective::new(TransferMethodName::Streamer),
            coordinates: Some(coordinates),
        })
    }
}
